"""Probe trajectories over a store: fitted, pooled, placed, and compared with their controls.

Everything is chosen on validation traces: address, strength, pooling and threshold. What is reported is held out, and
intervals resample problem structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.splits import split_is_own, trace_parts
from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import checked_seed
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.statistics.splits import Masks, masks_of
from interp.traces import THINKING
from probes.subtext.foresight import auroc_lead
from probes.subtext.readers import FOLDS, folds
from probes.trajectories.areas import auroc, bands
from probes.trajectories.controls import CONTROLS, RIVALS, ControlScores, control_scores
from probes.trajectories.events import Events, events_of
from probes.trajectories.fit import Choice, alarm_threshold, calibrate, choose
from probes.trajectories.places import score_places
from probes.trajectories.pooling import POOLINGS, Spans, first_above, peaks, pool, running
from probes.trajectories.results import Trajectory, TrajectoryResult


def trajectory(
    source: ActivationSource,
    target: str,
    *,
    says: str | None = None,
    addresses: Sequence[str] | None = None,
    channels: Sequence[str] = THINKING,
    estimator: str = "ridge",
    pooling: str | Sequence[str] = tuple(POOLINGS),
    window: int = 4,
    false_alarms: float = 0.05,
    cross_fit: bool = False,
    split_seed: int = 0,
    controls: bool = True,
    progress: Progress | None = None,
) -> TrajectoryResult:
    """Fit a probe on every position of the traces, pool its scores, and say where it fires.

    Each position inherits the label of its trace, and a trace counts once whatever its length. With several events, such
    as the values of a step, each pair of a trace and an event is one case.

    Args:
        source: A store or a recording.
        target: The target: `correct`, `value_2`, a label of the user's own, or another that probes take. A label that
            differs within a trace, such as one of steps, needs `says`.
        says: The label that is looked for. Default: `False` for `correct`, `True` where labels are truth values, else
            every label.
        addresses: Addresses to choose from; all that were captured by default.
        channels: Channels of the positions.
        estimator: Name of an estimator, such as ridge, logistic or mass_mean.
        pooling: Poolings to choose from: names in `POOLINGS`.
        window: Positions of the rolling mean.
        false_alarms: Share of validation cases without the event that may be above the threshold.
        cross_fit: Hold out every problem once, in five folds by structure; by default one split is held out. Scores of
            different folds are compared in standard deviations from the fold's threshold.
        split_seed: Seed of the split, of the folds and of the controls.
        controls: Also compute the controls.
        progress: Called with (splits done, splits in all).

    Returns:
        The scores, thresholds, places and controls on held-out traces.

    Raises:
        UsageError: A name is unknown, no position has such a channel, or a part of the split lacks traces with and without
            the event.

    References:
        Max-pooled probes over all tokens as monitors: Goldowsky-Dill et al., arXiv 2502.03407; McKenzie et al.,
        arXiv 2506.10805; hallucinated spans: Obeso et al., arXiv 2509.03531.
    """
    poolings = [pooling] if isinstance(pooling, str) else list(pooling)
    for name in poolings:
        if name not in POOLINGS:
            raise unknown("pooling", name, POOLINGS)
    checked_count("window", window)
    if not 0 < false_alarms < 1:
        raise UsageError(f"expected a false-alarm rate between 0 and 1, got {false_alarms}; 0.05 is usual.")
    rows = source.rows(channel=list(channels)).reset_index(drop=True)
    if rows.empty:
        raise UsageError(
            f"expected positions of the channels {', '.join(channels)} in {source.name}, got none; name others."
        )
    events, kept = events_of(source, rows, target, says)
    rows = rows[kept].reset_index(drop=True)
    if rows.empty:
        raise UsageError(f"expected traces with a label of {target}, got none; choose another target.")
    spans = Spans.of(rows["trace"].to_numpy())
    numbers = rows["trace"].to_numpy()[spans.starts]
    groups = np.array([source.traces[int(t)].problem.structure for t in numbers])
    names = [str(source.address(name)) for name in addresses or source.addresses]
    splits = _splits(source, numbers, groups, cross_fit, checked_seed(split_seed))
    parts: list[_Part] = []
    for k, split in enumerate(splits):
        inputs = {name: (lambda name=name: source.acts(name, rows)) for name in names}
        chosen = choose(
            inputs, events.labels, events.names, spans, split, estimator=estimator, poolings=poolings, window=window
        )
        acts = source.acts(chosen.source, rows)
        calibrate(chosen, acts, events.labels, spans, split.val)
        extra = ControlScores()
        if controls:
            extra = control_scores(
                source,
                rows,
                events.labels,
                events.names,
                split,
                chosen,
                estimator=estimator,
                poolings=poolings,
                window=window,
                seed=split_seed + k,
            )
        parts.append(_Part(chosen, split, extra, acts, events, spans, window, false_alarms))
        if progress:
            progress(k + 1, len(splits))
    return _result(source, rows, target, events, spans, groups, parts, window, false_alarms, split_seed, cross_fit)


class _Part:
    """One split: its probe, thresholds, and the normalised scores of its test traces."""

    def __init__(
        self,
        chosen: Choice,
        split: Masks,
        extra: ControlScores,
        acts: np.ndarray,
        events: Events,
        spans: Spans,
        window: int,
        false_alarms: float,
    ) -> None:
        self.chosen, self.split, self.extra = chosen, split, extra
        self.tested = np.flatnonzero(split.test)
        positive = events.positive[split.val]
        pooled = pool(chosen.scores, spans, chosen.pooling, window)
        self.threshold, self.spread = alarm_threshold(pooled[split.val], positive, false_alarms)
        fitted = split.train[spans.of_row]
        has, states = events.positive[spans.of_row][fitted], acts[fitted]
        self.mean_difference = np.stack([states[on].mean(axis=0) - states[~on].mean(axis=0) for on in has.T])
        self.norm = float(np.linalg.norm(states, axis=1).mean())
        self.pooled = (pooled[split.test] - self.threshold) / self.spread
        # A mean or the last score has no place of its own, so places are those of the highest scores.
        self.placed_by = chosen.pooling if chosen.pooling in ("max", "rolling max") else "max"
        placed = pool(chosen.scores, spans, self.placed_by, window)
        self.place_threshold, self.place_spread = alarm_threshold(placed[split.val], positive, false_alarms)
        series = running(chosen.scores, spans, self.placed_by, window)
        self.series = (series - self.place_threshold) / self.place_spread
        self.peaks = peaks(self.series, spans)[split.test]
        self.firsts = first_above(self.series, spans, 0.0)[split.test]


def _splits(
    source: ActivationSource, numbers: np.ndarray, groups: np.ndarray, cross_fit: bool, seed: int
) -> list[Masks]:
    if not cross_fit:
        return [masks_of(trace_parts(source, seed)[numbers], groups)]
    if split_is_own(source):
        raise UsageError(
            "expected problems without splits of their own to cross-fit, got a questions file that has them; leave "
            "cross_fit (--cross-fit) out."
        )
    fold = folds(groups, seed)
    tested = [(fold == k, fold == (k + 1) % FOLDS) for k in range(FOLDS)]
    return [Masks(~test & ~val, val, test) for test, val in tested]


def _result(
    source: ActivationSource,
    rows: pd.DataFrame,
    target: str,
    events: Events,
    spans: Spans,
    groups: np.ndarray,
    parts: list[_Part],
    window: int,
    false_alarms: float,
    seed: int,
    cross_fit: bool,
) -> TrajectoryResult:
    tested = np.concatenate([part.tested for part in parts])
    pooled = np.concatenate([part.pooled for part in parts])
    positive, n_events = events.positive[tested], len(events.names)
    flat, cases = positive.ravel(), np.repeat(groups[tested], n_events)
    scores = pooled.ravel()
    lengths = np.repeat(spans.lengths[tested], n_events)
    table = [_row("probe", auroc(scores, flat, cases, seed=seed))]
    matched = auroc(scores, flat, cases, strata=bands(lengths), seed=seed)
    table.append(_row("probe, equal lengths", matched))
    leads: dict[str, Estimate] = {}
    why_not: dict[str, str] = {}
    for name in CONTROLS if any(part.extra.draws for part in parts) else ():
        missing = [part.extra.why_not[name] for part in parts if name in part.extra.why_not]
        if missing:
            why_not[name] = missing[0]
            table.append(_row(name, Estimate(float("nan"), float("nan"), float("nan"), 0)))
        elif name in RIVALS:
            rival = np.concatenate([part.extra.pooled[name] for part in parts]).ravel()
            table.append(_row(name, auroc(rival, flat, cases, seed=seed)))
            if 0 < flat.sum() < len(flat):
                leads[name] = auroc_lead(flat, scores, rival, cases, seed=seed)
        else:
            drawn = np.array([value for part in parts for value in part.extra.draws[name]])
            drawn = drawn[~np.isnan(drawn)]
            if not len(drawn):
                why_not[name] = "the test part has a single label"
                drawn = np.array([np.nan])
            low, high = (drawn.min(), drawn.max()) if name == "shuffled labels" else np.quantile(drawn, [0.025, 0.975])
            table.append(_row(name, Estimate(float(drawn.mean()), float(low), float(high), len(drawn))))
    fired = pooled > 0
    firsts = np.concatenate([part.firsts for part in parts])
    tops = np.concatenate([part.peaks for part in parts])
    on = np.nonzero(positive)
    places = {}
    if events.truth.any():
        places["highest score"] = score_places(tops[on], tested[on[0]], events.truth, spans, groups, seed)
        alarmed = firsts[on] >= 0
        places["first firing"] = score_places(
            firsts[on][alarmed], tested[on[0]][alarmed], events.truth, spans, groups, seed
        )
    traces = pd.DataFrame(
        {
            "trace": np.repeat(rows["trace"].to_numpy()[spans.starts][tested], n_events),
            "event": np.tile(events.names, len(tested)),
            "label": np.repeat(events.labels[tested], n_events),
            "positive": flat,
            "score": scores,
            "fired": fired.ravel(),
            "length": lengths,
            "structure": cases,
            "split": np.repeat(np.concatenate([np.full(len(p.tested), k) for k, p in enumerate(parts)]), n_events),
            **_of_rows("first", firsts.ravel(), rows),
            **_of_rows("highest", tops.ravel(), rows),
        }
    )
    return TrajectoryResult(
        target=target,
        events=events.names,
        truth=events.what,
        table=pd.DataFrame(table),
        leads=leads,
        why_not=why_not,
        detected=Estimate.of_mean(fired[positive], cases[flat]),
        false_alarms=Estimate.of_mean(fired[~positive], cases[~flat]),
        wanted_false_alarms=false_alarms,
        places=places,
        traces=traces,
        positions=_positions(rows, events, spans, parts),
        parts=[
            Trajectory(
                part.chosen.source,
                part.chosen.probe,
                part.chosen.pooling,
                part.placed_by,
                part.threshold,
                part.place_threshold,
                part.spread,
                part.mean_difference,
                part.norm,
                window,
                events.names,
                part.chosen.area,
                {f"{name}, {pooling}": value for (name, pooling), value in part.chosen.tried.items()},
                rows["trace"].to_numpy()[spans.starts[part.split.train]],
                rows["trace"].to_numpy()[spans.starts[part.split.val]],
                rows["trace"].to_numpy()[spans.starts[part.tested]],
            )
            for part in parts
        ],
        notes={"split_seed": seed, "cross_fit": cross_fit, "window": window, "source": source.name},
    )


def _row(name: str, estimate: Estimate) -> dict[str, Any]:
    return {
        "reader": name,
        "auroc": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "n": estimate.n,
    }


def _of_rows(name: str, numbers: np.ndarray, rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the position, token, step and place of rows, None where the number is -1."""
    out: dict[str, list[Any]] = {}
    for column in ("position", "token", "step", "place"):
        values = rows[column].to_numpy()
        out[f"{name}_{column}"] = [None if k < 0 else values[k] for k in numbers]
    return out


def _positions(rows: pd.DataFrame, events: Events, spans: Spans, parts: list[_Part]) -> pd.DataFrame:
    """Return the score of every position of the held-out traces for the trace's own event, or the only one."""
    frames = []
    of_row = spans.of_row
    column = np.array([events.names.index(label) if label in events.names else 0 for label in events.labels])
    for part in parts:
        kept = part.split.test[of_row]
        event = column[of_row][kept]
        scores = part.series[kept, event]
        frames.append(
            rows.loc[kept, ["trace", "position", "token", "channel", "step", "place"]].assign(
                event=np.array(events.names)[event],
                address=part.chosen.source,
                score=scores,
                fired=scores > 0,
                truth=events.truth[kept] & (events.positive[of_row][kept, event]),
            )
        )
    return pd.concat(frames, ignore_index=True)
