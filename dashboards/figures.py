"""The figures of a study as `run.json` keeps them: accuracy, chance, what probes read, and what edits change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import interp
import probes
from interp.problems import task as make_task
from interp.statistics.intervals import grouped_mean_interval
from probes.sweeps.controls import QUESTION_END

if TYPE_CHECKING:
    from interp.causal.ablation import AblationResult
    from interp.causal.interchanges.results import InterchangeResult


def accuracy_of(traces: interp.TraceSet) -> dict[str, Any]:
    """Return the accuracy of traces with its 95 % interval, resampled by problem structure."""
    table = traces.table()
    low, high = grouped_mean_interval(table["correct"].to_numpy(), table["structure"].to_numpy())
    return {"accuracy": traces.accuracy, "ci": [low, high], "n": len(table)}


def chance_of(traces: interp.TraceSet) -> float:
    """Return how often a guess without any thought is right.

    It draws a value of the task, or one of the words that a question offers; where answers are no values of the task,
    it names the most frequent answer.
    """
    task = make_task(traces[0].problem.task)
    answers = [trace.problem.answer for trace in traces]
    if task.name == "questions" or not task.values or not set(answers) <= set(task.values):
        return max(answers.count(answer) for answer in set(answers)) / len(answers)
    offers = [task.guess_sets(trace.problem) for trace in traces]
    offered = [
        max((1 / len(words) for words in sets if answer in words), default=0.0)
        for sets, answer in zip(offers, answers, strict=True)
    ]
    return max(1 / len(task.values), float(np.mean(offered)))


def sweep_readings(sweep: probes.Sweep | None) -> dict[str, list[dict[str, Any]]]:
    """Return what the sweep reads before the answer is written, for runs in which no decoder reads a step.

    A model that thinks nowhere is read at the question's end. Each target is read at the place and address that are
    best on validation; the score is on held-out problems.

    Args:
        sweep: The sweep of the run; None where there is none.

    Returns:
        `steps` for the values after steps and `answer`; entries as `dashboards.steps.step_figures` gives them.
    """
    readings: dict[str, list[dict[str, Any]]] = {"steps": [], "answer": []}
    if sweep is None:
        return readings
    cells = sweep.table()
    thinking = cells["place"].str.split(" ").str[0].isin(["begin", "thought", "step", "sentence", "end"])
    cells = cells[thinking if thinking.any() else cells["place"] == QUESTION_END]
    names = [name for name in sweep.notes["controls"] if name in cells and name != "control_task"]
    for target, part in cells.groupby("target", sort=False):
        cell = part.loc[part["val_accuracy"].idxmax()].to_dict()
        reading = {name: cell[name] for name in names if cell[name] == cell[name]} | {
            "where": f"{cell['label']}, {cell['place']}",
            "position": cell["place"],
            "layer": cell["label"],
            "address": cell["address"],
            "probe_top1": cell["accuracy"],
            "ci": [cell["ci_low"], cell["ci_high"]],
            "n": int(cell["n"]),
            "q": cell["q"],
        }
        name, _, number = str(target).rpartition("_")
        if name == "value":
            readings["steps"].append({"step": int(number), **reading})
        elif target == "answer":
            readings["answer"].append(reading)
    return readings


def ablation_figures(result: AblationResult) -> dict[str, Any]:
    """Return how often answers change with another problem's thoughts, and with the model's own put back."""
    table = result.summary().set_index("arm")
    changed = result.table()
    other = changed[changed["arm"] == "other problem"]
    low, high = grouped_mean_interval(other["changed"].to_numpy(float), other["structure"].to_numpy())
    return {
        "site": result.address,
        "changed": float(table.loc["other problem", "changed"]),
        "ci": [low, high],
        "own_changed": float(table.loc["own", "changed"]),
        "n": int(table.loc["other problem", "n"]),
        "arms": result.summary().to_dict("records"),
    }


def interchange_figures(edits: InterchangeResult) -> dict[str, Any]:
    """Return the follow rate over all steps, with same-value donors and random vectors as controls."""
    summary = edits.summary()

    def row(edit: str) -> dict[str, Any]:
        rows = summary[(summary["edit"] == edit) & (summary["step"] == 0)]
        return rows.iloc[0].to_dict() if len(rows) else {}

    other, same, noise = row("other value"), row("same value"), row("random vector")
    verdict = edits.verdict()
    return {
        "method": edits.method,
        "site": edits.location,
        "follow_rate": other.get("follow_rate"),
        "ci": [other.get("ci_low"), other.get("ci_high")],
        "n": other.get("n"),
        "same_value_change_rate": same.get("change_rate"),
        "same_value_ci": [same.get("change_low"), same.get("change_high")],
        "n_same_value": same.get("n"),
        "random_change_rate": noise.get("change_rate"),
        "verdict": verdict.name,
        "why": verdict.why,
        "by_step": summary[summary["step"] > 0].to_dict("records"),
    }
