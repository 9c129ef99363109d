"""The answer of docs/figures.md to the project's first question, from the kept result of `cotlens bench sae`."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import kept_result
from interp.runtime import palette


def sae_answer() -> str:
    """Return the paragraph and its tables."""
    kept = kept_result("sae", required=True)
    best, middle = kept["best_site"], kept["middle"]
    chains, rivals = best["chains"], best["rivals"]
    measures = {row["id"]: row for row in kept["measures"]}
    top = max(rivals, key=lambda name: rivals[name]["f1"])
    read = max((name for name in chains if name not in ("sae", "probe")), key=lambda name: chains[name]["chain"])
    at_middle = measures["sae.mid_layer_f1_above_best_baseline"]
    rival = middle["rivals"][at_middle["peer"]]
    spliced = best["spliced"]
    paragraph = (
        "*Couldn't sparse autoencoders learn to decode thinking tokens into something resembling the chain of thought "
        "that they encoded?* "
        f"On `chain31-coconut`, which thinks silently over 31 values, an SAE trained on its thoughts and read with one "
        f"feature a value gives back **{chains['sae']['chain']:.1%}** of held-out chains whole, every step right "
        f"({chains['sae']['step']:.1%} of single steps; a dense probe reads {chains['probe']['chain']:.1%} of the chains, "
        f"the thoughts of another problem give {chains['sae']['chain_other_problem']:.1%}), and with the SAE in the "
        f"latent loop {spliced['sae']['accuracy']:.1%} of the answers are right ({spliced['original']['accuracy']:.1%} without). What it learned beyond having many directions is the "
        f"difference to untrained dictionaries: the best of them ({palette.label(read)}) reads {chains[read]['chain']:.1%} of the chains, and "
        f"the best single feature for a value has a median F1 of {_mean(best['sae']):.2f} against {rivals[top]['f1']:.2f} "
        f"({palette.label(top)}). At the middle layer, where a thought's value is mixed with the operation and the next "
        f"value, {_middle(middle, rival)}"
    )
    return f"{paragraph}\n\n{_table(kept)}"


def _middle(middle: dict[str, Any], rival: dict[str, Any]) -> str:
    """Return what single features read at the middle layer: of autoencoders, and of the dictionary that validation chose."""
    tried, settings, name = middle["tried"], middle["settings"], middle["chosen"]
    f1, probe = _mean(middle["seeds"]), f"a dense probe still reads {middle['dense_probe']:.1%} of the values there"
    plain = f"A plain TopK SAE gets {tried['plain TopK']['f1']:.2f}"
    if "target" not in settings[name]:
        return (
            f"it is much harder: {f1:.2f} against {rival['f1']:.2f}, though {probe}. {plain}, the settings that validation "
            f"prefers ({name}) {tried[name]['f1']:.2f}. So: largely, where the model passes the value on; only in part "
            "where it computes with it."
        )
    autoencoders = {key: of for key, of in tried.items() if "target" not in settings[key]}
    best = max(autoencoders, key=lambda key: autoencoders[key]["validation"])
    return (
        f"an autoencoder finds it in part, though {probe}. {plain}, the best on validation ({best}) "
        f"{tried[best]['f1']:.2f}. A dictionary that reads the middle layer and reconstructs the state at "
        f"`{settings[name]['target']}` of the same position gets {f1:.2f}; the best control has {rival['f1']:.2f}, and "
        f"targets of other rows {middle['rivals']['targets of other rows']['f1']:.2f}. So: where the model passes the value "
        "on, an autoencoder is enough; where it computes with it, the features have to be told which state to explain."
    )


def _table(kept: dict[str, Any]) -> str:
    """Return the tables of dictionaries and of settings tried."""
    best, middle = kept["best_site"], kept["middle"]
    lines = [
        "| dictionary | whole chains read | best single feature's F1, fed-back thought | the same, middle layer |",
        "|---|---|---|---|",
    ]
    chains = best["chains"]
    for name in ("sae", *best["rivals"]):
        of_best = _mean(best["sae"]) if name == "sae" else best["rivals"][name]["f1"]
        of_middle = _mean(middle["seeds"]) if name == "sae" else middle["rivals"][name]["f1"]
        low, high = chains[name]["ci"]
        lines.append(
            f"| {palette.label(name)} | {chains[name]['chain']:.3f} [{low:.3f}, {high:.3f}] | {of_best:.3f} | {of_middle:.3f} |"
        )
    lines.append(f"| dense probe | {chains['probe']['chain']:.3f} | – | – |")
    lines += [
        "",
        "| tried at the middle layer | features, active | rows seen | F1 on validation | held out |",
        "|---|---|---|---|---|",
    ]
    for name, scores in middle["tried"].items():
        settings = middle["settings"][name]
        rows = settings["samples"] if "samples" in settings else settings["updates"] * settings["batch_size"]
        shown = f"{name} (reconstructs `{settings['target']}`)" if "target" in settings else name
        lines.append(
            f"| {shown} | {settings['d_sae']}, {scores['l0']:.0f} | {rows:,} | {scores['validation']:.3f} | "
            f"{scores['f1']:.3f} |"
        )
    return "\n".join(lines)


def _mean(seeds: list[dict[str, Any]]) -> float:
    """Return the mean F1 over seeds."""
    return sum(seed["f1"] for seed in seeds) / len(seeds)
