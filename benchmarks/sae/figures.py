"""`cotlens bench sae`: training speed beside SAELens, and what single features say of thoughts that hold 31 values."""

from __future__ import annotations

from typing import Any

import numpy as np

import interp
from benchmarks.harness import keep
from benchmarks.measures import report
from benchmarks.sae.readouts import MIDDLE, TRIED, Readouts
from benchmarks.sae.speed import speed
from interp.decoders.features import FeatureReadout
from interp.runtime.console import Bars, jsonable
from interp.statistics.intervals import grouped_mean_interval
from probes.decoder import ProbeDecoder

PROBLEMS = 6000
_AT_THE_BEST_SITE = ("plain TopK", "longer", "in between")
_SEEDS = (0, 1, 2)


def bench(repetitions: int, bars: Bars, organism: str = "chain31-coconut") -> dict[str, Any]:
    """Take every measure of the group `sae`."""
    reasoner = interp.load(organism)
    with bars.stage("training side by side with SAELens") as progress:
        taken = speed(repetitions, progress)
    with bars.stage(f"{organism} thinks about {PROBLEMS} problems") as progress:
        problems = reasoner.task.generate(PROBLEMS, seed=11, split="test")
        traces = reasoner.think(problems, batch_size=256, progress=progress)
        store = interp.record(reasoner, traces, sites="resid", channels=["latent"], batch_size=256)
    readouts = Readouts(store)
    with bars.stage("single features where the value is read best"):
        best = _best_site(readouts, reasoner, organism)
    with bars.stage("single features at the middle layer") as progress:
        middle = _middle(readouts, organism, progress)
    taken |= best["measures"] | middle["measures"]
    return keep(
        "sae", jsonable(report("sae", taken)), best_site=jsonable(best["told"]), middle=jsonable(middle["told"])
    )


def _best_site(readouts: Readouts, reasoner: Any, organism: str) -> dict[str, Any]:
    site, dense = readouts.best_site()
    tried = {name: readouts.train(site, **TRIED[name]) for name in _AT_THE_BEST_SITE}
    scores = {name: readouts.f1(site, sae) for name, sae in tried.items()}
    chosen = max(scores, key=lambda name: scores[name]["validation"])
    saes = [tried[chosen], *(readouts.train(site, seed, **TRIED[chosen]) for seed in _SEEDS[1:])]
    rivals, untrained = readouts.rivals(site, TRIED[chosen])
    found = [scores[chosen], *(readouts.f1(site, sae) for sae in saes[1:])]
    first = saes[0]
    decoders: dict[str, Any] = {"sae": FeatureReadout(first), "probe": ProbeDecoder()}
    decoders |= {kind: FeatureReadout(each) for kind, each in untrained.items()}
    chains = {kind: readouts.chains(site, each) for kind, each in decoders.items()}
    right = chains["sae"]["right"]
    low, high = grouped_mean_interval(right, readouts.groups[readouts.split.test])
    chains = {kind: {key: value for key, value in each.items() if key != "right"} for kind, each in chains.items()}
    spliced = readouts.spliced(reasoner, site, first)
    name, rival = max(rivals.items(), key=lambda each: each[1]["f1"])
    n = int(readouts.split.test.sum())
    beside = ", ".join(f"{kind} {each['f1']:.3f}" for kind, each in rivals.items())
    at = f"{organism}, {site.name} at the thought"
    seeds = ", ".join(f"{each['f1']:.3f}" for each in found)
    f1 = float(np.mean([each["f1"] for each in found]))
    ci = [min(each["ci"][0] for each in found), max(each["ci"][1] for each in found)]
    measures = {
        "sae.readout_over_dense_probe": {
            "value": right.mean() / dense,
            "ci": [low / dense, high / dense],
            "n": n,
            "peer": "ridge probe",
            "note": f"{at}: one feature a value {right.mean():.3f}, dense probe {dense:.3f}",
        },
        "sae.single_feature_f1_median": {"value": f1, "ci": ci, "n": n, "note": f"{at}; SAE seeds {seeds}; {beside}"},
        "sae.f1_above_best_baseline": {
            "value": f1 - rival["f1"],
            "ci": [ci[0] - rival["ci"][1], ci[1] - rival["ci"][0]],
            "n": n,
            "peer": name,
            "note": beside,
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
    told = {
        "site": site.name,
        "settings": TRIED[chosen],
        "tried": scores,
        "sae": found,
        "rivals": rivals,
        "spliced": spliced,
    } | {"chains": chains}
    return {"measures": measures, "told": told}


def _middle(readouts: Readouts, organism: str, progress: Any) -> dict[str, Any]:
    tried: dict[str, dict[str, Any]] = {}
    total = len(TRIED) + len(_SEEDS) - 1
    for number, (name, options) in enumerate(TRIED.items()):
        tried[name] = readouts.f1(MIDDLE, readouts.train(MIDDLE, **options))
        progress(number + 1, total)
    chosen = max(tried, key=lambda name: tried[name]["validation"])
    found = [tried[chosen]]
    for number, seed in enumerate(_SEEDS[1:]):
        found.append(readouts.f1(MIDDLE, readouts.train(MIDDLE, seed, **TRIED[chosen])))
        progress(len(TRIED) + number + 1, total)
    rivals, _ = readouts.rivals(MIDDLE, TRIED[chosen])
    # A rival is not kept small because the SAE chose to be.
    largest, _ = readouts.rivals(MIDDLE, TRIED["larger"], ["random_dictionary"])
    rivals |= {f"{kind} of {TRIED['larger']['d_sae']}": each for kind, each in largest.items()}
    name, rival = max(rivals.items(), key=lambda each: each[1]["f1"])
    f1 = float(np.mean([each["f1"] for each in found]))
    ci = [min(each["ci"][0] for each in found), max(each["ci"][1] for each in found)]
    beside = ", ".join(f"{kind} {each['f1']:.3f}" for kind, each in rivals.items())
    every = ", ".join(f"{kind} {each['f1']:.3f}" for kind, each in tried.items())
    measures = {
        "sae.mid_layer_f1_above_best_baseline": {
            "value": f1 - rival["f1"],
            "ci": [ci[0] - rival["ci"][1], ci[1] - rival["ci"][0]],
            "n": int(readouts.split.test.sum()),
            "peer": name,
            "note": f"{organism}, {MIDDLE.name} at the thought: {chosen} (by validation) {f1:.3f} over {len(found)} seeds; "
            f"{beside}; tried: {every}",
        }
    }
    dense = readouts.chains(MIDDLE, ProbeDecoder())["step"]
    told = {"chosen": chosen, "dense_probe": dense, "settings": TRIED, "tried": tried, "seeds": found, "rivals": rivals}
    return {"measures": measures, "told": told}
