"""Interchange: put a donor problem's activation in a thought's place, and see whether the answer follows.

The prediction is made before the model runs: if the thought holds the value that was read from it, then with
the donor's thought in its place the answer must be what the task's own oracle computes from the donor's value.
Donors that hold the *same* value must change nothing, and a random vector of the same length shows what mere
damage does (interchange interventions: Geiger et al., arXiv 2106.02997).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.errors import StoreError, UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.reasoners.interventions import Intervention, replace_with
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.activations import ActivationSource
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.reasoners import Reasoner

KINDS = ("other value", "same value", "random")


class Interchange:
    """The edits that were made and what came of them."""

    def __init__(self, frame: pd.DataFrame, method: str, site: str) -> None:
        self._frame, self.method, self.site = frame, method, site

    def table(self) -> pd.DataFrame:
        """One row for each edit.

        Columns: trace, donor (-1 for random), step, kind, read, donor_read, answer_before, predicted,
        answer_after, followed, changed, structure.
        """
        return self._frame

    def summary(self) -> pd.DataFrame:
        """Follow and change rates by step and kind (step 0 is all steps), with grouped 95 % intervals."""
        out = []
        for kind in KINDS:
            of_kind = self._frame[self._frame["kind"] == kind]
            for step in [0, *sorted(of_kind["step"].unique())]:
                part = of_kind if step == 0 else of_kind[of_kind["step"] == step]
                if part.empty:
                    continue
                groups = part["structure"].to_numpy()
                low, high = grouped_mean_interval(part["followed"].to_numpy(), groups)
                changed = grouped_mean_interval(part["changed"].to_numpy(), groups)
                out.append(
                    {
                        "kind": kind,
                        "step": step,
                        "follow_rate": part["followed"].mean(),
                        "ci_low": low,
                        "ci_high": high,
                        "change_rate": part["changed"].mean(),
                        "change_low": changed[0],
                        "change_high": changed[1],
                        "n": len(part),
                    }
                )
        return pd.DataFrame(out)


def interchange(
    reasoner: Reasoner,
    traces: TraceSet,
    readouts: ReadOuts,
    *,
    method: str | None = None,
    split: str | None = "test",
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Interchange:
    """Edit every thought of `traces` at the address and position where `method` read it, while the model is thinking.

    `method` is the probe where the read-outs have one, else their first. Only problems of `split` are edited
    and give donors (None for all). Values are those that the decoder *read*, so a wrong reading counts
    against it. A donor shares the number of steps and the thought's position. Raises `StoreError` when the
    read-outs belong to another model.
    """
    store = readouts.store
    if store.meta["reasoner"]["weights"] != reasoner.weights:
        raise StoreError(
            f"these read-outs were made from {store.meta['reasoner']['name']}, not from {reasoner.name}. Use the same model."
        )
    if [t.token_ids for t in traces] != [t.token_ids for t in store.traces]:
        raise StoreError(
            f"these {len(traces)} traces are not the ones that were read ({len(store.traces)} of {store.name}). "
            "Pass the traces that the store was captured from: store.traces."
        )
    method = method or ("probe" if "probe" in readouts.sites else next(iter(readouts.sites)))
    read = readouts.of(method)
    if split is not None:
        read = read[read["split"] == split]
    read = read.reset_index(drop=True)
    if read.empty:
        raise UsageError(f"there are no read-outs of {method} in the {split} split to edit.")
    pairs = _pairs(read, traces, seed)
    acts = _activations(store, read)
    edits = _edits(read, pairs, acts, seed)
    after = reasoner.think(
        [traces[t].problem for t in read["trace"].iloc[edits["row"]]],
        batch_size=batch_size,
        interventions=_interventions(store, read, edits),
        progress=progress,
    )
    return Interchange(_frame(read, traces, edits, after), method, readouts.sites[method].label)


def _interventions(store: ActivationSource, read: pd.DataFrame, edits: dict[str, np.ndarray]) -> list[Intervention]:
    """One for each address that was read at: single steps may have been read elsewhere than the others."""
    addresses, positions = (read[name].to_numpy()[edits["row"]] for name in ("address", "position"))
    out = []
    for address in dict.fromkeys(addresses):
        (here,) = np.nonzero(addresses == address)
        places = np.stack([here, positions[here]], axis=1)
        out.append(Intervention(store.address(address), places, replace_with(edits["values"][here])))
    return out


def _pairs(read: pd.DataFrame, traces: TraceSet, seed: int) -> dict[str, np.ndarray]:
    """For each read-out the row of a donor with another value and of one with the same; -1 where there is none.

    A donor of another value has to imply an answer: on a graph its node must be there, and lead somewhere.
    """
    rng = np.random.default_rng(seed)
    oracle = make_task(traces[0].problem.task)
    steps = np.array([traces[t].problem.n_steps for t in read["trace"]])
    said, groups = read["text"].to_numpy(), read["structure"].to_numpy()
    pairs = {kind: np.full(len(read), -1) for kind in KINDS[:2]}
    kinds = pd.Series(list(zip(read["step"], read["position"], steps, read["address"], strict=True)))
    for members in kinds.groupby(kinds).groups.values():
        here = np.asarray(members)
        for row in here:
            usable = here[groups[here] != groups[row]]
            same = said[usable] == said[row]
            problem, step = traces[read["trace"].iloc[row]].problem, int(read["step"].iloc[row])
            open_ended = {value for value in set(said[usable]) if not _implies(oracle, problem, step, value)[0]}
            other = usable[~same & ~np.isin(said[usable], list(open_ended))]
            for kind, candidates in (("other value", other), ("same value", usable[same])):
                if len(candidates):
                    pairs[kind][row] = rng.choice(candidates)
    return pairs


def _implies(oracle: Task, problem: Problem, step: int, value: str) -> tuple[bool, str | None]:
    """Whether the task can say what follows from `value` at `step`, and the answer that does.

    A reading that is no value of the task implies no answer, and counts against the decoder that read it.
    """
    if value not in oracle.values:
        return True, None
    try:
        return True, oracle.counterfactual(problem, step, value)
    except UsageError:
        return False, None


def _activations(store: ActivationSource, read: pd.DataFrame) -> np.ndarray:
    keys = read[["trace", "position"]].merge(store.index, on=["trace", "position"], how="left")
    out = np.empty((len(read), store.meta["d_model"]), np.float32)
    for address, here in read.groupby("address").indices.items():
        out[here] = store.acts(str(address), keys.iloc[here])
    return out


def _edits(read: pd.DataFrame, pairs: dict[str, np.ndarray], acts: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """All edits in one list: which read-out is edited, its donor, the kind, and the vector put there."""
    rng = np.random.default_rng(seed + 1)
    rows, donors, kinds, values = [], [], [], []
    for kind in KINDS[:2]:
        found = np.flatnonzero(pairs[kind] >= 0)
        rows.append(found)
        donors.append(pairs[kind][found])
        kinds += [kind] * len(found)
        values.append(acts[pairs[kind][found]])
    noise = rng.normal(size=acts.shape).astype(np.float32)
    noise *= np.linalg.norm(acts, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    rows.append(np.arange(len(read)))
    donors.append(np.full(len(read), -1))
    kinds += ["random"] * len(read)
    values.append(noise)
    return {
        "row": np.concatenate(rows),
        "donor": np.concatenate(donors),
        "kind": np.array(kinds),
        "values": np.concatenate(values),
    }


def _frame(read: pd.DataFrame, traces: TraceSet, edits: dict[str, np.ndarray], after: TraceSet) -> pd.DataFrame:
    oracle = make_task(traces[0].problem.task)
    out = []
    for row, donor, kind, trace in zip(edits["row"], edits["donor"], edits["kind"], after, strict=True):
        base = read.iloc[row]
        before = traces[base["trace"]]
        claimed = base["text"] if donor < 0 else read["text"].iloc[donor]
        predicted = _implies(oracle, before.problem, int(base["step"]), claimed)[1]
        out.append(
            {
                "trace": base["trace"],
                "donor": -1 if donor < 0 else read["trace"].iloc[donor],
                "step": base["step"],
                "kind": kind,
                "read": base["text"],
                "donor_read": claimed if donor >= 0 else None,
                "answer_before": before.answer,
                "predicted": predicted,
                "answer_after": trace.answer,
                "followed": predicted is not None and trace.answer == predicted,
                "changed": trace.answer != before.answer,
                "structure": base["structure"],
            }
        )
    return pd.DataFrame(out)
