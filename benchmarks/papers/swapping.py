"""Everything that one problem computed at a thought, put in the place of another problem's: is the thought used?

Interchange (`interp.interchange`) edits one site, where a value was read. Here the whole residual stream of
a position is a donor's, every layer of it, so nothing that the position itself computed is left: where the answer
still stays, the position is not used, whatever can be read there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.causal.donors import cyclic_donors
from interp.errors import UsageError
from interp.reasoners.interventions import Intervention, replace_with
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.activations import ActivationSource
    from interp.reasoners import Reasoner
    from interp.traces import Trace


def swap_thoughts(reasoner: Reasoner, store: ActivationSource, *, seed: int = 0, batch_size: int = 256) -> pd.DataFrame:
    """Swap each thought in turn, then all of them, for those of a donor with as many steps, while thinking.

    A position may hold the value of its own step or already that of the next one, so both implied answers stand
    beside each other. One row for each edit. Columns: thoughts (`1`, `2`, ... or `all`), n_steps, structure, own (the
    answer is what the donor's value at the swapped step implies; for `all`, the donor's answer), next (the same for
    the step after it, None after the last), stayed (the answer is the one from before); each is None where what it
    asks for is the answer from before, or for `stayed` what the donor implies. Raises `UsageError` when the store
    lacks a block's output.
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
    out = []
    for thought in [*range(1, max(lengths) + 1), None]:
        edited = [k for k, n in enumerate(lengths) if donors[k] >= 0 and (thought is None or thought <= n)]
        steps = [range(1, lengths[k] + 1) if thought is None else [thought] for k in edited]
        at = [(place, k, s) for place, (k, each) in enumerate(zip(edited, steps, strict=True)) for s in each]
        own = rows.loc[[(k, s) for _, k, s in at], "position"].to_numpy()
        theirs = rows.loc[[(donors[k], s) for _, k, s in at]]
        where = np.stack([[place for place, _, _ in at], own], axis=1)
        edits = [Intervention(a, where, replace_with(store.acts(a, theirs))) for a in addresses]
        after = reasoner.think([problems[k] for k in edited], batch_size=batch_size, interventions=edits)
        for k, trace in zip(edited, after, strict=True):
            shown = {"thoughts": "all" if thought is None else str(thought), "n_steps": lengths[k]}
            told = _told(reasoner, store.traces[k], store.traces[int(donors[k])], thought or lengths[k], trace.answer)
            out.append(shown | {"structure": problems[k].structure} | told)
    return pd.DataFrame(out)


def _told(reasoner: Reasoner, before: Trace, donor: Trace, step: int, answer: str) -> dict[str, bool | None]:
    """What one edit of `step` says: whether `answer` follows the donor's value, that of the next step, or stays."""
    implied = {"own": _implied(reasoner, before, donor, step), "next": _implied(reasoner, before, donor, step + 1)}
    told = {name: None if a in (None, before.answer) else answer == a for name, a in implied.items()}
    return told | {"stayed": None if implied["own"] == before.answer else answer == before.answer}


def _implied(reasoner: Reasoner, trace: Trace, donor: Trace, step: int) -> str | None:
    """The answer if `step` had reached the donor's value; None where there is no such step."""
    if step > donor.problem.n_steps:
        return None
    return reasoner.task.counterfactual(trace.problem, step, donor.problem.steps[step - 1].value)


def swap_table(found: pd.DataFrame) -> pd.DataFrame:
    """Shares of `swap_thoughts` by number of steps and thought, with 95 % intervals."""
    out = []
    names = {"own": "follows its step's value", "next": "follows the next step's value", "stayed": "stays"}
    for (n_steps, thoughts), part in found.groupby(["n_steps", "thoughts"]):
        row: dict[str, object] = {"steps": n_steps, "swapped": thoughts}
        for column, name in names.items():
            known = part[part[column].notna()]
            right = known[column].to_numpy(float)
            row[name] = right.mean() if len(known) else None
            row[f"{name}, 95 %"] = (
                list(grouped_mean_interval(right, known["structure"].to_numpy())) if len(known) else None
            )
        out.append(row | {"n": len(part)})
    return pd.DataFrame(out)
