"""The measures of group `seeds`: what holds for every training seed, from the kept results of several benches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.harness import kept_result

SOLVED = 0.9  # share of right answers from which on an organism solves its task
SEEDS = ("0", "1", "2")
_IGSM = "papers.igsm.necessary_above_random_init"
_PATHS = "causal.paths_confirmed"
HALF_WIDTH = 0.06


def figures(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the measures of the group; None with the reason where a bench has kept no result.

    Args:
        systems: The systems of `cotlens bench papers`, as they are kept.
    """
    return {
        "seeds.igsm_min": _igsm(systems.get("igsm", {})),
        "seeds.solved": _solved(kept_result("decoders")),
        "seeds.sae_mid_f1": _middle(kept_result("sae")),
        "seeds.paths_confirmed": _paths(kept_result("causal")),
    }


def _igsm(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the smallest lead of the V-probe over three training seeds."""
    shipped = {"0": section["measures"][_IGSM]["value"]} if _IGSM in section.get("measures", {}) else {}
    others = {seed: of[_IGSM]["value"] for seed, of in section.get("seeds", {}).items() if _IGSM in of}
    leads = {seed: value for seed, value in (shipped | others).items() if seed in SEEDS and value is not None}
    absent = [seed for seed in SEEDS if seed not in leads]
    if absent:
        return {"value": None, "note": f"training seeds {', '.join(absent)} were not measured"}
    note = ", ".join(f"seed {seed} {value:+.3f}" for seed, value in sorted(leads.items()))
    return {"value": min(leads.values()), "n": len(leads), "note": note}


def _solved(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of organisms and training seeds that solve their task."""
    pairs = [of for of in kept.get("organisms", []) if str(of["seed"]) in SEEDS]
    if not pairs:
        return {"value": None, "note": "`cotlens bench decoders` has kept no result"}
    failing = [
        f"{of['organism']} seed {of['seed']} ({of.get('accuracy') or 0.0:.3f} right, {_made_by(of)})"
        for of in pairs
        if (of.get("accuracy") or 0.0) < SOLVED
    ]
    absent = f"; not measured: {', '.join(kept['missing'])}" if kept.get("missing") else ""
    return {
        "value": 1 - len(failing) / len(pairs),
        "n": len(pairs),
        "note": f"`cotlens bench decoders`; below {SOLVED}: {', '.join(failing) or 'none'}{absent}",
    }


def _made_by(result: Mapping[str, Any]) -> str:
    """Return which recipe an organism was trained by; a recipe may have been mended since."""
    current = result.get("current_recipe")
    if current is None:
        return "by a recipe that was not recorded"
    return "by the present recipe" if current else "by an earlier recipe"


def _middle(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the F1 of the best single features at the middle layer, of the dictionary chosen on validation."""
    middle = kept.get("middle")
    if not middle:
        return {"value": None, "note": "`cotlens bench sae` has kept no result"}
    tried, chosen = middle["tried"], middle["chosen"]
    every = ", ".join(f"{name} {of['f1']:.2f}" for name, of in tried.items())
    rivals = ", ".join(f"{name.replace('_', ' ')} {of['f1']:.2f}" for name, of in middle["rivals"].items())
    seeds = ", ".join(f"{of['f1']:.3f}" for of in middle["seeds"])
    note = f"{chosen} (training seeds {seeds}), chosen on validation of {every}; controls: {rivals}; "
    note += f"a dense probe {middle['dense_probe']:.3f}"
    return {"value": tried[chosen]["f1"], "ci": tried[chosen]["ci"], "note": note}


def _paths(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of attribution paths confirmed, worst training seed."""
    found = [row for row in kept.get("measures", []) if row["id"] == _PATHS and row["value"] is not None]
    if not found:
        return {"value": None, "note": "`cotlens bench causal` has kept no result"}
    (row,) = found
    half = (row["ci"][1] - row["ci"][0]) / 2
    width = "narrow enough" if half <= HALF_WIDTH else f"wider than ±{HALF_WIDTH}"
    note = f"the interval is ±{half:.3f}, {width}; {row['note']}"
    return {"value": row["value"], "ci": row["ci"], "n": row["n"], "note": note}
