"""Monitors: a probe or a feature watches every thought while it is thought, and may inject a text or a vector.

At every watched position the activation is scored. Above the threshold, a text is put into the thought right after
that position, or a vector is added at it. Every such event is logged in the trace. Monitors work in every reasoner and
in batches: each trace is watched on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, NamedHook, add
from interp.reasoners.rollouts.batch import BatchState
from interp.reasoners.rollouts.rollout import Rollout
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import THINKING, Channel, Trace

#: Scores activations, one number for each row.
Score = Callable[[Float[Tensor, "rows d_model"]], Float[Tensor, " rows"]]
_KEPT_FREE = 2  # positions that an injected text leaves for the end marker and the answer


class MonitorOptions(TypedDict, total=False):
    """The optional arguments of `Monitor`, for its other constructors."""

    text: str | None
    vector: Float[np.ndarray, " d_model"] | None
    at: Address | None
    times: int
    channels: Sequence[str]
    only: Mapping[int, Collection[int]] | None
    name: str


@dataclass(frozen=True)
class Monitor:
    """Watch an address, and inject a text or a vector where the score is above a threshold.

    Without text and vector, a monitor only logs.

    Args:
        address: The activation that is watched.
        score: Scores activations, rows x d_model, as one number for each row.
        threshold: The monitor acts where the score is above this.
        text: Put into the thought right after the position that was watched.
        vector: Added at the position that was watched; shape (d_model,).
        at: Where the vector is added; `address` by default. It must not lie before `address`, which has been
            computed by then.
        times: How often the monitor acts in one trace at most.
        channels: The channels of the positions that are watched.
        only: For each trace (its index among the problems) the positions that are watched; all by default.
        name: Name of the monitor in the traces' events.

    Raises:
        UsageError: Both a text and a vector are given, the text is empty, or `at` lies before `address`.
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
            raise UsageError(
                f"expected a text or a vector, not both, to inject for monitor {self.name!r}; use two monitors."
            )
        if self.at is not None and self.at.depth < self.address.depth:
            raise UsageError(
                f"monitor {self.name!r} watches {self.address} and cannot change {self.at}, which was computed before "
                "it; inject there or later."
            )
        if self.text is not None and not self.text.split():
            raise UsageError(
                f"expected a text to inject, got an empty text for monitor {self.name!r}; leave it out to log only."
            )

    @classmethod
    def along(
        cls,
        address: Address,
        direction: Float[np.ndarray, " d_model"],
        threshold: float,
        *,
        bias: float = 0.0,
        **options: Unpack[MonitorOptions],
    ) -> Monitor:
        """Return a monitor whose score is a linear probe, direction · activation + bias."""
        weights = torch.as_tensor(np.ascontiguousarray(direction))
        return cls(address, lambda acts: acts @ weights.to(acts) + bias, threshold, **options)

    @classmethod
    def on_feature(
        cls, address: Address, sae: Any, feature: int, threshold: float, **options: Unpack[MonitorOptions]
    ) -> Monitor:
        """Return a monitor whose score is the activation of an SAE's feature.

        The SAE may be on another device than the model.
        """

        def score(acts: Tensor) -> Tensor:
            return sae.encode(acts.float().to(sae.W_enc.device))[:, feature]

        return cls(address, score, threshold, **options)

    def interventions(self, traces: Sequence[Trace]) -> list[Intervention]:
        """Return the vectors that this monitor injected, as interventions on a replay of `traces`."""
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
    """One monitor during one call of `think`.

    Args:
        monitor: The monitor.
        vocabulary: Turns the text to inject into tokens.
        state: Which trace and position each cell of a pass is.

    Raises:
        UsageError: The reasoner does not know every word of the text to inject.
    """

    def __init__(self, monitor: Monitor, vocabulary: Vocabulary, state: BatchState) -> None:
        self.monitor, self.state = monitor, state
        self._n_events: dict[int, int] = {}  # trace -> how often the monitor acted in it
        self._injected: set[tuple[int, int]] = set()  # (trace, position) where the vector is added
        self._pending: dict[int, int] = {}  # batch row -> position after which to inject the text
        self._ids = [] if monitor.text is None else vocabulary.text_ids(monitor.text)

    def hooks(self) -> list[NamedHook]:
        """Return the hooks of this monitor: one that watches, and one that adds the vector."""
        hooks: list[NamedHook] = [(self.monitor.address.name, self._watch)]
        if self.monitor.vector is not None:
            hooks.append(((self.monitor.at or self.monitor.address).name, self._add_vector))
        return hooks

    def _watch(self, activations: Tensor, hook: Any = None) -> None:
        cells = []
        first = self.state.n_reread
        for b, row in enumerate(self.state.rows):
            for column, position in enumerate(self.state.positions[b, first:].tolist(), start=first):
                if 0 <= position < len(row.channel) and self._is_watched(b, position):
                    cells.append((b, column, position))
        if not cells:
            return
        indices = torch.tensor([(b, column) for b, column, _ in cells], device=activations.device).T
        scores = self.monitor.score(activations[indices[0], indices[1]]).tolist()
        for (b, _, position), score in zip(cells, scores, strict=True):
            trace = int(self.state.traces[b])
            if score <= self.monitor.threshold or self._n_events.get(trace, 0) >= self.monitor.times:
                continue
            self._n_events[trace] = self._n_events.get(trace, 0) + 1
            event = {"monitor": self.monitor.name, "position": position, "score": float(score), "injected": False}
            self.state.rows[b].events.append(event)
            if self.monitor.vector is not None:
                event["injected"] = True
                self._injected.add((trace, position))
            elif self._ids:
                self._pending[b] = position

    def _is_watched(self, b: int, position: int) -> bool:
        only = self.monitor.only
        if self.state.rows[b].channel[position] not in self.monitor.channels:
            return False
        return only is None or position in only.get(int(self.state.traces[b]), ())

    def _add_vector(self, activations: Tensor, hook: Any = None) -> Tensor | None:
        cells = [
            (b, column)
            for b, trace in enumerate(self.state.traces.tolist() if self._injected else [])
            for column, position in enumerate(self.state.positions[b].tolist())
            if (trace, position) in self._injected
        ]
        if not cells:
            return None
        indices = torch.tensor(cells, device=activations.device).T
        changed = activations.clone()
        changed[indices[0], indices[1]] += torch.as_tensor(np.asarray(self.monitor.vector)).to(activations)
        return changed

    def inject_text(self, rollout: Rollout) -> None:
        """Put the text into every thought that waits for it, where there is room; called after every pass."""
        pending, self._pending = self._pending, {}
        room = rollout.room
        rows = {b: position for b, position in pending.items() if int(room[b]) > len(self._ids) + _KEPT_FREE}
        if not rows:
            return
        active = torch.zeros(len(rollout.rows), dtype=torch.bool)
        active[list(rows)] = True
        steps, thoughts = [0] * len(rollout.rows), [0] * len(rollout.rows)
        for b, position in rows.items():
            row = rollout.rows[b]
            steps[b], thoughts[b] = row.step[position], row.thought[position]
            row.events[-1] |= {"injected": True, "text": self.monitor.text}
        for token in self._ids:
            ids = torch.full((len(rollout.rows),), token)
            lengths = [len(row.thought) for row in rollout.rows]
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=active, steps=steps)
            for b in rows:
                rollout.rows[b].thought[lengths[b]] = thoughts[b]
