"""Used maps: which step's value each thought carries, and where a value can be read but is not used.

Each thought is swapped alone for a donor's. If it carries the value of step s, the answer becomes what the donor's
value at s implies. One swap therefore tests every step at once, and each (step, thought) is a cell. A cell is `used`
where the one-sided 95 % Wilson bound of the share that follows is above the threshold, `unused` where the other bound
is below it, and `undecided` between them. The share is corrected for answers that follow by chance. Swaps from which the
same answer follows at several steps cannot tell these steps apart, and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.causal.patching.donors import Donors, Source, alternatives, donors_for, implied_answer, why_no_answer
from interp.causal.patching.patch import answers_after, input_address, position
from interp.errors import UsageError, checked_count, counted
from interp.problems import task as make_task
from interp.statistics.intervals import first_within_error
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
    address: str | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Swap every thought of every correctly answered problem, alone, for a donor's.

    Args:
        reasoner: The reasoner that is edited.
        problems: The problems.
        source: Where donors come from; see `donors_for`.
        n_donors: Donors of each problem.
        address: Where thoughts are replaced. Default: the fed-back input of continuous thoughts, and otherwise
            everything that was computed at the position.
        seed: Seed of donors.
        batch_size: Problems that are thought about at once.

    Returns:
        One row for each (swap, step): trace, donor, thought, n_steps, structure, step, predicted, answer_after,
        followed, chance, changed, alone (whether no other step predicts the same answer). Rows that predict the answer given before are left out: they can show nothing.

    Raises:
        UsageError: No thought has a donor, or no donor implies another answer.
    """
    checked_count("n_donors", n_donors)
    traces = reasoner.think(list(problems), batch_size=batch_size)
    donors = donors_for(reasoner, traces, source=source, seed=seed, batch_size=batch_size)
    plan = _plan(traces, donors, n_donors, seed)
    if plan.empty:
        raise UsageError(
            f"expected donors for the thoughts of {reasoner.name}, got none among {counted(len(traces), 'problem')}; "
            "take more problems."
        )
    answers = answers_after(
        reasoner,
        traces,
        plan,
        donors=donors.traces,
        address=address or input_address(reasoner),
        batch_size=batch_size,
    )
    task = make_task(traces[0].problem.task)
    rows = []
    for swap, answer in zip(plan.to_dict("records"), answers, strict=True):
        trace = traces[swap["trace"]]
        implied = [
            implied_answer(task, trace.problem, step, value)
            for step, value in enumerate(donors.values[swap["donor"]][: trace.problem.n_steps], 1)
        ]
        for step, predicted in enumerate(implied, 1):
            if predicted is None or predicted == trace.problem.answer:
                continue
            options = alternatives(task, trace.problem, step)
            rows.append(
                {
                    **{key: swap[key] for key in ("trace", "donor", "thought", "n_steps", "structure")},
                    "step": step,
                    "predicted": predicted,
                    "answer_after": answer,
                    "followed": task.says(trace.problem, answer, predicted),
                    "chance": any(task.says(trace.problem, answer, option) for option in options) / len(options),
                    "changed": not task.same_answer(trace.problem, answer, trace.answer),
                    "alone": implied.count(predicted) == 1,
                }
            )
    if not rows:
        reason = why_no_answer(traces, {value for of_donor in donors.values for value in of_donor})
        raise UsageError(
            f"no thought of {reasoner.name} can be swapped, because no donor's value implies another answer. "
            f"{reason or 'Take more problems.'}"
        )
    return pd.DataFrame(rows)


def _plan(traces: TraceSet, donors: Donors, n_donors: int, seed: int) -> pd.DataFrame:
    """Return one row for each thought of each correctly answered problem and each of its donors."""
    rng = np.random.default_rng(seed)
    right = np.array([trace.correct for trace in donors.traces])
    rows = []
    for k, trace in enumerate(traces):
        if not trace.correct:
            continue
        candidates = rng.permutation(np.flatnonzero(right & donors.eligible(k, trace.problem)))
        for donor in candidates[:n_donors].tolist():
            for thought in sorted({n for n in trace.thought if n}):
                target, source = (position(t, f"thought {thought}") for t in (trace, donors.traces[donor]))
                if target is not None and source is not None:
                    about = (trace.problem.n_steps, trace.problem.structure)
                    rows.append((k, donor, thought, target, source, *about))
    columns = ["trace", "donor", "thought", "target", "source", "n_steps", "structure"]
    return pd.DataFrame(rows, columns=columns).assign(run=range(len(rows)))


def used_map(swaps: pd.DataFrame, *, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Return a verdict for each cell of a used map.

    Args:
        swaps: The table of `swap_each_thought`.
        threshold: Share of answers that must follow.

    Returns:
        One row for each cell: n_steps, step, thought, follow, low, high, verdict, n. `follow` is (followed - chance) /
        (1 - chance), as Cohen's kappa corrects for agreement by chance. A cell all of whose swaps predict the same
        answer at another step too is `undecided`.
    """
    rows = []
    for (n_steps, step, thought), part in swaps.groupby(["n_steps", "step", "thought"]):
        alone = part["alone"].to_numpy(bool) if "alone" in part else np.ones(len(part), bool)
        part = part[alone] if alone.any() else part
        n, share = len(part), float(part["followed"].mean())
        chance = min(float(part["chance"].mean()), 0.99)
        follow, low, high = ((x - chance) / (1 - chance) for x in (share, *_wilson(share, n)))
        verdict = "used" if low > threshold else "unused" if high < threshold else "undecided"
        verdict = verdict if alone.any() else "undecided"
        rows.append((n_steps, step, thought, follow, low, high, verdict, n))
    return pd.DataFrame(rows, columns=["n_steps", "step", "thought", "follow", "low", "high", "verdict", "n"])


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Return the one-sided 95 % Wilson bounds of a share (Wilson 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return centre - half, centre + half


def readable_map(reasoner: Reasoner, problems: Sequence[Problem], *, seed: int = 0) -> pd.DataFrame:
    """Return how well a linear probe reads each step's value at each thought, on held-out problems.

    Args:
        reasoner: The reasoner.
        problems: Problems to fit, select and test on, split by structure.
        seed: Seed of the split.

    Returns:
        One row for each cell: n_steps, step, thought, address (selected on validation problems), read (accuracy),
        chance (share of the most frequent value), readable (accuracy above chance by more than sampling error), n.
    """
    from interp.activations import record
    from interp.activations.splits import split_rows
    from interp.activations.targets import labels
    from interp.decoders.registry import make_decoder

    traces = reasoner.think(list(problems), batch_size=256)
    cells = []
    store = record(reasoner, traces, sites="resid", channels=["latent", "thought"])
    lengths = np.array([trace.problem.n_steps for trace in traces])
    for n_steps in np.unique(lengths):
        index = store.index[np.isin(store.index["trace"], np.flatnonzero(lengths == n_steps))]
        for thought in sorted(set(index["thought"]) - {0}):
            rows = index[index["thought"] == thought]
            masks = split_rows(store, rows, seed)
            for step in range(1, n_steps + 1):
                gold = labels(store, rows, f"value_{step}").astype(str)
                tried = []
                for address in store.addresses:
                    probe = make_decoder("probe", None)
                    fitted = probe.fit(store, address, rows[masks.train], gold[masks.train])
                    val, test = (
                        fitted.decode(store, address, rows[mask], top_k=1).texts[:, 0]
                        for mask in (masks.val, masks.test)
                    )
                    tried.append((float((val == gold[masks.val]).mean()), address, test))
                best = first_within_error([score for score, *_ in tried], [int(masks.val.sum())] * len(tried))
                read, n = float((tried[best][2] == gold[masks.test]).mean()), int(masks.test.sum())
                chance = float(pd.Series(gold[masks.test]).value_counts(normalize=True).max())
                readable = read > chance + 0.1 and _wilson(read, n)[0] > chance
                cells.append((n_steps, step, thought, tried[best][1].name, read, chance, readable, n))
    return pd.DataFrame(cells, columns=["n_steps", "step", "thought", "address", "read", "chance", "readable", "n"])
