"""How a reasoner is trained: training sequences, batches of them, and the loss; a new kind says here what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import CotlensError
from interp.models.base_model import base_of
from interp.models.cache import run_cached
from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Lesson:
    """One training sequence.

    Attributes:
        words: The sequence.
        scored: For each word, whether the loss covers it.
        first_thought: Index of the first silent thought.
        n_thoughts: Number of silent thoughts. Their columns carry no text.
        extra: Words that the loss needs and the model never reads, such as the value that each iteration should reach.
    """

    words: list[str]
    scored: list[bool]
    first_thought: int
    n_thoughts: int
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class LessonBatch:
    """Lessons with silent thoughts in the same columns; shorter ones are padded on the right, outside the loss."""

    ids: Int[Tensor, "batch pos"]
    scored: Float[Tensor, "batch pos"]
    first_thought: int
    n_thoughts: int
    extra: Int[Tensor, "batch n_extra"]

    def to(self, device: torch.device) -> LessonBatch:
        """Return the batch on another device."""
        return LessonBatch(
            self.ids.to(device), self.scored.to(device), self.first_thought, self.n_thoughts, self.extra.to(device)
        )


def collate(lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerBase) -> LessonBatch:
    """Return lessons as one batch.

    Raises:
        CotlensError: The silent thoughts of the lessons lie in different columns.
    """
    first, n_thoughts = lessons[0].first_thought, lessons[0].n_thoughts
    columns = {(lesson.first_thought, lesson.n_thoughts) for lesson in lessons}
    if n_thoughts and len(columns) > 1:
        raise CotlensError(
            "expected the silent thoughts of one training batch to lie in the same columns, got thoughts in different "
            "columns; batch by shape."
        )
    width = max(len(lesson.words) for lesson in lessons)
    pad: str = tokenizer.pad_token  # type: ignore[assignment]
    rows = [[*lesson.words, *[pad] * (width - len(lesson.words))] for lesson in lessons]
    scored = [[*map(float, lesson.scored), *[0.0] * (width - len(lesson.scored))] for lesson in lessons]
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(words) for words in rows])
    extra = [tokenizer.convert_tokens_to_ids(list(lesson.extra)) for lesson in lessons]
    return LessonBatch(ids, torch.tensor(scored), first, n_thoughts, torch.tensor(extra, dtype=torch.long))


def next_token_loss(logits: Float[Tensor, "batch pos vocab"], batch: LessonBatch) -> Float[Tensor, ""]:
    """Return the mean next-token loss over the scored words."""
    targets, weights = batch.ids[:, 1:], batch.scored[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none"
    )
    return (losses * weights.flatten()).sum() / weights.sum()


class Curriculum:
    """What a kind of reasoner learns from. Every method has a default; a subclass overrides what differs.

    Args:
        config: The reasoner's configuration.

    Attributes:
        tokenize: Splits a text into tokens of the tokenizer; by default at white space, as organisms' tokenizers do.
        shares_beginning: Whether the columns that all rows of a batch begin with are read once for all of them.
    """

    #: Whether training writes out the steps that are not silent.
    writes_steps: ClassVar[bool] = True

    def __init__(self, config: ReasonerConfig) -> None:
        self.config = config
        self.tokenize: Callable[[str], list[str]] = str.split
        self.shares_beginning = False

    def words(self) -> list[str]:
        """Return the tokens that this kind needs beside the task's own and the common markers."""
        return []

    def fillers(self, hidden: int) -> list[str]:
        """Return the words that stand for the first `hidden` steps, which are silent."""
        return []

    def lesson(self, problem: Problem, hidden: int) -> Lesson:
        """Return a training sequence in which the first `hidden` steps are silent and the later ones written.

        The loss covers what follows the silent thoughts. An end marker straight after them is not covered, because it
        is forced when the reasoner thinks.
        """
        config = self.config
        hidden = min(hidden, problem.n_steps)
        prompt = config.prompt.replace("{question}", problem.question)
        question = [*self.tokenize(prompt), *filter(None, [config.begin])]
        silent = self.fillers(hidden)
        steps = " ".join(step.text for step in problem.steps[hidden:])
        written = self.tokenize(steps) if self.writes_steps and steps else []
        ending = [*filter(None, [config.end])]
        words = [*question, *silent, *written, *ending, *self.tokenize(problem.answer), config.eos]
        after = len(question) + len(silent)
        scored = [k >= after for k in range(len(words))]
        if ending and not written:
            scored[after] = False
        return Lesson(words, scored, len(question), len(silent))

    def states(self, model: Any, batch: LessonBatch) -> Float[Tensor, "batch pos d_model"]:
        """Return the final-norm states of a plain Hugging Face model in training."""
        return self.read(model, batch.ids)[0]

    def read(self, model: Any, ids: Int[Tensor, "batch pos"]) -> tuple[Float[Tensor, "batch pos d_model"], Any]:
        """Return the final-norm states over some tokens, and the cache after them.

        With `shares_beginning` the columns that are the same in every row are read as one row.
        """
        base = base_of(model)
        n_shared = int((ids == ids[:1]).all(0).cumprod(0)[:-1].sum()) if self.shares_beginning else 0
        if not n_shared:
            out, cache = run_cached(base, None, input_ids=ids)
            return out.last_hidden_state, cache
        shared, cache = run_cached(base, None, input_ids=ids[:1, :n_shared])
        for layer in cache.layers:
            layer.keys, layer.values = (part.expand(len(ids), -1, -1, -1) for part in (layer.keys, layer.values))
        out, cache = run_cached(base, cache, input_ids=ids[:, n_shared:])
        first = shared.last_hidden_state.expand(len(ids), -1, -1)
        return torch.cat([first, out.last_hidden_state], dim=1), cache

    def logits(self, model: Any, batch: LessonBatch) -> Float[Tensor, "batch pos vocab"]:
        """Return the logits of a plain Hugging Face model in training."""
        return model(input_ids=batch.ids).logits

    def loss(self, model: Any, batch: LessonBatch) -> Float[Tensor, ""]:
        """Return the training loss of one batch."""
        return next_token_loss(self.logits(model, batch), batch)
