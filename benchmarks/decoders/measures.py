"""The figures of the group `[decoders]`, each the worst over the organisms and training seeds that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# organism -> the figure that it belongs to
ORGANISMS = {
    "chain-coconut": "chain",
    "chain3-thinking-tokens": "chain",
    "chain31-coconut": "chain",
    "chain-coconut-hard": "hard",
    "graph-coconut": "other",
    "variables-coconut": "other",
}
# Answers right below which an organism does not solve its task: its thoughts need not hold what they are asked for.
SOLVED = 0.9
# Says each step's text from the question and the latent, so its own question-only twin stands beside it.
VERBALIZER = "verbalizer"


def figures(results: Sequence[dict[str, Any]], missing: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The group's figures, each the worst over the organisms that were measured and solve their task."""
    there = [each for each in results if "error" not in each]
    whole = [each for each in there if each["accuracy"] >= SOLVED]
    absent = [
        *missing,
        *(f"{each['organism']} seed {each['seed']} ({each['error']})" for each in results if "error" in each),
        *(
            f"{each['organism']} seed {each['seed']} (left out, it does not solve its task: answers right "
            f"{each['accuracy']:.3f})"
            for each in there
            if each["accuracy"] < SOLVED
        ),
    ]
    taken = {}
    for figure, group in (("chain_exact_min", "chain"), ("other_exact_min", "other"), ("hard_exact_min", "hard")):
        of_group = [each for each in whole if ORGANISMS[each["organism"]] == group]
        taken[f"decoders.{figure}"] = _exact(of_group, [m for m in absent if ORGANISMS[m.split(" seed")[0]] == group])
    taken["decoders.control_above_chance_max"] = _controls(whole)
    taken["decoders.verbalizer_exact"] = _verbalizer(whole)
    taken |= _calibrations(whole)
    taken["decoders.tuned_below_logit"] = _tuned(whole)
    return taken


def _steps(each: dict[str, Any], method: str) -> list[dict[str, Any]]:
    return [row for row in each["scores"] if row["method"] == method and row["step"] > 0]


def _exact(results: Sequence[dict[str, Any]], absent: Sequence[str]) -> dict[str, Any]:
    if not results:
        return {"value": None, "note": f"not measured: {', '.join(absent)}"}
    worst = [(min(_steps(each, each["best"]), key=lambda row: row["top1"]), each) for each in results]
    cell, _ = min(worst, key=lambda pair: pair[0]["top1"])
    said = "; ".join(
        f"{each['organism']} seed {each['seed']}: {row['top1']:.3f} (step {row['step']}, {each['best']}, {row['site']}; "
        f"answers right {each['accuracy']:.3f})"
        for row, each in worst
    )
    gone = f"; not measured: {', '.join(absent)}" if absent else ""
    return {"value": cell["top1"], "ci": [cell["ci_low"], cell["ci_high"]], "n": cell["n"], "note": said + gone}


def _controls(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The worst of question-only and other-problem over chance, and what the state before any thinking holds, beside it."""
    if not results:
        return {"value": None, "note": "no organism was measured"}
    cells = [(row, each) for each in results for row in _steps(each, each["best"])]

    def above(row: dict[str, Any]) -> float:
        return max(row["question_only"], row["other_problem"]) - row["chance"]

    row, each = max(cells, key=lambda cell: above(cell[0]))
    plainly = max(max(cell["question_only"], cell["other_problem"]) - cell["majority"] for cell, _ in cells)
    before, where = max(cells, key=lambda cell: cell[0]["before_thinking"] - cell[0]["chance"])
    return {
        "value": above(row),
        "n": row["n"],
        "note": f"{each['organism']} seed {each['seed']}, step {row['step']}: question's words {row['question_only']:.3f}, "
        f"another problem {row['other_problem']:.3f}, chance {row['chance']:.3f}. Chance is the best blind guess: the most "
        "frequent value, or one of the words that the question offers for the step (a graph's four candidates for the last, "
        f"nodes with edges in and out for the others); above the most frequent value alone, the worst is {plainly:.3f}. "
        "Not a control, because the model has begun "
        f"to compute there: the last state of the question holds up to {before['before_thinking']:.3f} "
        f"({where['organism']} seed {where['seed']}, step {before['step']})",
    }


def _verbalizer(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    read = [
        (row, each) for each in results for row in _steps(each, VERBALIZER) if ORGANISMS[each["organism"]] == "chain"
    ]
    if not read:
        return {"value": None, "note": "no chain organism of seed 0 was measured with the verbalizer"}
    row, _ = min(read, key=lambda cell: cell[0]["top1"])
    by_step = "; ".join(
        f"{each['organism']} step {cell['step']}: {cell['top1']:.3f}, question only {cell['question_only']:.3f}"
        for cell, each in read
    )
    return {
        "value": row["top1"],
        "ci": [row["ci_low"], row["ci_high"]],
        "n": row["n"],
        "note": f"worst step, seed 0. {by_step}. An early step follows from the question, so only later ones can stand above it",
    }


def _calibrations(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if not results:
        return {}
    ece = max(results, key=lambda each: each["calibration"]["ece"])
    wrong = max(results, key=lambda each: each["calibration"]["confabulation"])
    found = wrong["calibration"]
    raw = {name: max(each["calibration"][f"raw_{name}"] for each in results) for name in ("ece", "confabulation")}
    theirs = (
        "" if found["model_wrong"] is None else f"; {found['model_wrong']:.0%} of these on problems it answered wrong"
    )
    return {
        "decoders.ece": {
            "value": ece["calibration"]["ece"],
            "n": ece["calibration"]["n"],
            "note": f"the largest: {ece['organism']} seed {ece['seed']}, {ece['best']}; median "
            f"{np.median([each['calibration']['ece'] for each in results]):.3f} of {len(results)}; the largest of scores "
            f"that were not calibrated: {raw['ece']:.3f}",
        },
        "decoders.confabulation_at_90": {
            "value": found["confabulation"],
            "ci": found["confabulation_ci"],
            "n": found["n"],
            "note": f"the largest: {wrong['organism']} seed {wrong['seed']}, {wrong['best']}, coverage {found['coverage']:.3f}"
            f"{theirs}; median {np.median([each['calibration']['confabulation'] for each in results]):.4f} of "
            f"{len(results)}; by the score alone the largest is {raw['confabulation']:.3f}",
        },
    }


def _tuned(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Layers at which there is something to translate; at the last one both lenses are the model."""
    rows = [(row, each) for each in results for row in each["lenses"]]
    early = [(row, each) for row, each in rows if max(row["logit_lens"], row["tuned_lens"]) > 1e-6]
    if not early:
        return {"value": None, "note": "no lens was measured"}
    below = [row["tuned_lens"] < row["logit_lens"] for row, _ in early]
    last = max((row["tuned_lens"] for row, _ in rows if row["address"] == "ln_final.hook_out"), default=float("nan"))
    said = "; ".join(
        f"{each['organism']} {row['address']}: {row['tuned_lens']:.2f} against {row['logit_lens']:.2f}"
        for row, each in early
    )
    return {"value": float(np.mean(below)), "n": len(early), "note": f"KL in nats, last layer {last:.1e}; {said}"}
