"""Coconut (arXiv 2412.06769): what continuous thoughts gain, and what they hold.

Every arm of the paper's table on two tasks, with the pause-as-thought arm on the same curriculum and a text model
whose latents are fed back without any training beside the rest. On graphs the products of thoughts and nodes
(arXiv 2505.12514): separating reachable from unreachable nodes is no search as long as models that were never
trained to think silently separate them as well, so every figure stands beside those. Last, an organism whose
thoughts the logit lens cannot read.
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
# The arms of the table, and what the organism of each is called on both tasks.
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
    """Think with every arm on held-out problems, read the graph thoughts, and examine the unreadable organism.

    An organism that is not there leaves its rows and figures out, with a note that says so.
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
    """The text reasoner's own weights thinking as `like` does: its states are fed back, which it never learned."""
    name = f"{text.name} ({UNTRAINED})"
    return type(like)(text.model, text.tokenizer, like.config, name=name, weights=text.weights)


def _arm(arm: str, task: str, organisms: Organisms, section: Section) -> Reasoner | None:
    if arm == UNTRAINED:
        text, like = (_arm(other, task, organisms, section) for other in ("text", "Coconut"))
        return untrained_latents(text, like) if text and like else None
    if arm == BREADTH and task != "graph":
        return None
    return organisms.load_or_note(ARMS[arm].format(task), section)


def _accuracies(section: Section, organisms: Organisms, n: int) -> None:
    rows = []
    for task in TASKS:
        problems = make_task(task).generate(n, seed=SEED, split="test")
        for arm in [*ARMS, UNTRAINED]:
            reasoner = _arm(arm, task, organisms, section)
            if reasoner:
                rows.append({"task": task, "arm": arm, **accuracy(reasoner, problems)})
    section.tables["Right answers, held-out problems"] = found = pd.DataFrame(rows)
    of_graph = found[found["task"] == "graph"] if len(found) else found
    ours = of_graph[of_graph["arm"] == "Coconut"] if len(found) else found
    if len(ours):
        others = ", ".join(f"{row.arm} {row.accuracy:.3f}" for row in of_graph.itertuples() if row.arm != "Coconut")
        section.measures["papers.coconut.graph_accuracy"] = {
            "value": ours["accuracy"].item(),
            "ci": [ours["ci_low"].item(), ours["ci_high"].item()],
            "n": n,
            "note": f"chance 0.25; {others}",
        }


def accuracy(reasoner: Reasoner, problems: list[Problem]) -> dict[str, Any]:
    """Accuracy with its grouped 95 % interval, over all and by number of steps."""
    traces = reasoner.think(problems, batch_size=256)
    right = np.array([trace.correct for trace in traces])
    lengths = np.array([problem.n_steps for problem in problems])
    low, high = grouped_mean_interval(right, np.array([problem.structure for problem in problems]))
    by_steps = {f"{k} steps": float(right[lengths == k].mean()) for k in np.unique(lengths)}
    return {"accuracy": float(right.mean()), "ci_low": low, "ci_high": high, "n": len(right), **by_steps}


def _separations(section: Section, organisms: Organisms, n: int) -> None:
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
    found = separation.table(frames)
    section.tables["Products of thoughts and nodes: AUROC against unreachable nodes of the same problem"] = found
    if "Coconut" in frames:
        section.measures["papers.coconut.graph_path_auroc"] = _path_figure(found, [*controls, BREADTH])
    if BREADTH in frames and controls:
        section.measures["papers.coconut.graph_frontier_gain"] = _gain_figure(found, frames[BREADTH], controls)
        section.notes.append(_breadth_note(found, controls))


def _of(found: pd.DataFrame, model: str, nodes: str) -> pd.Series:
    chosen = (found["model"] == model) & (found["nodes"] == nodes) & (found["thought"] == "all")
    return found[chosen].iloc[0]


def _beside(found: pd.DataFrame, models: list[str], nodes: str) -> str:
    there = [model for model in models if model in set(found["model"])]
    return ", ".join(f"{model} {_of(found, model, nodes)['auroc']:.3f}" for model in there)


def _path_figure(found: pd.DataFrame, others: list[str]) -> dict[str, Any]:
    row = _of(found, "Coconut", "path")
    each = found[(found["model"] == "Coconut") & (found["nodes"] == "path") & (found["thought"] != "all")]
    by_thought = " ".join(f"{value:.3f}" for value in each["auroc"])
    return {
        "value": float(row["auroc"]),
        "ci": [float(row["ci_low"]), float(row["ci_high"])],
        "n": int(row["n"]),
        "note": f"all thoughts; by thought {by_thought}; {_beside(found, others, 'path')}",
    }


def _gain_figure(found: pd.DataFrame, breadth: pd.DataFrame, controls: dict[str, pd.DataFrame]) -> dict[str, Any]:
    kind = "off-path frontier"
    best, value, interval, n = separation.gain(breadth, controls, kind)
    beside = _beside(found, [BREADTH, *controls, "Coconut"], kind)
    return {"value": value, "ci": list(interval), "n": n, "peer": best, "note": f"AUROC off-path frontier: {beside}"}


def _breadth_note(found: pd.DataFrame, controls: dict[str, pd.DataFrame]) -> str:
    kind = "off-path frontier"
    ours = _of(found, "Coconut", kind)["auroc"]
    best = max(_of(found, control, kind)["auroc"] for control in controls)
    verdict = (
        "its curriculum makes the thoughts hold no more of the frontier than a model that never learned to think silently"
        if ours <= best + 0.02
        else "part of that the recurrence brings along without any training for it"
    )
    return (
        f"Coconut's thoughts separate the off-path frontier at {ours:.3f}, the best control at {best:.3f}: {verdict}. "
        f"Supervised for breadth they do at {_of(found, BREADTH, kind)['auroc']:.3f}."
    )


def _swaps(section: Section, organisms: Organisms, n: int) -> None:
    reasoner = _arm("Coconut", "graph", organisms, section)
    if reasoner:
        found = examine(reasoner, reasoner.task.generate(n, seed=SEED + 3, split="test")).follow
        section.tables["Graph: thoughts swapped for another problem's whose node leads to one candidate"] = found


def _hard(section: Section, organisms: Organisms, n: int) -> None:
    reasoner = organisms.load_or_note(HARD, section)
    if reasoner is None:
        return
    problems = reasoner.task.generate(n, seed=SEED + 2, split="test")
    found = examine(reasoner, problems)
    section.tables["The organism that the logit lens cannot read: lens top-1, the best address of each thought"] = (
        found.lens.loc[found.lens.groupby(["thought", "value"])["top1"].idxmax()].reset_index(drop=True)
    )
    section.tables["The same thoughts read by a probe"] = found.probe
    section.tables["The same thoughts swapped for another problem's"] = found.follow
    section.measures |= hard_figures(found)


def hard_figures(found: Opaque) -> dict[str, dict[str, Any]]:
    """The two measures of the unreadable organism."""
    best, other, same = found.best, found.followed("other value"), found.followed("same value")
    return {
        "papers.coconut.hard_lens_top1": {
            "value": float(best["top1"]),
            "ci": [float(best["ci_low"]), float(best["ci_high"])],
            "n": int(best["n"]),
            "note": f"best of all addresses, thoughts and steps, chosen on validation: thought {best['thought']} read at "
            f"{best['address']} for the value of step {best['value']}; the largest of {len(found.lens)} cells on the test "
            f"problems themselves is {found.lens['top1'].max():.3f}; the probe reads its worst step at "
            f"{found.probe['top1'].min():.3f}",
        },
        "papers.coconut.hard_follow": {
            "value": float(other["follow_rate"]),
            "ci": [float(other["ci_low"]), float(other["ci_high"])],
            "n": int(other["n"]),
            "note": f"same-value donors change {same['change_rate']:.3f}, random vectors "
            f"{found.followed('random vector')['change_rate']:.3f}",
        },
    }
