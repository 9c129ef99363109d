"""The result of a trajectory probe: its scores beside controls, its places, and its figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.statistics.estimates import Estimate
from probes.estimators.base import Probe
from probes.trajectories.places import FEWEST, PlaceScore

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Trajectory:
    """The probe of one split, as it can be applied at every position.

    Attributes:
        address: The address that it reads.
        probe: The fitted probe.
        pooling: The pooling that validation chose.
        placed_by: The pooling whose places are reported: `max` or `rolling max`.
        threshold: The pooled score above which a trace counts as one with the event.
        place_threshold: The same for the score of `placed_by`.
        spread: Standard deviation of the pooled scores of validation.
        mean_difference: Mean state of training positions with each event minus that of the others, shape (events, d_model).
        norm: Mean norm of the states at training positions.
        window: Positions of the rolling mean.
        events: The events that are scored.
        val_auroc: Validation AUROC.
        tried: Validation AUROC of each address and pooling.
        train: Numbers of the training traces.
        val: Numbers of the validation traces.
        test: Numbers of the held-out traces.
    """

    address: str
    probe: Probe
    pooling: str
    placed_by: str
    threshold: float
    place_threshold: float
    spread: float
    mean_difference: np.ndarray
    norm: float
    window: int
    events: list[str]
    val_auroc: float
    tried: dict[str, float]
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def alarm(self) -> float | None:
        """The event's probability at a position above which a monitor fires at the same rate of false alarms.

        None where the probe has more than two classes or the place is one of a rolling mean, which no probability at one
        position stands for.
        """
        if len(self.probe.classes_) != 2 or len(self.events) != 1 or self.placed_by != "max":
            return None
        scaled = float(getattr(self.probe, "temperature_", 1.0)) * self.place_threshold
        return float(1 / (1 + np.exp(-scaled)))


@dataclass(frozen=True)
class TrajectoryResult:
    """How well a trajectory probe finds an event in held-out traces, and where.

    Attributes:
        target: The target.
        events: The labels that are looked for.
        truth: What places are scored against; empty where nobody knows.
        table: AUROC of the probe, of the probe among traces of equal length, and of each control. Columns: reader, auroc,
            ci_low, ci_high, n.
        leads: AUROC of the probe minus that of each control that scores traces, on the same traces.
        why_not: Why a control could not be computed.
        detected: Share of held-out cases with the event that are above the threshold.
        false_alarms: Share of those without it that are.
        wanted_false_alarms: The rate at which the threshold was set on validation.
        places: `highest score` and `first firing` against the truth.
        traces: One row for each held-out trace and event, with the first firing and the highest score: position, token,
            step and place. Scores are standard deviations from the threshold.
        positions: One row for each position of the held-out traces, for the trace's own event. 0 is the threshold.
        parts: The probe of each split.
        notes: Seeds and settings.
    """

    target: str
    events: list[str]
    truth: str
    table: pd.DataFrame
    leads: dict[str, Estimate]
    why_not: dict[str, str]
    detected: Estimate
    false_alarms: Estimate
    wanted_false_alarms: float
    places: dict[str, PlaceScore]
    traces: pd.DataFrame
    positions: pd.DataFrame
    parts: list[Trajectory]
    notes: dict[str, Any]

    def auroc(self, reader: str = "probe") -> Estimate:
        """Return the AUROC of the probe or of a control.

        Args:
            reader: A name of the column `reader`.
        """
        row = self.table.set_index("reader").loc[reader]
        return Estimate(float(row["auroc"]), float(row["ci_low"]), float(row["ci_high"]), int(row["n"]))

    @property
    def strongest(self) -> str | None:
        """The control that does best on the held-out traces, among those that score traces; None without controls."""
        rivals = self.table[self.table["reader"].isin(list(self.leads))]
        return None if rivals.empty else str(rivals.loc[rivals["auroc"].idxmax(), "reader"])

    @property
    def verdict(self) -> str:
        """The result in words; none where there are too few traces of a kind."""
        with_event, without = int(self.traces["positive"].sum()), int((~self.traces["positive"]).sum())
        if min(with_event, without) < FEWEST:
            return (
                f"no verdict: {with_event} held-out cases with the event and {without} without it; {FEWEST} of each "
                "are needed."
            )
        mine = self.auroc()
        figure = f"AUROC {mine}"
        if mine.low <= 0.5:
            return f"the event is not shown to be found: {figure}."
        if not self.leads:
            return f"the event is found: {figure}, without controls."
        equal = self.auroc("probe, equal lengths")
        if "length" not in self.why_not and not equal.low > 0.5:
            return f"the event is not shown to be found beyond length: {figure}, among traces of equal length {equal}."
        name = self.strongest
        lead = self.leads[str(name)]
        beyond = f"{lead.value:+.3f} [{lead.low:.3f}, {lead.high:.3f}] over {name}"
        if lead.low > 0:
            return f"the event is found beyond every control: {figure}, {beyond}."
        if lead.high < 0:
            return f"a control finds the event better: {figure}, {beyond}."
        return f"the event is found, but not shown to be beyond every control: {figure}, {beyond}."

    def place_table(self) -> pd.DataFrame:
        """Return one row for each way of placing: right, its interval, uniform, other_trace, offset, n, verdict."""
        rows = [
            {
                "place": name,
                "right": score.right.value,
                "ci_low": score.right.low,
                "ci_high": score.right.high,
                "uniform": score.uniform,
                "other problem": score.other_trace,
                "offset": score.offset,
                "n": score.right.n,
                "verdict": score.verdict,
            }
            for name, score in self.places.items()
        ]
        return pd.DataFrame(rows)

    def record(self) -> dict[str, Any]:
        """Return the result in the form that `cotlens probe trajectory --json` prints."""
        return {
            "target": self.target,
            "events": self.events,
            "readers": self.table.to_dict("records"),
            "leads": {name: lead.measure() for name, lead in self.leads.items()},
            "why_not": self.why_not,
            "detected": self.detected.measure(),
            "false_alarms": self.false_alarms.measure(),
            "wanted_false_alarms": self.wanted_false_alarms,
            "truth": self.truth,
            "places": {
                name: {
                    **{key: value for key, value in asdict(score).items() if not isinstance(value, dict)},
                    "right": score.right.measure(),
                    "beyond_uniform": score.beyond_uniform.measure(),
                    "beyond_other": score.beyond_other.measure(),
                    "verdict": score.verdict,
                }
                for name, score in self.places.items()
            },
            "chosen": [
                {"address": part.address, "pooling": part.pooling, "placed_by": part.placed_by}
                | {"threshold": part.threshold, "alarm": part.alarm, "val_auroc": part.val_auroc, "tried": part.tried}
                for part in self.parts
            ],
            "verdict": self.verdict,
            **self.notes,
        }

    def plot(self, trace: int | None = None) -> go.Figure:
        """Return a Plotly figure of the scores over positions.

        Args:
            trace: Number of a held-out trace, whose tokens are shown. Default: a heat map of up to 40 held-out traces.

        Raises:
            UsageError: The trace was not held out.
        """
        from probes.trajectories.figures import heat_map, trace_curve

        if trace is None:
            return heat_map(self.positions, self.traces, self.target)
        return trace_curve(self.positions, trace, self.target, self.truth)
