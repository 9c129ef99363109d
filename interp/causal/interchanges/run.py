"""Interchange: put a donor problem's state where a step's value is held, and test whether the answer follows.

The prediction is computed by the task's oracle before the model runs: if the state holds the value, then with the
donor's state in its place the answer must be what the donor's value implies (interchange interventions: Geiger et
al., arXiv 2106.02997). Controls are donors of the same value, the same swap at a position of the question (wrong
site) or at another step's thought (wrong step), and a random vector of the same length. Two more are optional: the
right state at a position of the question (transplant), and a random subspace of the same dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from interp.causal.interchanges.plan import (
    EditLocation,
    OffsetLocation,
    ReadingLocation,
    edit_maker,
    outcomes,
    plan_swaps,
)
from interp.causal.interchanges.results import EDITS, MORE_EDITS, InterchangeResult
from interp.causal.patching.donors import (
    Donors,
    ReadAt,
    Values,
    donors_for,
    gold_values,
    pairs,
    why_no_answer,
)
from interp.causal.patching.patch import answers_after, input_address
from interp.causal.patching.widths import WholeValues
from interp.errors import StoreError, UsageError, unknown
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
    each step is edited at `address`, and values are the gold ones or `values`. A written value of several tokens is
    exchanged whole, for one of as many. A model that answers at once is edited where its answer begins, at its last step.

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
    where: EditLocation
    if readouts is None:
        address = address or input_address(reasoner)
        where = OffsetLocation(traces, address, offset)
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
        location, where = readouts.locations[method].label, ReadingLocation(read_at, readouts.locations[method].offset)
    only_right = (readouts is None) if only_right is None else only_right
    # Donors of a written value have one of as many tokens.
    whole = WholeValues(reasoner, traces, donors.traces, where.offset)
    paired = pairs(
        traces, donors, values, seed=seed, only_right=only_right, steps=steps, read_at=read_at, fits=whole.fits
    )
    plan = plan_swaps(paired, traces, donors, where, edits, seed, whole.fits)
    if readouts is None and "other value" in edits and not (plan["edit"] == "other value").any():
        raise _nothing_to_swap(reasoner, traces, donors, where, values, offset)
    answers: list[str] = []
    if len(plan):
        answers = answers_after(
            reasoner,
            traces,
            whole.widened(plan),
            donors=donors.traces,
            makers={edit: edit_maker(edit, basis, seed) for edit in edits},
            batch_size=batch_size,
            progress=progress,
        )
    return InterchangeResult(outcomes(plan, traces, answers), location, donors.source, method)


def _nothing_to_swap(
    reasoner: Reasoner, traces: TraceSet, donors: Donors, where: EditLocation, values: Values, offset: int
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
