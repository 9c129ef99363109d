"""A rollout whose finished rows make room for the next prompts, so that no row waits for the longest of its batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from interp.models.cache import new_cache, run_cached
from interp.models.devices import to_device
from interp.reasoners.network import Network
from interp.reasoners.rollouts.batch import BatchState, Cell, Row
from interp.reasoners.rollouts.measures import FiniteCheck, NonFiniteError
from interp.reasoners.rollouts.rollout import Rollout, RolloutOptions
from interp.traces import Channel

_MOST_LIVE = 0.75  # share of rows that go on at which the others are taken out, which costs about half a pass
_DROPPED_WITH_ROWS = 0.1  # share of columns that are removed then, if nothing is in them


@runtime_checkable
class RowWriter(Protocol):
    """Decides what one row writes next, from what the model would write there."""

    def next(self, chosen: int, room: int) -> Cell | None:
        """Return the next position of the row, or None when it is done.

        Args:
            chosen: The token that the model would write.
            room: How many more positions the row can take.
        """
        ...


class QueuedRollout(Rollout):
    """A rollout with prompts that wait for a row. Where none waits, rows that have finished leave the batch.

    It is for rows that go on at their own pace (`feed_rows`), and for models that nothing watches or changes: hooks
    would see passes of a few rows in between.

    Args:
        network: As in `Rollout`.
        base: As in `Rollout`.
        prompts: As in `Rollout`.
        traces: As in `Rollout`.
        waiting: (index of the problem, token ids of the prompt) of each prompt that waits, in order.
        state: As in `Rollout`.
        options: As in `Rollout`.

    Attributes:
        finished: (index of the problem, row) of each row that was replaced or left the batch.
    """

    def __init__(
        self,
        network: Network,
        base: Any,
        prompts: Sequence[list[int]],
        traces: Sequence[int],
        *,
        waiting: Iterable[tuple[int, list[int]]],
        state: BatchState,
        options: RolloutOptions,
    ) -> None:
        self._waiting = deque(waiting)
        self.finished: list[tuple[int, Row]] = []
        super().__init__(network, base, prompts, traces, state=state, options=options)

    @property
    def replaced(self) -> list[Row]:
        """The finished rows that are no longer in the batch."""
        return [row for _, row in self.finished]

    def replace(self, done: Sequence[int]) -> list[int]:
        """Give finished rows the next prompts that wait, and read those.

        Args:
            done: Batch rows that are finished.

        Returns:
            The rows that got a prompt: all of `done` where enough prompts wait, else the first of them.

        Raises:
            NonFiniteError: A state of the finished rows or of the new prompts is not finite.
        """
        replaced = list(done[: len(self._waiting)])
        if not replaced:
            return []
        self.settle()  # an error names the row of a batch, which is about to change
        for k in replaced:
            number, prompt = self._waiting.popleft()
            self.finished.append((int(self.state.traces[k]), self.rows[k]))
            self.state.traces[k], self.rows[k] = number, Row()
            self.rows[k].extend(prompt, Channel.PROMPT, [0] * len(prompt), [0] * len(prompt))
        # Padding between a shared beginning and the rest of a prompt would matter where columns are counted.
        with torch.inference_mode() if self._fast else torch.no_grad():
            for rows in [[k] for k in replaced] if self._options.closes_gaps else [replaced]:
                self._read_into(rows)
            self._drop_unused(0.5)
        return replaced

    def leave_out_resting(self) -> list[int]:
        """Take finished rows out of the batch, once no prompt waits and enough of them are finished.

        Returns:
            The rows that stay, by their numbers before.

        Raises:
            NonFiniteError: A state of a row is not finite.
        """
        live = [k for k, rests in enumerate(self.resting) if not rests]
        if self._waiting or len(live) > _MOST_LIVE * len(self.rows):
            return list(range(len(self.rows)))
        self.settle()  # an error names the row of a batch, which is about to change
        self.finished += [(int(self.state.traces[k]), self.rows[k]) for k, rests in enumerate(self.resting) if rests]
        self.rows = self.state.rows = [self.rows[k] for k in live]
        self.state.traces, self.resting = self.state.traces[live], [False] * len(live)
        self._lengths, self._next_ids = self._lengths[live], self._next_ids[live]
        self._row_indices, self._all_active = self._row_indices[: len(live)], self._all_active[: len(live)]
        with torch.inference_mode() if self._fast else torch.no_grad():
            index = torch.tensor(live, device=self.device)
            logits = self.logits[index]
            self._last, self._logits = self._last[index], logits
            self._columns.keep_rows(live)
            for layer in self._cache.layers:
                layer.keep_rows(live)
            self._drop_unused(_DROPPED_WITH_ROWS)
        return live

    def _drop_unused(self, share: float) -> None:
        """Remove the first columns where at least a share of all are masked in every row."""
        dropped = self._columns.drop_unused(share)
        if dropped:
            for layer in self._cache.layers:
                layer.drop_first(dropped)

    def _read_into(self, rows: list[int]) -> None:
        """Read the prompts of new rows in a pass of their own, and put their keys and values into the batch."""
        prefix = self._options.prefix
        n_read = 0 if prefix is None else prefix.n
        ids, real = self._padded([self.rows[k].token_ids[n_read:] for k in rows], left=True)
        width = n_read + ids.shape[1]
        if prefix is None:
            cache: Any = new_cache(self.base, width, keeps_all=True)
        else:
            cache = prefix.cache_of(len(rows), width)
        columns = np.concatenate([np.ones((len(rows), n_read), bool), real], axis=1)
        positions = np.where(real, np.cumsum(real, axis=1) - 1 + n_read, 0)
        mask = to_device(columns, self.device)
        out, cache = run_cached(
            self.base,
            cache,
            inputs_embeds=self.embed(to_device(ids, self.device)),
            attention_mask=mask,
            position_ids=to_device(positions, self.device),
        )
        self._put(rows, cache, mask, out.last_hidden_state[:, -1])
        lengths = columns.sum(axis=1)
        self._lengths[rows], self._next_ids[rows] = lengths, lengths
        check = FiniteCheck()
        check.add(out.last_hidden_state, np.where(real, positions, -1))
        try:
            check.settle()
        except NonFiniteError as error:
            raise NonFiniteError(rows[error.row], error.position, error.last) from None

    def _put(self, rows: list[int], cache: Any, mask: Tensor, states: Tensor) -> None:
        missing = self._columns.replace_rows(rows, mask)
        index = torch.tensor(rows, device=self.device)
        if missing:
            for layer in self._cache.layers:
                layer.widen(missing)
        for ours, theirs in zip(self._cache.layers, cache.layers, strict=True):
            ours.replace_rows(index, theirs)
        logits = self.logits.index_copy(0, index, self.unembed(states).float())
        self._last, self._logits = self._last.index_copy(0, index, states), logits


def write_rows(rollout: Rollout, writers: Sequence[RowWriter], begin: Callable[[Row, int], RowWriter]) -> None:
    """Write every row to its end, and give the rows that are done to the prompts that wait.

    Args:
        rollout: The batch.
        writers: The writer of each row.
        begin: Returns the writer of a row that has just read the prompt of the problem with this index.
    """
    writers = list(writers)
    cells: list[Cell | None] = [None] * len(writers)
    rows = list(range(len(writers)))
    while True:
        chosen, room = rollout.choose().tolist(), rollout.room.tolist()
        for k in rows:
            cells[k] = writers[k].next(chosen[k], room[k])
        done = [k for k in rows if cells[k] is None]
        rows = rollout.replace(done) if done and isinstance(rollout, QueuedRollout) else []
        for k in rows:
            writers[k] = begin(rollout.rows[k], int(rollout.state.traces[k]))
        if rows:  # what they write first is fed together with what the others write next
            continue
        rollout.resting = [cell is None for cell in cells]
        if all(rollout.resting):
            return
        if isinstance(rollout, QueuedRollout):
            live = rollout.leave_out_resting()
            writers, cells = [writers[k] for k in live], [cells[k] for k in live]
        rollout.feed_rows(cells)
        rows = [k for k, cell in enumerate(cells) if cell is not None]
