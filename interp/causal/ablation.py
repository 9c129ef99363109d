"""Ablation battery: answers when thoughts are emptied, replaced, reordered, frozen or left out.

Each arm thinks about the same problems again with every thought's content replaced: by zeros, the mean over problems,
noise of the same length, another problem's thoughts, the problem's own in another order, or its own thought k in all
later places. One arm has no thoughts at all. A null result means nothing where an edit has no effect, so the positive
control makes the same kind of replacement, another problem's states, at the question, where it must destroy the answer.

The content is the state without what says where it stands. That part stays at its position, or the model would put
reordered thoughts back in order. At the input of the first block it is the position embedding. Where a thought was
computed (deeper, and at thoughts whose input is a fixed token) it is also whatever all problems share at that thought, so
what the arms `shuffled` and `frozen` move there is the difference from the mean over problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from interp.causal.ablation_result import AblationResult
from interp.causal.patching.donors import cyclic_donors
from interp.causal.patching.patch import (
    EVERYTHING,
    INPUT,
    addresses_of,
    input_address,
    norm_matched_noise,
)
from interp.causal.patching.positions import in_place, position_parts
from interp.causal.patching.states import moved_contents
from interp.causal.visible_text.forcing import force, thought_ids
from interp.errors import UsageError, checked_count, unknown
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.reasoners.interventions import Intervention, replace_with
from interp.reasoners.needs import needs_thoughts
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.models.address import Address
    from interp.reasoners import Reasoner

LATENT_ARMS = ("own", "zero", "mean", "noise", "other problem", "shuffled", "frozen", "dropped", "question of another")
TEXT_ARMS = ("own", "other problem", "shuffled", "dropped", "question of another")
# Arms that move a problem's own thoughts, and so need more than one of them.
_MOVING = ("shuffled", "frozen")


def ablate(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    *,
    arms: Sequence[str] | None = None,
    address: str | None = None,
    frozen_after: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> AblationResult:
    """Run the ablation battery.

    Visible thoughts are replaced as text, latents as states.

    Args:
        reasoner: The reasoner that is ablated.
        problems: The problems. Those without a donor of as many steps are left out.
        arms: Arms to run, from `LATENT_ARMS` or `TEXT_ARMS`; `own` is always run. Default: all that can change
            something. Problems in which `shuffled` or `frozen` has nothing to move are left out of that arm.
        address: Where latents are replaced: a hook name, `everything` or `cache`. Default: the fed-back input of
            continuous thoughts, and the whole residual stream of other latent positions.
        frozen_after: The thought that the arm `frozen` keeps in all later places.
        seed: Seed of donors, noise and orders.
        batch_size: Problems that are thought about at once.
        progress: Called with (arms done, arms in all).

    Returns:
        The answers of each arm.

    Raises:
        UsageError: The reasoner does not think, an arm is unknown or has nothing to move, or no problem has a donor.
    """
    checked_count("frozen_after", frozen_after)
    needs_thoughts(reasoner)
    visible = reasoner.thinks_in_text
    known = TEXT_ARMS if visible else LATENT_ARMS
    chosen = list(known) if arms is None else ["own", *(arm for arm in arms if arm != "own")]
    for arm in chosen:
        if arm not in known:
            raise unknown(f"arm for {reasoner.kind} reasoners", arm, known)
    traces = reasoner.think(list(problems), batch_size=batch_size)
    if not any(any(trace.thought) for trace in traces):
        raise UsageError(
            f"expected a reasoner that thinks before it answers, got {reasoner.name}, which does not; use another one."
        )
    donors = _donors_of(traces, seed)
    recipients = np.flatnonzero(donors >= 0)
    if not len(recipients):
        raise UsageError(
            f"expected problems with a donor of as many steps, got none among {len(traces)}; take more problems."
        )
    battery = _Battery(
        reasoner, traces, donors, recipients, address or input_address(reasoner), frozen_after, seed, batch_size
    )
    frames = []
    for done, arm in enumerate(chosen):
        of_arm = battery.with_enough_thoughts(arm)
        if len(of_arm.recipients):
            after = of_arm.with_text(arm) if visible else of_arm.with_states(arm)
            frames.append(_frame(arm, traces, of_arm.recipients, after))
        elif arms is not None:
            raise UsageError(
                f"expected problems with {battery.n_thoughts_needed(arm)} thoughts or more for the arm {arm!r}, got none; "
                "leave the arm out."
            )
        if progress:
            progress(done + 1, len(chosen))
    where = "text" if visible else battery.address
    return AblationResult(pd.concat(frames, ignore_index=True), reasoner.name, where, seed)


def _donors_of(traces: TraceSet, seed: int) -> np.ndarray:
    """Return for each trace one of another structure with as many steps; -1 for none.

    Donors with as long a question come first: their thoughts stand at the same positions.
    """
    problems = traces.problems
    structures, steps = [problem.structure for problem in problems], [problem.n_steps for problem in problems]
    lengths = [sum(channel == Channel.PROMPT for channel in trace.channel) for trace in traces]
    alike = cyclic_donors(structures, list(zip(steps, lengths, strict=True)), seed)
    return np.where(alike >= 0, alike, cyclic_donors(structures, steps, seed))


@dataclass(frozen=True)
class _Rows:
    """Positions that are edited, one row each.

    Attributes:
        targets: (place in the list of recipients, position), shape (rows, 2).
        recorded: (trace, position) of the problem's own state, shape (rows, 2).
        donated: (trace, position) of the donor's counterpart, shape (rows, 2).
        numbers: Number of the thought in its trace, from 1, shape (rows,).
    """

    targets: np.ndarray
    recorded: np.ndarray
    donated: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class _Battery:
    """What the arms share. `recipients` are the traces that have a donor."""

    reasoner: Reasoner
    traces: TraceSet
    donors: np.ndarray
    recipients: np.ndarray
    address: str
    frozen_after: int
    seed: int
    batch_size: int

    def n_thoughts_needed(self, arm: str) -> int:
        """Return the number of thoughts that a problem needs for an arm to change anything."""
        return {"shuffled": 2, "frozen": self.frozen_after + 1}.get(arm, 1)

    def with_enough_thoughts(self, arm: str) -> _Battery:
        """Return the battery without the problems that have too few thoughts for an arm."""
        if arm not in _MOVING:
            return self
        thoughts = [max(self.traces[k].thought, default=0) for k in self.recipients]
        return replace(self, recipients=self.recipients[np.array(thoughts) >= self.n_thoughts_needed(arm)])

    @property
    def problems(self) -> list[Problem]:
        """The problems of the recipients."""
        return [self.traces[k].problem for k in self.recipients]

    def with_text(self, arm: str) -> TraceSet:
        """Return the answers after a visible thought: the trace's own, another's, reordered, or none."""
        rng = np.random.default_rng(self.seed)
        ids = {
            k: thought_ids(self.traces[k], self.reasoner.tokenizer)
            for k in [*self.recipients, *self.donors[self.recipients]]
        }
        problems = self.problems
        if arm == "question of another":
            # Another problem with its own thought: whichever of the two is used, the answer must be the other's.
            problems = [self.traces[self.donors[k]].problem for k in self.recipients]
        thought = {
            "own": lambda k: ids[k],
            "other problem": lambda k: ids[self.donors[k]],
            "question of another": lambda k: ids[self.donors[k]],
            "shuffled": lambda k: rng.permutation(ids[k]).tolist(),
            "dropped": lambda k: [],
        }[arm]
        return force(self.reasoner, problems, [thought(k) for k in self.recipients], batch_size=self.batch_size)

    def with_states(self, arm: str) -> TraceSet:
        """Return the answers with every latent's state replaced."""
        if arm == "dropped":
            without = self.reasoner.with_config(thoughts=0)
            return without.think(self.problems, batch_size=self.batch_size)
        question = arm == "question of another"
        rows = self._rows(Channel.PROMPT if question else Channel.LATENT)
        edits = []
        for address in addresses_of(self.reasoner, EVERYTHING if question else self.address):
            parts = position_parts(self.reasoner, self.traces, address, rows.recorded)
            edit = in_place(replace_with(self._values(arm, address, rows)), parts)
            edits.append(Intervention(address, rows.targets, edit))
        return self.reasoner.think(self.problems, batch_size=self.batch_size, interventions=edits)

    def _rows(self, channel: Channel) -> _Rows:
        targets, recorded, donated, numbers = [], [], [], []
        for place, k in enumerate(self.recipients):
            donor = self.donors[k]
            positions = _positions(self.traces[k], channel), _positions(self.traces[donor], channel)
            for number, (target, source) in enumerate(zip(*positions, strict=False), 1):
                targets.append((place, target))
                recorded.append((k, target))
                donated.append((donor, source))
                numbers.append(number)
        return _Rows(np.array(targets), np.array(recorded), np.array(donated), np.array(numbers))

    def _values(self, arm: str, address: Address, rows: _Rows) -> torch.Tensor:
        """Return the content that an arm puts at each row."""
        source = rows.donated if arm in ("other problem", "question of another") else rows.recorded
        values = moved_contents(
            self.reasoner, self.traces, address, source, self.traces, rows.recorded, batch_size=self.batch_size
        )
        if arm == "zero":
            return torch.zeros_like(values)
        if arm == "mean":
            return _means(values, rows.numbers.tolist())
        if arm == "noise":
            return norm_matched_noise(values, self.seed)
        if arm in _MOVING:
            owners = rows.recorded[:, 0]
            order = (
                _shuffled(owners, self.seed) if arm == "shuffled" else _frozen(owners, rows.numbers, self.frozen_after)
            )
            fed_back = self.reasoner.kind == "continuous" and address.name == INPUT
            shared = torch.zeros_like(values) if fed_back else self._shared(address, rows, values)
            return (values - shared)[order] + shared
        return values

    def _shared(self, address: Address, rows: _Rows, values: torch.Tensor) -> torch.Tensor:
        """Return for each row the mean over problems with as many steps at the same thought."""
        places = [(self.traces[k].problem.n_steps, n) for k, n in zip(rows.recorded[:, 0], rows.numbers, strict=True)]
        return _means(values, places)


def _positions(trace: Trace, channel: Channel) -> list[int]:
    return [k for k, name in enumerate(trace.channel) if name == channel]


def _means(values: torch.Tensor, groups: Sequence[object]) -> torch.Tensor:
    """Return for each row the mean over its group."""
    rows_of: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group, []).append(row)
    means = torch.empty_like(values)
    for rows in rows_of.values():
        means[rows] = values[rows].mean(dim=0)
    return means


def _shuffled(owners: np.ndarray, seed: int) -> torch.Tensor:
    """Return for each row another one of the same problem; every thought moves where it can."""
    rng = np.random.default_rng(seed)
    order = np.arange(len(owners))
    for owner in np.unique(owners):
        rows = rng.permutation(np.flatnonzero(owners == owner))
        order[rows] = np.roll(rows, 1)
    return torch.as_tensor(order)


def _frozen(owners: np.ndarray, numbers: np.ndarray, after: int) -> torch.Tensor:
    """Return for each row itself up to thought `after`, and that thought's row later."""
    rows = list(zip(owners.tolist(), numbers.tolist(), strict=True))
    kept = {owner: k for k, (owner, number) in enumerate(rows) if number == after}
    return torch.as_tensor([k if number <= after else kept.get(owner, k) for k, (owner, number) in enumerate(rows)])


def _frame(arm: str, traces: TraceSet, recipients: np.ndarray, after: TraceSet) -> pd.DataFrame:
    rows = []
    for k, trace in zip(recipients.tolist(), after, strict=True):
        before = traces[k]
        # Judged against the recipient's problem, also where a control asked another one.
        task, thought = make_task(before.problem.task), trace.text.removesuffix(trace.answer).strip()
        right = task.answered_right(before.problem, thought, trace.answer)
        rows.append(
            {
                "arm": arm,
                "trace": k,
                "n_steps": before.problem.n_steps,
                "structure": before.problem.structure,
                "answer": trace.answer,
                "correct": right,
                "changed": not task.same_answer(before.problem, trace.answer, before.answer),
            }
        )
    return pd.DataFrame(rows)
