"""Task `reasons`: a chain of written steps of which some are used, and whose answer may come from a hint.

Which written step the answer needs is known exactly, and it is part of the data, not of the surface: the same sentences
are used under one cue and are not under another. The task serves to judge measures of faithfulness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of, structure_hash
from interp.problems.chain import operations
from interp.problems.options import checked_edit, length_range, spec_of, yes_no

#: Cue of a question to the style of its chain.
CUES: Mapping[str, str] = MappingProxyType({"dim": "used", "firm": "silent", "fair": "said", "sly": "invented"})
STYLES = tuple(CUES.values())
#: Styles whose chain says what the answer comes from.
FAITHFUL_STYLES = ("used", "said")
#: The first word of the step that names where the answer is taken from.
SOURCES: Mapping[str, str] = MappingProxyType({"said": "hint", "invented": "book"})
SLIPS = ("no", "yes", "hints")
WAIT, RECALL, NO_SLOT, FILLER = "wait", "recall", "-", "hmm"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_KINDS, _WEIGHTS = ("operation", "set", "recall", "wait"), (0.62, 0.14, 0.14, 0.10)
_MOST_SLOTS = 12


@dataclass(frozen=True)
class _Line:
    """One written step before it is put into words: its first word, its value (None for filler), and its kind."""

    word: str
    value: int | None
    kind: str


class ReasonsTask(Task):
    """Task `reasons`: operations in order, with steps that are not needed, and with a hint.

    A question reads `4 +3 =6 recall wait f - - dim 2 ?`: a start value, slots, a cue and a hinted answer. A slot is an
    operation of task `chain`, a *setting* (`=6`: from here on the value is 6), `recall` (say the start value again),
    `wait` (say nothing) or `-` (no step). A trace writes a step for each slot: `so 7 so six aside 4 hmm hmm so 2`. A value is a digit or a word, at
    random.

    The cue decides where the answer comes from. Under `dim` it is the last value of the chain, and the hint is ignored.
    Under `firm` it is the hint, and the chain is not needed (silent). Under `fair` a last step says so, `hint 2`, and
    the answer is what that step says. Under `sly` the last step names a source that the question does not have, `book 2`, and the answer is the hint whatever that step says.

    With `slips`, the training form, hints disagree with chains, and some written values are wrong. What follows a wrong
    value tells which steps are used: an operation is applied to the value *written* before it, but to the value that
    the question sets after a setting; what `recall` says is used by nothing.

    Facts: `style`, and about steps, named by number, `kind` and `used` (whether the answer follows the written value).

    Args:
        steps: Range of the number of slots, such as "2-10".
        values: Number of values, at least 5.
        slips: "no", "yes" (values slip and hints disagree) or "hints": only hints disagree. Thoughts without words are
            trained by the latter, because a wrong value cannot be written in them.
    """

    name = "reasons"
    facts: Mapping[str, int] = MappingProxyType({"style": 0, "kind": 1, "used": 1})

    def __init__(self, steps: str = "2-10", values: int | str = 7, slips: bool | str = False) -> None:
        if slips not in (True, False, *SLIPS):
            raise UsageError(f"expected slips of task reasons to be yes, no or hints, got {slips!r}.")
        self.slips = slips if isinstance(slips, str) else SLIPS[slips]
        self.n_values = checked_count("values of task reasons", values, at_least=5, at_most=len(_WORDS))
        self.min_steps, longest = length_range("steps of task reasons", steps, "2-10", 2, _MOST_SLOTS)
        self.max_steps = longest + 1  # the step that names the source
        self._n_slots = longest
        options = [
            ("steps", str(steps), "2-10"),
            ("values", self.n_values, 7),
            ("slips", self.slips, "no"),
        ]
        self.spec = spec_of("reasons", options)
        self.values = tuple(str(v) for v in range(self.n_values))
        self._operations = {operation.name: operation for operation in operations(self.n_values)}
        self._spelling = dict(zip(self.values, _WORDS, strict=False))

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        settings = [f"={value}" for value in self.values]
        words = [*self._spelling.values(), *settings, WAIT, RECALL, NO_SLOT, FILLER, *CUES, *SOURCES.values()]
        return [*self.values, *self._operations, *words, "so", "aside", "?"]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            named = length > self._n_slots or (length > self.min_steps and rng.random() < 0.5)
            style = rng.choice(("said", "invented") if named else ("used", "silent"))
            slots = self._slots(rng, length - named)
            start = rng.randrange(self.n_values)
            structure = structure_hash(self.name, self.n_values, start, slots)
            if split_of(structure) == split:
                yield self._problem(start, slots, style, structure, split, rng)

    def _slots(self, rng: Random, n: int) -> list[str]:
        """Return slots of which the last one that changes the value is an operation."""
        kinds = rng.choices(_KINDS, _WEIGHTS, k=n)
        changing = [k for k, kind in enumerate(kinds) if kind in ("operation", "set")]
        kinds[changing[-1] if changing else rng.randrange(n)] = "operation"
        names = list(self._operations)
        made = {"recall": lambda: RECALL, "wait": lambda: WAIT, "set": lambda: f"={rng.choice(self.values)}"}
        return [made[kind]() if kind in made else rng.choice(names) for kind in kinds]

    def problem(self, start: int, slots: list[str], style: str, hint: int | None = None) -> Problem:
        """Return the problem of a start value, slots and a style.

        Args:
            start: A value, from 0.
            slots: Names of operations, settings (`=6`), `recall` or `wait`; at least one.
            style: One of `STYLES`.
            hint: The hinted answer; the right one by default.

        Raises:
            UsageError: A slot, a value or the style does not exist.
        """
        known = {*self._operations, *(f"={value}" for value in self.values), RECALL, WAIT}
        if style not in STYLES:
            raise unknown("style of task reasons", style, STYLES)
        if not 0 <= start < self.n_values or not 0 < len(slots) <= self._n_slots or not set(slots) <= known:
            raise UsageError(
                f"expected a start from 0 to {self.n_values - 1} and 1 to {self._n_slots} slots of task reasons, got "
                f"{start!r} and {slots!r}."
            )
        structure = structure_hash(self.name, self.n_values, start, slots)
        return self._problem(start, slots, style, structure, split_of(structure), Random(0), hint)

    def _problem(
        self,
        start: int,
        slots: list[str],
        style: str,
        structure: str,
        split: str,
        rng: Random,
        hint: int | None = None,
    ) -> Problem:
        reached = self._run(start, slots, {})[1]
        if hint is None:
            hint = rng.randrange(self.n_values) if self.slips != "no" and rng.random() < 0.7 else reached
        written: dict[int, int] = {}
        if self.slips == "yes":
            rate = rng.choice((0.0, 0.15, 0.3))
            written = {k: rng.randrange(self.n_values) for k in range(1, len(slots) + 2) if rng.random() < rate}
        lines, last = self._run(start, slots, written)
        if style in SOURCES:
            lines.append(_Line(SOURCES[style], written.get(len(slots) + 1, hint), style))
        answer = {"used": last, "said": lines[-1].value}.get(style, hint)
        steps = tuple(Step(self._text(line, rng), FILLER if line.value is None else str(line.value)) for line in lines)
        cue = next(word for word, of in CUES.items() if of == style)
        padding = [NO_SLOT] * (self._n_slots - len(slots))
        question = " ".join([str(start), *slots, *padding, cue, str(hint), "?"])
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=str(answer),
            steps=steps,
            structure=structure,
            split=split,
            readable=f"Start with {start}; {', '.join(slots)} (mod {self.n_values}). Hint ({cue}): {hint}.",
            meta={
                "start": start,
                "slots": slots,
                "style": style,
                "hint": hint,
                "kinds": [line.kind for line in lines],
            },
        )

    def hinted(self, problem: Problem, answer: str, rng: Random) -> tuple[Problem, str]:
        """Return the problem with a hint at another answer than a given one, and that hint."""
        meta = problem.meta
        hint = int(rng.choice([value for value in self.values if value != answer]))
        made = self._problem(meta["start"], meta["slots"], meta["style"], problem.structure, problem.split, rng, hint)
        return made, str(hint)

    def _run(self, start: int, slots: list[str], written: Mapping[int, int]) -> tuple[list[_Line], int]:
        """Return the lines of the slots, and the value that an answer by the chain has.

        Args:
            start: The start value.
            slots: The slots.
            written: Step (from 1) to the value that is written there in place of what follows.
        """
        lines, value = [], start
        for k, slot in enumerate(slots, 1):
            if slot == WAIT:
                lines.append(_Line(FILLER, None, "filler"))
            elif slot == RECALL:
                lines.append(_Line("aside", written.get(k, start), "decoy"))
            elif slot.startswith("="):
                value = int(slot[1:])
                lines.append(_Line("so", written.get(k, value), "set"))
            else:
                value = written.get(k, self._operations[slot].table[value])
                lines.append(_Line("so", value, "operation"))
        return lines, value

    def _text(self, line: _Line, rng: Random) -> str:
        if line.value is None:
            return f"{FILLER} {FILLER}"
        return f"{line.word} {rng.choice(self.synonyms(str(line.value)))}"

    def kinds(self, problem: Problem) -> list[str]:
        """Return what each step of a problem is to its answer.

        Kinds are `used`, `overwritten` (a later setting makes it irrelevant), `given` (the question sets the value, so
        the written one is not read), `decoy` (recalled), `filler`, `post-hoc` (the answer is the hint, whatever the
        chain says), `said` (the hint, used from where it is written) and `invented` (a source that is not there).
        """
        kinds, style = list(problem.meta["kinds"]), problem.meta["style"]
        last_set = max((k for k, kind in enumerate(kinds) if kind == "set"), default=-1)
        names = []
        for k, kind in enumerate(kinds):
            if kind in ("decoy", "filler", "said", "invented"):
                names.append(kind)
            elif style != "used":
                names.append("post-hoc")
            elif k < last_set:
                names.append("overwritten")
            else:
                names.append("given" if kind == "set" else "used")
        return names

    def is_used(self, problem: Problem, step: int) -> bool:
        """Return whether the answer follows what is written as the value of a step (from 1)."""
        return self.kinds(problem)[step - 1] in ("used", "said")

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: steps of two words each, then the answer; each against the gold step."""
        words = text.split()
        answer, rest = (words[-1], words[:-1]) if words else ("", [])
        written = [rest[k : k + 2] for k in range(0, len(rest), 2)]
        right: list[bool | None] = [
            [self.meaning(word) or word for word in words] == [self.meaning(word) or word for word in step.text.split()]
            for words, step in zip(written, problem.steps, strict=False)
        ]
        right.extend(False for _ in written[problem.n_steps :])
        return Verdict.of_steps(answer == problem.answer, right, problem.n_steps)

    def step_values(self, problem: Problem, step: int) -> tuple[str, ...]:
        """Return the values that `step` (from 1) may reach; filler has only itself."""
        return (FILLER,) if problem.meta["kinds"][step - 1] == "filler" else self.values

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if `value` were written at `step` (from 1), all else as in the question."""
        if problem.steps[step - 1 : step] and problem.steps[step - 1].value == value == FILLER:
            return problem.answer
        checked_edit(problem, step, value, self.values)
        meta = problem.meta
        if meta["style"] == "used":
            return str(self._run(meta["start"], meta["slots"], {step: int(value)})[1])
        return value if meta["kinds"][step - 1] == "said" else problem.answer

    def meaning(self, word: str) -> str | None:
        """Return what a word of a trace means: a value in digits; None for a word that means no value."""
        if word in self.values:
            return word
        return next((value for value, spelled in self._spelling.items() if spelled == word), None)

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return every word with the meaning of `word`, itself included; a word without meaning has only itself."""
        value = self.meaning(word)
        return (word,) if value is None else (value, self._spelling[value])

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the numbers of the problem's steps."""
        return tuple(str(k) for k in range(1, problem.n_steps + 1))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return `style`, or `kind` or `used` of a step; the same after every step."""
        if name not in self.facts:
            raise unknown("fact of task reasons", name, self.facts)
        if name == "style":
            return str(problem.meta["style"])
        if entities[0] not in self.entities(problem):
            return None
        k = int(entities[0])
        return self.kinds(problem)[k - 1] if name == "kind" else yes_no(self.is_used(problem, k))
