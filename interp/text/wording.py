"""Wording: what a word of a trace means, and which of the words of that meaning was chosen.

Both are known for tasks that say so (`synonyms`, as task `subtext`), and can be said for any other text in a JSON
file: a list of lists of words that mean the same, `[["big", "large"], ["so", "thus"]]`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from interp.errors import UsageError
from interp.traces import Channel, Trace


@dataclass(frozen=True)
class Word:
    """A word of the visible thought: the position of its first token in the trace."""

    text: str
    position: int


class Wording:
    """Sets of words that mean the same. A word of no set means itself, and there is nothing to choose."""

    def __init__(self, sets: Sequence[Sequence[str]]) -> None:
        self._of: dict[str, tuple[str, ...]] = {}
        for each in sets:
            if len(each) < 2 or len(set(each)) < len(each) or any(word in self._of for word in each):
                raise UsageError(
                    f"a set of synonyms is at least two different words that are in no other set, but {list(each)!r} came."
                )
            for word in each:
                self._of[word] = tuple(each)

    @classmethod
    def of_task(cls, task: Any) -> Wording:
        """That of a task which knows its synonyms. Raises `UsageError` for others."""
        if not hasattr(task, "synonyms"):
            raise UsageError(
                f"task {task.name} does not say which words mean the same; give a file of synonyms (--synonyms)."
            )
        sets = {task.synonyms(word) for word in task.vocabulary()}
        return cls(sorted(each for each in sets if len(each) > 1))

    @classmethod
    def read(cls, path: Path) -> Wording:
        """From a JSON file. Raises `UsageError` when it is not a list of lists of words."""
        try:
            sets = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read synonyms from {path}: {error}.") from None
        if not isinstance(sets, list) or not all(isinstance(each, list) for each in sets):
            raise UsageError(f'{path} must hold a list of lists of words, as [["so", "thus"], ["big", "large"]].')
        return cls([[str(word) for word in each] for each in sets])

    def options(self, word: str) -> tuple[str, ...]:
        """Every word of the same meaning, itself included."""
        return self._of.get(word, (word,))

    def meaning(self, word: str) -> str:
        """One word that stands for all of that meaning."""
        return self.options(word)[0]

    def choice(self, word: str) -> int:
        """Which of the words of its meaning it is, from 0."""
        return self.options(word).index(word)

    def paraphrase(self, words: Sequence[str], rng: Random, places: Collection[int] | None = None) -> list[str]:
        """The same meaning in words chosen at random: all of them, or those at `places` (from 1)."""
        return [
            rng.choice(self.options(word)) if places is None or k in places else word for k, word in enumerate(words, 1)
        ]


def words(trace: Trace) -> list[Word]:
    """The words of a trace's visible thought. Tokens that begin no word (no `Ġ` or `▁` where others have one) join it."""
    thought = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    pieces = any(trace.tokens[k][:1] in "Ġ▁" for k in thought if trace.tokens[k])
    found: list[Word] = []
    for k in thought:
        token = trace.tokens[k]
        if pieces and found and token[:1] not in ("Ġ", "▁"):
            found[-1] = Word(found[-1].text + token, found[-1].position)
        else:
            found.append(Word(token.lstrip("Ġ▁"), k))
    return found


def texts(traces: Sequence[Trace]) -> list[list[str]]:
    """The words of each trace."""
    return [[word.text for word in words(trace)] for trace in traces]
