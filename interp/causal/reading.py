"""What a decoder reads at the site that is to be swapped, so that an interchange tests the reading and not the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.causal.sites import INPUT, thought_of
from interp.errors import UsageError
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def read_values(
    reasoner: Reasoner,
    learn: TraceSet,
    read: TraceSet,
    *,
    method: str = "probe",
    site: str = INPUT,
    offset: int = 0,
) -> tuple[list[list[str]], float]:
    """The value of each step of `read` as `method` reads it, fitted on `learn`; and the share that is right.

    Where a trace lacks the place, the reading is the empty text, which implies no answer. The two sets may share no
    structure. Raises `UsageError` where they do, or where nothing can be read.
    """
    from interp.activations import record
    from interp.decoders.evaluation.read_outs import make_decoder

    shared = {t.problem.structure for t in learn} & {t.problem.structure for t in read}
    if shared:
        raise UsageError(f"the problems to learn from and those to read share {len(shared)} structures; separate them.")
    traces = TraceSet([*learn, *read])
    store = record(reasoner, traces, sites=site, channels=["latent", "thought", "special"])
    per_step = reasoner.config.thoughts_per_step
    steps = range(1, max(t.problem.n_steps for t in traces) + 1)
    found = [["" for _ in trace.problem.steps] for trace in read]
    (address,) = store.addresses
    index = store.index.assign(long=[traces[t].problem.n_steps for t in store.index["trace"]])
    places = {step: index["place"] == thought_of(step, offset, per_step) for step in steps}
    kept = [(step, index[places[step] & (index["long"] >= step)]) for step in steps]
    rows = pd.concat([part.assign(read_step=step) for step, part in kept])
    pairs = zip(rows["trace"], rows["read_step"], strict=True)
    gold = np.array([traces[t].problem.steps[s - 1].value for t, s in pairs])
    fitting = (rows["trace"] < len(learn)).to_numpy()
    if not fitting.any() or fitting.all():
        raise UsageError(f"{reasoner.name} has no thoughts at offset {offset} to read; try another offset.")
    decoder = make_decoder(method, reasoner).fit(store, address, rows[fitting], gold[fitting])
    texts = decoder.decode(store, address, rows[~fitting], top_k=1).texts[:, 0]
    theirs = rows[~fitting]
    for trace, step, text in zip(theirs["trace"], theirs["read_step"], texts, strict=True):
        found[trace - len(learn)][step - 1] = str(text)
    return found, float((texts == gold[~fitting]).mean())


def structure_disjoint_split(traces: Sequence, n: int) -> tuple[TraceSet, TraceSet]:
    """The first `n` traces, and those of the others that share no structure with them."""
    first = TraceSet(list(traces)[:n])
    used = {trace.problem.structure for trace in first}
    return first, TraceSet([trace for trace in list(traces)[n:] if trace.problem.structure not in used])
