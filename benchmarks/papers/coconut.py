"""Coconut (arXiv 2412.06769): accuracy with continuous thoughts, and what the thoughts encode.

- Accuracy of every arm of the paper's table on two tasks. Pause-as-thought has the same curriculum as Coconut. A text
  model whose states are fed back without training is an added control.
- On graphs, the dot product of each thought with each node's embedding (arXiv 2505.12514). Models that were never
  trained to think silently also separate reachable from unreachable nodes, so every figure stands beside theirs.
- An organism whose thoughts the logit lens cannot read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers import separation
from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.opaque import Opaque, examine
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 41
N, N_FULL = 1000, 5000
UNTRAINED, BREADTH = "untrained latents", "Coconut, for breadth"
# Arm -> name of its organism, to be filled with the task.
ARMS = {
    "text": "{}-text",
    "direct": "{}-direct",
    "Coconut": "{}-coconut",
    "without curriculum": "{}-without-curriculum",
    "pause as thought": "{}-pause-as-thought",
    "without thoughts": "{}-without-thoughts",
    BREADTH: "{}-coconut-breadth",
}
TASKS = ("chain", "graph")
HARD = "chain-coconut-hard"
_TABLE_1 = "arXiv 2412.06769, Table 1, ProsQA (secondary note)"
PAPER = [
    PaperFigure(arm, figure, _TABLE_1)
    for arm, figure in {
        "text (CoT)": "77.5 %",
        "direct (no CoT)": "76.7 %",
        "Coconut": "97.0 %",
        "without curriculum": "76.1 %",
        "pause as thought": "96.6 %",
        "without thoughts": "95.5 %",
        "pause tokens": "75.9 %",
        "iCoT": "98.2 %",
    }.items()
]


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure the accuracy of every arm, read the graph thoughts, and examine the unreadable organism.

    A missing organism leaves out its rows and figures; a note says so.
    """
    section = Section(name="coconut", title="Coconut: continuous thoughts", paper=PAPER)
    n = N_FULL if full else N
    stages: list[Callable[[], None]] = [
        lambda: _accuracies(section, organisms, n),
        lambda: _separations(section, organisms, n),
        lambda: _swaps(section, organisms, n),
        lambda: _hard(section, organisms, n),
    ]
    for number, stage in enumerate(stages):
        progress(number, len(stages))
        stage()
    progress(len(stages), len(stages))
    return section


def untrained_latents(text: Reasoner, like: Reasoner) -> Reasoner:
    """Return a reasoner with the text reasoner's weights that thinks as `like` does, which it was not trained for."""
    name = f"{text.name} ({UNTRAINED})"
    return type(like)(text.model, text.tokenizer, like.config, name=name, weights=text.weights)


def _arm(arm: str, task: str, organisms: Organisms, section: Section) -> Reasoner | None:
    """Return the reasoner of an arm on a task, or None where there is none."""
    if arm == UNTRAINED:
        text, like = (_arm(other, task, organisms, section) for other in ("text", "Coconut"))
        return untrained_latents(text, like) if text and like else None
    if arm == BREADTH and task != "graph":
        return None
    return organisms.load_or_note(ARMS[arm].format(task), section)


def _accuracies(section: Section, organisms: Organisms, n: int) -> None:
    """Add the accuracy of every arm on both tasks."""
    rows = []
    for task in TASKS:
        problems = make_task(task).generate(n, seed=SEED, split="test")
        for arm in [*ARMS, UNTRAINED]:
            reasoner = _arm(arm, task, organisms, section)
            if reasoner:
                rows.append({"task": task, "arm": arm, **accuracy(reasoner, problems)})
    section.tables["Right answers, held-out problems"] = accuracies = pd.DataFrame(rows)
    on_graph = accuracies[accuracies["task"] == "graph"] if len(accuracies) else accuracies
    ours = on_graph[on_graph["arm"] == "Coconut"] if len(accuracies) else accuracies
    if len(ours):
        others = ", ".join(f"{row.arm} {row.accuracy:.3f}" for row in on_graph.itertuples() if row.arm != "Coconut")
        section.measures["papers.coconut.graph_accuracy"] = {
            "value": ours["accuracy"].item(),
            "ci": [ours["ci_low"].item(), ours["ci_high"].item()],
            "n": n,
            "note": f"chance 0.25; {others}",
        }


def accuracy(reasoner: Reasoner, problems: list[Problem]) -> dict[str, Any]:
    """Return the accuracy with its grouped 95 % interval, and the accuracy by number of steps."""
    traces = reasoner.think(problems, batch_size=256)
    right = np.array([trace.correct for trace in traces])
    lengths = np.array([problem.n_steps for problem in problems])
    low, high = grouped_mean_interval(right, np.array([problem.structure for problem in problems]))
    by_steps = {f"{k} steps": float(right[lengths == k].mean()) for k in np.unique(lengths)}
    return {"accuracy": float(right.mean()), "ci_low": low, "ci_high": high, "n": len(right), **by_steps}


def _separations(section: Section, organisms: Organisms, n: int) -> None:
    """Add the AUROC of dot products of thoughts with node embeddings, for Coconut and its controls."""
    from interp import random_init

    problems = make_task("graph").generate(n, seed=SEED + 1, split="test")
    coconut = _arm("Coconut", "graph", organisms, section)
    arms = {arm: _arm(arm, "graph", organisms, section) for arm in ("Coconut", BREADTH, UNTRAINED, "pause as thought")}
    arms["random init"] = random_init(coconut) if coconut else None
    frames = {
        arm: separation.separation(reasoner, reasoner.think(problems, batch_size=256))
        for arm, reasoner in arms.items()
        if reasoner
    }
    controls = {arm: frames[arm] for arm in (UNTRAINED, "pause as thought", "random init") if arm in frames}
    aurocs = separation.table(frames)
    section.tables["Products of thoughts and nodes: AUROC against unreachable nodes of the same problem"] = aurocs
    if "Coconut" in frames:
        section.measures["papers.coconut.graph_path_auroc"] = _path_figure(aurocs, [*controls, BREADTH])
    if BREADTH in frames and controls:
        section.measures["papers.coconut.graph_frontier_gain"] = _gain_figure(aurocs, frames[BREADTH], controls)
        section.notes.append(_breadth_note(aurocs, controls))


def _row_of(aurocs: pd.DataFrame, model: str, nodes: str) -> pd.Series:
    """Return the row of one model and one kind of node, over all thoughts."""
    mask = (aurocs["model"] == model) & (aurocs["nodes"] == nodes) & (aurocs["thought"] == "all")
    return aurocs[mask].iloc[0]


def _beside(aurocs: pd.DataFrame, models: list[str], nodes: str) -> str:
    """Return the AUROCs of the other models as text."""
    measured = [model for model in models if model in set(aurocs["model"])]
    return ", ".join(f"{model} {_row_of(aurocs, model, nodes)['auroc']:.3f}" for model in measured)


def _path_figure(aurocs: pd.DataFrame, others: list[str]) -> dict[str, Any]:
    row = _row_of(aurocs, "Coconut", "path")
    thoughts = aurocs[(aurocs["model"] == "Coconut") & (aurocs["nodes"] == "path") & (aurocs["thought"] != "all")]
    by_thought = " ".join(f"{value:.3f}" for value in thoughts["auroc"])
    return {
        "value": float(row["auroc"]),
        "ci": [float(row["ci_low"]), float(row["ci_high"])],
        "n": int(row["n"]),
        "note": f"all thoughts; by thought {by_thought}; {_beside(aurocs, others, 'path')}",
    }


def _gain_figure(aurocs: pd.DataFrame, breadth: pd.DataFrame, controls: dict[str, pd.DataFrame]) -> dict[str, Any]:
    kind = "off-path frontier"
    best, value, interval, n = separation.gain(breadth, controls, kind)
    beside = _beside(aurocs, [BREADTH, *controls, "Coconut"], kind)
    return {"value": value, "ci": list(interval), "n": n, "peer": best, "note": f"AUROC off-path frontier: {beside}"}


def _breadth_note(aurocs: pd.DataFrame, controls: dict[str, pd.DataFrame]) -> str:
    kind = "off-path frontier"
    ours = _row_of(aurocs, "Coconut", kind)["auroc"]
    best = max(_row_of(aurocs, control, kind)["auroc"] for control in controls)
    verdict = (
        "the thoughts encode the frontier no better than in a model that never learned to think silently"
        if ours <= best + 0.02
        else "better than any control, though part of the separation needs no training"
    )
    return (
        f"AUROC of the off-path frontier: {ours:.3f} in Coconut's thoughts, {best:.3f} in the best control: {verdict}. "
        f"With supervision for breadth the AUROC is {_row_of(aurocs, BREADTH, kind)['auroc']:.3f}."
    )


def _swaps(section: Section, organisms: Organisms, n: int) -> None:
    """Add the interchange of thoughts on graphs."""
    reasoner = _arm("Coconut", "graph", organisms, section)
    if reasoner:
        follow = examine(reasoner, reasoner.task.generate(n, seed=SEED + 3, split="test")).follow
        section.tables["Graph: thoughts swapped for another problem's whose node leads to one candidate"] = follow


def _hard(section: Section, organisms: Organisms, n: int) -> None:
    """Add the examination of the organism that the logit lens cannot read."""
    reasoner = organisms.load_or_note(HARD, section)
    if reasoner is None:
        return
    problems = reasoner.task.generate(n, seed=SEED + 2, split="test")
    results = examine(reasoner, problems)
    section.tables["The organism that the logit lens cannot read: lens top-1, the best address of each thought"] = (
        results.lens.loc[results.lens.groupby(["thought", "value"])["top1"].idxmax()].reset_index(drop=True)
    )
    section.tables["The same thoughts read by a probe"] = results.probe
    section.tables["The same thoughts swapped for another problem's"] = results.follow
    section.measures |= hard_figures(results)


def hard_figures(results: Opaque) -> dict[str, dict[str, Any]]:
    """Return the two measures of the unreadable organism."""
    best, other_value, same_value = results.best, results.followed("other value"), results.followed("same value")
    return {
        "papers.coconut.hard_lens_top1": {
            "value": float(best["top1"]),
            "ci": [float(best["ci_low"]), float(best["ci_high"])],
            "n": int(best["n"]),
            "note": f"best address, thought and step, chosen on validation problems: thought {best['thought']} read at "
            f"{best['address']} for the value of step {best['value']}; the largest of {len(results.lens)} cells on the test "
            f"problems themselves is {results.lens['top1'].max():.3f}; the probe reads its worst step at "
            f"{results.probe['top1'].min():.3f}",
        },
        "papers.coconut.hard_follow": {
            "value": float(other_value["follow_rate"]),
            "ci": [float(other_value["ci_low"]), float(other_value["ci_high"])],
            "n": int(other_value["n"]),
            "note": f"same-value donors change {same_value['change_rate']:.3f}, random vectors "
            f"{results.followed('random vector')['change_rate']:.3f}",
        },
    }
