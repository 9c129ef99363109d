"""Values and directions that are read from states before an interchange, on problems that are not edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from interp.causal.patching.patch import INPUT, addresses_of, thoughts_of_steps
from interp.causal.patching.states import contents
from interp.errors import UsageError
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def read_values(
    reasoner: Reasoner,
    learn: TraceSet,
    read: TraceSet,
    *,
    method: str = "probe",
    address: str = INPUT,
    offset: int = 0,
) -> tuple[list[list[str]], float]:
    """Return the value of each step as a decoder reads it, so that an interchange tests the reading.

    Args:
        reasoner: The reasoner of the traces.
        learn: Traces that the decoder is fitted on.
        read: Traces that are read; they share no structure with `learn`.
        method: Name of the decoder.
        address: Where it reads.
        offset: Thoughts after the step's last one.

    Returns:
        For each trace of `read` the value of each step, empty where the trace has no such thought; and the share that
        is right.

    Raises:
        UsageError: The two sets share a structure, or there is no thought at the offset.
    """
    from interp.activations import record
    from interp.decoders.registry import make_decoder

    shared = {t.problem.structure for t in learn} & {t.problem.structure for t in read}
    if shared:
        raise UsageError(
            f"expected disjoint problems to learn from and to read, got {len(shared)} structures that they share; "
            "use structure_disjoint_split."
        )
    traces = TraceSet([*learn, *read])
    store = record(reasoner, traces, sites=address, channels=["latent", "thought", "special"])
    (canonical,) = store.addresses
    rows = _rows_of_steps(store.index, traces, offset)
    pairs = zip(rows["trace"], rows["read_step"], strict=True)
    gold = np.array([traces[t].problem.steps[s - 1].value for t, s in pairs])
    fitting = (rows["trace"] < len(learn)).to_numpy()
    if not fitting.any() or fitting.all():
        raise _no_thoughts(reasoner, offset)
    decoder = make_decoder(method, reasoner).fit(store, canonical, rows[fitting], gold[fitting])
    texts = decoder.decode(store, canonical, rows[~fitting], top_k=1).texts[:, 0]
    values = [["" for _ in trace.problem.steps] for trace in read]
    read_rows = rows[~fitting]
    for trace, step, text in zip(read_rows["trace"], read_rows["read_step"], texts, strict=True):
        values[trace - len(learn)][step - 1] = str(text)
    return values, float((texts == gold[~fitting]).mean())


def _rows_of_steps(index: pd.DataFrame, traces: TraceSet, offset: int) -> pd.DataFrame:
    """Return the captured row of each step's thought, with the step in the column `read_step`."""
    where, gold = thoughts_of_steps(traces, offset)
    captured = pd.MultiIndex.from_arrays([index["trace"], index["position"]])
    numbers = captured.get_indexer(pd.MultiIndex.from_arrays(where.reshape(-1, 2).T))
    steps = np.array([step for step, *_ in gold], dtype=int)
    return index.iloc[numbers[numbers >= 0]].assign(read_step=steps[numbers >= 0])


def value_basis(
    reasoner: Reasoner, traces: TraceSet, *, address: str = INPUT, offset: int = 0
) -> Float[torch.Tensor, "k d"]:
    """Return the directions between the mean states of the values.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces to fit on, which should not be those that are then edited.
        address: A hook name.
        offset: Thoughts after the step's last one.

    Returns:
        Orthonormal directions, shape (k, d_model), at most one fewer than there are values.

    Raises:
        UsageError: There is no thought at the offset.
    """
    (canonical,) = addresses_of(reasoner, address)
    rows, gold = thoughts_of_steps(traces, offset)
    if not len(rows):
        raise _no_thoughts(reasoner, offset)
    acts = contents(reasoner, traces, canonical, rows)
    values = [value for _, _, value in gold]
    means = torch.stack([acts[[v == value for v in values]].mean(dim=0) for value in sorted(set(values))])
    _, scales, directions = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False)
    return directions[scales > 1e-6 * scales[0]][: max(1, len(means) - 1)]


def structure_disjoint_split(traces: Sequence[Trace], n: int) -> tuple[TraceSet, TraceSet]:
    """Return the first `n` traces, and those of the others that share no structure with them."""
    first = TraceSet(list(traces)[:n])
    used = {trace.problem.structure for trace in first}
    return first, TraceSet([trace for trace in list(traces)[n:] if trace.problem.structure not in used])


def _no_thoughts(reasoner: Reasoner, offset: int) -> UsageError:
    return UsageError(f"expected thoughts at offset {offset}, got none from {reasoner.name}; try another offset.")
