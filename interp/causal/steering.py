"""Steering: push a thought towards a chosen value, by more and more, and see what follows and what breaks.

The direction of a value is the mean state of thoughts that hold it, minus the mean over values. Success is that the
answer becomes what the task's oracle computes from the chosen value. Collateral is what changes that should not:
answers of problems whose thought holds the chosen value already, and answers that are no answers any more. A
random direction of the same length stands beside it at every dose; the dose is chosen on other problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.donors import implied
from interp.causal.patching import addresses_of, position, states
from interp.causal.sites import INPUT, thought_of
from interp.errors import UsageError, unknown
from interp.problems import task as make_task
from interp.reasoners.interventions import Edit, Intervention
from interp.runtime.progress import Progress
from interp.statistics.intervals import first_within_error, grouped_mean_interval
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

DOSES = (0.5, 1.0, 2.0, 4.0, 8.0)
KINDS = ("steer", "already there", "random direction")
Mode = Literal["add", "set"]


Place = tuple[int, int]  # a step, and how many its problem has


class Directions:
    """The mean states of values at one site, for each step and number of steps apart: a thought also holds which step
    it is and how many are left, and where that is written on top of the value, directions of other places mislead.

    `means` maps (step, steps of the problem) to values x d, in the order of `values`.
    """

    def __init__(
        self, values: list[str], means: dict[Place, Float[Tensor, "values d"]], site: str, offset: int
    ) -> None:
        self.values, self.means, self.site, self.offset = values, means, site, offset
        self.centres = {place: each.mean(dim=0) for place, each in means.items()}

    def of(self, value: str, place: Place) -> Float[Tensor, " d"]:
        """The direction of `value` at `place`, from the mean over all values."""
        if value not in self.values:
            raise unknown("value with a steering direction", value, self.values)
        if place not in self.means:
            raise unknown("(step, steps) with steering directions", place, self.means)
        return self.means[place][self.values.index(value)] - self.centres[place]

    @classmethod
    def fit(cls, reasoner: Reasoner, traces: TraceSet, *, site: str = INPUT, offset: int = 0) -> Directions:
        """Means over the thoughts of rightly answered `traces`.

        Kept are the places at which most values occur, and the values that occur at each of them. Raises
        `UsageError` where fewer than two do.
        """
        (address,) = addresses_of(reasoner, site)
        rows, said = [], []
        for k, trace in enumerate(traces):
            for step, gold in enumerate(trace.problem.steps, 1):
                at = position(trace, thought_of(step, offset, reasoner.config.thoughts_per_step))
                if trace.correct and at is not None:
                    rows.append((k, at))
                    said.append(((step, trace.problem.n_steps), gold.value))
        seen: dict[Place, set[str]] = {}
        for place, value in said:
            seen.setdefault(place, set()).add(value)
        most = max(map(len, seen.values()), default=0)
        places = sorted(place for place, values in seen.items() if len(values) > most / 2)
        values = sorted(set.intersection(*(seen[place] for place in places))) if places else []
        if len(values) < 2:
            raise UsageError(
                f"steering {reasoner.name} needs thoughts of at least two values at offset {offset}, but {len(values)} "
                "came. Take more problems, or another offset."
            )
        acts = states(reasoner, traces, address, np.array(rows))
        means = {
            place: torch.stack([acts[[key == (place, value) for key in said]].mean(dim=0) for value in values])
            for place in places
        }
        return cls(values, means, site, offset)


class Steering:
    """What steering did at every dose, on problems to choose a dose on (`val`) and on others (`test`)."""

    def __init__(self, frame: pd.DataFrame, best: float, mode: str) -> None:
        self._frame, self.best, self.mode = frame, best, mode

    def table(self) -> pd.DataFrame:
        """One row for each edit: part, dose, kind, trace, step, steps, value, target, answer_after, followed, changed,
        malformed, structure."""
        return self._frame

    def rate(self, kind: str, column: str, dose: float | None = None, part: str = "test") -> dict[str, Any]:
        """A mean with its grouped 95 % interval, at the best dose by default."""
        f = self._frame
        here = f[(f["kind"] == kind) & (f["dose"] == (self.best if dose is None else dose)) & (f["part"] == part)]
        if here.empty:
            return {"value": None, "ci": None, "n": 0}
        ci = grouped_mean_interval(here[column].to_numpy(float), here["structure"].to_numpy())
        return {"value": float(here[column].mean()), "ci": list(ci), "n": len(here)}

    def collateral(self, dose: float | None = None) -> dict[str, Any]:
        """The larger of: answers changed where the value was there already, and answers that are none any more."""
        found = [self.rate("already there", "changed", dose), self.rate("steer", "malformed", dose)]
        known = [each for each in found if each["value"] is not None]
        return max(known, key=lambda each: each["value"]) if known else found[0]

    def summary(self) -> pd.DataFrame:
        """Dose-response on the test problems: success, random direction, collateral, each with its interval."""
        out = []
        for dose in sorted(self._frame["dose"].unique()):
            success, random = self.rate("steer", "followed", dose), self.rate("random direction", "followed", dose)
            already, malformed = self.rate("already there", "changed", dose), self.rate("steer", "malformed", dose)
            out.append(
                {
                    "dose": dose,
                    "chosen": dose == self.best,
                    "success": success["value"],
                    "success_ci": success["ci"],
                    "random direction": random["value"],
                    "random_ci": random["ci"],
                    "changed where already there": already["value"],
                    "already_ci": already["ci"],
                    "malformed": malformed["value"],
                    "n": success["n"],
                    "n already": already["n"],
                }
            )
        return pd.DataFrame(out)


def steer(
    reasoner: Reasoner,
    val: TraceSet,
    test: TraceSet,
    directions: Directions,
    *,
    doses: Sequence[float] = DOSES,
    mode: Mode = "add",
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Steering:
    """Steer every step of rightly answered problems to a random other value, at every dose.

    `add` adds dose times the direction; `set` first takes away what the state has along the values' directions.
    The dose is the smallest within one standard error of the best success on `val`.
    """
    if mode not in ("add", "set"):
        raise unknown("mode of steering", mode, ("add", "set"))
    if not doses or any(not np.isfinite(dose) or dose <= 0 for dose in doses):
        raise UsageError(f"doses must be positive numbers, but {list(doses)} came.")
    frames = []
    total = 2 * len(doses)
    for name, traces in (("val", val), ("test", test)):
        plan = _plan(reasoner, traces, directions, seed)
        for dose in sorted(doses):
            frames.append(
                _carried_out(reasoner, traces, plan, directions, dose, mode, seed, batch_size).assign(part=name)
            )
            if progress:
                progress(len(frames), total)
    frame = pd.concat(frames, ignore_index=True)
    tried = (
        frame[(frame["part"] == "val") & (frame["kind"] == "steer")].groupby("dose")["followed"].agg(["mean", "size"])
    )
    best = first_within_error(tried["mean"].tolist(), tried["size"].tolist())
    return Steering(frame, float(tried.index[best]), mode)


def _plan(reasoner: Reasoner, traces: TraceSet, directions: Directions, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    task = make_task(traces[0].problem.task)
    out: list[tuple[Any, ...]] = []
    for k, trace in enumerate(traces):
        for step, gold in enumerate(trace.problem.steps, 1):
            at = position(trace, thought_of(step, directions.offset, reasoner.config.thoughts_per_step))
            steps = trace.problem.n_steps
            known = (step, steps) in directions.means and gold.value in directions.values
            if not trace.correct or at is None or not known:
                continue
            told = {value: implied(task, trace.problem, step, value) for value in directions.values}
            options = [v for v, answer in told.items() if answer not in (None, trace.answer)]
            shared = (k, step, steps, at, gold.value, trace.problem.structure)
            out.append((*shared, "already there", gold.value, trace.answer))
            if options:
                target = str(rng.choice(options))
                out.append((*shared, "steer", target, told[target]))
                out.append((*shared, "random direction", target, told[target]))
    columns = ["trace", "step", "steps", "position", "value", "structure", "kind", "target", "predicted"]
    plan = pd.DataFrame(out, columns=columns)
    if not (plan["kind"] == "steer").any():
        raise UsageError(f"no thought of {reasoner.name} can be steered: none of {len(traces)} answers would change.")
    return plan


def _carried_out(
    reasoner: Reasoner,
    traces: TraceSet,
    plan: pd.DataFrame,
    directions: Directions,
    dose: float,
    mode: str,
    seed: int,
    batch_size: int,
) -> pd.DataFrame:
    (address,) = addresses_of(reasoner, directions.site)
    places = list(zip(plan["step"].tolist(), plan["steps"].tolist(), strict=True))
    towards = torch.stack([directions.of(*key) for key in zip(plan["target"], places, strict=True)])
    noise = torch.randn(towards.shape, generator=torch.Generator().manual_seed(seed))
    noise *= towards.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    random = torch.tensor((plan["kind"] == "random direction").tolist())
    pushed = torch.where(random[:, None], noise, towards) * dose
    rows = np.stack([np.arange(len(plan)), plan["position"].to_numpy()], axis=1)
    problems = [traces[t].problem for t in plan["trace"]]
    edit = _setting(directions, places, pushed) if mode == "set" else _adding(pushed)
    after = reasoner.think(problems, batch_size=batch_size, interventions=[Intervention(address, rows, edit)])
    said = [trace.answer for trace in after]
    before = [traces[t].answer for t in plan["trace"]]
    values = set(make_task(problems[0].task).values)
    sizes = {len(problem.answer.split()) for problem in problems}
    formed = [len(a.split()) in sizes and a.split()[0] in values for a in said]
    return plan.drop(columns=["position"]).assign(
        dose=dose,
        answer_after=said,
        followed=[a == p for a, p in zip(said, plan["predicted"], strict=True)],
        changed=[a != b for a, b in zip(said, before, strict=True)],
        malformed=[not ok for ok in formed],
    )


def _adding(pushed: Tensor) -> Edit:
    def edit(found: Tensor, rows: np.ndarray) -> Tensor:
        return found + pushed[torch.as_tensor(rows)].to(found)

    return edit


def _setting(directions: Directions, places: Sequence[Place], pushed: Tensor) -> Edit:
    spans: dict[Place, Tensor] = {}
    for place, means in directions.means.items():
        _, scales, basis = torch.linalg.svd(means - directions.centres[place], full_matrices=False)
        spans[place] = basis[scales > 1e-6 * scales[0]]

    def edit(found: Tensor, rows: np.ndarray) -> Tensor:
        out = found + pushed[torch.as_tensor(rows)].to(found)
        for place, span in spans.items():
            here = torch.tensor([places[row] == place for row in rows.tolist()])
            off = (found[here] - directions.centres[place].to(found)) @ span.to(found).T
            out[here] -= off @ span.to(found)
        return out

    return edit
