"""One batch being thought: the key-value cache, the mask, the positions, and what is written at each position.

Every latent loop of this package is a few calls of `Rollout.feed`. A row that is not active gets a masked padding
column, so batched thinking equals thinking one by one. In models for which it matters how many columns lie between two
positions (sliding windows, chunks, ALiBi), a row that goes on after such columns first has them moved to its front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.cache import new_cache, reset_rotary, run_cached
from interp.models.cache_layers import InputCache
from interp.models.devices import to_device
from interp.reasoners.network import Network
from interp.reasoners.rollouts.batch import BatchState, Cell, Row
from interp.reasoners.rollouts.columns import Columns
from interp.reasoners.rollouts.measures import FiniteCheck, Measures, NonFiniteError
from interp.reasoners.rollouts.prefix import SharedPrefix
from interp.reasoners.rollouts.sampling import Sampler
from interp.traces import Channel

#: Positions beyond the prompt that buffers have at first, where the length of the thought is not known.
EXTRA_POSITIONS = 64
_UNLIMITED = 10**9
_POSITIONS_PER_PASS = 256  # of a text that is fed at once, so that its mask stays small beside the model


@dataclass(frozen=True)
class RolloutOptions:
    """How a rollout runs.

    Attributes:
        pad_id: The token that padding cells hold.
        sampler: Chooses tokens.
        padding_side: Side on which shorter prompts are padded.
        shares_position: Channels whose positions share the position id of the next position of another channel.
        extra_positions: Expected number of positions after the longest prompt. Buffers are made for as many.
        masks_by_key: Whether the fast model takes a mask over keys alone (`interp.models.cache.accepts_key_mask`).
        closes_gaps: Whether masked columns between positions matter to the model (`interp.models.cache.gaps_matter`).
        rereads: Whether every pass reads the whole rows, because the model keeps no cache (`uses_cache`).
        prefix: The beginning of all prompts, where it was read before.
        prefix_hooks: What sees the activations of the prefix.
        after_pass: Called after every forward pass.
    """

    pad_id: int
    sampler: Sampler
    padding_side: str = "left"
    shares_position: frozenset[Channel] = frozenset()
    extra_positions: int = EXTRA_POSITIONS
    masks_by_key: bool = False
    closes_gaps: bool = False
    rereads: bool = False
    prefix: SharedPrefix | None = None
    prefix_hooks: Mapping[str, Callable[[Tensor, BatchState], None]] = field(default_factory=dict)
    after_pass: Sequence[Callable[[Rollout], None]] = ()


class Rollout:
    """The state of one batch while it is being thought.

    Bookkeeping stays on the CPU to avoid GPU synchronisation: `room`, tokens and `active` rows are CPU tensors. Only
    `choose` waits for the device.

    Args:
        network: The model and its ends.
        base: The base model that runs, wrapped or the fast copy. Hooks on it stay on as long as the rollout is used.
        prompts: Token ids of each row's prompt.
        traces: For each row the index of its problem.
        state: Kept up to date for hooks: which trace and position each cell of a pass is.
        options: How it runs.

    Attributes:
        rows: What each trace holds so far.
        resting: For each row whether its answer has ended.
        state: The state that was given.
    """

    def __init__(
        self,
        network: Network,
        base: Any,
        prompts: Sequence[list[int]],
        traces: Sequence[int],
        *,
        state: BatchState,
        options: RolloutOptions,
    ) -> None:
        self.base = base
        self._fast = base is not network.base
        self.embed = base.get_input_embeddings() if self._fast else network.embed
        self.unembed = network.unembed
        self.device = network.device
        self._options = options
        self._max_positions = network.max_positions or _UNLIMITED
        self.rows = [Row() for _ in prompts]
        self.resting = [False] * len(self.rows)
        self.state = state
        self.state.traces = np.asarray(traces, dtype=np.int64)
        self.state.rows = self.rows
        n_expected = max(map(len, prompts)) + options.extra_positions
        self._cache: Any = InputCache(n_expected) if options.rereads else self._empty_cache(n_expected)
        if network.rotary_limit is not None:
            reset_rotary(base)
        self._rotary_switch = network.rotary_switch
        # Kept until the switch. Rows that would come to it share no batch (`Network.runs_alone`).
        can_switch = network.rotary_switch is not None and len(prompts) == 1 and not options.rereads
        self._inputs = InputCache(n_expected) if can_switch else None
        self._columns = Columns(
            len(prompts),
            n_expected,
            self.device,
            masks_by_key=self._fast and options.masks_by_key,
            always=network.keeps_only_positions,  # models with states take masks of the new positions alone
        )
        self._lengths = np.zeros(len(prompts), np.int64)
        self._next_ids = np.zeros_like(self._lengths)  # position ids used so far
        self._row_indices = torch.arange(len(prompts), device=self.device)
        self._all_active = np.ones((len(prompts), 1), bool)
        self._last: Float[Tensor, "batch d_model"] = torch.zeros(0)
        self._logits: Float[Tensor, "batch vocab"] | None = None
        self._measures = Measures(self.unembed)
        self._finite = FiniteCheck()
        self._read_prompts(prompts, options.padding_side)

    def _read_prompts(self, prompts: Sequence[list[int]], padding_side: str) -> None:
        for row, prompt in zip(self.rows, prompts, strict=True):
            row.extend(prompt, Channel.PROMPT, [0] * len(prompt), [0] * len(prompt))
        prefix = self._options.prefix
        if prefix is not None:
            self._begin_after(prefix)
            prompts = [prompt[prefix.n :] for prompt in prompts]
            if self._options.closes_gaps:  # columns after the prefix are moved, those within it cannot be
                padding_side = "right"
        ids, real = self._padded(prompts, left=padding_side == "left")
        self._forward(self.embed(to_device(ids, self.device)), real)

    def _empty_cache(self, capacity: int) -> Any:
        """Return a cache with room for `capacity` positions, or None where the model makes its own."""
        closes_gaps = self._options.closes_gaps
        return new_cache(self.base, capacity, keeps_all=closes_gaps) if self._fast or closes_gaps else None

    def _begin_after(self, prefix: SharedPrefix) -> None:
        """Put every row where it is after the beginning that all prompts share."""
        rows = len(self.rows)
        self._cache = prefix.cache_of(rows, self._columns.mask.shape[1])
        self._columns.fill(prefix.n)
        self._lengths += prefix.n
        self._next_ids += prefix.n
        prefix.show(self._options.prefix_hooks, self.state)
        if prefix.states is not None:
            self._finite.add(prefix.states, np.arange(prefix.n)[None])

    def _padded(
        self, texts: Sequence[Sequence[int]], left: bool = False
    ) -> tuple[Int[np.ndarray, "batch width"], Bool[np.ndarray, "batch width"]]:
        """Return texts as rows of one width, padded on the right or the left, and which cells are real."""
        width = max(map(len, texts))
        ids = np.full((len(texts), width), self._options.pad_id)
        real = np.zeros((len(texts), width), bool)
        for k, text in enumerate(texts):
            span = slice(width - len(text), width) if left else slice(0, len(text))
            ids[k, span], real[k, span] = text, True
        return ids, real

    @property
    def replaced(self) -> list[Row]:
        """The finished rows that are no longer in the batch."""
        return []

    @property
    def last(self) -> Float[Tensor, "batch d_model"]:
        """Each row's final-norm state at its last position."""
        return self._last

    @last.setter
    def last(self, states: Float[Tensor, "batch d_model"]) -> None:
        self._last, self._logits = states, None

    @property
    def logits(self) -> Float[Tensor, "batch vocab"]:
        """Each row's logits of the next token."""
        if self._logits is None:
            self._logits = self.unembed(self._last).float()
        return self._logits

    def choose(self) -> Int[Tensor, " batch"]:
        """Return the next token of each row, on the CPU: the likeliest, or drawn at the temperature.

        Raises:
            NonFiniteError: A state or a logit was not finite, now or a few tokens ago.
        """
        positions = [len(row.token_ids) for row in self.rows]
        self._finite.add(self.logits[:, None], np.array(positions)[:, None] - 1)
        self._finite.settle_sometimes()
        return self._options.sampler.choose(self.logits, self.state.traces.tolist(), positions)

    @property
    def room(self) -> Int[Tensor, " batch"]:
        """How many more positions each row can take."""
        return torch.from_numpy(self._max_positions - self._next_ids)

    @torch.no_grad()
    def feed(
        self,
        *,
        channel: Channel,
        ids: Int[Tensor, " batch"],
        active: Bool[Tensor, " batch"] | None = None,
        embeds: Float[Tensor, "batch d_model"] | None = None,
        steps: Sequence[int] | None = None,
        thought: int = 0,
        sampled: bool = False,
    ) -> None:
        """Append one position to every active row and run the model over it.

        Args:
            channel: The channel of the position.
            ids: Its token in each row, on the CPU.
            active: The rows that get it; all by default.
            embeds: Input embeddings in place of the tokens' own, for continuous thoughts.
            steps: The gold step of each row's position; 0 by default.
            thought: The number of the thought, from 1; 0 outside the thought.
            sampled: Whether the tokens were chosen from `logits`, not forced.
        """
        real = self._all_active if active is None else active.numpy()[:, None]
        tokens = ids.tolist()
        added, members = [], []
        for k, (row, is_active) in enumerate(zip(self.rows, real[:, 0].tolist(), strict=True)):
            if is_active:
                added.append((row, len(row.token_ids)))
                members.append(k)
                row.append(tokens[k], channel, steps[k] if steps else 0, thought)
        device_ids = to_device(ids, self.device)
        if sampled:
            cells = [(row, position, k, True) for k, (row, position) in zip(members, added, strict=True)]
            self._measures.measure(self.logits, device_ids, cells)
        else:
            self._measures.postpone(self._last, added, members)
        if embeds is not None:
            self._measures.keep_thoughts(embeds, [(row, k) for k, (row, _) in zip(members, added, strict=True)])
        inputs = self.embed(device_ids) if embeds is None else embeds
        self._forward(inputs[:, None], real, moving=channel not in self._options.shares_position)

    @torch.no_grad()
    def feed_rows(self, cells: Sequence[Cell | None]) -> None:
        """Append to each row a cell of its own, of any channel, and run the model; None is a row at rest."""
        ids = to_device(np.array([cell.token if cell else self._options.pad_id for cell in cells]), self.device)
        measured = []
        for k, (row, cell) in enumerate(zip(self.rows, cells, strict=True)):
            if cell is not None:
                measured.append((row, len(row.token_ids), k, cell.sampled))
                row.append(cell.token, cell.channel, cell.step, cell.thought)
        self._measures.measure(self.logits, ids, measured)
        self._forward(self.embed(ids)[:, None], np.array([[cell is not None] for cell in cells]))

    @torch.no_grad()
    def feed_texts(self, texts: Sequence[Sequence[int]], *, channel: Channel, steps: Sequence[Sequence[int]]) -> None:
        """Append to each row a whole text, and run the model over many positions at once.

        The result is that of `feed` for one position after another, with `thought` counted from 1.

        Args:
            texts: Token ids for each row.
            channel: The channel of all positions.
            steps: The gold step of each position of each row.
        """
        ids, real = self._padded(texts)
        starts = [len(row.token_ids) for row in self.rows]
        for row, text, numbers in zip(self.rows, texts, steps, strict=True):
            row.extend(text, channel, numbers, range(1, len(text) + 1))
        for first in range(0, ids.shape[1], _POSITIONS_PER_PASS):
            part, before = real[:, first : first + _POSITIONS_PER_PASS], self._last
            inputs = self.embed(to_device(ids[:, first : first + _POSITIONS_PER_PASS], self.device))
            states = self._forward(inputs, part)
            for column in range(part.shape[1]):
                members = np.flatnonzero(part[:, column]).tolist()
                added = [(self.rows[k], starts[k] + first + column) for k in members]
                self._measures.postpone(states[:, column - 1] if column else before, added, members)

    def settle(self) -> None:
        """Write thoughts and measures into the rows, once the batch is done.

        Raises:
            NonFiniteError: A state or a logit is not finite. The thoughts are written all the same.
        """
        self._measures.settle_thoughts()
        errors = []
        for part in (self._finite, self._measures):
            try:
                part.settle()
            except NonFiniteError as error:
                errors.append(error)
        if errors:
            raise min(errors, key=lambda error: error.position)

    def _forward(
        self, inputs: Float[Tensor, "batch new d_model"], real: Bool[np.ndarray, "batch new"], moving: bool = True
    ) -> Float[Tensor, "batch new d_model"]:
        """Run the model over new columns and return its final-norm states; `moving` columns take a position id."""
        with torch.inference_mode() if self._fast else torch.no_grad():
            return self._run(inputs, real, moving)

    def _run(
        self, inputs: Float[Tensor, "batch new d_model"], real: Bool[np.ndarray, "batch new"], moving: bool
    ) -> Float[Tensor, "batch new d_model"]:
        new = real.shape[1]
        all_real = real is self._all_active or bool(real.all())
        if self._options.closes_gaps:
            self._columns.close_gaps(self._cache, real)
        if real is self._all_active:  # most passes of a loop: nothing to count
            counts: Any = 1
            positions, position_ids = self._lengths[:, None], self._next_ids[:, None]
        else:
            counts = real.sum(axis=1)
            before = np.cumsum(real, axis=1) - real  # real cells to the left
            positions = np.where(real, before + self._lengths[:, None], -1)
            moved = before + self._next_ids[:, None] if moving else self._next_ids[:, None]
            position_ids = np.where(real, moved, 0)
        n_before, mask = self._columns.n, self._columns.extend(real, all_real)
        given = {"inputs_embeds": inputs, "attention_mask": mask, "position_ids": to_device(position_ids, self.device)}
        whole = self._whole_rows(given, int(position_ids.max()), n_before)
        self.state.positions, self.state.n_reread = positions, 0
        if self._options.rereads or whole is not None:
            self.state.positions, self.state.n_reread = self._columns.positions(), n_before
        out, self._cache = run_cached(self.base, self._cache, **(whole or given))
        self._lengths = self._lengths + counts
        if moving:
            self._next_ids = self._next_ids + counts
        states = out.last_hidden_state[:, -new:]
        if new > 1:  # of a single position the entropy after it says whether its state is finite
            self._finite.add(states, positions)
        if all_real:
            self.last = states[:, -1]
        else:
            columns = to_device(new - 1 - real[:, ::-1].argmax(axis=1), self.device)
            newest = states[self._row_indices, columns]
            active = to_device(counts > 0, self.device)
            self.last = newest if self._last.numel() == 0 else torch.where(active[:, None], newest, self._last)
        for action in self._options.after_pass:
            action(self)
        return states

    def _whole_rows(self, given: dict[str, Any], last_id: int, n_before: int) -> dict[str, Any] | None:
        """Return the inputs of the whole rows where new positions go beyond the switch of rotary frequencies.

        The cache is emptied then, because its keys have the frequencies of short texts.

        Args:
            given: The inputs at the new positions.
            last_id: The largest position id among them.
            n_before: Number of columns before them.
        """
        if self._inputs is None or self._rotary_switch is None:
            return None
        rows = self._inputs.extend(given)
        if last_id < self._rotary_switch:
            return None
        self._inputs = None
        if not n_before:
            return None
        self._cache = self._empty_cache(self._columns.n)
        return {**rows, "attention_mask": self._columns.mask[:, : self._columns.n]}
