"""The ablation battery: what becomes of the answers when thoughts are emptied, replaced, reordered, frozen or left out.

Each arm is the same problems thought again with every thought's state replaced: by zeros, the mean over problems,
noise of the same length, another problem's thoughts, the problem's own in another order, or its own thought k in
all later places; and once without any thoughts. A null result means nothing where the edit cannot bite, so the
same kind of replacement, another problem's states, is also made at the question, where it has to destroy the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from interp.causal.donors import cyclic_donors
from interp.causal.forcing import force, thought_ids
from interp.causal.patching import EVERYTHING, addresses_of, states
from interp.errors import UsageError, checked_count, unknown
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.reasoners.interventions import Intervention, replace_with
from interp.reasoners.text import TextReasoner
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.models.address import Address
    from interp.reasoners import Reasoner

LATENT_ARMS = ("own", "zero", "mean", "noise", "other problem", "shuffled", "frozen", "dropped", "question of another")
TEXT_ARMS = ("own", "other problem", "shuffled", "dropped", "question of another")
INPUT = "blocks.0.hook_in"


class Ablation:
    """What each arm of the battery answered."""

    def __init__(self, frame: pd.DataFrame, reasoner: str, site: str, seed: int) -> None:
        self._frame, self.reasoner, self.site, self.seed = frame, reasoner, site, seed

    def table(self) -> pd.DataFrame:
        """One row for each (arm, problem): arm, trace, n_steps, structure, answer, correct, changed."""
        return self._frame

    def right(self, arm: str) -> pd.Series:
        """Whether each problem was answered rightly in an arm, by trace."""
        part = self._frame[self._frame["arm"] == arm]
        if part.empty:
            raise unknown("arm of this battery", arm, list(dict.fromkeys(self._frame["arm"])))
        return part.set_index("trace")["correct"].astype(float)

    def summary(self) -> pd.DataFrame:
        """Accuracy of each arm and its difference from own thoughts, with grouped 95 % intervals."""
        own = self.right("own")
        out = []
        for arm in dict.fromkeys(self._frame["arm"]):
            part = self._frame[self._frame["arm"] == arm]
            groups = part["structure"].to_numpy()
            right = part["correct"].to_numpy(float)
            lost = own.loc[part["trace"]].to_numpy() - right
            out.append(
                {
                    "arm": arm,
                    "accuracy": right.mean(),
                    "ci": list(grouped_mean_interval(right, groups)),
                    "lost": lost.mean(),
                    "lost_ci": list(difference_interval(lost, groups)),
                    "changed": part["changed"].mean(),
                    "n": len(part),
                }
            )
        return pd.DataFrame(out)


def difference_interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The grouped 95 % interval of a mean of differences of shares, which lie between -1 and 1."""
    low, high = grouped_mean_interval((values + 1) / 2, groups)
    return 2 * low - 1, 2 * high - 1


def ablate(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    *,
    arms: Sequence[str] | None = None,
    site: str | None = None,
    frozen_after: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Ablation:
    """Run the battery on `problems`. Donors have as many steps; problems without one are left out.

    `site` is where latents are replaced: by default the fed-back input of continuous thoughts, and the whole
    residual stream of other latent positions, whose input is always the same. Visible thoughts are replaced as
    text. `frozen` keeps thought number `frozen_after` in all later places. Raises `UsageError` for reasoners that
    do not think, and for unknown arms.
    """
    checked_count("frozen_after", frozen_after)
    visible = isinstance(reasoner, TextReasoner)
    known = TEXT_ARMS if visible else LATENT_ARMS
    chosen = list(known) if arms is None else ["own", *(arm for arm in arms if arm != "own")]
    for arm in chosen:
        if arm not in known:
            raise unknown(f"arm for {reasoner.kind} reasoners", arm, known)
    traces = reasoner.think(list(problems), batch_size=batch_size)
    if not any(any(trace.thought) for trace in traces):
        raise UsageError(f"{reasoner.name} thinks no thoughts that could be ablated.")
    donors = _donors_of(traces, seed)
    kept = np.flatnonzero(donors >= 0)
    if not len(kept):
        raise UsageError(f"none of {len(traces)} problems has a donor with as many steps; take more problems.")
    if site is None:
        site = INPUT if reasoner.kind == "continuous" else EVERYTHING
    battery = _Battery(reasoner, traces, donors, kept, site, frozen_after, seed, batch_size)
    frames = []
    for done, arm in enumerate(chosen):
        after = battery.forced(arm) if visible else battery.thought(arm)
        frames.append(_frame(arm, traces, kept, after))
        if progress:
            progress(done + 1, len(chosen))
    return Ablation(pd.concat(frames, ignore_index=True), reasoner.name, "text" if visible else site, seed)


def _donors_of(traces: TraceSet, seed: int) -> np.ndarray:
    """For each trace one of another structure with as many steps and as long a question; -1 where there is none."""
    problems = traces.problems
    kinds = [(p.n_steps, sum(c == Channel.PROMPT for c in t.channel)) for p, t in zip(problems, traces, strict=True)]
    return cyclic_donors([p.structure for p in problems], kinds, seed)


class _Battery:
    def __init__(
        self,
        reasoner: Reasoner,
        traces: TraceSet,
        donors: np.ndarray,
        kept: np.ndarray,
        site: str,
        frozen_after: int,
        seed: int,
        batch_size: int,
    ) -> None:
        self.reasoner, self.traces, self.donors, self.kept = reasoner, traces, donors, kept
        self.site, self.frozen_after, self.seed, self.batch_size = site, frozen_after, seed, batch_size
        self.problems = [traces[k].problem for k in kept]

    def forced(self, arm: str) -> TraceSet:
        """Answers after a visible thought: the trace's own, another's, its words in another order, or none."""
        rng = np.random.default_rng(self.seed)
        own = {k: thought_ids(self.traces[k]) for k in [*self.kept, *self.donors[self.kept]]}
        problems = self.problems
        if arm == "question of another":
            problems = [self.traces[self.donors[k]].problem for k in self.kept]
        given = {
            "own": lambda k: own[k],
            "other problem": lambda k: own[self.donors[k]],
            # Another problem with its own thought: whatever is used of either, the answer has to be the other's.
            "question of another": lambda k: own[self.donors[k]],
            "shuffled": lambda k: rng.permutation(own[k]).tolist(),
            "dropped": lambda k: [],
        }[arm]
        return force(self.reasoner, problems, [given(k) for k in self.kept], batch_size=self.batch_size)

    def thought(self, arm: str) -> TraceSet:
        """Answers with every latent's state replaced."""
        if arm == "dropped":
            config = self.reasoner.config.model_copy(update={"thoughts": 0})
            r = self.reasoner
            without = type(r)(r.model, r.tokenizer, config, name=r.name, weights=r.weights, projection=r.projection)
            return without.think(self.problems, batch_size=self.batch_size)
        rows = self._rows(arm == "question of another")
        addresses = addresses_of(self.reasoner, EVERYTHING if arm == "question of another" else self.site)
        edits = [Intervention(a, rows["where"], replace_with(self._values(arm, a, rows))) for a in addresses]
        return self.reasoner.think(self.problems, batch_size=self.batch_size, interventions=edits)

    def _rows(self, question: bool) -> dict[str, np.ndarray]:
        """Where states go, and the (trace, position) of the problem's own and of its donor's counterpart."""
        where, own, other, number = [], [], [], []
        for place, k in enumerate(self.kept):
            mine, theirs = self._places(self.traces[k], question), self._places(self.traces[self.donors[k]], question)
            for n, (p, q) in enumerate(zip(mine, theirs, strict=False), 1):
                where.append((place, p))
                own.append((k, p))
                other.append((self.donors[k], q))
                number.append(n)
        return {"where": np.array(where), "own": np.array(own), "other": np.array(other), "number": np.array(number)}

    def _places(self, trace: Trace, question: bool) -> list[int]:
        wanted = Channel.PROMPT if question else Channel.LATENT
        return [k for k, channel in enumerate(trace.channel) if channel == wanted]

    def _values(self, arm: str, address: Address, rows: dict[str, np.ndarray]) -> torch.Tensor:
        source = rows["other"] if arm in ("other problem", "question of another") else rows["own"]
        found = states(self.reasoner, self.traces, address, source, batch_size=self.batch_size)
        generator = torch.Generator().manual_seed(self.seed)
        numbers = torch.as_tensor(rows["number"])
        if arm == "zero":
            return torch.zeros_like(found)
        if arm == "mean":
            return _means(found, numbers)
        if arm == "noise":
            noise = torch.randn(found.shape, generator=generator)
            return noise * found.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        if arm == "shuffled":
            return found[_shuffled(rows["own"][:, 0], self.seed)]
        if arm == "frozen":
            return found[_frozen(rows["own"][:, 0], rows["number"], self.frozen_after)]
        return found


def _means(found: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Each thought's mean over problems."""
    out = torch.empty_like(found)
    for n in numbers.unique():
        out[numbers == n] = found[numbers == n].mean(dim=0)
    return out


def _shuffled(owners: np.ndarray, seed: int) -> torch.Tensor:
    """For each row another one of the same problem, in a random order that moves every thought where it can."""
    rng = np.random.default_rng(seed)
    order = np.arange(len(owners))
    for owner in np.unique(owners):
        here = rng.permutation(np.flatnonzero(owners == owner))
        order[here] = np.roll(here, 1)
    return torch.as_tensor(order)


def _frozen(owners: np.ndarray, numbers: np.ndarray, after: int) -> torch.Tensor:
    """For each row itself up to thought `after`, and that thought's row later."""
    kept = {owner: k for k, (owner, n) in enumerate(zip(owners.tolist(), numbers.tolist(), strict=True)) if n == after}
    pairs = zip(range(len(owners)), owners.tolist(), numbers.tolist(), strict=True)
    return torch.as_tensor([k if n <= after else kept.get(owner, k) for k, owner, n in pairs])


def _frame(arm: str, traces: TraceSet, kept: np.ndarray, after: TraceSet) -> pd.DataFrame:
    rows = []
    for k, trace in zip(kept.tolist(), after, strict=True):
        before = traces[k]
        # Judged against the problem that was asked, also where a control asked another one.
        right = bool(trace.answer) and make_task(before.problem.task).verify(before.problem, trace.text).answer
        rows.append(
            {
                "arm": arm,
                "trace": k,
                "n_steps": before.problem.n_steps,
                "structure": before.problem.structure,
                "answer": trace.answer,
                "correct": right,
                "changed": trace.answer != before.answer,
            }
        )
    return pd.DataFrame(rows)
