"""`cotlens bench sae`: training speed beside SAELens, and single features as read-outs of thoughts over 31 values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import interp
from benchmarks.parts import PartResult, run_parts
from benchmarks.sae.readouts import MIDDLE, TRIED, Readouts
from benchmarks.sae.speed import speed
from interp.decoders.features import FeatureReadout
from interp.runtime.console import Bars
from interp.statistics.intervals import grouped_mean_interval
from probes.decoder import ProbeDecoder

PROBLEMS = 6000
_AT_THE_BEST_SITE = ("plain TopK", "longer", "in between")
_SEEDS = (0, 1, 2)


def bench(
    repetitions: int, bars: Bars, organism: str = "chain31-coconut", *, parts: Sequence[str] = ()
) -> dict[str, Any]:
    """Take the measures of the group `sae`.

    Args:
        repetitions: Rounds of training side by side.
        bars: Progress bars.
        organism: A chain organism of continuous thoughts.
        parts: Which to take: `scale`, the speed of training, or `features`; all by default.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown.
    """

    def scale() -> PartResult:
        with bars.stage("training side by side with SAELens") as progress:
            return PartResult(speed(repetitions, progress))

    return run_parts("sae", {"scale": scale, "features": lambda: _features(organism, bars)}, parts)


def _features(organism: str, bars: Bars) -> PartResult:
    """Read out single features where the value is read best, and at the middle layer."""
    reasoner = interp.load(organism)
    with bars.stage(f"{organism} thinks about {PROBLEMS} problems") as progress:
        problems = reasoner.task.generate(PROBLEMS, seed=11, split="test")
        traces = reasoner.think(problems, batch_size=256, progress=progress)
        store = interp.record(reasoner, traces, sites="resid", channels=["latent"], batch_size=256)
    readouts = Readouts(store)
    with bars.stage("single features where the value is read best"):
        best = _best_site(readouts, reasoner, organism)
    with bars.stage("single features at the middle layer") as progress:
        middle = _middle(readouts, organism, progress)
    return PartResult(best["measures"] | middle["measures"], {"best_site": best["result"], "middle": middle["result"]})


def _best_site(readouts: Readouts, reasoner: Any, organism: str) -> dict[str, Any]:
    """Measure single features at the address where a dense probe reads best."""
    site, dense = readouts.best_site()
    tried = {name: readouts.train(site, **TRIED[name]) for name in _AT_THE_BEST_SITE}
    scores = {name: readouts.f1(site, sae) for name, sae in tried.items()}
    chosen = max(scores, key=lambda name: scores[name]["validation"])
    saes = [tried[chosen], *(readouts.train(site, seed, **TRIED[chosen]) for seed in _SEEDS[1:])]
    rivals, untrained = readouts.rivals(site, TRIED[chosen])
    by_seed = [scores[chosen], *(readouts.f1(site, sae) for sae in saes[1:])]
    sae = saes[0]
    decoders: dict[str, Any] = {"sae": FeatureReadout(sae), "probe": ProbeDecoder()}
    decoders |= {kind: FeatureReadout(dictionary) for kind, dictionary in untrained.items()}
    chains = {kind: readouts.chains(site, decoder) for kind, decoder in decoders.items()}
    right = chains["sae"]["right"]
    low, high = grouped_mean_interval(right, readouts.groups[readouts.split.test])
    chains = {kind: {key: value for key, value in row.items() if key != "right"} for kind, row in chains.items()}
    spliced = readouts.spliced(reasoner, site, sae)
    name, rival = max(rivals.items(), key=lambda item: item[1]["f1"])
    n = int(readouts.split.test.sum())
    rivals_note = ", ".join(f"{kind} {row['f1']:.3f}" for kind, row in rivals.items())
    at = f"{organism}, {site.name} at the thought"
    seeds = ", ".join(f"{row['f1']:.3f}" for row in by_seed)
    f1 = float(np.mean([row["f1"] for row in by_seed]))
    ci = [min(row["ci"][0] for row in by_seed), max(row["ci"][1] for row in by_seed)]
    measures = {
        "sae.readout_over_dense_probe": {
            "value": right.mean() / dense,
            "ci": [low / dense, high / dense],
            "n": n,
            "peer": "ridge probe",
            "note": f"{at}: one feature a value {right.mean():.3f}, dense probe {dense:.3f}",
        },
        "sae.single_feature_f1_median": {
            "value": f1,
            "ci": ci,
            "n": n,
            "note": f"{at}; SAE seeds {seeds}; {rivals_note}",
        },
        "sae.f1_above_best_baseline": {
            "value": f1 - rival["f1"],
            "ci": [ci[0] - rival["ci"][1], ci[1] - rival["ci"][0]],
            "n": n,
            "peer": name,
            "note": rivals_note,
        },
        "sae.spliced_accuracy_ratio": {
            "value": spliced["sae"]["accuracy_ratio"],
            "ci": [spliced["sae"]["ratio_low"], spliced["sae"]["ratio_high"]],
            "n": spliced["sae"]["n"],
            "peer": "no edit",
            "note": f"{at}: {spliced['original']['accuracy']:.3f} without edit, {spliced['sae']['accuracy']:.3f} with the "
            f"SAE at every thought, {spliced['mean']['accuracy']:.3f} with the mean thought; loss recovered "
            f"{spliced['sae']['loss_recovered']:.3f}",
        },
    }
    result = {
        "site": site.name,
        "settings": TRIED[chosen],
        "tried": scores,
        "sae": by_seed,
        "rivals": rivals,
        "spliced": spliced,
    } | {"chains": chains}
    return {"measures": measures, "result": result}


def _middle(readouts: Readouts, organism: str, progress: Any) -> dict[str, Any]:
    """Measure single features at the middle layer."""
    tried: dict[str, dict[str, Any]] = {}
    total = len(TRIED) + len(_SEEDS) - 1
    for number, (name, options) in enumerate(TRIED.items()):
        tried[name] = readouts.f1(MIDDLE, readouts.train(MIDDLE, **options))
        progress(number + 1, total)
    chosen = max(tried, key=lambda name: tried[name]["validation"])
    by_seed = [tried[chosen]]
    for number, seed in enumerate(_SEEDS[1:]):
        by_seed.append(readouts.f1(MIDDLE, readouts.train(MIDDLE, seed, **TRIED[chosen])))
        progress(len(TRIED) + number + 1, total)
    settings = TRIED[chosen]
    rivals, _ = readouts.rivals(MIDDLE, {"d_sae": settings["d_sae"], "k": round(tried[chosen]["l0"])})
    if "target" in settings:
        rivals["targets of other rows"] = readouts.f1(MIDDLE, readouts.train_on_other_rows(MIDDLE, **settings))
    # A random dictionary may be larger than the selected SAE.
    largest, _ = readouts.rivals(MIDDLE, TRIED["larger"], ["random_dictionary"])
    rivals |= {f"{kind} of {TRIED['larger']['d_sae']}": row for kind, row in largest.items()}
    name, rival = max(rivals.items(), key=lambda item: item[1]["f1"])
    f1 = float(np.mean([row["f1"] for row in by_seed]))
    ci = [min(row["ci"][0] for row in by_seed), max(row["ci"][1] for row in by_seed)]
    rivals_note = ", ".join(f"{kind} {row['f1']:.3f}" for kind, row in rivals.items())
    tried_note = ", ".join(f"{kind} {row['f1']:.3f}" for kind, row in tried.items())
    measures = {
        "sae.mid_layer_f1_above_best_baseline": {
            "value": f1 - rival["f1"],
            "ci": [ci[0] - rival["ci"][1], ci[1] - rival["ci"][0]],
            "n": int(readouts.split.test.sum()),
            "peer": name,
            "note": f"{organism}, {MIDDLE.name} at the thought: {chosen} (by validation) {f1:.3f} over {len(by_seed)} seeds; "
            f"{rivals_note}; tried: {tried_note}",
        }
    }
    dense = readouts.chains(MIDDLE, ProbeDecoder())["step"]
    result = {
        "chosen": chosen,
        "dense_probe": dense,
        "settings": TRIED,
        "tried": tried,
        "seeds": by_seed,
        "rivals": rivals,
    }
    return {"measures": measures, "result": result}
