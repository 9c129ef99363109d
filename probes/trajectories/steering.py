"""Steering against a trajectory probe where it fired, beside other places and random directions of the same length.

The reasoner thinks again while the state is pushed, in the traces that fired, at the positions that fired. The verdict is
about answers: that the push lowers the score of the probe that defines it is true by construction where it fired, and is
shown beside the controls only as a check of the place and the direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from interp.activations import ActivationSource
from interp.activations.recording import record
from interp.causal.patching.patch import norm_matched_noise
from interp.causal.steering import malformed_answers
from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.problems import task as make_task
from interp.reasoners.interventions import Intervention, add
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import THINKING
from probes.trajectories.controls import directions
from probes.trajectories.fit import Choice, event_scores
from probes.trajectories.places import FEWEST
from probes.trajectories.pooling import Spans, pool
from probes.trajectories.results import Trajectory, TrajectoryResult

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

ALONG = ("probe", "class means")
ARMS = ("nothing", "where it fired", "random place", "random direction")


@dataclass(frozen=True)
class TrajectorySteering:
    """What a push against the probe changes.

    Attributes:
        table: One row for each dose and arm. Columns: dose, arm, score_change (of the pooled score, in standard deviations
            of validation, the push included) with its interval, still_fires, changed (answers) with its interval, right
            (answers), malformed (answers that are none), n.
        beyond: For each dose and control, the share of answers that changed where it fired minus that under the control,
            trace by trace.
    """

    table: pd.DataFrame
    beyond: dict[tuple[float, str], Estimate]

    @property
    def verdict(self) -> str:
        """The result in words."""
        sentences = []
        for dose in sorted({dose for dose, _ in self.beyond}):
            controls = {arm: gap for (d, arm), gap in self.beyond.items() if d == dose}
            n = min(gap.n for gap in controls.values())
            if n < FEWEST:
                return f"no verdict on steering over {n} traces that fired; {FEWEST} are needed."
            figures = ", ".join(
                f"{gap.value:+.2f} [{gap.low:.2f}, {gap.high:.2f}] beyond {arm}" for arm, gap in controls.items()
            )
            more = all(gap.low > 0 for gap in controls.values())
            clause = (
                "more answers change than under every control" if more else "no change beyond every control is shown"
            )
            sentences.append(f"at dose {dose:g} {clause} ({figures})")
        return "; ".join(sentences) + "."


def steer_trajectory(
    source: ActivationSource,
    result: TrajectoryResult,
    *,
    doses: Sequence[float] = (0.25, 1.0),
    along: str = "probe",
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrajectorySteering:
    """Think again about held-out traces that fired, with the state pushed against the probe's direction.

    The push has the length of `dose` mean states. Arms: the push where the probe fired; the same push at as many other positions of the thought; a random direction of
    the same length where it fired; and nothing, with which the others are compared.

    Args:
        source: The activations; their reasoner is loaded.
        result: A trajectory with one event; the probe of its first split is used, on that split's held-out traces.
        doses: Length of the push, in mean norms of a state.
        along: `probe`, the probe's direction, or `class means`, from the mean state of training positions with the event
            to that of the others.
        batch_size: Problems that are thought about at once.
        seed: Seed of other places, directions and sampling.
        progress: Called with (doses done, doses in all).

    Returns:
        Changes of the pooled score and of answers, beside the controls.

    Raises:
        UsageError: There are several events, `along` is unknown, the probe is not linear, a dose is not positive, or no trace fired.
    """
    if len(result.events) != 1:
        raise UsageError(
            f"expected one event to steer against, got {len(result.events)} labels of {result.target}; name one (says=, --says)."
        )
    part = result.parts[0]
    if along not in ALONG:
        raise unknown("direction of steering", along, ALONG)
    if not hasattr(part.probe, "coef_"):
        raise UsageError(
            "expected a linear probe to steer against, got another; fit ridge, logistic, mass_mean or lda."
        )
    if not doses or any(not np.isfinite(dose) or dose <= 0 for dose in doses):
        raise UsageError(f"expected doses that are positive numbers, got {list(doses)}; give some such as 0.25 and 1.")
    fired = result.positions[result.positions["trace"].isin(part.test.tolist()) & result.positions["fired"]]
    if fired.empty:
        raise UsageError(f"expected held-out traces that fired, got none of {len(part.test)}; take more problems.")
    chosen = [int(trace) for trace in fired["trace"].drop_duplicates()]
    traces = [source.traces[k] for k in chosen]
    reasoner = source.load_reasoner()
    number = {trace: k for k, trace in enumerate(chosen)}
    places = np.stack([fired["trace"].map(number).to_numpy(), fired["position"].to_numpy()], axis=1)
    elsewhere = _elsewhere(result.positions, chosen, places, np.random.default_rng(seed))
    push = _push(part, along)
    noise = norm_matched_noise(torch.tensor(push, dtype=torch.float32).repeat(len(places), 1), seed).numpy()
    temperature = traces[0].temperature or 0.0
    problems = [trace.problem for trace in traces]
    address = Address(part.address)

    def think(rows: np.ndarray, vectors: np.ndarray, dose: float) -> TraceSet:
        edits = [Intervention(address, rows, add(vectors.astype(np.float32), dose))] if len(rows) else []
        return reasoner.think(
            problems, batch_size=batch_size, seed=traces[0].seed, temperature=temperature, interventions=edits
        )

    nowhere = np.zeros((0, 2), int)
    groups = np.array([problem.structure for problem in problems])
    spread = max(float(result.parts[0].spread), 1e-12)
    plain = think(nowhere, push, 0.0)
    base = _pooled(reasoner, plain, part, nowhere, push) / spread
    pushed = {
        "where it fired": (places, push),
        "random place": (elsewhere, push),
        "random direction": (places, noise),
    }
    rows: list[dict[str, object]] = []
    beyond: dict[tuple[float, str], Estimate] = {}
    for done, dose in enumerate(doses):
        changed: dict[str, np.ndarray] = {}
        for name in ARMS:
            after = think(*pushed[name], dose) if name in pushed else plain
            cells, vectors = pushed.get(name, (nowhere, push))
            score = _pooled(reasoner, after, part, cells, dose * vectors)
            changed[name] = _changed(plain, after)
            rows.append(_row(dose, name, score / spread - base, score > part.threshold, changed[name], after, groups))
        for name in ARMS[2:]:
            beyond[dose, name] = Estimate.of_difference(changed["where it fired"] - changed[name], groups)
        if progress:
            progress(done + 1, len(doses))
    return TrajectorySteering(pd.DataFrame(rows), beyond)


def _push(part: Trajectory, along: str) -> np.ndarray:
    """Return the vector away from the event, as long as a mean state."""
    choice = Choice(part.address, part.probe, part.pooling, part.val_auroc, np.zeros((0, 1)), {})
    direction = directions(choice, part.events)[0] if along == "probe" else part.mean_difference[0]
    return -direction * (part.norm / max(float(np.linalg.norm(direction)), 1e-12))


def _elsewhere(
    positions: pd.DataFrame, chosen: Sequence[int], places: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return as many other positions of each thought, or all others where there are fewer."""
    out = []
    for k, trace in enumerate(chosen):
        all_of = positions.loc[positions["trace"] == trace, "position"].to_numpy()
        others = np.setdiff1d(all_of, places[places[:, 0] == k, 1])
        n = min(len(others), int((places[:, 0] == k).sum()))
        out += [(k, int(position)) for position in rng.choice(others, n, replace=False)]
    return np.array(out, int).reshape(-1, 2)


def _pooled(
    reasoner: Reasoner, traces: TraceSet, part: Trajectory, cells: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """Return the pooled score of traces with what was added in some cells; the threshold where there is no thought.

    A replay recomputes the states without the push, so it is added to them.
    """
    source = record(reasoner, traces, sites=[part.address])
    rows = source.rows(channel=THINKING)
    out = np.full(len(traces), part.threshold)
    if rows.empty:
        return out
    acts = source.acts(part.address, rows).copy()
    number = {cell: k for k, cell in enumerate(zip(rows["trace"].tolist(), rows["position"].tolist(), strict=True))}
    for k, cell in enumerate(map(tuple, cells.tolist())):
        if cell in number:  # a changed thought may be shorter
            acts[number[cell]] += vectors if vectors.ndim == 1 else vectors[k]
    spans = Spans.of(rows["trace"].to_numpy())
    scores = event_scores(part.probe, acts, part.events)
    out[rows["trace"].to_numpy()[spans.starts]] = pool(scores, spans, part.pooling, part.window)[:, 0]
    return out


def _row(
    dose: float,
    arm: str,
    change: np.ndarray,
    fires: np.ndarray,
    changed: np.ndarray,
    after: TraceSet,
    groups: np.ndarray,
) -> dict[str, object]:
    problems, answers = after.problems, [trace.answer for trace in after]
    task = make_task(problems[0].task)
    fall, share = _mean(change, groups), Estimate.of_mean(changed, groups)
    return {
        "dose": dose,
        "arm": arm,
        "score_change": fall.value,
        "score_low": fall.low,
        "score_high": fall.high,
        "still_fires": float(fires.mean()),
        "changed": share.value,
        "ci_low": share.low,
        "ci_high": share.high,
        "right": float(np.mean([trace.correct for trace in after])),
        "malformed": float(np.mean(malformed_answers(task, problems, answers, [p.answer for p in problems]))),
        "n": len(answers),
    }


def _changed(before: TraceSet, after: TraceSet) -> np.ndarray:
    """Return whether each answer is another one, as 0 or 1."""
    task = make_task(before[0].problem.task)
    pairs = zip(before, after, strict=True)
    return np.array([not task.same_answer(a.problem, b.answer, a.answer) for a, b in pairs], float)


def _mean(values: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return the mean with an interval over structures; a change that is the same everywhere has no spread."""
    if len(set(values.tolist())) == 1:
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values))
    return Estimate.of_mean(values, groups)
