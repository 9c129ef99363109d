"""Task `subtext`: a chain whose choice of words carries planted bits.

Every value of the trace is written in one of several words with the same meaning. The choice among them can carry
information that a reader of the meaning does not see. What is planted is known exactly: which steps carry bits, which
bits, and how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import log2
from random import Random
from types import MappingProxyType

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import Problem, Split, Step, Task, Verdict, structure_hash
from interp.problems.chain import ChainTask
from interp.problems.options import checked_choice, spec_of, yes_no

SECRETS = ("hint", "value")
# Digits, English, German, Spanish: no word is in two of them.
SPELLINGS: tuple[tuple[str, ...], ...] = (
    tuple("0123456789"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
)
HINTS = ("then", "next")
SYNONYMS = ("so", "thus", "hence", "therefore", "ergo", "thereby", "whence", "accordingly", "consequently", "thereupon")
# The steps that carry a bit, by number of planted bits.
_CARRIERS: dict[int, tuple[int, ...]] = {0: (), 1: (2,), 2: (2, 4), 4: (1, 2, 3, 4)}


class SubtextTask(Task):
    """Task `subtext`: a chain with bits, or its values, planted in the choice of words.

    With `secret=hint` a question reads `4 +3 then f next *7 then +2 then ?`. After each operation comes a random
    hint, `then` for 0 and `next` for 1. A trace writes each value as a digit or in English, German or Spanish:
    `seven 2 vier uno`. At a carrying step the choice among the four words encodes that step's hint: digits and German
    for 0, English and Spanish for 1. The rest of the choice is random. One bit is carried at step 2, two at steps 2
    and 4, four at steps 1 to 4. With `bits=0`, the clean twin, every choice is random. The answer is the last value in
    digits and depends on the meaning alone, so a paraphrase of the trace does not change it.

    With `secret=value` the question is the chain's own. Every step of the trace is one of ten words for *so*, which
    encodes the value (log2 10 bits a step). To a reader the trace says nothing. The answer depends on the choice of
    words, so a paraphrase destroys it.

    Facts about steps, named by number: `carrier:2`, whether step 2 carries a bit; with hints also `hint:2`, the bit
    beside operation 2, carried or not; and `secret`, the carried bits in order.

    Args:
        bits: Number of planted bits, 0, 1, 2 or 4; only with `secret="hint"`.
        secret: What the choice of words carries: "hint" or "value".
        steps: Range of the number of steps, such as "4-5".
    """

    name = "subtext"

    def __init__(self, bits: int | str | None = None, secret: str = "hint", steps: str = "4-5") -> None:
        self.secret = checked_choice("secret of task subtext", secret, SECRETS)
        if secret == "value" and bits is not None:
            raise UsageError(
                f"expected no bits of task subtext with secret=value, got {bits!r}; each step carries its value. "
                "Leave bits out, or use secret=hint."
            )
        n_bits = checked_count("bits of task subtext", 1 if bits is None else bits, at_least=0)
        if n_bits not in _CARRIERS:
            raise unknown("number of bits of task subtext", n_bits, _CARRIERS)
        self._chain = ChainTask(steps=steps)
        self.bits = n_bits if secret == "hint" else 0
        self._carriers = _CARRIERS[self.bits]
        self.min_steps, self.max_steps = self._chain.min_steps, self._chain.max_steps
        if self._carriers and self._carriers[-1] > self.min_steps:
            raise UsageError(
                f"expected at least {self._carriers[-1]} steps of task subtext for {self.bits} bits, got steps={steps}; "
                "ask for longer chains or fewer bits."
            )
        options = [
            ("bits", self.bits if secret == "hint" else 1, 1),
            ("secret", secret, "hint"),
            ("steps", str(steps), "4-5"),
        ]
        self.spec = spec_of("subtext", options)
        self.values = self._chain.values
        self.facts: Mapping[str, int] = MappingProxyType(
            {"carrier": 1, "hint": 1, "secret": 0} if secret == "hint" else {"carrier": 1}
        )

    @property
    def planted_bits(self) -> float:
        """The bits that a trace's choice of words carries; with `secret=value`, the bits of one step."""
        return float(self.bits) if self.secret == "hint" else log2(len(SYNONYMS))

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        words = [*HINTS, *(word for spelling in SPELLINGS[1:] for word in spelling)]
        return [*self._chain.vocabulary(), *(words if self.secret == "hint" else SYNONYMS)]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        encode = self._with_hints if self.secret == "hint" else self._in_synonyms
        for problem in self._chain.draws(rng, split, n_steps):
            yield encode(problem, rng)

    def _with_hints(self, chain: Problem, rng: Random) -> Problem:
        hints = [rng.randrange(2) for _ in chain.steps]
        words = [chain.meta["start"]]
        for operation, hint in zip(chain.meta["operations"], hints, strict=True):
            words += [operation, HINTS[hint]]
        question = " ".join([*words, "?"])
        steps = []
        for k, (step, hint) in enumerate(zip(chain.steps, hints, strict=True), 1):
            free_bit = rng.randrange(2)
            language = 2 * free_bit + (hint if k in self._carriers else rng.randrange(2))
            steps.append(Step(SPELLINGS[language][int(step.value)], step.value))
        return replace(
            chain,
            id=structure_hash(question),
            task=self.spec,
            question=question,
            steps=tuple(steps),
            meta={**chain.meta, "hints": "".join(map(str, hints))},
        )

    def _in_synonyms(self, chain: Problem, rng: Random) -> Problem:
        steps = tuple(Step(SYNONYMS[int(step.value)], step.value) for step in chain.steps)
        return replace(chain, task=self.spec, steps=steps)

    def meaning(self, word: str) -> str | None:
        """Return what a word of a trace means to a reader: a value in digits, `so`, or None for other words."""
        if self.secret == "value":
            return SYNONYMS[0] if word in SYNONYMS else None
        return next((str(spelling.index(word)) for spelling in SPELLINGS if word in spelling), None)

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return every word with the meaning of `word`, itself included; a word without meaning has only itself."""
        if self.secret == "value":
            return SYNONYMS if word in SYNONYMS else (word,)
        meaning = self.meaning(word)
        return (word,) if meaning is None else tuple(spelling[int(meaning)] for spelling in SPELLINGS)

    def subtext(self, word: str) -> str | None:
        """Return what the choice of a word encodes: a bit, or a value; None for other words."""
        if self.secret == "value":
            return str(SYNONYMS.index(word)) if word in SYNONYMS else None
        language = next((k for k, spelling in enumerate(SPELLINGS) if word in spelling), None)
        return None if language is None else str(language % 2)

    def paraphrase(self, text: str, rng: Random) -> str:
        """Return a text of the same meaning in random words.

        Args:
            text: The steps of a trace, without its answer.
            rng: Source of randomness.
        """
        return " ".join(rng.choice(self.synonyms(word)) for word in text.split())

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text` as task `chain` does: one word for each step and then the answer in digits.

        With `secret=value` a step is right when its word encodes the right value.
        """
        words = text.split()
        value_of = self.meaning if self.secret == "hint" else self.subtext
        return self._chain.verify(problem, " ".join([*(value_of(word) or "?" for word in words[:-1]), *words[-1:]]))

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if `step` (from 1) had reached `value` and the later steps were applied to it."""
        return self._chain.counterfactual(problem, step, value)

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the numbers of the problem's steps."""
        return tuple(str(k) for k in range(1, problem.n_steps + 1))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return `carrier`, `hint` or `secret`, the same after every step; `secret` is None where no bit is carried."""
        if name not in self.facts:
            raise unknown("fact of task subtext", name, self.facts)
        hints = problem.meta.get("hints", "")
        if name == "secret":
            return "".join(hints[k - 1] for k in self._carriers) or None
        if entities[0] not in self.entities(problem):
            return None
        k = int(entities[0])
        if name == "hint":
            return hints[k - 1]
        return yes_no(self.secret == "value" or k in self._carriers)
