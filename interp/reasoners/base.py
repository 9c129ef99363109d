"""What every reasoner can do: think about problems. Its words, its replay and its teaching have files of their own."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import UsageError
from interp.models.cache import masks_by_key
from interp.models.fast_model import fast_model, fast_model_for, take_to, watching
from interp.models.projection import Projection
from interp.models.reading import choose_device
from interp.models.report import LoadReport
from interp.models.unembedding import Unembedding
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.curriculum import Taught
from interp.reasoners.interventions import BatchState, intervening
from interp.reasoners.monitor import MonitorRun
from interp.reasoners.options import LoopHook, ThinkOptions
from interp.reasoners.replayer import ReplayBatch, ReplayHook, Replays
from interp.reasoners.rollout import EXTRA_POSITIONS, Rollout, Row
from interp.reasoners.segmentation import segmented
from interp.reasoners.vocabulary import Vocabulary
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

__all__ = ["LoopHook", "Reasoner", "ReplayBatch", "ReplayHook"]


class Reasoner(Taught, Vocabulary, Replays, ABC):
    """A model together with the way it thinks. Subclasses say only what a thought is (`_think_batch`).

    `model` carries TransformerLens hooks under their usual names; `base` is the same model without its
    unembedding, `embed` and `unembed` its two ends.
    """

    kind: str

    def __init__(
        self,
        model: TransformerBridge,
        tokenizer: PreTrainedTokenizerBase,
        config: ReasonerConfig,
        *,
        name: str,
        weights: str,
        projection: Projection | None = None,
    ) -> None:
        self.model = model
        self.tokenizer: Any = tokenizer
        self.config = config
        self.name = name
        self.weights = weights
        self.projection = projection
        hf: Any = model.original_model
        self.base: Any = hf.base_model
        self.embed: Any = hf.get_input_embeddings()
        self.unembed = Unembedding(hf)
        # Padding is masked, so where there is no token for it any will do.
        self.pad_id: int = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        shape = hf.config.get_text_config()
        self.max_positions: int | None = getattr(shape, "max_position_embeddings", None)
        # How many columns attention reaches back in a model with sliding windows.
        self.window: int | None = getattr(shape, "sliding_window", None)
        self.loaded = LoadReport()
        self._known: dict[str, int | None] = {}
        self.origin: dict[str, Any] = {}  # what `interp.load` needs to load it again

    def to(self, device: str | torch.device) -> Reasoner:
        """This reasoner, its model taken to another device in place: wrapped, plain and projection.

        Another dtype is `interp.load(..., dtype=...)`: rounded weights are another model, with another hash. Raises
        `UsageError` where there is no such device.
        """
        found = LoadReport()
        where = torch.device(choose_device(str(device), found))
        take_to(self.model, where, *([] if self.projection is None else [self.projection]))
        self.loaded.findings = [each for each in self.loaded.findings if each.what != "device"] + found.findings
        return self

    @property
    def task(self) -> Task:
        """The task that this reasoner was made for. Raises `UsageError` where it names none."""
        if self.config.task is None:
            raise UsageError(f"{self.name} names no task in its reasoner.json; give the problems by hand.")
        return make_task(self.config.task)

    def with_config(self, **changes: Any) -> Reasoner:
        """This reasoner with some fields of its config changed, on the same model: `but(max_thought_tokens=500)`.

        Raises `UsageError` on fields and values that `reasoner.json` could not have either.
        """
        changed = copy.copy(self)
        changed.config = ReasonerConfig.parse({**self.config.model_dump(), **changes}, "the change")
        vars(changed).pop("stops", None)
        return changed

    def think(self, problems: Sequence[Problem], *, progress: Progress | None = None, **options: Any) -> TraceSet:
        """One trace for each problem, in order.

        `options` are the fields of `ThinkOptions`: batch_size, seed, temperature, top_p, interventions, hooks, monitors,
        padding_side. Raises `UsageError` on no problems, on words that the tokenizer does not know, and on questions
        longer than the model's positions.
        """
        problems = list(problems)
        traces: list[Trace] = []
        for batch in self.thinking(problems, **options):
            traces += batch
            if progress:
                progress(len(traces), len(problems))
        return TraceSet(traces)

    def thinking(self, problems: Sequence[Problem], *, start: int = 0, **options: Any) -> Iterator[list[Trace]]:
        """What `think` returns, batch after batch, from problem number `start` on.

        A trace depends on its number and the seed and not on where its batch began, so thinking that was cut
        off goes on as if it had not been.
        """
        asked = ThinkOptions(**options)
        if not problems:
            raise UsageError("there are no problems to think about; generate at least one.")
        prompts = [self._prompt(problem) for problem in problems[start:]]
        if asked.padding_side == "right" and self.window is not None and len(set(map(len, prompts))) > 1:
            raise UsageError(
                f"{self.name} attends to windows of {self.window} columns, in which padding after a prompt would take "
                "the place of text; pad on the left."
            )
        where = BatchState()
        watches = [MonitorRun(monitor, self, where) for monitor in asked.monitors]
        watchers = {name: partial(_in_the_loop, hook, where) for name, hook in (asked.hooks or {}).items()}
        plainly = not asked.interventions and not watches
        plain = fast_model(self.model) if plainly else None
        by_key = plain is not None and masks_by_key(plain.base)  # which is tried, so not while anything is watched
        for first in range(start, len(problems), asked.batch_size):
            batch = range(first, min(first + asked.batch_size, len(problems)))
            with (
                intervening(self.model, asked.interventions, where, watches),
                self._watched(watchers, plainly=plainly) as base,
            ):
                rollout = Rollout(
                    self,
                    base,
                    [prompts[k - start] for k in batch],
                    batch,
                    where=where,
                    options=asked,
                    ahead=self._ahead([problems[k] for k in batch]),
                    by_key=by_key,
                )
                self._think_batch(rollout, [problems[k] for k in batch])
                rollout.settle()
            yield [self._trace(k, problems[k], row, asked.seed) for k, row in zip(batch, rollout.rows, strict=True)]

    @contextmanager
    def _watched(
        self, watchers: Mapping[str, Callable[..., None]], *, plainly: bool, whole: bool = True
    ) -> Iterator[Any]:
        """Put watchers on, in the plain model where that will do, and give the model that then has to run.

        Passes that need not be `whole` may end with `SeenEnough`.
        """
        plain = fast_model_for(self.model, list(watchers)) if plainly else None
        if plain is None:
            with self.model.hooks(fwd_hooks=list(watchers.items())):
                yield self.base
        else:
            with watching(self.model, plain, watchers, whole=whole):
                yield plain.base

    def _ahead(self, problems: Sequence[Problem]) -> int:
        """How many positions these problems will probably take beyond their prompts: buffers are made for as many.

        They grow where more come. Where they are much too large, attention takes longer over what lies so far apart.
        """
        return EXTRA_POSITIONS

    @abstractmethod
    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        """Take a rollout that has read its prompts to the end of the answers."""

    def _mark(self, rollout: Rollout, marker: str | None, active: Tensor | None = None) -> None:
        """Force a marker, where the reasoner has one."""
        for token in self._ids(marker) if marker is not None and (active is None or active.any()) else []:
            ids = torch.full((len(rollout.rows),), token)
            rollout.feed(channel=Channel.SPECIAL, ids=ids, active=active)

    def _constant(self, token: str, rollout: Rollout) -> Int[Tensor, " batch"]:
        return torch.full((len(rollout.rows),), self.token_id(token))

    def _answer(self, rollout: Rollout) -> None:
        """Write the answer until the end-of-sequence token, or whatever else ends it."""
        writing = torch.ones(len(rollout.rows), dtype=torch.bool)
        answers: list[list[int]] = [[] for _ in rollout.rows]
        for _ in range(self.config.max_answer_tokens):
            ids = rollout.choose()
            going = [
                i not in self.stops.ids and not self.stops.after(a) for i, a in zip(ids.tolist(), answers, strict=True)
            ]
            writing = writing & torch.tensor(going) & (rollout.room > 0)
            if not writing.any():
                return
            rollout.feed(channel=Channel.ANSWER, ids=ids, active=writing, sampled=True)
            for answer, token, on in zip(answers, ids.tolist(), writing.tolist(), strict=True):
                answer += [token] if on else []

    def _trace(self, k: int, problem: Problem, row: Row, seed: int) -> Trace:
        tokens = self.tokenizer.convert_ids_to_tokens(row.token_ids)
        # A model may have more rows in its embedding than its tokenizer has tokens.
        tokens = [f"<{i}>" if t is None else t for i, t in zip(row.token_ids, tokens, strict=True)]
        written = [t for t, c in zip(row.token_ids, row.channel, strict=True) if c == Channel.THOUGHT]
        answered = [t for t, c in zip(row.token_ids, row.channel, strict=True) if c == Channel.ANSWER]
        thoughts = self.tokenizer.decode(written) if written else ""
        answer = self.tokenizer.decode(answered).strip() if answered else ""
        text = f"{thoughts} {answer}".strip()
        step, sentence = segmented(self.tokenizer, row, problem) if self.config.steps == "text" else (row.step, [])
        correct = bool(answer) and make_task(problem.task).verify(problem, text).answer
        return Trace(
            id=k,
            problem=problem,
            reasoner=self.name,
            token_ids=row.token_ids,
            tokens=tokens,
            channel=[str(c) for c in row.channel],
            step=step,
            thought=row.thought,
            entropy=row.entropy,
            logprob=row.logprob,
            text=text,
            answer=answer,
            correct=correct,
            seed=seed,
            latents=torch.stack(row.latents).numpy() if row.latents else None,
            sentence=sentence,
            events=row.events,
        )

    def describe(self) -> dict[str, Any]:
        """What a store records about who thought: name, kind, weights and configuration."""
        return {"name": self.name, "kind": self.kind, "weights": self.weights, "config": self.config.model_dump()}


def _in_the_loop(action: LoopHook, where: BatchState, activations: Tensor, hook: Any = None) -> None:
    action(activations, where)
