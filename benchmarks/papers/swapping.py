"""Replace the residual stream of a thought, at every layer, by another problem's.

Interchange (`interp.interchange`) edits one address, where a value was read. Here nothing that the position computed is
left. If the answer still does not change, the position is not used, whatever a probe can read there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.causal.patching.donors import cyclic_donors
from interp.errors import UsageError
from interp.reasoners.interventions import Intervention, replace_with
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.activations import ActivationSource
    from interp.reasoners import Reasoner
    from interp.traces import Trace


def swap_thoughts(reasoner: Reasoner, store: ActivationSource, *, seed: int = 0, batch_size: int = 256) -> pd.DataFrame:
    """Replace each thought in turn, then all of them, by those of a donor with the same number of steps.

    A position may encode the value of its own step or of the next one, so both implied answers are compared.

    Args:
        reasoner: The reasoner whose traces the store holds.
        store: Activations of every block's output at the thoughts.
        seed: Seed of the donors.
        batch_size: Problems in a batch.

    Returns:
        One row for each edit. Columns: thoughts (`1`, `2`, ... or `all`), n_steps, structure, own (the answer is the
        one that the donor's value at the swapped step implies; for `all`, the donor's answer), next (the same for the
        step after it; None after the last), stayed (the answer is the earlier one). `own` and `next` are None where
        the implied answer is the earlier one, and `stayed` where the donor implies the earlier one.

    Raises:
        UsageError: The store lacks a block's output.
    """
    addresses = [a for a in store.addresses if a.hook == "hook_out" and a.layer is not None]
    if len(addresses) != reasoner.model.cfg.n_layers:
        raise UsageError(
            f"swapping needs every block's output, but {store.name} holds {len(addresses)}; capture resid."
        )
    problems = store.traces.problems
    lengths = [problem.n_steps for problem in problems]
    donors = cyclic_donors(
        [p.structure for p in problems], [(p.n_steps, len(p.question.split())) for p in problems], seed
    )
    rows = store.thought_rows.set_index(["trace", "thought"], drop=False).sort_index()
    results = []
    for thought in [*range(1, max(lengths) + 1), None]:
        edited = [k for k, n in enumerate(lengths) if donors[k] >= 0 and (thought is None or thought <= n)]
        steps = [range(1, lengths[k] + 1) if thought is None else [thought] for k in edited]
        cells = [(b, k, s) for b, (k, own_steps) in enumerate(zip(edited, steps, strict=True)) for s in own_steps]
        positions = rows.loc[[(k, s) for _, k, s in cells], "position"].to_numpy()
        donor_rows = rows.loc[[(donors[k], s) for _, k, s in cells]]
        index = np.stack([[b for b, _, _ in cells], positions], axis=1)
        edits = [Intervention(a, index, replace_with(store.acts(a, donor_rows))) for a in addresses]
        after = reasoner.think([problems[k] for k in edited], batch_size=batch_size, interventions=edits)
        for k, trace in zip(edited, after, strict=True):
            row = {"thoughts": "all" if thought is None else str(thought), "n_steps": lengths[k]}
            outcome = _outcome(
                reasoner, store.traces[k], store.traces[int(donors[k])], thought or lengths[k], trace.answer
            )
            results.append(row | {"structure": problems[k].structure} | outcome)
    return pd.DataFrame(results)


def _outcome(reasoner: Reasoner, before: Trace, donor: Trace, step: int, answer: str) -> dict[str, bool | None]:
    """Return whether the answer follows the donor's value at `step`, follows that at the next step, or stays."""
    implied = {"own": _implied(reasoner, before, donor, step), "next": _implied(reasoner, before, donor, step + 1)}
    follows = {name: None if a in (None, before.answer) else answer == a for name, a in implied.items()}
    return follows | {"stayed": None if implied["own"] == before.answer else answer == before.answer}


def _implied(reasoner: Reasoner, trace: Trace, donor: Trace, step: int) -> str | None:
    """Return the answer that the donor's value at `step` implies, or None where there is no such step."""
    if step > donor.problem.n_steps:
        return None
    return reasoner.task.counterfactual(trace.problem, step, donor.problem.steps[step - 1].value)


def swap_table(swaps: pd.DataFrame) -> pd.DataFrame:
    """Return fractions of the rows of `swap_thoughts` by number of steps and thought, with 95 % intervals."""
    rows = []
    names = {"own": "follows its step's value", "next": "follows the next step's value", "stayed": "stays"}
    for (n_steps, thoughts), part in swaps.groupby(["n_steps", "thoughts"]):
        row: dict[str, object] = {"steps": n_steps, "swapped": thoughts}
        for column, name in names.items():
            known = part[part[column].notna()]
            right = known[column].to_numpy(float)
            row[name] = right.mean() if len(known) else None
            row[f"{name}, 95 %"] = (
                list(grouped_mean_interval(right, known["structure"].to_numpy())) if len(known) else None
            )
        rows.append(row | {"n": len(part)})
    return pd.DataFrame(rows)
