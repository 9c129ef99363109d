"""Interchange at any site: an address, a position and, if wanted, a subspace, with the controls that belong to it.

For each problem and step, a donor's state goes where the step's value should be held. Beside it: donors of the same
value; the same interchange at a place of the question (wrong site) or at another step's thought (wrong step), which
must not make the answer what *this* step's value implies; a random vector of the same length; where asked, the
right state at a place of the question (transplant) and a random subspace of the same dimension. What must follow is
computed by the task's oracle before the model runs.

Figures, with the names of the counterfactual contract: *sufficiency*, the answer becomes what the donor's value
implies; *competitor*, it does so after the same interchange at the worse of the two wrong places; *matched corruption*,
the share of right answers lost to a random vector of the same length (negative).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from interp.causal.donors import Donors, alternatives, donors_for, pairs
from interp.causal.patching import addresses_of, checked_kinds, position, states, swap
from interp.errors import UsageError
from interp.models.address import Address
from interp.problems import task as make_task
from interp.reasoners.interventions import Edit, replace_with, replace_within
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

KINDS = ("other value", "same value", "wrong site", "wrong step", "random vector")
# Carried out only when they are asked for.
MORE_KINDS = ("transplant", "random subspace")
INPUT = "blocks.0.hook_in"


class SiteInterchange:
    """The swaps that were made at one site, and what came of them."""

    def __init__(self, frame: pd.DataFrame, site: str, offset: int, donors: str) -> None:
        self._frame, self.site, self.offset, self.donors = frame, site, offset, donors

    def table(self) -> pd.DataFrame:
        """One row for each swap.

        Columns: trace, step, donor, kind, value, donor_value, predicted, structure, n_steps, target, source,
        answer_before, answer_after, followed, changed, chance (how often an answer drawn like this one would
        follow by luck).
        """
        return self._frame

    def rates(self, kind: str, column: str = "followed", step: int | None = None) -> dict[str, Any]:
        """Mean of `followed`, `changed` or `chance` over the swaps of a kind: value, ci (95 %, by structure), n."""
        part = self._frame[self._frame["kind"] == kind]
        part = part if step is None else part[part["step"] == step]
        if part.empty:
            return {"value": None, "ci": None, "n": 0}
        ci = grouped_mean_interval(part[column].to_numpy(float), part["structure"].to_numpy())
        return {"value": float(part[column].mean()), "ci": list(ci), "n": len(part)}

    def summary(self) -> pd.DataFrame:
        """Follow, change and chance rates by kind and step (0 is all steps), with grouped 95 % intervals."""
        out = []
        for kind in dict.fromkeys(self._frame["kind"]):
            part = self._frame[self._frame["kind"] == kind]
            for step in [0, *sorted(part["step"].unique())]:
                followed = self.rates(kind, "followed", step or None)
                changed = self.rates(kind, "changed", step or None)
                out.append(
                    {
                        "kind": kind,
                        "step": int(step),
                        "followed": followed["value"],
                        "followed_ci": followed["ci"],
                        "chance": self.rates(kind, "chance", step or None)["value"],
                        "changed": changed["value"],
                        "changed_ci": changed["ci"],
                        "n": followed["n"],
                    }
                )
        return pd.DataFrame(out)

    def contract(self) -> dict[str, dict[str, Any]]:
        """Sufficiency, competitor (the worse of wrong site and wrong step) and matched corruption."""
        wrong = [self.rates(kind) for kind in ("wrong site", "wrong step")]
        lost = self.rates("random vector", "changed")
        corruption = {
            "value": None if lost["value"] is None else -float(lost["value"]),
            "ci": None if lost["ci"] is None else [-x for x in reversed(lost["ci"])],
            "n": lost["n"],
        }
        known = [each for each in wrong if each["value"] is not None]
        return {
            "sufficiency": self.rates("other value"),
            "competitor": max(known, key=lambda each: each["value"]) if known else wrong[0],
            "matched corruption": corruption,
        }


def thought_of(step: int, offset: int, per_step: int) -> str:
    """The place at which the value of `step` is looked for: the step's last thought, moved by `offset`; 0 is `begin`."""
    number = step * per_step + offset
    return f"thought {number}" if number >= 1 else "begin"


def interchange_at(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    site: str = INPUT,
    offset: int = 0,
    kinds: Sequence[str] = KINDS,
    donors: Donors | None = None,
    values: Sequence[Sequence[str]] | None = None,
    basis: Float[torch.Tensor, "k d"] | None = None,
    steps: Sequence[int] | None = None,
    seed: int = 0,
    only_right: bool = True,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> SiteInterchange:
    """Swap the state at `site` of the thought that should hold each step's value, and do the controls.

    `site` is a hook name, `everything` (the whole residual stream of the position) or `cache` (its keys and values,
    which is all that later positions read of it). `values` are what some decoder read; by default the gold ones.
    `basis` (k x d) confines the swap to a subspace and adds a random one of the same dimension. Raises `UsageError`
    where the reasoner has no such thoughts, or no problem has a donor.
    """
    wanted = checked_kinds(kinds, (*KINDS, *MORE_KINDS))
    values = values or [[step.value for step in trace.problem.steps] for trace in traces]
    donors = donors or donors_for(reasoner, traces, seed=seed, values=values, batch_size=batch_size)
    found = pairs(traces, donors, values, seed=seed, only_right=only_right, steps=steps)
    plan = _placed(found, traces, donors, offset, reasoner.config.thoughts_per_step, wanted, seed)
    if not (plan["kind"] == "other value").any() and "other value" in wanted:
        raise UsageError(
            f"no step of {len(traces)} problems of {reasoner.name} can be swapped at offset {offset}: either its "
            "thoughts do not stand there, or no donor implies another answer. Try another offset, or more problems."
        )
    after: list[str] = []
    kinds_present = dict.fromkeys(plan["kind"])
    parts = []
    for done, kind in enumerate(kinds_present):
        part = plan[plan["kind"] == kind]
        edit = _edit(kind, basis, seed)
        after += swap(reasoner, traces, part, donors=donors.traces, site=site, edit=edit, batch_size=batch_size)
        parts.append(part)
        if progress:
            progress(done + 1, len(kinds_present))
    frame = pd.concat(parts, ignore_index=True)
    return SiteInterchange(_told(frame, traces, after), site, offset, donors.source)


def _placed(
    found: pd.DataFrame, traces: TraceSet, donors: Donors, offset: int, per_step: int, kinds: list[str], seed: int
) -> pd.DataFrame:
    """Every swap with its two positions; the controls use the donors of another value at other places."""
    rng = np.random.default_rng(seed + 1)
    out = []
    for row in found.to_dict("records"):
        trace, donor = traces[row["trace"]], donors.traces[row["donor"]]
        place = thought_of(row["step"], offset, per_step)
        target, source = position(trace, place), position(donor, place)
        if target is None or source is None:
            continue
        if row["kind"] in kinds:
            out.append({**row, "target": target, "source": source})
        if row["kind"] != "other value":
            continue
        for kind in ("random vector", "random subspace"):
            if kind in kinds:
                out.append({**row, "kind": kind, "target": target, "source": source})
        prompts = [[k for k, c in enumerate(each.channel) if c == "prompt"] for each in (trace, donor)]
        at = int(rng.integers(min(map(len, prompts))))
        others = [s for s in range(1, row["n_steps"] + 1) if s != row["step"]]
        if "wrong site" in kinds:
            out.append({**row, "kind": "wrong site", "target": prompts[0][at], "source": prompts[1][at]})
        if "transplant" in kinds:
            out.append({**row, "kind": "transplant", "target": prompts[0][at], "source": source})
        if "wrong step" in kinds and others:
            elsewhere = thought_of(int(rng.choice(others)), offset, per_step)
            there = position(trace, elsewhere), position(donor, elsewhere)
            if None not in there:
                out.append({**row, "kind": "wrong step", "target": there[0], "source": there[1]})
    return pd.DataFrame(out, columns=[*found.columns, "target", "source"]).assign(edit=range(len(out)))


def _edit(kind: str, basis: torch.Tensor | None, seed: int):  # type: ignore[no-untyped-def]
    def make(values: torch.Tensor, address: Address) -> Edit:
        generator = torch.Generator().manual_seed(seed + 7)
        if kind == "random vector":
            noise = torch.randn(values.shape, generator=generator)
            norm = values.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1).clamp(min=1e-12)
            values = noise * norm.view(-1, *[1] * (values.ndim - 1))
        if kind == "random subspace":
            d = values.shape[-1]
            return replace_within(values, torch.randn(1 if basis is None else len(basis), d, generator=generator))
        return replace_with(values) if basis is None else replace_within(values, basis)

    return make


def _told(frame: pd.DataFrame, traces: TraceSet, after: list[str]) -> pd.DataFrame:
    task = make_task(traces[0].problem.task)
    before = [traces[t].answer for t in frame["trace"]]
    chances = []
    for row, said in zip(frame.to_dict("records"), after, strict=True):
        options = alternatives(task, traces[row["trace"]].problem, row["step"])
        chances.append((said in options) / len(options) if options else 0.0)
    return frame.drop(columns="edit").assign(
        answer_before=before,
        answer_after=after,
        followed=[a == p for a, p in zip(after, frame["predicted"], strict=True)],
        changed=[a != b for a, b in zip(after, before, strict=True)],
        chance=chances,
    )


def value_basis(
    reasoner: Reasoner, traces: TraceSet, *, site: str = INPUT, offset: int = 0
) -> Float[torch.Tensor, "k d"]:
    """Directions between the mean states of the values of a step, at most one fewer than there are values.

    Fitted on `traces`, which should not be those that are then swapped.
    """
    (address,) = addresses_of(reasoner, site)
    rows, said = [], []
    for k, trace in enumerate(traces):
        for step, gold in enumerate(trace.problem.steps, 1):
            at = position(trace, thought_of(step, offset, reasoner.config.thoughts_per_step))
            if at is not None:
                rows.append((k, at))
                said.append(gold.value)
    if not rows:
        raise UsageError(f"{reasoner.name} has no thoughts at offset {offset}; try another offset.")
    acts = states(reasoner, traces, address, np.array(rows))
    means = torch.stack([acts[[s == value for s in said]].mean(dim=0) for value in sorted(set(said))])
    _, scales, directions = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False)
    return directions[scales > 1e-6 * scales[0]][: max(1, len(means) - 1)]
