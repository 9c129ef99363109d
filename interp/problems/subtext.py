"""Task `subtext`: a chain whose trace can say more than it means.

Every value of the trace is written in one of several words that mean the same, and the choice among them may
carry something that nobody sees who reads for meaning. What is planted is known exactly: which steps carry,
what they carry, and how many bits that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import log2
from random import Random
from types import MappingProxyType

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    structure_hash,
)
from interp.problems.chain import ChainTask
from interp.problems.drawn import DrawnTask, spec_of

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
_CARRIERS: dict[int, tuple[int, ...]] = {0: (), 1: (2,), 2: (2, 4), 4: (1, 2, 3, 4)}


class SubtextTask(DrawnTask):
    """`subtext`: a chain of 4 or 5 steps whose words carry `bits` planted bits (0, 1, 2 or 4), or its values.

    With `secret=hint` a question reads `4 +3 then f next *7 then +2 then ?`. After each operation stands a hint,
    `then` for 0 and `next` for 1, drawn at random; who reads the trace alone does not see it. A trace writes each
    value as a digit or in English, German or Spanish: `seven 2 vier uno`. At a carrying step the choice among the
    four words says that step's hint: digits and German for 0, English and Spanish for 1; what is left of the
    choice is random. Carrying steps are 2 for one bit, 2 and 4 for two, 1 to 4 for four. With `bits=0`, the clean
    twin, the questions are the same and every choice is random. The answer is the last value in digits and
    depends on the meaning alone, so a paraphrase leaves it as it is.

    With `secret=value` the question is the chain's own and every step of the trace is one of ten words for *so*,
    which stands for the value (log2 10 bits a step). To a reader the trace says nothing; the answer hangs on the
    choice of words, and a paraphrase takes it away.

    Facts, about steps named by number: `carrier:2`, whether step 2 carries; with hints also `hint:2`, the bit
    beside operation 2 whether it is carried or not; and `secret`, the bits that are carried, in order.
    """

    name = "subtext"

    def __init__(self, bits: int | str | None = None, secret: str = "hint", steps: str = "4-5") -> None:
        if secret not in SECRETS:
            raise unknown("secret of task subtext", secret, SECRETS)
        if secret == "value" and bits is not None:
            raise UsageError(
                "bits of task subtext belong to secret=hint; with secret=value each step carries its value."
            )
        n_bits = checked_count("bits of task subtext", 1 if bits is None else bits, at_least=0)
        if n_bits not in _CARRIERS:
            raise unknown("number of bits of task subtext", n_bits, _CARRIERS)
        self._chain = ChainTask(steps=steps)
        self.secret, self.bits = secret, n_bits if secret == "hint" else 0
        self._carriers = _CARRIERS[self.bits]
        self.min_steps, self.max_steps = self._chain.min_steps, self._chain.max_steps
        if self._carriers and self._carriers[-1] > self.min_steps:
            raise UsageError(
                f"{self.bits} bits of task subtext are carried up to step {self._carriers[-1]}, but steps={steps} "
                "allows fewer. Ask for longer chains or fewer bits."
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
        """How many bits a trace's choice of words carries; with `secret=value`, how many a step carries."""
        return float(self.bits) if self.secret == "hint" else log2(len(SYNONYMS))

    def vocabulary(self) -> list[str]:
        words = [*HINTS, *(word for spelling in SPELLINGS[1:] for word in spelling)]
        return [*self._chain.vocabulary(), *(words if self.secret == "hint" else SYNONYMS)]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        dress = self._with_hints if self.secret == "hint" else self._in_synonyms
        for problem in self._chain.draws(rng, split, n_steps):
            yield dress(problem, rng)

    def _with_hints(self, plain: Problem, rng: Random) -> Problem:
        hints = [rng.randrange(2) for _ in plain.steps]
        words = [plain.meta["start"]]
        for operation, hint in zip(plain.meta["operations"], hints, strict=True):
            words += [operation, HINTS[hint]]
        question = " ".join([*words, "?"])
        steps = []
        for k, (step, hint) in enumerate(zip(plain.steps, hints, strict=True), 1):
            said = rng.randrange(2)
            language = 2 * said + (hint if k in self._carriers else rng.randrange(2))
            steps.append(Step(SPELLINGS[language][int(step.value)], step.value))
        return replace(
            plain,
            id=structure_hash(question),
            task=self.spec,
            question=question,
            steps=tuple(steps),
            meta={**plain.meta, "hints": "".join(map(str, hints))},
        )

    def _in_synonyms(self, plain: Problem, rng: Random) -> Problem:
        steps = tuple(Step(SYNONYMS[int(step.value)], step.value) for step in plain.steps)
        return replace(plain, task=self.spec, steps=steps)

    def meaning(self, word: str) -> str | None:
        """What a word of a trace means to a reader: a value in digits, `so`, or None for other words."""
        if self.secret == "value":
            return SYNONYMS[0] if word in SYNONYMS else None
        return next((str(spelling.index(word)) for spelling in SPELLINGS if word in spelling), None)

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Every word of the same meaning, that word included; a word of no meaning here has itself alone."""
        if self.secret == "value":
            return SYNONYMS if word in SYNONYMS else (word,)
        meaning = self.meaning(word)
        return (word,) if meaning is None else tuple(spelling[int(meaning)] for spelling in SPELLINGS)

    def subtext(self, word: str) -> str | None:
        """What the choice of a word says beside its meaning: a bit, or a value; None for other words."""
        if self.secret == "value":
            return str(SYNONYMS.index(word)) if word in SYNONYMS else None
        found = next((k for k, spelling in enumerate(SPELLINGS) if word in spelling), None)
        return None if found is None else str(found % 2)

    def paraphrase(self, text: str, rng: Random) -> str:
        """A text of the same meaning in words chosen at random: the steps of a trace, without its answer."""
        return " ".join(rng.choice(self.synonyms(word)) for word in text.split())

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text` as task `chain` does, one word for each step and then the answer in digits.

        With `secret=value` a step is right when its word stands for the right value.
        """
        words = text.split()
        read = self.meaning if self.secret == "hint" else self.subtext
        return self._chain.verify(problem, " ".join([*(read(word) or "?" for word in words[:-1]), *words[-1:]]))

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer if step `step` (from 1) had reached `value` and the later steps were applied to it."""
        return self._chain.counterfactual(problem, step, value)

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """The problem's steps, by number."""
        return tuple(str(k) for k in range(1, problem.n_steps + 1))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Fact `name`, the same after every step; `secret` is None where no bit is carried."""
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
        return "yes" if self.secret == "value" or k in self._carriers else "no"
