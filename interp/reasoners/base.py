"""The base class of all reasoners: a model together with the way it thinks."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch

from interp.errors import UsageError
from interp.models.devices import choose_device
from interp.models.fast_model import move_bridge
from interp.models.projection import Projection
from interp.models.report import LoadReport
from interp.models.wrapping import tokenizer_hash
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.curriculum import Curriculum
from interp.reasoners.interventions import Intervention
from interp.reasoners.network import Network
from interp.reasoners.options import CheckedThinkOptions, ThinkOptions
from interp.reasoners.readable import check_readable
from interp.reasoners.replayer import Replayer, ReplayHook
from interp.reasoners.rollouts.rollout import EXTRA_POSITIONS, Rollout
from interp.reasoners.rollouts.thinker import ThinkBatch, Thinker
from interp.reasoners.rollouts.traces import TraceMaker
from interp.reasoners.steps import Steps
from interp.reasoners.vocabulary import Vocabulary
from interp.runtime.progress import Progress
from interp.runtime.renames import warn_old_name
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase


class Reasoner(ABC):
    """A model together with the way it thinks. A subclass defines one kind, by `_think_batch`.

    Args:
        model: The wrapped model, with TransformerLens hooks under their usual names.
        tokenizer: Its tokenizer.
        config: How it thinks: the content of `reasoner.json`.
        name: Name for messages, traces and stores.
        weights: Hash of the weights.
        projection: The projection of continuous thoughts, where it has one.

    Attributes:
        network: The model and its ends. `model`, `base`, `embed` and `unembed` are its attributes.
        vocabulary: Its tokens, markers and prompts.
        thinker: Runs its way of thinking over problems.
        replayer: Runs finished traces through the model.
        curriculum: How it is trained.
        steps: Finds the steps of its thinking in traces.
        loaded: What was found and assumed when it was loaded.
        origin: The arguments with which `interp.load` loads it again.
    """

    #: The name of this way of thinking in `reasoner.json`.
    kind: str
    #: Whether the whole thought is text, which can be given, cut off and replaced.
    thinks_in_text: ClassVar[bool] = False
    #: Whether rows of a batch finish each at their own time, so that the next problems can take their place.
    replaces_rows: ClassVar[bool] = False
    #: Channels whose positions share the position id of the next position of another channel.
    shares_position: ClassVar[frozenset[Channel]] = frozenset()
    #: The class of `curriculum`.
    curriculum_class: ClassVar[type[Curriculum]] = Curriculum
    #: The class of `steps`.
    steps_class: ClassVar[type[Steps]] = Steps

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
        self.network = Network(model)
        self.model, self.base = model, self.network.base
        self.embed, self.unembed = self.network.embed, self.network.unembed
        self.tokenizer: Any = tokenizer
        self.name = name
        self.weights = weights
        self.projection = projection
        self.loaded = LoadReport()
        self.origin: dict[str, Any] = {}
        self._configure(config)

    def _configure(self, config: ReasonerConfig) -> None:
        self.config = config
        self.vocabulary = Vocabulary(
            self.tokenizer,
            config,
            name=self.name,
            max_positions=self.network.max_positions,
            n_embeddings=self.embed.weight.shape[0],
        )
        self.curriculum = self.curriculum_class(config)
        self.steps = self.steps_class(config)
        self.replayer = Replayer(self.network, self.vocabulary.pad_id, self.shares_position)
        self.thinker = Thinker(self.network, self.vocabulary, self.replayer)

    @classmethod
    def prepare(cls, model: Any, config: ReasonerConfig) -> Any:
        """Return the Hugging Face model that thinks, made from the stored one before it is wrapped."""
        return model

    @classmethod
    def stored_config(cls, model_config: Any, config: ReasonerConfig) -> Any:
        """Return the Hugging Face configuration of the stored model, from that of the model that thinks."""
        return model_config

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.network.device

    @cached_property
    def tokenizer_hash(self) -> str:
        """A hash of the tokenizer's vocabulary."""
        return tokenizer_hash(self.tokenizer)

    @property
    def task(self) -> Task:
        """The task that this reasoner was made for.

        Raises:
            UsageError: Its `reasoner.json` names none.
        """
        if self.config.task is None:
            raise UsageError(
                f"expected a task in the reasoner.json of {self.name}, got none; generate problems from a task of your "
                "choice."
            )
        return make_task(self.config.task)

    def to(self, device: str | torch.device) -> Reasoner:
        """Move the model to another device in place, with its fast copy and its projection.

        For another dtype use `interp.load(..., dtype=...)`: rounded weights are another model, with another hash.

        Raises:
            UsageError: There is no such device.
        """
        report = LoadReport()
        target = torch.device(choose_device(str(device), report))
        move_bridge(self.model, target, *([] if self.projection is None else [self.projection]))
        others = [finding for finding in self.loaded.findings if finding.what != "device"]
        self.loaded.findings = others + report.findings
        return self

    def with_config(self, **changes: Any) -> Reasoner:
        """Return this reasoner with some fields of its config changed, on the same model.

        Args:
            **changes: Fields of `ReasonerConfig`, as `max_thought_tokens=500`.

        Raises:
            UsageError: A field or a value is not valid in `reasoner.json`.
        """
        changed = copy.copy(self)
        changed._configure(ReasonerConfig.parse({**self.config.model_dump(), **changes}, "the change"))
        return changed

    def but(self, **changes: Any) -> Reasoner:
        """Return `with_config(**changes)`: the old name, which works until version 0.3."""
        warn_old_name("Reasoner.but", "Reasoner.with_config")
        return self.with_config(**changes)

    def think(
        self, problems: Sequence[Problem], *, progress: Progress | None = None, **options: Unpack[ThinkOptions]
    ) -> TraceSet:
        """Think about problems, and return one trace for each, in order.

        Args:
            problems: The problems.
            progress: Called with (problems done, problems in all).
            **options: See `ThinkOptions`.

        Raises:
            UsageError: There are no problems, an option is out of range, or a question holds words that the tokenizer
                does not know or is longer than the model's positions.
            StoreError: The model computes a state or a logit that is not finite; the message names trace, position and
                layer.
        """
        problems = list(problems)
        self._warn_of_doubts(problems)
        return self._think_with(self._think_batch, problems, CheckedThinkOptions(**options), progress)

    def doubts(self, problems: Sequence[Problem]) -> str:
        """Return in one sentence why thinking about these problems may not be what is wanted; mostly empty."""
        return ""

    def _warn_of_doubts(self, problems: Sequence[Problem]) -> None:
        if text := self.doubts(problems):
            warnings.warn(f"{text}.", stacklevel=3)

    def thinking(
        self,
        problems: Sequence[Problem],
        *,
        start: int = 0,
        progress: Progress | None = None,
        **options: Unpack[ThinkOptions],
    ) -> Iterator[list[Trace]]:
        """Yield what `think` returns, batch after batch, from problem number `start` on.

        A trace depends on its number and the seed, and not on where its batch began. So thinking that was cut off can go
        on where it ended. `progress` is told what is written within a batch, where it takes that (`WritingProgress`).
        """
        self._warn_of_doubts(problems)
        return self._batches(self._think_batch, problems, CheckedThinkOptions(**options), start, progress)

    def replay(
        self,
        traces: Sequence[Trace],
        *,
        hooks: Mapping[str, ReplayHook],
        batch_size: int = 64,
        interventions: Sequence[Intervention] = (),
        progress: Progress | None = None,
    ) -> None:
        """Run finished traces through the model once and show hooks the activations: see `Replayer.replay`.

        Raises:
            StoreError: The traces have tokens of another vocabulary, or thoughts of another width.
        """
        self.check_readable(traces)
        self.replayer.replay(traces, hooks=hooks, batch_size=batch_size, interventions=interventions, progress=progress)

    def check_readable(self, traces: Sequence[Trace], *, unknown: bool = False) -> None:
        """Check that this model can read traces: tokens that mean the same to it, and thoughts of its width.

        Args:
            traces: The traces. Those that carry the hash of this tokenizer are not read token by token.
            unknown: Read those token by token that do not say which tokenizer wrote them.

        Raises:
            StoreError: The tokens are of another vocabulary, or the continuous thoughts of another width.
        """
        trusted = {self.tokenizer_hash, *([] if unknown else [""])}
        check_readable(traces, self.vocabulary, self.embed.weight.shape[1], trusted)

    def think_given(
        self,
        problems: Sequence[Problem],
        thoughts: Sequence[Sequence[int]],
        *,
        go_on: bool = False,
        progress: Progress | None = None,
        **options: Unpack[ThinkOptions],
    ) -> TraceSet:
        """Answer after given thoughts: see `TextReasoner.think_given`.

        Raises:
            UsageError: The reasoner does not think in text.
        """
        raise UsageError(
            f"expected a reasoner that thinks in text, got {self.name}; use a text reasoner such as chain-text."
        )

    def think_steps(self, problems: Sequence[Problem], n_steps: int, **options: Unpack[ThinkOptions]) -> TraceSet:
        """Think as if every problem had `n_steps` steps at most; for reasoners whose amount of thinking is given.

        Raises:
            UsageError: This reasoner's thinking has no steps that could be left out.
        """
        raise UsageError(
            f"expected a reasoner whose steps can be left out, got {self.name} ({self.kind}); use a text, silent or "
            "recurrent reasoner."
        )

    def write_after_thoughts(
        self, problems: Sequence[Problem], thoughts: Sequence[int], *, max_tokens: int, batch_size: int = 256
    ) -> TraceSet:
        """Return what the reasoner writes after a few silent thoughts; only for reasoners whose thoughts are silent.

        Raises:
            UsageError: The reasoner's thoughts are not silent, or `problems` and `thoughts` differ in length.
        """
        raise UsageError(
            f"only silent thinking can be broken off: expected a reasoner with silent thoughts, got {self.name}, whose "
            f"kind is {self.kind!r}."
        )

    def describe(self) -> dict[str, Any]:
        """Return what a store records about the reasoner: name, kind, weights and configuration."""
        return {"name": self.name, "kind": self.kind, "weights": self.weights, "config": self.config.model_dump()}

    @abstractmethod
    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        """Think about a batch, from the prompts that the rollout has read to the end of the answers."""

    def _expected_positions(self, problems: Sequence[Problem]) -> int:
        """Return about how many positions these problems take beyond their prompts, to size the buffers.

        Buffers grow where there are more. Buffers that are much too large make attention slower.
        """
        return EXTRA_POSITIONS

    def _think_with(
        self,
        think_batch: ThinkBatch,
        problems: Sequence[Problem],
        options: CheckedThinkOptions,
        progress: Progress | None = None,
    ) -> TraceSet:
        traces: list[Trace] = []
        for batch in self._batches(think_batch, problems, options, progress=progress):
            traces += batch
            if progress:
                progress(len(traces), len(problems))
        return TraceSet(traces)

    def _batches(
        self,
        think_batch: ThinkBatch,
        problems: Sequence[Problem],
        options: CheckedThinkOptions,
        start: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[list[Trace]]:
        maker = self.trace_maker(options)
        for rows in self.thinker.batches(
            think_batch,
            problems,
            options,
            start=start,
            expected_positions=self._expected_positions,
            replaces_rows=self.replaces_rows and think_batch == self._think_batch,
            progress=progress,
        ):
            yield [maker.trace(k, problems[k], row) for k, row in rows]

    def trace_maker(self, options: CheckedThinkOptions) -> TraceMaker:
        """Return what turns finished rows into traces of this reasoner.

        Args:
            options: How the tokens of the rows were chosen.
        """
        return TraceMaker(
            vocabulary=self.vocabulary,
            reasoner=self.name,
            weights=self.weights,
            tokenizer_hash=self.tokenizer_hash,
            thinks_in_text=self.thinks_in_text,
            visible_per_step=self.steps.visible_tokens,
            options=options,
        )
