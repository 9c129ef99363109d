"""Interchange: put a donor problem's state where a step's value is held, and test whether the answer follows.

The prediction is computed by the task's oracle before the model runs: if the state holds the value, then with the
donor's state in its place the answer must be what the donor's value implies (interchange interventions: Geiger et
al., arXiv 2106.02997). Controls are donors of the same value, the same swap at a position of the question (wrong
site) or at another step's thought (wrong step), and a random vector of the same length. Two more are optional: the
right state at a position of the question (transplant), and a random subspace of the same dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.interchanges.results import EDITS, MORE_EDITS, InterchangeResult
from interp.causal.patching.donors import (
    Donors,
    ReadAt,
    Values,
    alternatives,
    donors_for,
    gold_values,
    pairs,
    why_no_answer,
)
from interp.causal.patching.patch import (
    EditMaker,
    answers_after,
    input_address,
    norm_matched_noise,
    position_of_step,
)
from interp.errors import StoreError, UsageError, unknown
from interp.models.address import Address
from interp.problems import task as make_task
from interp.reasoners.interventions import Edit, replace_with, replace_within
from interp.runtime.progress import Progress
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.reasoners import Reasoner


def interchange(
    reasoner: Reasoner,
    traces: TraceSet,
    readouts: ReadOuts | None = None,
    *,
    method: str | None = None,
    split: str | None = "test",
    address: str | None = None,
    offset: int = 0,
    edits: Sequence[str] = EDITS,
    donors: Donors | None = None,
    values: Values | None = None,
    basis: Float[Tensor, "k d"] | None = None,
    steps: Sequence[int] | None = None,
    only_right: bool | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> InterchangeResult:
    """Swap the state of each step's thought for a donor's, while thinking, and run the controls.

    With `readouts` the test is of a decoder: each step is edited at the address and position where the decoder read
    it, values are those that it read, and a wrong reading counts against it. Without, the test is of a location:
    each step is edited at `address`, and values are the gold ones or `values`.

    Args:
        reasoner: The reasoner that is edited.
        traces: Its traces. With `readouts`, those of the store that was read.
        readouts: What decoders read, from `interp.decode`.
        method: Decoder of `readouts`. Default: the probe where there is one, else the first.
        split: Split of `readouts` whose problems are edited and give donors; None for all.
        address: A hook name, `everything` (the whole residual stream of the position) or `cache` (its keys and
            values, which is all that later positions read of it). Default: the input of the first block for continuous
            thoughts and words, which are fed there, and otherwise `everything`: other thoughts are fed the same token.
        offset: Thoughts after the step's last one.
        edits: Names from `EDITS` and `MORE_EDITS`.
        donors: Donors, from `donors_for`. Default: chosen by the task.
        values: Value of each step of `traces`, such as a decoder reads it.
        basis: Directions, shape (k, d_model); states are swapped only within their span.
        steps: Edit only these steps.
        only_right: Leave out problems that are answered wrongly. Default: True, but False with `readouts`.
        seed: Seed of donors, places and noise.
        batch_size: Problems that are thought about at once.
        progress: Called with (swaps done, swaps in all).

    Returns:
        The result, with `table()`, `summary()`, `contract()`, `verdict()` and `map()`.

    Raises:
        StoreError: The read-outs belong to another model or to other traces.
        UsageError: Unknown edit; nothing was read in the split; or no step can be swapped at the location.

    References:
        Geiger et al. 2021, "Causal Abstractions of Neural Networks" (arXiv 2106.02997); Geiger et al. 2023 (arXiv
        2303.02536) for `basis`.
    """
    for edit in edits:
        if edit not in (*EDITS, *MORE_EDITS):
            raise unknown("edit", edit, (*EDITS, *MORE_EDITS))
    where: _EditLocation
    if readouts is None:
        address = address or input_address(reasoner)
        where = _OffsetLocation(traces, address, offset)
        values = values or gold_values(traces)
        donors = donors or donors_for(reasoner, traces, seed=seed, values=values, batch_size=batch_size)
        location, read_at = f"{address}, offset {offset:+d}" if offset else address, None
    else:
        if donors is not None or values is not None or address is not None or offset:
            raise UsageError(
                "expected read-outs or a location, got both; leave out address, offset, donors and values."
            )
        _check_source(reasoner, traces, readouts)
        method = method or ("probe" if "probe" in readouts.methods else next(iter(readouts.methods)))
        read_at, values = _read_values(readouts, method, split, traces)
        donors = Donors(traces, values, np.full(len(traces), -1), "read-outs")
        location, where = readouts.locations[method].label, _ReadingLocation(read_at, readouts.locations[method].offset)
    only_right = (readouts is None) if only_right is None else only_right
    paired = pairs(traces, donors, values, seed=seed, only_right=only_right, steps=steps, read_at=read_at)
    plan = _plan(paired, traces, donors, where, edits, seed)
    if readouts is None and "other value" in edits and not (plan["edit"] == "other value").any():
        raise _nothing_to_swap(reasoner, traces, donors, where, values, offset)
    answers: list[str] = []
    if len(plan):
        answers = answers_after(
            reasoner,
            traces,
            plan,
            donors=donors.traces,
            makers={edit: _maker(edit, basis, seed) for edit in edits},
            batch_size=batch_size,
            progress=progress,
        )
    return InterchangeResult(_outcomes(plan, traces, answers), location, donors.source, method)


def _nothing_to_swap(
    reasoner: Reasoner, traces: TraceSet, donors: Donors, where: _EditLocation, values: Values, offset: int
) -> UsageError:
    """Return the error that says why no step can be swapped: no thought there, no known answer, or no donor."""
    of = f"in {len(traces)} problems of {reasoner.name}"
    if not any(trace.problem.n_steps for trace in traces):
        return UsageError(
            f"expected problems with gold steps, whose values are swapped, got none {of}; add 'steps' or 'values', and "
            "'counterfactuals', to the questions."
        )
    steps = [(k, step) for k, trace in enumerate(traces) for step in range(1, trace.problem.n_steps + 1)]
    if all(where.target(k, step) is None for k, step in steps):
        return UsageError(
            f"expected thoughts of steps at offset {offset}, got none {of}: its thoughts are elsewhere; try another offset."
        )
    reason = why_no_answer(traces, {value for of_trace in values for value in of_trace})
    if reason:
        return UsageError(f"no step can be swapped {of}, because no answer is known for another value. {reason}")
    if not any(value for of_donor in donors.values for value in of_donor):
        return UsageError(
            f"expected donors whose steps have values, got {donors.source} without {of}; add 'steps' or 'values' to them."
        )
    return UsageError(
        f"expected donors of another value that imply another answer, got none {of}; take more problems, or answer more "
        "of them right."
    )


class _EditLocation(Protocol):
    """Where each step is edited."""

    offset: int

    def address(self, trace: int, step: int) -> str:
        """Return the address at which a step of a recipient is edited."""
        ...

    def target(self, trace: int, step: int) -> int | None:
        """Return the position in the recipient."""
        ...

    def source(self, donors: TraceSet, donor: int, step: int) -> int | None:
        """Return the position in the donor."""
        ...


class _OffsetLocation:
    """Every step at one address, and at one offset from the step's last thought."""

    def __init__(self, traces: TraceSet, address: str, offset: int) -> None:
        self._traces, self._address, self.offset = traces, address, offset

    def address(self, trace: int, step: int) -> str:
        return self._address

    def target(self, trace: int, step: int) -> int | None:
        return self.source(self._traces, trace, step)

    def source(self, donors: TraceSet, donor: int, step: int) -> int | None:
        return position_of_step(donors[donor], step, self.offset)


class _ReadingLocation:
    """Every step where a decoder read it."""

    def __init__(self, read_at: ReadAt, offset: int) -> None:
        self._read_at, self.offset = read_at, offset

    def address(self, trace: int, step: int) -> str:
        return self._read_at[trace, step][1]

    def target(self, trace: int, step: int) -> int | None:
        return self._read_at[trace, step][0] if (trace, step) in self._read_at else None

    def source(self, donors: TraceSet, donor: int, step: int) -> int | None:
        return self.target(donor, step)


def _check_source(reasoner: Reasoner, traces: TraceSet, readouts: ReadOuts) -> None:
    """Raise `StoreError` where the read-outs belong to another model or to other traces."""
    store = readouts.store
    if store.meta["reasoner"]["weights"] != reasoner.weights:
        raise StoreError(
            f"expected read-outs of {reasoner.name}, got read-outs made from {store.meta['reasoner']['name']}; "
            "use the same model."
        )
    if [t.token_ids for t in traces] != [t.token_ids for t in store.traces]:
        raise StoreError(
            f"expected the {len(store.traces)} traces of {store.name}, got {len(traces)} other traces; "
            "pass the traces that the store was captured from: store.traces."
        )


def _read_values(
    readouts: ReadOuts, method: str, split: str | None, traces: TraceSet
) -> tuple[ReadAt, list[list[str]]]:
    """Return where each step was read, and the values read; steps that were not read have an empty value."""
    table = readouts.of(method)
    table = table if split is None else table[table["split"] == split]
    if table.empty:
        raise UsageError(f"expected read-outs of {method} in the {split} split, got none; choose another split.")
    read_at: dict[tuple[int, int], tuple[int, str]] = {}
    values = [[""] * trace.problem.n_steps for trace in traces]
    for row in table.to_dict("records"):
        trace, step = int(row["trace"]), int(row["step"])
        read_at[trace, step] = int(row["position"]), str(row["address"])
        values[trace][step - 1] = row["text"]
    return read_at, values


def _plan(
    paired: pd.DataFrame, traces: TraceSet, donors: Donors, where: _EditLocation, edits: Sequence[str], seed: int
) -> pd.DataFrame:
    """Return every swap with its two positions, in the order of `edits`.

    Controls at wrong places use the donors of another value. A random vector takes only its length from the state
    that it replaces.
    """
    rng = np.random.default_rng(seed + 1)
    rows: list[dict[str, Any]] = []
    for pair in paired.to_dict("records"):
        k, step, donor, edit = pair["trace"], pair["step"], pair["donor"], pair["edit"]
        target = where.target(k, step)
        source = target if donor < 0 else where.source(donors.traces, donor, step)
        if target is None or source is None:
            continue
        pair |= {"address": where.address(k, step), "offset": where.offset}
        rows.append({**pair, "target": target, "source": source})
        if edit != "other value":
            continue
        rows.append({**pair, "edit": "random subspace", "target": target, "source": source})
        prompts = [
            [n for n, channel in enumerate(trace.channel) if channel == "prompt"]
            for trace in (traces[k], donors.traces[donor])
        ]
        token = int(rng.integers(min(map(len, prompts))))
        rows.append({**pair, "edit": "wrong site", "target": prompts[0][token], "source": prompts[1][token]})
        rows.append({**pair, "edit": "transplant", "target": prompts[0][token], "source": source})
        other_steps = [s for s in range(1, pair["n_steps"] + 1) if s != step]
        if "wrong step" in edits and other_steps:
            other = int(rng.choice(other_steps))
            elsewhere = where.target(k, other), where.source(donors.traces, donor, other)
            if None not in elsewhere:
                rows.append({**pair, "edit": "wrong step", "target": elsewhere[0], "source": elsewhere[1]})
    plan = pd.DataFrame(rows, columns=[*paired.columns, "address", "offset", "target", "source"])
    plan = pd.concat([plan[plan["edit"] == edit] for edit in dict.fromkeys(edits)], ignore_index=True)
    return plan.assign(run=range(len(plan)))


def _maker(edit: str, basis: Tensor | None, seed: int) -> EditMaker:
    """Return the function that makes an edit from the donors' states."""

    def make(values: Tensor, address: Address) -> Edit:
        if edit == "random vector":
            values = norm_matched_noise(values, seed + 7)
        if edit == "random subspace":
            generator = torch.Generator().manual_seed(seed + 7)
            shape = 1 if basis is None else len(basis), values.shape[-1]
            return replace_within(values, torch.randn(shape, generator=generator))
        return replace_with(values) if basis is None else replace_within(values, basis)

    return make


def _outcomes(plan: pd.DataFrame, traces: TraceSet, answers: list[str]) -> pd.DataFrame:
    """Return the plan with the answers before and after, and whether they followed or changed."""
    task = make_task(traces[0].problem.task)
    problems, before = ([getattr(traces[t], name) for t in plan["trace"]] for name in ("problem", "answer"))
    implied_answers: dict[tuple[int, int], list[str]] = {}
    chances = []
    for trace, step, answer in zip(plan["trace"], plan["step"], answers, strict=True):
        if (trace, step) not in implied_answers:
            implied_answers[trace, step] = alternatives(task, traces[trace].problem, step)
        options = implied_answers[trace, step]
        among = any(task.says(traces[trace].problem, answer, option) for option in options)
        chances.append(among / len(options) if options else 0.0)
    return plan.drop(columns="run").assign(
        answer_before=before,
        answer_after=answers,
        followed=[
            isinstance(implied, str) and task.says(problem, after, implied)  # a table holds NaN where none is known
            for problem, after, implied in zip(problems, answers, plan["predicted"], strict=True)
        ],
        changed=[not task.same_answer(*texts) for texts in zip(problems, answers, before, strict=True)],
        chance=chances,
    )
