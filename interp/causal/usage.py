"""The used map: which step's value is carried by which thought, and where a value can be read but is not used.

Each thought is swapped alone for a donor's. If it carries the value of step s, the answer becomes what the donor's
value at s implies; so one swap asks about every step at once, and each (step, thought) is a cell. A cell's verdict
comes from few swaps by a test: used, where the one-sided 95 % Wilson bound of the share that follows lies above the
threshold, unused, where the other one lies below, and undecided between them. The share is corrected for answers
that follow by luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.causal.donors import Donors, Source, alternatives, donors_for, implied
from interp.causal.patching import EVERYTHING, position, swap
from interp.errors import UsageError, checked_count
from interp.problems import task as make_task
from interp.statistics.intervals import first_within_error
from interp.statistics.splits import grouped_split
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner

THRESHOLD = 0.25
_Z = 1.6449  # one-sided 95 %


def swap_each_thought(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    *,
    source: Source = "auto",
    n_donors: int = 1,
    site: str | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Swap every thought of every rightly answered problem, alone, for that of `n_donors` donors each.

    One row for each (swap, step). Columns: trace, donor, thought, step, n_steps, structure, predicted, answer_after,
    followed, chance, changed. Rows whose prediction is the answer from before are left out: nothing could be seen.
    `site` is the fed-back input of continuous thoughts, and otherwise all that was computed at the position.
    """
    checked_count("n_donors", n_donors)
    if site is None:
        site = "blocks.0.hook_in" if reasoner.kind == "continuous" else EVERYTHING
    traces = reasoner.think(list(problems), batch_size=batch_size)
    donors = donors_for(reasoner, traces, source=source, seed=seed, batch_size=batch_size)
    plan = _plan(traces, donors, n_donors, seed)
    if plan.empty:
        raise UsageError(f"no thought of {reasoner.name} on {len(traces)} problems has a donor; take more problems.")
    after = swap(reasoner, traces, plan, donors=donors.traces, site=site, batch_size=batch_size)
    task = make_task(traces[0].problem.task)
    out = []
    for row, said in zip(plan.to_dict("records"), after, strict=True):
        problem = traces[row["trace"]].problem
        for step in range(1, problem.n_steps + 1):
            value = donors.values[row["donor"]][step - 1]
            predicted = implied(task, problem, step, value)
            if predicted in (None, problem.answer):
                continue
            options = alternatives(task, problem, step)
            out.append(
                {
                    **{key: row[key] for key in ("trace", "donor", "thought", "n_steps", "structure")},
                    "step": step,
                    "predicted": predicted,
                    "answer_after": said,
                    "followed": said == predicted,
                    "chance": (said in options) / len(options),
                    "changed": said != traces[row["trace"]].answer,
                }
            )
    return pd.DataFrame(out)


def _plan(traces: TraceSet, donors: Donors, n_donors: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    right = np.array([trace.correct for trace in donors.traces])
    lengths = np.array([trace.problem.n_steps for trace in donors.traces])
    structures = np.array([trace.problem.structure for trace in donors.traces])
    owned = bool((donors.owner >= 0).any())
    out = []
    for k, trace in enumerate(traces):
        if not trace.correct:
            continue
        mine = donors.owner == k if owned else structures != trace.problem.structure
        usable = rng.permutation(np.flatnonzero(right & mine & (lengths == trace.problem.n_steps)))
        for donor in usable[:n_donors]:
            for thought in sorted({n for n in trace.thought if n}):
                places = [position(each, f"thought {thought}") for each in (trace, donors.traces[int(donor)])]
                if None in places:
                    continue
                out.append((k, int(donor), thought, *places, trace.problem.n_steps, trace.problem.structure))
    columns = ["trace", "donor", "thought", "target", "source", "n_steps", "structure"]
    return pd.DataFrame(out, columns=columns).assign(edit=range(len(out)))


def used_map(swaps: pd.DataFrame, *, threshold: float = THRESHOLD) -> pd.DataFrame:
    """One row for each cell: n_steps, step, thought, follow (corrected for luck), low, high, verdict, n.

    `follow` is (followed - chance) / (1 - chance), as Cohen's kappa corrects for agreement by luck.
    """
    out = []
    for (n_steps, step, thought), part in swaps.groupby(["n_steps", "step", "thought"]):
        n, luck = len(part), min(float(part["chance"].mean()), 0.99)
        low, high = _wilson(float(part["followed"].mean()), n)
        follow, low, high = ((x - luck) / (1 - luck) for x in (part["followed"].mean(), low, high))
        verdict = "used" if low > threshold else "unused" if high < threshold else "undecided"
        out.append((n_steps, step, thought, follow, low, high, verdict, n))
    return pd.DataFrame(out, columns=["n_steps", "step", "thought", "follow", "low", "high", "verdict", "n"])


def _wilson(share: float, n: int) -> tuple[float, float]:
    """One-sided 95 % Wilson bounds of a share (Wilson 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return centre - half, centre + half


def readable_map(reasoner: Reasoner, problems: Sequence[Problem], *, seed: int = 0) -> pd.DataFrame:
    """How well a linear probe reads each step's value at each thought, held out, at the layer chosen on validation.

    One row for each cell: n_steps, step, thought, address, read, chance (the most frequent value), readable (read by
    more than the luck of the test problems would allow), n.
    """
    from interp.activations import record
    from interp.activations.targets import labels, structures
    from interp.decoders.evaluation.read_outs import make_decoder

    traces = reasoner.think(list(problems), batch_size=256)
    out = []
    store = record(reasoner, traces, sites="resid", channels=["latent", "thought"])
    lengths = np.array([trace.problem.n_steps for trace in traces])
    for n_steps in np.unique(lengths):
        here = store.index[np.isin(store.index["trace"], np.flatnonzero(lengths == n_steps))]
        for thought in sorted(set(here["thought"]) - {0}):
            rows = here[here["thought"] == thought]
            parts = grouped_split(structures(store, rows), seed)
            for step in range(1, n_steps + 1):
                gold = labels(store, rows, f"value_{step}").astype(str)
                tried = []
                for address in store.addresses:
                    probe = make_decoder("probe", None)
                    fitted = probe.fit(store, address, rows[parts.train], gold[parts.train])
                    said = [
                        fitted.decode(store, address, rows[p], top_k=1).texts[:, 0] for p in (parts.val, parts.test)
                    ]
                    tried.append((float((said[0] == gold[parts.val]).mean()), address, said[1]))
                best = first_within_error([score for score, *_ in tried], [int(parts.val.sum())] * len(tried))
                read, n = float((tried[best][2] == gold[parts.test]).mean()), int(parts.test.sum())
                chance = float(pd.Series(gold[parts.test]).value_counts(normalize=True).max())
                readable = read > chance + 0.1 and _wilson(read, n)[0] > chance
                out.append((n_steps, step, thought, tried[best][1].name, read, chance, readable, n))
    return pd.DataFrame(out, columns=["n_steps", "step", "thought", "address", "read", "chance", "readable", "n"])
