"""A trace: what a reasoner did on a problem, position by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from interp.problems.base import Problem
from interp.traces.columns import PositionColumns


class Channel(StrEnum):
    """What a position is for."""

    PROMPT = "prompt"
    THOUGHT = "thought"  # visible reasoning
    LATENT = "latent"  # a position without text
    ANSWER = "answer"
    SPECIAL = "special"
    PAD = "pad"


# In place of the position of a step's value: the step is not written, or is written where nobody could find it.
LEFT_OUT, UNPLACED = -1, -2

# The channels of thoughts, visible or latent.
THINKING = (Channel.THOUGHT, Channel.LATENT)


@dataclass(frozen=True)
class Trace:
    """What one reasoner did on one problem. Every list has one entry for each position.

    Attributes:
        id: Row of the trace in the set that was recorded, also in slices of the set.
        problem: The problem.
        reasoner: Name of the reasoner.
        token_ids: Token ids.
        tokens: Tokens as text.
        channel: What each position is for; see `Channel`.
        step: The gold step of a thought, from 1; 0 elsewhere.
        thought: Number of the thought or latent, from 1; 0 elsewhere.
        entropy: Entropy in nats of the model's distribution over the token at this position, predicted one position
            earlier; NaN where nothing was predicted.
        logprob: Log-probability of the token at this position; NaN where nothing was predicted or the token was
            forced.
        text: The visible thought.
        answer: The answer.
        correct: Whether the answer is right.
        seed: Seed of the sampling.
        latents: Input embedding of each continuous thought, shape (thoughts, d_model), or None.
        sentence: Number of the sentence of a visible thought, from 1, and 0 elsewhere; empty where the reasoner does
            not split its text.
        events: Where a monitor intervened: monitor, position, score, injected, text.
        weights: Hash of the weights of the reasoner; empty where it is not known, as in older files.
        tokenizer: Hash of its tokenizer's vocabulary; empty where it is not known.
        value_positions: For each gold step of a visible thought, the position of the token that completes its value;
            `LEFT_OUT` where the step is not written, `UNPLACED` where the answer is right but no place was found. Empty
            for latent thoughts, whose value is at the step's last thought.
        temperature: Temperature at which the reasoner chose its tokens, 0 where it took the likeliest; None where it is
            not known, as in files of older versions.
        written_by: Who wrote the text, where it was not the reasoner: an imported transcript, or a server. Entropies and
            log-probabilities are those of the reasoner's model all the same. Empty where the reasoner wrote it.
        labels: Labels of a table of the user's own, beside those of the problem: one for the trace, or a list with one
            for each step; see `interp.text.label_tables`.
        token_labels: Labels of positions of such a table: a list with one for each position, None where there is none.
    """

    id: int
    problem: Problem
    reasoner: str
    token_ids: list[int]
    tokens: list[str]
    channel: list[str]
    step: list[int]
    thought: list[int]
    entropy: list[float]
    logprob: list[float]
    text: str
    answer: str
    correct: bool
    seed: int = 0
    latents: Float32[np.ndarray, "thoughts d_model"] | None = field(default=None, hash=False, compare=False)
    sentence: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list, compare=False)
    weights: str = field(default="", compare=False)
    tokenizer: str = field(default="", compare=False)
    value_positions: list[int] = field(default_factory=list)
    temperature: float | None = field(default=None, compare=False)
    written_by: str = field(default="", compare=False)
    labels: Mapping[str, str | list[str | None]] = field(default_factory=dict, hash=False, compare=False)
    token_labels: Mapping[str, list[str | None]] = field(default_factory=dict, hash=False, compare=False)

    def __len__(self) -> int:
        columns = self.__dict__.get("_columns")
        return len(self.token_ids) if columns is None else columns.length(self.__dict__["_number"])

    @classmethod
    def of_columns(cls, columns: PositionColumns, number: int, attributes: dict[str, Any]) -> Trace:
        """Return a trace whose lists are made from columns when they are read.

        Args:
            columns: The columns of some traces.
            number: Which of these traces it is.
            attributes: The attributes that are no columns.
        """
        trace = object.__new__(cls)
        trace.__dict__.update(attributes, _columns=columns, _number=number)
        return trace

    # Called only for what is not there as an attribute. Type checkers must not see it, for it would hide misspelled names.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            columns = self.__dict__.get("_columns")
            if columns is None or name not in columns:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return columns.keep_list(self, name, self.__dict__["_number"])

    def __getstate__(self) -> dict[str, Any]:
        # The columns are those of many traces, which would all travel with one.
        return {column.name: getattr(self, column.name) for column in fields(self)}

    def with_labels(
        self, labels: Mapping[str, str | list[str | None]], token_labels: Mapping[str, list[str | None]]
    ) -> Trace:
        """Return the same trace with other labels of the user's tables.

        Args:
            labels: Labels of the trace and of its steps.
            token_labels: Labels of its positions.
        """
        columns = self.__dict__.get("_columns")
        if columns is None:
            return replace(self, labels=labels, token_labels=token_labels)
        own = {name: value for name, value in self.__dict__.items() if name not in columns}
        return self.of_columns(columns, own.pop("_number"), own | {"labels": labels, "token_labels": token_labels})

    @property
    def own_labels(self) -> Mapping[str, str | Sequence[str | None] | None]:
        """The user's own labels of the trace and of its steps: those of the problem and those of tables."""
        return {**self.problem.labels, **self.labels}

    def step_position(self, step: int) -> int | None:
        """Return the position at which a gold step is complete, None where it has none.

        It completes the value in a visible thought, and is the last thought of the step in a latent one.

        Args:
            step: Number of the step, from 1.
        """
        if self.value_positions:
            position = self.value_positions[step - 1] if step <= len(self.value_positions) else UNPLACED
            return position if position >= 0 else None
        return max((k for k, number in enumerate(self.step) if number == step and self.thought[k]), default=None)

    @property
    def places(self) -> list[str]:
        """The place of each position: a name that means the same in every trace.

        Places are `question`, `question end`, `begin`, `thought 2`, `sentence 3`, `end`, `answer` and `answer 2`. A
        sentence is named at its last token. Of a marker of several tokens, the last is `begin` or `end` and the others
        are `begin marker` or `end marker`.
        """
        channels, sentences, thoughts = list(map(str, self.channel)), self.sentence, self.thought
        last_prompt = _last(channels, (Channel.PROMPT,))
        first, last = _first(channels, THINKING), _last(channels, THINKING)
        first_marker, n_markers = _first(channels, (Channel.SPECIAL,)), channels.count(Channel.SPECIAL)
        names, answers = [], 0
        for k, channel in enumerate(channels):
            if channel in THINKING:
                sentence = sentences[k] if sentences else 0
                closes = sentence and (k == last or sentences[k + 1] != sentence)
                names.append(f"sentence {sentence}" if closes else f"thought {thoughts[k]}")
            elif channel == Channel.ANSWER:
                answers += 1
                names.append("answer" if answers == 1 else f"answer {answers}")
            elif channel == Channel.SPECIAL:
                # Without thoughts, the first of several markers begins and the last ends.
                opens = k < first if first >= 0 else k == first_marker and n_markers > 1
                following = k + 1
                is_marker = following < len(channels) and channels[following] == Channel.SPECIAL
                inner = is_marker and (first >= 0 and (following < first) == opens)
                names.append(("begin" if opens else "end") + (" marker" if inner else ""))
            else:
                names.append("question end" if k == last_prompt else "question")
        return names


def _first(channels: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the first position of some channels, -1 where there is none."""
    return min((channels.index(channel) for channel in wanted if channel in channels), default=-1)


def _last(channels: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the last position of some channels, -1 where there is none."""
    first = _first(channels[::-1], wanted)
    return len(channels) - 1 - first if first >= 0 else -1
