"""Swap and hold tokens in the space of a Jacobian lens, and test whether the answer follows.

In layer l the lens gives each token a direction. A state has coordinates along the directions of two tokens (by the
pseudo-inverse); a *swap* exchanges them and leaves the rest of the state as it is (Gurnee et al. 2026, "Verbalizable
Representations Form a Global Workspace in Language Models", Methods). A swap in the next layer exchanges them back, because
it reads the state that the first one left. So over several layers the coordinates are *clamped*: in each layer they are held
at the exchanged coordinates of the undisturbed run.

The prediction comes from the task's oracle: the answer that another value of the step implies. Controls are swaps of two
other values, random directions of the same lengths, and the same swap at a position of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.patching.donors import implied_answer, why_no_answer
from interp.causal.patching.patch import match_norms, position_of_step
from interp.causal.patching.states import states
from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.problems import task as make_task
from interp.reasoners.interventions import Edit, Intervention
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.decoders.jacobian.lens import JacobianLens
    from interp.reasoners import Reasoner

MODES = ("clamp", "swap")
Mode = Literal["clamp", "swap"]
EDITS = ("value", "other values", "random change", "wrong site")
# Two directions that are nearly one have coordinates that mean nothing.
_PARALLEL = 0.999

Pairs = Float[Tensor, "rows 2 d_model"]


def swap_coordinates(pairs: Pairs, strength: float = 1.0) -> Edit:
    """Return an edit that exchanges each state's coordinates along two directions.

    Args:
        pairs: The two directions of each row of the intervention.
        strength: 1 exchanges them; 2 is the paper's double strength.
    """
    inverses = torch.linalg.pinv(pairs.transpose(1, 2).double()).float()

    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        which = torch.as_tensor(rows)
        basis, inverse = pairs[which].to(activations.device), inverses[which].to(activations.device)
        coordinates = torch.einsum("rkd,rd->rk", inverse, activations.float())
        change = strength * (coordinates.flip(1) - coordinates)
        return (activations.float() + torch.einsum("rk,rkd->rd", change, basis)).to(activations)

    return edit


def clamp_coordinates(pairs: Pairs, clean: Float[Tensor, "rows d_model"]) -> Edit:
    """Return an edit that holds each state's coordinates along two directions at the exchanged ones of the clean state.

    Args:
        pairs: The two directions of each row of the intervention.
        clean: The state of each row in the undisturbed run.
    """
    inverses = torch.linalg.pinv(pairs.transpose(1, 2).double()).float()
    targets = torch.einsum("rkd,rd->rk", inverses, clean.float()).flip(1)

    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        which = torch.as_tensor(rows)
        basis, inverse = pairs[which].to(activations.device), inverses[which].to(activations.device)
        coordinates = torch.einsum("rkd,rd->rk", inverse, activations.float())
        change = targets[which].to(activations.device) - coordinates
        return (activations.float() + torch.einsum("rk,rkd->rd", change, basis)).to(activations)

    return edit


def lens_interventions(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    lens: JacobianLens,
    rows: np.ndarray,
    tokens: Sequence[tuple[str, str]],
    *,
    layers: Sequence[int],
    mode: Mode = "clamp",
    strength: float = 1.0,
) -> list[Intervention]:
    """Return the interventions that exchange two tokens at each row, in each of several layers.

    Args:
        reasoner: The model.
        traces: Its undisturbed traces, in the order in which they are thought about or replayed again.
        lens: A fitted lens.
        rows: (trace, position) pairs.
        tokens: The two tokens of each row.
        layers: Fitted layers.
        mode: `clamp` holds the exchanged coordinates of the undisturbed run; `swap` exchanges those that it meets.
        strength: Of a swap.

    Raises:
        UsageError: Unknown mode, a layer that was not fitted, or two tokens with the same direction.
    """
    if mode not in MODES:
        raise unknown("mode of a lens edit", mode, MODES)
    edits = []
    for layer in sorted(set(layers)):
        pairs = _pairs(lens, tokens, layer)
        edits.append(_intervention(reasoner, traces, pairs, rows, layer, mode, strength))
    return edits


def _intervention(
    reasoner: Reasoner, traces: Sequence[Trace], pairs: Pairs, rows: np.ndarray, layer: int, mode: Mode, strength: float
) -> Intervention:
    address = Address(f"blocks.{layer}.hook_out")
    if mode == "swap":
        return Intervention(address, rows, swap_coordinates(pairs, strength))
    return Intervention(address, rows, clamp_coordinates(pairs, states(reasoner, traces, address, rows)))


def _random_change(edit: Edit, n: int, width: int, seed: int) -> Edit:
    """Return an edit that changes each state by as much as `edit` does, in a random direction."""
    noise = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))

    def changed(activations: Tensor, rows: np.ndarray) -> Tensor:
        change = edit(activations, rows).float() - activations.float()
        random = match_norms(noise[torch.as_tensor(rows)].to(change), change)
        return (activations.float() + random).to(activations)

    return changed


def _pairs(lens: JacobianLens, tokens: Sequence[tuple[str, str]], layer: int) -> Pairs:
    names = sorted({token for pair in tokens for token in pair})
    directions = dict(zip(names, lens.directions(names, layer), strict=True))
    for one, two in set(tokens):
        cosine = torch.cosine_similarity(directions[one], directions[two], dim=0).abs()
        if not float(cosine) < _PARALLEL:
            raise UsageError(
                f"expected two directions for {one!r} and {two!r} in layer {layer}, got one (cosine {float(cosine):.4f}); "
                "choose other tokens or another layer."
            )
    return torch.stack([torch.stack([directions[one], directions[two]]) for one, two in tokens])


class LensEditResult:
    """Answers after swaps of values in the space of a lens."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def table(self) -> pd.DataFrame:
        """Return one row for each edit.

        Returns:
            Columns: edit, trace, step, value, target, predicted, answer_after, followed, changed, structure.
        """
        return self._frame

    def rate(self, edit: str, column: str = "followed") -> Estimate:
        """Return the mean of `followed` or `changed` for one of `EDITS`, with a 95 % interval by problem structure."""
        rows = self._frame[self._frame["edit"] == edit]
        return Estimate.of_mean(rows[column].to_numpy(float), rows["structure"].to_numpy())

    def summary(self) -> pd.DataFrame:
        """Return one row for each edit: edit, followed, followed_ci, changed, changed_ci, n."""
        rows = []
        for edit in dict.fromkeys(self._frame["edit"]):
            followed, changed = self.rate(edit), self.rate(edit, "changed")
            row = {"edit": edit, "followed": followed.value, "followed_ci": list(followed.interval)}
            rows.append(row | {"changed": changed.value, "changed_ci": list(changed.interval), "n": followed.n})
        return pd.DataFrame(rows)


def swap_values(
    reasoner: Reasoner,
    traces: TraceSet,
    lens: JacobianLens,
    *,
    layers: Sequence[int],
    offset: int = 0,
    mode: Mode = "clamp",
    strength: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> LensEditResult:
    """Exchange the value of each step with another one in the space of a lens, while thinking, and run the controls.

    Args:
        reasoner: The model that is edited.
        traces: Its traces. Those answered wrongly are left out.
        lens: A fitted lens, of the model.
        layers: Fitted layers.
        offset: Positions after the step's last thought.
        mode: `clamp` or `swap`.
        strength: Of a swap.
        seed: Seed of target values, other values, places and random directions.
        batch_size: Problems that are thought about at once.
        progress: Called with (edits done, edits in all).

    Raises:
        UsageError: No step's value is a token whose exchange implies another answer.
    """
    plan = _plan(reasoner, traces, offset, seed)
    frames = []
    for done, edit in enumerate(EDITS, 1):
        of_edit = plan[plan["edit"] == edit]
        if len(of_edit):
            frames.append(_outcomes(reasoner, traces, of_edit, lens, layers, mode, strength, seed, batch_size))
        if progress:
            progress(done, len(EDITS))
    return LensEditResult(pd.concat(frames, ignore_index=True))


@dataclass(frozen=True)
class LensPlace:
    """Where values are exchanged.

    Attributes:
        layers: Layers of the lens.
        offset: Positions after the step's last thought.
        followed: Share of answers that followed there, on the problems on which it was chosen.
    """

    layers: tuple[int, ...]
    offset: int
    followed: Estimate


def best_place(
    reasoner: Reasoner,
    traces: TraceSet,
    lens: JacobianLens,
    *,
    layers: Sequence[int] | None = None,
    offsets: Sequence[int] = (0, -1),
    mode: Mode = "clamp",
    seed: int = 0,
    batch_size: int = 256,
) -> LensPlace:
    """Return where exchanging values moves most answers: one layer or all of them, at one of several offsets.

    Args:
        reasoner: The model that is edited.
        traces: Traces to choose on, of other problems than are tested.
        lens: A fitted lens.
        layers: Layers to try, each alone and all together; all fitted ones where None.
        offsets: Offsets to try.
        mode: `clamp` or `swap`.
        seed: Seed of target values.
        batch_size: Problems that are thought about at once.

    Raises:
        UsageError: No step's value can be exchanged at any of the offsets.
    """
    fitted = sorted(lens.lens.matrices) if layers is None else sorted(set(layers))
    sets = [(layer,) for layer in fitted] + ([tuple(fitted)] if len(fitted) > 1 else [])
    places, failures = [], []
    for offset in offsets:
        try:
            plan = _plan(reasoner, traces, offset, seed)
        except UsageError as error:
            failures.append(error)
            continue
        for chosen in sets:
            of_value = plan[plan["edit"] == "value"]
            frame = _outcomes(reasoner, traces, of_value, lens, chosen, mode, 1.0, seed, batch_size)
            places.append(LensPlace(chosen, offset, LensEditResult(frame).rate("value")))
    if not places:
        raise failures[0]
    return max(places, key=lambda place: place.followed.value)


def _plan(reasoner: Reasoner, traces: TraceSet, offset: int, seed: int) -> pd.DataFrame:
    rng, task = np.random.default_rng(seed), make_task(traces[0].problem.task)
    known = reasoner.tokenizer.get_vocab()
    values = [value for value in task.values if value in known]
    rows = []
    for k, trace in enumerate(traces):
        for step, gold in enumerate(trace.problem.steps, 1):
            where = position_of_step(trace, step, offset)
            if not trace.correct or where is None or gold.value not in values:
                continue
            implied = {value: implied_answer(task, trace.problem, step, value) for value in values}
            targets = [value for value, answer in implied.items() if answer not in (None, trace.answer)]
            if not targets:
                continue
            target = str(rng.choice(targets))
            shared = {"trace": k, "step": step, "value": gold.value, "target": target, "predicted": implied[target]}
            shared |= {"structure": trace.problem.structure, "position": where, "one": gold.value, "two": target}
            rows += [{**shared, "edit": edit} for edit in ("value", "random change")]
            prompt = [n for n, channel in enumerate(trace.channel) if channel == "prompt"]
            rows.append({**shared, "edit": "wrong site", "position": int(rng.choice(prompt))})
            others = [value for value in values if value not in (gold.value, target)]
            if len(others) > 1:
                one, two = map(str, rng.choice(others, 2, replace=False))
                rows.append({**shared, "edit": "other values", "one": one, "two": two})
    if not rows:
        reason = why_no_answer(traces, set(values)) if values else "no value of the task is one token."
        raise UsageError(
            f"expected steps of {reasoner.name} whose value can be exchanged, got none in {len(traces)} traces: "
            f"{reason or 'none was answered right at this offset; take more problems.'}"
        )
    return pd.DataFrame(rows)


def _outcomes(
    reasoner: Reasoner,
    traces: TraceSet,
    plan: pd.DataFrame,
    lens: JacobianLens,
    layers: Sequence[int],
    mode: Mode,
    strength: float,
    seed: int,
    batch_size: int,
) -> pd.DataFrame:
    recipients = [traces[k] for k in plan["trace"]]
    rows = np.stack([np.arange(len(plan)), plan["position"].to_numpy()], axis=1)
    tokens = list(zip(plan["one"], plan["two"], strict=True))
    interventions = []
    for layer in sorted(set(layers)):
        pairs = _pairs(lens, tokens, layer)
        made = _intervention(reasoner, recipients, pairs, rows, layer, mode, strength)
        if plan["edit"].iloc[0] == "random change":
            made = replace(made, edit=_random_change(made.edit, len(rows), pairs.shape[-1], seed + layer))
        interventions.append(made)
    after = reasoner.think([t.problem for t in recipients], batch_size=batch_size, interventions=interventions)
    answers = [trace.answer for trace in after]
    return plan.drop(columns=["position", "one", "two"]).assign(
        answer_after=answers,
        followed=[answer == predicted for answer, predicted in zip(answers, plan["predicted"], strict=True)],
        changed=[answer != trace.answer for answer, trace in zip(answers, recipients, strict=True)],
    )
