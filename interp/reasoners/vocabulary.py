"""The vocabulary of a reasoner: tokens, markers, prompts, and what ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from interp.errors import StoreError, UsageError
from interp.models.markers import MarkerFinder
from interp.problems.base import Problem
from interp.reasoners.config import CHAT, ReasonerConfig
from interp.reasoners.rollouts.batch import Row
from interp.traces import Channel, Trace

_UNLIMITED = 10**9
_KEPT_FREE = 3  # positions of the markers and of one answer token


class Vocabulary:
    """What a reasoner can read and write.

    Args:
        tokenizer: The model's Hugging Face tokenizer.
        config: The reasoner's configuration, which names markers and the prompt template.
        name: Name of the reasoner, for messages.
        max_positions: The longest input that the model takes, or None.
        n_embeddings: How many tokens the model has an embedding for, or None where all have one.

    Attributes:
        pad_id: The token that padding cells hold. Padding is masked, so any token will do where there is none for it.
    """

    def __init__(
        self,
        tokenizer: Any,
        config: ReasonerConfig,
        *,
        name: str,
        max_positions: int | None,
        n_embeddings: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.n_embeddings = _UNLIMITED if n_embeddings is None else n_embeddings
        self.config = config
        self.name = name
        self.max_positions = max_positions
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        self.pad_id: int = next((i for i in ids if i is not None and i < self.n_embeddings), 0)
        self._ids: dict[str, int | None] = {}

    def token_id(self, token: str) -> int:
        """Return the id of one token.

        Raises:
            UsageError: The tokenizer has no such token.
        """
        token_id = self._lookup(token)
        if token_id is None:
            raise UsageError(
                f"expected a token of {self.name}'s tokenizer, got {token!r}; correct its reasoner.json, or choose "
                "another token."
            )
        return token_id

    def _lookup(self, token: str) -> int | None:
        """Return the id of a token, or None where the vocabulary has none of this name."""
        if token not in self._ids:  # kept, because a loop looks one up at every thought
            token_id = self.tokenizer.convert_tokens_to_ids(token)
            unknown = token_id == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token
            self._ids[token] = None if token_id is None or unknown else token_id
        return self._ids[token]

    def knows(self, token: str) -> bool:
        """Return whether the tokenizer has this as one token."""
        return self._lookup(token) is not None

    def marker_ids(self, marker: str | None) -> list[int]:
        """Return the tokens of a marker: its own, or the several that it is spelled with; none without a marker.

        Raises:
            UsageError: The tokenizer cannot write the marker.
        """
        if not marker:
            return []
        single = self._lookup(marker)
        if single is not None:
            return [single]
        ids = self.tokenizer(marker, add_special_tokens=False)["input_ids"]
        if not ids or self.unknown_id in ids:
            raise UsageError(
                f"expected a marker that {self.name}'s tokenizer can write, got {marker!r}; correct its reasoner.json."
            )
        return ids

    def text_ids(self, text: str) -> list[int]:
        """Return the tokens of a text to put into a thought.

        Raises:
            UsageError: The tokenizer does not know a word of it, or nothing is left of it.
        """
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        unknown = self.tokenizer.unk_token_id
        if not ids or (unknown is not None and unknown in ids):
            raise UsageError(
                f"expected words that {self.name} knows, got {text[:60]!r}: it does not know every word of that text."
            )
        return ids

    @cached_property
    def unknown_id(self) -> int | None:
        """The token for unknown words, or None where that token has another use as well, as in GPT-2."""
        unknown = self.tokenizer.unk_token_id
        others = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        return None if unknown in others else unknown

    @cached_property
    def stops(self) -> Stops:
        """What ends an answer: the end-of-sequence token, and the `stops` of the config."""
        ids_by_stop = {stop: self._lookup(stop) for stop in self.config.stops}
        eos = [self.token_id(self.config.eos)] if self.config.eos else []
        ids = [*eos, *(i for i in ids_by_stop.values() if i is not None)]
        return Stops(self.tokenizer, ids, [stop for stop, i in ids_by_stop.items() if i is None])

    def tokens(self, ids: list[int]) -> list[str]:
        """Return the tokens of some ids. An id beyond the tokenizer's is written `<id>`; embeddings may have more rows."""
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        return [f"<{i}>" if token is None else token for i, token in zip(ids, tokens, strict=True)]

    def check_trace(self, trace: Trace) -> None:
        """Check that the tokens of a trace, of whatever model, mean the same here.

        Raises:
            StoreError: A token has another text, or no embedding.
        """
        if trace.tokens == self.tokens(trace.token_ids) and max(trace.token_ids) < self.n_embeddings:
            return
        names = self.tokenizer.convert_ids_to_tokens(trace.token_ids)
        for position, (token, own, text) in enumerate(zip(trace.token_ids, names, trace.tokens, strict=True)):
            # Other versions and programs name a token as the tokenizer does, or as it decodes it alone.
            is_same = text in (own, f"<{token}>") or text == self.tokenizer.decode([token])
            if token >= self.n_embeddings or not is_same:
                reads = "has no embedding for" if token >= self.n_embeddings else f"reads as {own!r}"
                raise StoreError(
                    f"expected traces of {self.name}'s tokenizer, got token {token} as {text!r} in trace {trace.id} of "
                    f"{trace.reasoner} at position {position}, which {self.name} {reads}; load the model that made the "
                    "traces."
                )

    @cached_property
    def begin(self) -> MarkerFinder:
        """Finds the begin marker."""
        return MarkerFinder(self.tokenizer, self.config.begin, self.marker_ids(self.config.begin))

    @cached_property
    def end(self) -> MarkerFinder:
        """Finds the end marker."""
        return MarkerFinder(self.tokenizer, self.config.end, self.marker_ids(self.config.end))

    def thought_of(self, row: Row) -> str:
        """Return the text of a row's visible thought, without markers."""
        return self._decoded(row, Channel.THOUGHT) + row.thought_ending

    def answer_of(self, row: Row) -> str:
        """Return the text of a row's answer, without markers and up to a text that stops it."""
        answer = self._decoded(row, Channel.ANSWER)
        if row.answer_beginning is not None:
            first = row.token_ids[row.channel.index(Channel.ANSWER)]
            answer = answer[len(self.tokenizer.decode([first])) - len(row.answer_beginning) :]
        return self.stops.before(answer).strip()

    def _decoded(self, row: Row, channel: Channel) -> str:
        ids = [token for token, name in zip(row.token_ids, row.channel, strict=True) if name == channel]
        return self.tokenizer.decode(ids) if ids else ""

    def check_markers(self) -> None:
        """Check that the tokenizer can write every marker and stop of the config.

        Raises:
            UsageError: It cannot write one of them.
        """
        for marker in filter(None, (self.config.begin, self.config.end)):
            self.marker_ids(marker)
        _ = self.stops

    def prompt_ids(self, problem: Problem) -> list[int]:
        """Return the tokens of a problem's prompt.

        Raises:
            UsageError: The question is empty, holds words that the tokenizer does not know, or is too long.
        """
        question = problem.question
        ids = prompt_ids(self.tokenizer, self.config, problem) if question.strip() else []
        if not ids:
            raise UsageError(f"problem {problem.id} has an empty question; leave it out.")
        if self.unknown_id is not None and self.unknown_id in ids:
            word = next((w for w in question.split() if self._is_unknown(w)), None)
            if word is None and self.unknown_id not in self.tokenizer(question, add_special_tokens=False)["input_ids"]:
                raise UsageError(
                    f"{self.name} does not know a word of its prompt template {self.config.prompt!r}; correct `prompt` "
                    "of its reasoner.json."
                )
            task = (
                f"It was made for task {self.config.task!r}, whose problems are taken where no others are given"
                if self.config.task
                else "Use words of its vocabulary"
            )
            raise UsageError(
                f"{self.name} does not know {word or question!r} in the question {question[:200]!r}. {task}."
            )
        needed = len(ids) + self.config.n_thoughts(problem.n_steps) + _KEPT_FREE
        if needed > (self.max_positions or _UNLIMITED):
            raise UsageError(
                f"the question {question[:60]!r} needs more than the {self.max_positions} positions of {self.name}; "
                "shorten it, or leave it out."
            )
        return ids

    def refusal(self, problem: Problem) -> str | None:
        """Return why the reasoner cannot think about a problem, or None where it can."""
        try:
            self.prompt_ids(problem)
        except UsageError as error:
            return str(error)
        return None

    def _is_unknown(self, word: str) -> bool:
        return self.tokenizer.convert_tokens_to_ids(word) == self.tokenizer.unk_token_id


class Stops:
    """What ends an answer: tokens that are not written, and texts after which nothing is written.

    A text may begin and end inside tokens. The tokens that hold it are written; the answer's text ends before it.

    Args:
        tokenizer: The tokenizer that decodes the answer.
        ids: The token ids.
        texts: The texts.
    """

    def __init__(self, tokenizer: Any, ids: Sequence[int], texts: Sequence[str]) -> None:
        self.ids = frozenset(ids)
        self._texts = tuple(texts)
        self._tokenizer = tokenizer
        self._look_back = 4 + max((len(text) * (1 if text.isascii() else 4) for text in texts), default=0)

    def after(self, answer: Sequence[int], beginning: str | None = None) -> bool:
        """Return whether the answer so far, as token ids, holds one of the texts at its end.

        Args:
            answer: The token ids.
            beginning: The answer's text in the first of them, where that holds a piece of the end marker too.
        """
        if not self._texts or not answer:
            return False
        tail = self._tokenizer.decode(list(answer[-self._look_back :]))
        if beginning is not None and len(answer) <= self._look_back:
            tail = tail[len(self._tokenizer.decode([answer[0]])) - len(beginning) :]
        return any(text in tail for text in self._texts)

    def before(self, answer: str) -> str:
        """Return an answer's text up to the first of the texts that stop it."""
        return answer[: min((answer.index(text) for text in self._texts if text in answer), default=len(answer))]


def prompt_ids(tokenizer: Any, config: ReasonerConfig, problem: Problem) -> list[int]:
    """Return the tokens of a problem's prompt.

    A beginning-of-sequence token that the chat template writes is not doubled.

    Raises:
        UsageError: The chat template cannot be applied.
    """
    return encoded_prompt(tokenizer, config, prompt_text(tokenizer, config, problem))


def encoded_prompt(tokenizer: Any, config: ReasonerConfig, text: str) -> list[int]:
    """Return the tokens of a text that begins with a prompt, with the beginning-of-sequence token that config names."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    bos = tokenizer.bos_token_id
    return [bos, *ids] if config.bos and bos is not None and ids[:1] != [bos] else ids


def prompt_text(tokenizer: Any, config: ReasonerConfig, problem: Problem) -> str:
    """Return a problem's prompt: in the template of the config, unless the problem brings a prompt of its own.

    Messages that the problem has before its question come before it. A system message among them replaces the config's.

    Raises:
        UsageError: The chat template cannot be applied, or there is none to write earlier messages with.
    """
    if problem.prompt is not None:
        return problem.prompt.replace("{question}", problem.question)
    if config.prompt != CHAT:
        if problem.messages:
            raise UsageError(
                f"expected a model with a chat template for a question with {len(problem.messages)} messages before it, "
                "got one whose prompt is a plain text; leave out system messages, or load it with a chat template."
            )
        return config.prompt.replace("{question}", problem.question)
    try:
        return tokenizer.apply_chat_template(
            chat_messages(config, problem), add_generation_prompt=True, tokenize=False, **config.chat_options
        )
    except Exception as error:  # a template is a program of the model's makers: it may raise anything
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"the chat template cannot be applied ({reason}). Check `system` and `chat_options`."
        ) from None


def chat_messages(config: ReasonerConfig, problem: Problem) -> list[dict[str, Any]]:
    """Return the messages of a problem's conversation, its question last."""
    messages = [*map(dict, problem.messages), {"role": "user", "content": problem.question}]
    if config.system is not None and all(message["role"] != "system" for message in messages):
        messages = [{"role": "system", "content": config.system}, *messages]
    return messages
