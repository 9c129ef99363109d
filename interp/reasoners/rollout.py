"""One batch being thought: the key-value cache, the mask, the positions, and what was written where.

Every latent loop of this package is a few calls of `Rollout.feed`. Rows of a batch may stop early: a row
that is not active gets a masked padding column, so batched thinking equals thinking one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.cache import new_cache, run_cached
from interp.models.moving import to_device
from interp.reasoners.interventions import BatchState
from interp.reasoners.sampling import draw
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.reasoners.base import Reasoner
    from interp.reasoners.options import ThinkOptions

EXTRA_POSITIONS = (
    64  # positions beyond the prompt that buffers have at first, where nothing is known of what will be thought
)
_AT_ONCE = 256  # positions of a text in one pass, so that its mask stays small beside the model
_TOGETHER = 64  # fed positions, each of a whole batch, whose entropies are computed at once


@dataclass
class Row:
    """What one trace of the batch holds so far; one entry for each position in every list."""

    token_ids: list[int] = field(default_factory=list)
    channel: list[str] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    thought: list[int] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    logprob: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def extend(self, tokens: Sequence[int], channel: Channel, steps: Sequence[int], thoughts: Iterable[int]) -> None:
        """Append several positions, of which nothing was measured yet."""
        unknown = [float("nan")] * len(tokens)
        self.token_ids += tokens
        self.channel += [channel] * len(tokens)
        self.step += steps
        self.thought += thoughts
        self.entropy += unknown
        self.logprob += unknown

    def ends_with(self, ids: list[int]) -> bool:
        """Whether the last tokens of the visible thought are `ids`."""
        return self.token_ids[-len(ids) :] == ids and all(self.thought[-len(ids) :])

    def relabel(self, n: int, channel: Channel) -> None:
        """Say that the last `n` positions are not part of the thought after all."""
        self.channel[-n:], self.step[-n:], self.thought[-n:] = [channel] * n, [0] * n, [0] * n


class Cell(NamedTuple):
    """One position of one row: its token, what it is for, and whether the model chose it."""

    token: int
    channel: Channel
    step: int = 0
    thought: int = 0
    sampled: bool = False


class Rollout:
    """The state of one batch; `base` is the model that runs, wrapped or plain, with its hooks on as long as this is used.

    What is where is counted on the host, where `room`, tokens and `active` rows are said too, so that a pass never
    waits for the device; what `choose` gives is waited for. `ahead` is how many positions will probably come after the
    longest prompt, `by_key` says that the plain model `masks_by_key`.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        base: Any,
        prompts: Sequence[list[int]],
        traces: Sequence[int],
        *,
        where: BatchState,
        options: ThinkOptions,
        ahead: int = EXTRA_POSITIONS,
        by_key: bool = False,
    ) -> None:
        # The plain model where nothing is to be changed, which is much faster; else the wrapped one.
        self.base = base
        self._plain = base is not reasoner.base
        self.embed = base.get_input_embeddings() if self._plain else reasoner.embed
        self.unembed = reasoner.unembed
        self.device = reasoner.device
        self.pad_id = reasoner.pad_id
        self._max_positions = reasoner.max_positions or 10**9
        self._sharing = reasoner.shares_position
        self.rows = [Row() for _ in prompts]
        self._options = options
        self.where = where
        self.where.traces = np.asarray(traces, dtype=np.int64)
        room = max(map(len, prompts)) + ahead
        self._cache: Any = new_cache(self.base, room) if self._plain else None
        self._by_key = self._plain and by_key
        self._mask = torch.zeros(len(prompts), room, dtype=torch.bool, device=self.device)
        self._gaps = False  # whether anything is masked
        self._columns = 0
        self.where.rows = self.rows
        self._filled = np.zeros(len(prompts), np.int64)
        self._placed = np.zeros_like(self._filled)  # position ids used so far
        self._every = torch.arange(len(prompts), device=self.device)
        self._everyone = np.ones((len(prompts), 1), bool)
        self._last: Float[Tensor, "batch d_model"] = torch.zeros(0)
        self._logits: Float[Tensor, "batch vocab"] | None = None
        self._unsettled: list[tuple[Tensor, list[tuple[Row, int]], list[int]]] = []
        self._measured: list[tuple[Tensor, list[tuple[Row, int, int, bool]]]] = []
        self._fed: list[tuple[Tensor, list[tuple[Row, int]]]] = []
        self._read_prompts(prompts, options.padding_side)

    def _read_prompts(self, prompts: Sequence[list[int]], padding_side: str) -> None:
        ids, real = self._padded(prompts, left=padding_side == "left")
        for row, prompt in zip(self.rows, prompts, strict=True):
            row.extend(prompt, Channel.PROMPT, [0] * len(prompt), [0] * len(prompt))
        self._forward(self.embed(to_device(ids, self.device)), real)

    def _padded(
        self, texts: Sequence[Sequence[int]], left: bool = False
    ) -> tuple[Int[np.ndarray, "batch width"], Bool[np.ndarray, "batch width"]]:
        """Texts as rows of one width, padded on the right or on the left, and which cells are theirs."""
        width = max(map(len, texts))
        ids = np.full((len(texts), width), self.pad_id)
        real = np.zeros((len(texts), width), bool)
        for k, text in enumerate(texts):
            span = slice(width - len(text), width) if left else slice(0, len(text))
            ids[k, span], real[k, span] = text, True
        return ids, real

    @property
    def last(self) -> Float[Tensor, "batch d_model"]:
        """Each row's final-norm state at its last position."""
        return self._last

    @last.setter
    def last(self, states: Float[Tensor, "batch d_model"]) -> None:
        self._last, self._logits = states, None

    @property
    def logits(self) -> Float[Tensor, "batch vocab"]:
        """What each row would write next."""
        if self._logits is None:
            self._logits = self.unembed(self._last).float()
        return self._logits

    def choose(self) -> Int[Tensor, " batch"]:
        """The next token of each row, on the host: the likeliest, or drawn at the temperature given."""
        if not self._options.temperature:
            return self.logits.argmax(-1).cpu()
        # Each draw is its trace's and its position's own, so that it does not depend on the batch.
        places = zip(self.where.traces.tolist(), (len(row.token_ids) for row in self.rows), strict=True)
        draws = [np.random.default_rng([self._options.seed, *place]).random() for place in places]
        return draw(self.logits, self._options.temperature, self._options.top_p, draws).cpu()

    @property
    def room(self) -> Int[Tensor, " batch"]:
        """How many more positions each row can take."""
        return torch.from_numpy(self._max_positions - self._placed)

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

        `embeds` takes the place of the tokens' embeddings for continuous thoughts; `sampled` says that the
        tokens were chosen from `logits` rather than forced.
        """
        real = self._everyone if active is None else active.numpy()[:, None]
        alive, tokens = real[:, 0].tolist(), ids.tolist()
        added, members = [], []
        for k, row in enumerate(self.rows):
            if not alive[k]:
                continue
            added.append((row, len(row.token_ids)))
            members.append(k)
            row.token_ids.append(tokens[k])
            row.channel.append(channel)
            row.step.append(steps[k] if steps else 0)
            row.thought.append(thought)
            row.entropy.append(float("nan"))
            row.logprob.append(float("nan"))
        there = to_device(ids, self.device)
        if sampled:
            self._measure(there, [(row, at, k, True) for k, (row, at) in zip(members, added, strict=True)])
        else:
            self._unsettled.append((self._last, added, members))
        if embeds is not None:
            self._fed.append((embeds.detach(), [(row, k) for k, (row, _) in zip(members, added, strict=True)]))
        inputs = self.embed(there) if embeds is None else embeds
        self._forward(inputs[:, None], real, moving=channel not in self._sharing)

    @torch.no_grad()
    def feed_texts(self, texts: Sequence[Sequence[int]], *, channel: Channel, steps: Sequence[Sequence[int]]) -> None:
        """Append to each row the whole text that is given for it, and run the model over many positions at once.

        As `feed` for one position after the other, with `thought` counted from 1.
        """
        ids, real = self._padded(texts)
        starts = [len(row.token_ids) for row in self.rows]
        for row, text, numbers in zip(self.rows, texts, steps, strict=True):
            row.extend(text, channel, numbers, range(1, len(text) + 1))
        for first in range(0, ids.shape[1], _AT_ONCE):
            here, before = real[:, first : first + _AT_ONCE], self._last
            states = self._forward(self.embed(to_device(ids[:, first : first + _AT_ONCE], self.device)), here)
            for column in range(here.shape[1]):
                members = np.flatnonzero(here[:, column]).tolist()
                added = [(self.rows[k], starts[k] + first + column) for k in members]
                self._unsettled.append((states[:, column - 1] if column else before, added, members))

    def _measure(self, ids: Int[Tensor, " batch"], cells: list[tuple[Row, int, int, bool]]) -> None:
        """Of what is written next: the entropy, and the probability of these tokens, for the cells (row, position, batch
        row, whether the token was sampled)."""
        log_p = torch.log_softmax(self.logits, dim=-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        self._measured.append((torch.stack([entropy, log_p.gather(1, ids[:, None])[:, 0]]), cells))

    @torch.no_grad()
    def settle(self) -> None:
        """Bring thoughts and measures to the host, at the end: none steers anything, and the loop would wait for each."""
        fed, self._fed = self._fed, []
        thoughts = torch.stack([embeds for embeds, _ in fed]).float().cpu() if fed else ()
        for values, (_, rows) in zip(thoughts, fed, strict=True):
            for row, k in rows:
                row.latents.append(values[k])
        measured, self._measured = self._measured, []
        measures = torch.stack([values for values, _ in measured]).tolist() if measured else ()
        for (entropy, logprob), (_, cells) in zip(measures, measured, strict=True):
            for row, at, k, sampled in cells:
                row.entropy[at] = entropy[k]
                if sampled:
                    row.logprob[at] = logprob[k]
        self._settle_forced()

    def _settle_forced(self) -> None:
        """Fill in the entropies of positions that were forced, which are computed here, many together."""
        waiting, self._unsettled = self._unsettled, []
        for start in range(0, len(waiting), _TOGETHER):
            part = waiting[start : start + _TOGETHER]
            log_p = torch.log_softmax(
                self.unembed(torch.cat([states[members] for states, _, members in part])).float(), -1
            )
            found = iter((-(log_p.exp() * log_p).sum(-1)).tolist())
            for _, added, _ in part:
                for row, at in added:
                    row.entropy[at] = next(found)

    @torch.no_grad()
    def feed_rows(self, cells: Sequence[Cell | None]) -> None:
        """Append to each row its own cell, whatever channel that is in, and run the model; None is a row at rest."""
        ids = to_device(np.array([cell.token if cell else self.pad_id for cell in cells]), self.device)
        measured = []
        for k, (row, cell) in enumerate(zip(self.rows, cells, strict=True)):
            if cell is None:
                continue
            row.token_ids.append(cell.token)
            row.channel.append(cell.channel)
            row.step.append(cell.step)
            row.thought.append(cell.thought)
            row.entropy.append(float("nan"))
            row.logprob.append(float("nan"))
            measured.append((row, len(row.token_ids) - 1, k, cell.sampled))
        self._measure(ids, measured)
        self._forward(self.embed(ids)[:, None], np.array([[cell is not None] for cell in cells]))

    def _forward(
        self, inputs: Float[Tensor, "batch new d_model"], real: Bool[np.ndarray, "batch new"], moving: bool = True
    ) -> Float[Tensor, "batch new d_model"]:
        with torch.inference_mode() if self._plain else torch.no_grad():
            return self._run(inputs, real, moving)

    def _run(
        self, inputs: Float[Tensor, "batch new d_model"], real: Bool[np.ndarray, "batch new"], moving: bool
    ) -> Float[Tensor, "batch new d_model"]:
        new = real.shape[1]
        everywhere = real is self._everyone or bool(real.all())
        if real is self._everyone:  # most passes of a loop: nothing to count
            there: Any = 1
            positions, places = self._filled[:, None], self._placed[:, None]
        else:
            there = real.sum(axis=1)
            before = np.cumsum(real, axis=1) - real  # real cells to the left
            positions = np.where(real, before + self._filled[:, None], -1)
            moved = before + self._placed[:, None] if moving else self._placed[:, None]
            places = np.where(real, moved, 0)
        self.where.positions = positions
        first, self._columns = self._columns, self._columns + new
        if self._columns > self._mask.shape[1]:
            self._mask = torch.nn.functional.pad(self._mask, (0, self._columns))
        self._mask[:, first : self._columns] = 1 if everywhere else to_device(real, self.device)
        self._gaps = self._gaps or not everywhere
        seen = self._mask.narrow(1, 0, self._columns)
        mask: Tensor | None = seen
        if self._by_key and new == 1:
            mask = seen[:, None, None] if self._gaps else None
        out, self._cache = run_cached(
            self.base,
            self._cache,
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=to_device(places, self.device),
        )
        self._filled = self._filled + there
        if moving:
            self._placed = self._placed + there
        states = out.last_hidden_state
        if everywhere:
            self.last = states[:, -1]
        else:
            columns = to_device(new - 1 - real[:, ::-1].argmax(axis=1), self.device)
            newest = states[self._every, columns]
            some = to_device(there > 0, self.device)
            self.last = newest if self._last.numel() == 0 else torch.where(some[:, None], newest, self._last)
        for action in self.where.after:
            action(self)
        return states
