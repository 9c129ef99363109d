"""What a reasoner can read and write: tokens, markers, what ends an answer, and the prompt of a problem."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.prompts import prompt_ids, unknown_id
from interp.reasoners.sampling import Stops


class Vocabulary:
    """The part of a reasoner that deals with its tokenizer."""

    tokenizer: Any
    config: ReasonerConfig
    name: str
    max_positions: int | None
    _known: dict[str, int | None]

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
