"""Supervised thoughts: a probe or a feature watches the thought while it is being thought, and may step in.

At every watched position a score is taken of the activation; past the threshold a text is put into the thought
right after that position, or a vector is added at it. Every time this happens it is logged in the trace. It works
in every reasoner and in batches: each trace is watched on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.reasoners.interventions import BatchState, Intervention, add
from interp.traces import Channel, Trace

if TYPE_CHECKING:
    from interp.reasoners.base import Reasoner
    from interp.reasoners.rollout import Rollout

Score = Callable[[Float[Tensor, "found d_model"]], Float[Tensor, " found"]]
THINKING = (Channel.THOUGHT, Channel.LATENT)


@dataclass(frozen=True)
class Monitor:
    """Watch `address`, and where `score` is above `threshold` inject `text` or `vector`, at most `times` in a trace.

    Without either it only logs. `vector` (d_model) is added at `at`, `address` by default, at the position that was
    watched; `at` must not lie before `address`, which has been computed by then. With `only` it watches no other
    positions than those that a trace's number (its place among the problems) maps to. Raises `UsageError` where both
    or an impossible `at` are given.
    """

    address: Address
    score: Score
    threshold: float
    text: str | None = None
    vector: Float[np.ndarray, " d_model"] | None = field(default=None, compare=False)
    at: Address | None = None
    times: int = 1
    channels: Sequence[str] = THINKING
    only: Mapping[int, Collection[int]] | None = field(default=None, compare=False)
    name: str = "monitor"

    def __post_init__(self) -> None:
        checked_count("times", self.times)
        if self.text is not None and self.vector is not None:
            raise UsageError(f"monitor {self.name!r} can inject a text or a vector, not both; use two monitors.")
        if self.at is not None and self.at.depth < self.address.depth:
            raise UsageError(
                f"monitor {self.name!r} watches {self.address} and cannot change {self.at}, which was computed before it."
            )
        if self.text is not None and not self.text.split():
            raise UsageError(f"monitor {self.name!r} has an empty text to inject; leave it out to log only.")

    @classmethod
    def along(
        cls,
        address: Address,
        direction: Float[np.ndarray, " d_model"],
        threshold: float,
        *,
        bias: float = 0.0,
        **options: Any,
    ) -> Monitor:
        """A linear probe: the score is direction . activation + bias."""
        weights = torch.as_tensor(np.ascontiguousarray(direction))
        return cls(address, lambda found: found @ weights.to(found) + bias, threshold, **options)

    @classmethod
    def on_feature(cls, address: Address, sae: Any, feature: int, threshold: float, **options: Any) -> Monitor:
        """A feature of a sparse autoencoder, which may lie on another device than the model: the score is its activation."""
        return cls(
            address, lambda found: sae.encode(found.float().to(sae.W_enc.device))[:, feature], threshold, **options
        )

    def interventions(self, traces: Sequence[Trace]) -> list[Intervention]:
        """The vectors that were injected, as interventions on a replay of `traces`."""
        if self.vector is None:
            return []
        rows = [
            (k, event["position"])
            for k, trace in enumerate(traces)
            for event in trace.events
            if event["monitor"] == self.name and event["injected"]
        ]
        return [Intervention(self.at or self.address, np.array(rows), add(self.vector))] if rows else []


class MonitorRun:
    """One monitor during one call of `think`: what fired where, and what is still to be injected."""

    def __init__(self, monitor: Monitor, reasoner: Reasoner, where: BatchState) -> None:
        self.monitor, self.where = monitor, where
        self._fired: dict[int, int] = {}
        self._cells: list[tuple[int, int]] = []
        self._pending: dict[int, int] = {}  # batch row -> position after which to inject
        self._ids: list[int] = []
        if monitor.text is not None:
            self._ids = list(reasoner.tokenizer(monitor.text, add_special_tokens=False)["input_ids"])
            unknown = reasoner.tokenizer.unk_token_id
            if not self._ids or (unknown is not None and unknown in self._ids):
                raise UsageError(f"{reasoner.name} does not know every word of the text {monitor.text!r} to inject.")

    def hooks(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """The hooks of one model: one that watches, one that adds the vector."""
        found: list[tuple[str, Callable[..., Tensor | None]]] = [(self.monitor.address.name, self._look)]
        if self.monitor.vector is not None:
            found.append(((self.monitor.at or self.monitor.address).name, self._push))
        return found

    def _look(self, activations: Tensor, hook: Any = None) -> None:
        cells = []
        for b, row in enumerate(self.where.rows):
            for column, place in enumerate(self.where.positions[b].tolist()):
                if 0 <= place < len(row.channel) and self._watched(b, place):
                    cells.append((b, column, place))
        self._cells = []
        if not cells:
            return
        at = torch.tensor([(b, c) for b, c, _ in cells], device=activations.device).T
        scores = self.monitor.score(activations[at[0], at[1]]).tolist()
        for (b, column, place), score in zip(cells, scores, strict=True):
            trace = int(self.where.traces[b])
            if score <= self.monitor.threshold or self._fired.get(trace, 0) >= self.monitor.times:
                continue
            self._fired[trace] = self._fired.get(trace, 0) + 1
            event = {"monitor": self.monitor.name, "position": place, "score": float(score), "injected": False}
            self.where.rows[b].events.append(event)
            if self.monitor.vector is not None:
                event["injected"] = True
                self._cells.append((b, column))
            elif self._ids:
                self._pending[b] = place

    def _watched(self, b: int, place: int) -> bool:
        only = self.monitor.only
        if self.where.rows[b].channel[place] not in self.monitor.channels:
            return False
        return only is None or place in only.get(int(self.where.traces[b]), ())

    def _push(self, activations: Tensor, hook: Any = None) -> Tensor | None:
        if not self._cells:
            return None
        at = torch.tensor(self._cells, device=activations.device).T
        changed = activations.clone()
        changed[at[0], at[1]] += torch.as_tensor(np.asarray(self.monitor.vector)).to(activations)
        self._cells = []
        return changed

    def after(self, rollout: Rollout) -> None:
        """Put the text into every thought that is waiting for it, where there is room."""
        pending, self._pending = self._pending, {}
        room = rollout.room
        rows = {b: place for b, place in pending.items() if int(room[b]) > len(self._ids) + 2}
        if not rows:
            return
        active = torch.zeros(len(rollout.rows), dtype=torch.bool)
        active[list(rows)] = True
        steps, thoughts = [0] * len(rollout.rows), [0] * len(rollout.rows)
        for b, place in rows.items():
            row = rollout.rows[b]
            steps[b], thoughts[b] = row.step[place], row.thought[place]
            row.events[-1] |= {"injected": True, "text": self.monitor.text}
        for token in self._ids:
            ids = torch.full((len(rollout.rows),), token)
            before = [len(row.thought) for row in rollout.rows]
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=active, steps=steps)
            for b in rows:
                rollout.rows[b].thought[before[b]] = thoughts[b]
