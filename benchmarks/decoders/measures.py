"""The measures of group `decoders`, each the worst over organisms and training seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Organism -> the measure that it counts towards.
ORGANISMS = {
    "chain-coconut": "chain",
    "chain3-thinking-tokens": "chain",
    "chain31-coconut": "chain",
    "chain-coconut-hard": "hard",
    "graph-coconut": "other",
    "variables-coconut": "other",
}
# An organism below this accuracy does not solve its task, so its thoughts need not encode the steps.
SOLVED = 0.9
# It writes each step's text from the question and the latent, so it has a question-only control of its own.
VERBALIZER = "verbalizer"


def figures(results: Sequence[dict[str, Any]], missing: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the measures of the group.

    Args:
        results: One result for each organism and training seed; an `error` in place of figures if it failed.
        missing: Organisms that were not measured, as `NAME seed N`.

    Returns:
        Measures by id, each the worst over the organisms that solve their task.
    """
    measured = [result for result in results if "error" not in result]
    solving = [result for result in measured if result["accuracy"] >= SOLVED]
    absent = [
        *missing,
        *(f"{result['organism']} seed {result['seed']} ({result['error']})" for result in results if "error" in result),
        *(
            f"{result['organism']} seed {result['seed']} (left out, because it does not solve its task: answers right "
            f"{result['accuracy']:.3f})"
            for result in measured
            if result["accuracy"] < SOLVED
        ),
    ]
    values = {}
    for figure, group in (("chain_exact_min", "chain"), ("other_exact_min", "other"), ("hard_exact_min", "hard")):
        of_group = [result for result in solving if ORGANISMS[result["organism"]] == group]
        values[f"decoders.{figure}"] = _exact(of_group, [m for m in absent if ORGANISMS[m.split(" seed")[0]] == group])
    values["decoders.control_above_chance_max"] = _controls(solving)
    values["decoders.verbalizer_exact"] = _verbalizer(solving)
    values |= _calibrations(solving)
    values["decoders.tuned_below_logit"] = _tuned(solving)
    return values


def _steps(result: dict[str, Any], method: str) -> list[dict[str, Any]]:
    """Return the scores of single steps by one method."""
    return [row for row in result["scores"] if row["method"] == method and row["step"] > 0]


def _exact(results: Sequence[dict[str, Any]], absent: Sequence[str]) -> dict[str, Any]:
    """Return the exact match of the worst step of each best method, worst over organisms."""
    if not results:
        return {"value": None, "note": f"not measured: {', '.join(absent)}"}
    worst_steps = [(min(_steps(result, result["best"]), key=lambda row: row["top1"]), result) for result in results]
    cell, _ = min(worst_steps, key=lambda pair: pair[0]["top1"])
    by_organism = "; ".join(
        f"{result['organism']} seed {result['seed']}: {row['top1']:.3f} (step {row['step']}, {result['best']}, {row['site']}; "
        f"answers right {result['accuracy']:.3f})"
        for row, result in worst_steps
    )
    absent_note = f"; not measured: {', '.join(absent)}" if absent else ""
    return {
        "value": cell["top1"],
        "ci": [cell["ci_low"], cell["ci_high"]],
        "n": cell["n"],
        "note": by_organism + absent_note,
    }


def _controls(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the worst of `question_only` and `other_problem` above chance; `before_thinking` is given in the note."""
    if not results:
        return {"value": None, "note": "no organism was measured"}
    cells = [(row, result) for result in results for row in _steps(result, result["best"])]

    def above(row: dict[str, Any]) -> float:
        return max(row["question_only"], row["other_problem"]) - row["chance"]

    row, result = max(cells, key=lambda cell: above(cell[0]))
    above_majority = max(max(cell["question_only"], cell["other_problem"]) - cell["majority"] for cell, _ in cells)
    before, before_result = max(cells, key=lambda cell: cell[0]["before_thinking"] - cell[0]["chance"])
    return {
        "value": above(row),
        "n": row["n"],
        "note": f"{result['organism']} seed {result['seed']}, step {row['step']}: question's words {row['question_only']:.3f}, "
        f"another problem {row['other_problem']:.3f}, chance {row['chance']:.3f}. Chance is the best blind guess: the most "
        "frequent value, or one of the words that the question offers for the step (a graph's four candidates for the last, "
        f"nodes with edges in and out for the others); above the most frequent value alone, the worst is {above_majority:.3f}. "
        "Not a control, because the model has begun "
        f"to compute there: the last state of the question holds up to {before['before_thinking']:.3f} "
        f"({before_result['organism']} seed {before_result['seed']}, step {before['step']})",
    }


def _verbalizer(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the exact match of the verbalizer's worst step on the chain organisms."""
    read = [
        (row, result)
        for result in results
        for row in _steps(result, VERBALIZER)
        if ORGANISMS[result["organism"]] == "chain"
    ]
    if not read:
        return {"value": None, "note": "no chain organism of seed 0 was measured with the verbalizer"}
    row, _ = min(read, key=lambda cell: cell[0]["top1"])
    by_step = "; ".join(
        f"{result['organism']} step {cell['step']}: {cell['top1']:.3f}, question only {cell['question_only']:.3f}"
        for cell, result in read
    )
    return {
        "value": row["top1"],
        "ci": [row["ci_low"], row["ci_high"]],
        "n": row["n"],
        "note": f"worst step, seed 0. {by_step}. An early step follows from the question, so only later ones can stand above it",
    }


def _calibrations(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the largest calibration error and the largest confabulation rate."""
    if not results:
        return {}
    ece = max(results, key=lambda result: result["calibration"]["ece"])
    wrong = max(results, key=lambda result: result["calibration"]["confabulation"])
    calibration = wrong["calibration"]
    raw = {name: max(result["calibration"][f"raw_{name}"] for result in results) for name in ("ece", "confabulation")}
    wrong_note = (
        ""
        if calibration["model_wrong"] is None
        else f"; {calibration['model_wrong']:.0%} of these on problems it answered wrong"
    )
    return {
        "decoders.ece": {
            "value": ece["calibration"]["ece"],
            "n": ece["calibration"]["n"],
            "note": f"the largest: {ece['organism']} seed {ece['seed']}, {ece['best']}; median "
            f"{np.median([result['calibration']['ece'] for result in results]):.3f} of {len(results)}; the largest of scores "
            f"that were not calibrated: {raw['ece']:.3f}",
        },
        "decoders.confabulation_at_90": {
            "value": calibration["confabulation"],
            "ci": calibration["confabulation_ci"],
            "n": calibration["n"],
            "note": f"the largest: {wrong['organism']} seed {wrong['seed']}, {wrong['best']}, coverage {calibration['coverage']:.3f}"
            f"{wrong_note}; median {np.median([result['calibration']['confabulation'] for result in results]):.4f} of "
            f"{len(results)}; by the score alone the largest is {raw['confabulation']:.3f}",
        },
    }


def _tuned(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how often the tuned lens is closer to the model, over addresses where the lenses are not both exact."""
    rows = [(row, result) for result in results for row in result["lenses"]]
    early = [(row, result) for row, result in rows if max(row["logit_lens"], row["tuned_lens"]) > 1e-6]
    if not early:
        return {"value": None, "note": "no lens was measured"}
    below = [row["tuned_lens"] < row["logit_lens"] for row, _ in early]
    last = max((row["tuned_lens"] for row, _ in rows if row["address"] == "ln_final.hook_out"), default=float("nan"))
    by_address = "; ".join(
        f"{result['organism']} {row['address']}: {row['tuned_lens']:.2f} against {row['logit_lens']:.2f}"
        for row, result in early
    )
    return {"value": float(np.mean(below)), "n": len(early), "note": f"KL in nats, last layer {last:.1e}; {by_address}"}
