"""What every reasoner can do: think about problems, and replay its traces in one masked batched pass."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.plain import plain_for, watching
from interp.models.projection import Projection
from interp.models.report import Loaded
from interp.models.unembedding import Unembedding
from interp.problems import task as make_task
from interp.problems.base import Problem, Task, checked_seed
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.interventions import Intervention, Position, intervening
from interp.reasoners.lessons import Lesson, LessonBatch, next_token_loss
from interp.reasoners.monitor import Monitor, Watch
from interp.reasoners.prompts import prompt_ids, unknown_id
from interp.reasoners.rollout import Rollout, Row
from interp.reasoners.sampling import Stops, checked_sampling
from interp.reasoners.segmentation import segmented
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReplayBatch:
    """The batch that a replay hook is looking at: which traces, and which cells are real."""

    traces: Int[np.ndarray, " batch"]
    real: Bool[Tensor, "batch pos"]


ReplayHook = Callable[[Float[Tensor, "batch pos d"], ReplayBatch], None]
# What sees activations while thinking: those of the new positions, and which trace and position each cell is.
LoopHook = Callable[[Float[Tensor, "batch new d"], Position], None]


class Reasoner(ABC):
    """A model together with the way it thinks. Subclasses say only what a thought is (`_think_batch`).

    `model` carries TransformerLens hooks under their usual names; `base` is the same model without its
    unembedding, `embed` and `unembed` its two ends.
    """

    kind: str
    writes_steps: ClassVar[bool] = True  # whether steps that are not hidden are written out in training
    # Channels whose positions take no position id of their own, but that of the next position that does.
    shares_position: ClassVar[frozenset[Channel]] = frozenset()

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
        self.device = next(hf.parameters()).device
        # Padding is masked, so where there is no token for it any will do.
        self.pad_id: int = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        shape = hf.config.get_text_config()
        self.max_positions: int | None = getattr(shape, "max_position_embeddings", None)
        # How many columns attention reaches back in a model with sliding windows.
        self.window: int | None = getattr(shape, "sliding_window", None)
        self.loaded = Loaded()
        self._known: dict[str, int | None] = {}
        self.origin: dict[str, Any] = {}  # what `interp.load` needs to load it again

    # --- how it is made and taught; a new way of thinking says here what differs ---

    @classmethod
    def words(cls, config: ReasonerConfig) -> list[str]:
        """Tokens that this way of thinking needs beyond the task's own and the common markers."""
        return []

    @classmethod
    def fillers(cls, config: ReasonerConfig, hidden: int) -> list[str]:
        """The words that stand for `hidden` silent steps in a training sequence."""
        return []

    @classmethod
    def lesson(cls, problem: Problem, config: ReasonerConfig, hidden: int) -> Lesson:
        """A training sequence in which the first `hidden` steps are silent and the later ones written.

        The loss covers what follows the silent thoughts, but for an end marker straight after them: that one
        is forced when the reasoner thinks, not predicted.
        """
        hidden = min(hidden, problem.n_steps)
        question = [*problem.question.split(), *filter(None, [config.begin])]
        silent = cls.fillers(config, hidden)
        written = [word for step in problem.steps[hidden:] for word in step.text.split()] if cls.writes_steps else []
        ending = [*filter(None, [config.end])]
        words = [*question, *silent, *written, *ending, *problem.answer.split(), config.eos]
        after = len(question) + len(silent)
        scored = [k >= after for k in range(len(words))]
        if ending and not written:
            scored[after] = False
        return Lesson(words, scored, len(question), len(silent))

    @classmethod
    def logits(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
        """What a model in training, a plain Hugging Face model, predicts over a batch."""
        return model(input_ids=batch.ids).logits

    @classmethod
    def loss(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, ""]:
        """The training loss of one batch."""
        return next_token_loss(cls.logits(model, batch, config), batch)

    @classmethod
    def prepare(cls, model: Any, config: ReasonerConfig) -> Any:
        """The Hugging Face model that thinks, made from the stored one before it is wrapped."""
        return model

    @classmethod
    def stored_config(cls, model_config: Any, config: ReasonerConfig) -> Any:
        """The Hugging Face configuration of the stored model, from that of the model that thinks."""
        return model_config

    @property
    def task(self) -> Task:
        """The task that this reasoner was made for. Raises `UsageError` where it names none."""
        if self.config.task is None:
            raise UsageError(f"{self.name} names no task in its reasoner.json; give the problems by hand.")
        return make_task(self.config.task)

    def token_id(self, token: str) -> int:
        found = self._single(token)
        if found is None:
            raise UsageError(f"{self.name}'s tokenizer has no token {token!r}, which its reasoner.json names.")
        return found

    def _single(self, token: str) -> int | None:
        """The id of a token of the vocabulary, or None where there is none of this name."""
        if token not in self._known:  # asked at every thought
            found = self.tokenizer.convert_tokens_to_ids(token)
            unknown = found == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token
            self._known[token] = None if found is None or unknown else found
        return self._known[token]

    @cached_property
    def stops(self) -> Stops:
        """What ends an answer: the end-of-sequence token, and the config's `stops`."""
        named = {text: self._single(text) for text in self.config.stops}
        eos = [self.token_id(self.config.eos)] if self.config.eos else []
        ids = [*eos, *(found for found in named.values() if found is not None)]
        return Stops(self.tokenizer, ids, [text for text, found in named.items() if found is None])

    def but(self, **changes: Any) -> Reasoner:
        """This reasoner with some fields of its config changed, on the same model: `but(max_thought_tokens=500)`.

        Raises `UsageError` on fields and values that `reasoner.json` could not have either.
        """
        changed = copy.copy(self)
        changed.config = ReasonerConfig.parse({**self.config.model_dump(), **changes}, "the change")
        vars(changed).pop("stops", None)
        return changed

    def think(
        self,
        problems: Sequence[Problem],
        *,
        batch_size: int = 64,
        seed: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        interventions: Sequence[Intervention] = (),
        hooks: Mapping[str, LoopHook] | None = None,
        monitors: Sequence[Monitor] = (),
        padding_side: str = "left",
        progress: Progress | None = None,
    ) -> TraceSet:
        """One trace for each problem, in order; greedily, or sampled at `temperature` and `top_p` with `seed`.

        Interventions name traces by their place in `problems`; monitors watch each of them and may inject a text or
        a vector, before any intervention at the same address; `hooks` see what passes each address. Raises
        `UsageError` on no problems, on words that the tokenizer does not know, and on questions longer than the
        model's positions.
        """
        problems = list(problems)
        traces: list[Trace] = []
        for batch in self.thinking(
            problems,
            batch_size=batch_size,
            seed=seed,
            temperature=temperature,
            top_p=top_p,
            interventions=interventions,
            hooks=hooks,
            monitors=monitors,
            padding_side=padding_side,
        ):
            traces += batch
            if progress:
                progress(len(traces), len(problems))
        return TraceSet(traces)

    def thinking(
        self,
        problems: Sequence[Problem],
        *,
        start: int = 0,
        batch_size: int = 64,
        seed: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        interventions: Sequence[Intervention] = (),
        hooks: Mapping[str, LoopHook] | None = None,
        monitors: Sequence[Monitor] = (),
        padding_side: str = "left",
    ) -> Iterator[list[Trace]]:
        """What `think` returns, batch after batch, from problem number `start` on.

        A trace depends on its number and the seed and not on where its batch began, so thinking that was cut
        off goes on as if it had not been.
        """
        checked_count("batch_size", batch_size)
        checked_seed(seed)
        checked_sampling(temperature, top_p)
        if not problems:
            raise UsageError("there are no problems to think about; generate at least one.")
        prompts = [self._prompt(problem) for problem in problems[start:]]
        if padding_side == "right" and self.window is not None and len(set(map(len, prompts))) > 1:
            raise UsageError(
                f"{self.name} attends to windows of {self.window} columns, in which padding after a prompt would take "
                "the place of text; pad on the left."
            )
        where = Position()
        watches = [Watch(monitor, self, where) for monitor in monitors]
        watchers = {name: partial(_in_the_loop, hook, where) for name, hook in (hooks or {}).items()}
        plainly = not interventions and not watches
        for first in range(start, len(problems), batch_size):
            batch = range(first, min(first + batch_size, len(problems)))
            with (
                intervening(self.model, interventions, where, watches),
                self._watched(watchers, plainly=plainly) as base,
            ):
                rollout = Rollout(
                    self,
                    base,
                    [prompts[k - start] for k in batch],
                    batch,
                    where=where,
                    padding_side=padding_side,
                    temperature=temperature,
                    top_p=top_p,
                    seed=seed,
                )
                self._think_batch(rollout, [problems[k] for k in batch])
                rollout.settle()
            yield [self._trace(k, problems[k], row, seed) for k, row in zip(batch, rollout.rows, strict=True)]

    @torch.no_grad()
    def replay(
        self,
        traces: Sequence[Trace],
        *,
        hooks: Mapping[str, ReplayHook],
        batch_size: int = 64,
        interventions: Sequence[Intervention] = (),
        progress: Progress | None = None,
    ) -> None:
        """Run the finished traces through the model once, in masked batches, and show hooks what passes.

        Continuous thoughts are fed as they were thought, so an intervention changes what comes after it in
        the same pass but not which thoughts are fed. Interventions name traces by their place in `traces`.
        Where nothing is changed and every hook names a module's input or output, the plain model runs.
        """
        checked_count("batch_size", batch_size)
        where = Position()
        now: dict[str, ReplayBatch] = {}

        def watch(action: ReplayHook) -> Callable[..., None]:
            return lambda activations, hook=None: action(activations, now["batch"])

        watchers = {name: watch(action) for name, action in hooks.items()}
        with (
            intervening(self.model, interventions, where),
            self._watched(watchers, plainly=not interventions) as base,
        ):
            for start in range(0, len(traces), batch_size):
                batch = range(start, min(start + batch_size, len(traces)))
                part = [traces[k] for k in batch]
                real = np.arange(max(map(len, part))) < np.array([[len(trace)] for trace in part])
                where.traces = np.asarray(batch, dtype=np.int64)
                where.positions = np.where(real, np.arange(real.shape[1]), -1)
                there = torch.from_numpy(real).to(self.device)
                now["batch"] = ReplayBatch(where.traces, there)
                base(
                    inputs_embeds=self._replay_inputs(part, real),
                    attention_mask=there.long(),
                    position_ids=torch.from_numpy(self._places(part, real)).to(self.device),
                    use_cache=False,
                )
                if progress:
                    progress(batch.stop, len(traces))

    @contextmanager
    def _watched(self, watchers: Mapping[str, Callable[..., None]], *, plainly: bool) -> Iterator[Any]:
        """Put watchers on, in the plain model where that will do, and give the model that then has to run."""
        plain = plain_for(self.model, list(watchers)) if plainly else None
        if plain is None:
            with self.model.hooks(fwd_hooks=list(watchers.items())):
                yield self.base
        else:
            with watching(self.model, plain, watchers):
                yield plain.base

    @abstractmethod
    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        """Take a rollout that has read its prompts to the end of the answers."""

    def refusal(self, problem: Problem) -> str | None:
        """Why this reasoner cannot think about a problem, or None where it can."""
        try:
            self._prompt(problem)
        except UsageError as error:
            return str(error)
        return None

    def _prompt(self, problem: Problem) -> list[int]:
        ids = prompt_ids(self.tokenizer, self.config, problem.question) if problem.question.strip() else []
        if not ids:
            raise UsageError(f"problem {problem.id} has an empty question.")
        if unknown_id(self.tokenizer) is not None and unknown_id(self.tokenizer) in ids:
            word = next((w for w in problem.question.split() if self._is_unknown(w)), problem.question)
            raise UsageError(
                f"{self.name} does not know {word!r} in the question {problem.question[:200]!r}. "
                f"It was made for task {self.config.task!r}."
            )
        room = (self.max_positions or 10**9) - len(ids) - self.config.n_thoughts(problem.n_steps) - 3
        if room < 0:
            raise UsageError(
                f"the question {problem.question[:60]!r} needs more than the {self.max_positions} positions of {self.name}."
            )
        return ids

    def _is_unknown(self, word: str) -> bool:
        return self.tokenizer.convert_tokens_to_ids(word) == self.tokenizer.unk_token_id

    def _mark(self, rollout: Rollout, marker: str | None, active: Tensor | None = None) -> None:
        """Force a marker, where the reasoner has one."""
        for token in self._ids(marker) if marker is not None and (active is None or active.any()) else []:
            ids = torch.full((len(rollout.rows),), token, device=self.device)
            rollout.feed(channel=Channel.SPECIAL, ids=ids, active=active)

    def check_markers(self) -> None:
        """Raises `UsageError` where the tokenizer cannot write a marker or a stop of the config."""
        for marker in filter(None, (self.config.begin, self.config.end)):
            self._ids(marker)
        _ = self.stops

    def _ids(self, marker: str) -> list[int]:
        """The tokens of a marker: one of its own, or the several that the tokenizer makes of it."""
        single = self._single(marker)
        if single is not None:
            return [single]
        ids = self.tokenizer(marker, add_special_tokens=False)["input_ids"]
        if not ids or unknown_id(self.tokenizer) in ids:
            raise UsageError(f"{self.name}'s tokenizer cannot write {marker!r}, which its reasoner.json names.")
        return ids

    def _constant(self, token: str, rollout: Rollout) -> Int[Tensor, " batch"]:
        return torch.full((len(rollout.rows),), self.token_id(token), device=self.device)

    def _answer(self, rollout: Rollout) -> None:
        """Write the answer until the end-of-sequence token, or whatever else ends it."""
        writing = torch.ones(len(rollout.rows), dtype=torch.bool, device=self.device)
        answers: list[list[int]] = [[] for _ in rollout.rows]
        for _ in range(self.config.max_answer_tokens):
            ids = rollout.choose()
            going = [
                int(i) not in self.stops.ids and not self.stops.after(a) for i, a in zip(ids, answers, strict=True)
            ]
            writing = writing & torch.tensor(going, device=self.device) & (rollout.room > 0)
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

    def _replay_inputs(
        self, traces: Sequence[Trace], real: Bool[np.ndarray, "batch pos"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """What was fed at every cell of a replayed batch: embeddings, and continuous thoughts as they were thought."""
        ids = np.full(real.shape, self.pad_id)
        ids[real] = np.concatenate([trace.token_ids for trace in traces])
        inputs = self.embed(torch.from_numpy(ids).to(self.device))
        for k, trace in enumerate(traces):
            if trace.latents is not None:
                at = [c for c, channel in enumerate(trace.channel) if channel == Channel.LATENT]
                inputs[k, at] = torch.as_tensor(trace.latents).to(inputs)
        return inputs

    def _places(self, traces: Sequence[Trace], real: Bool[np.ndarray, "batch pos"]) -> Int[np.ndarray, "batch pos"]:
        """The position id of every cell of a replayed batch, as it was while thinking: how many before it took one."""
        taken = real.copy()
        for k, trace in enumerate(traces if self.shares_position else ()):
            taken[k, [c for c, channel in enumerate(trace.channel) if channel in self.shares_position]] = False
        return np.where(real, np.cumsum(taken, axis=1) - taken, 0)

    def describe(self) -> dict[str, Any]:
        """What a store records about who thought: name, kind, weights and configuration."""
        return {"name": self.name, "kind": self.kind, "weights": self.weights, "config": self.config.model_dump()}


def _in_the_loop(action: LoopHook, where: Position, activations: Tensor, hook: Any = None) -> None:
    action(activations, where)
