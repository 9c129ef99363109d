"""Where each gold step stands in a visible thought, and where its value is complete.

A step is placed by its text: first where all steps are written as they are, then by the best monotone alignment of the
gold texts with what is written, and only then by its value: in the slot that holds the values of all steps. The value is complete at its last character, which is neither a
sign after it nor an operand with the same digits before it. A step that was written with another value is placed where that
value stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from interp.problems.base import Step
from interp.text.alignment import align, weight
from interp.text.slots import values_in_parts, values_in_text
from interp.text.units import Unit, occurrences, units_of

# Least share of a step's text that has to be written for the step to be recognised by it.
_RECOGNISED = 0.5


@dataclass(frozen=True)
class PlacedStep:
    """Where one gold step stands. Offsets are in characters, after the last one.

    Attributes:
        end: Where its text ends; None for a step that is not written, or is written out of order.
        value_end: Where its value is complete; None for a step that has no place.
        left_out: Whether nothing stands between the steps around it, so that it cannot be written there.
    """

    end: int | None
    value_end: int | None
    left_out: bool = False


@dataclass(frozen=True)
class _Gold:
    """The units of a gold step, and the first and last of them that are its value; None where they do not hold it."""

    units: list[Unit]
    value_units: list[Unit]
    value: tuple[int, int] | None

    @property
    def is_value_only(self) -> bool:
        return self.value is not None and self.value == (0, len(self.units) - 1)

    @property
    def last(self) -> int:
        """Index of the unit that completes the step: the value's last, else the last word."""
        return self.value[1] if self.value else _last_word(self.units)


def place_steps(text: str, steps: Sequence[Step], parts: Sequence[tuple[int, int]] | None = None) -> list[PlacedStep]:
    """Return where each gold step stands in a text.

    Args:
        text: The visible thought.
        steps: The gold steps, in order. A step without a text is looked for by its value.
        parts: For each step the offsets of the part of the text that holds it, where that is known.

    Returns:
        One entry for each step, in order.
    """
    gold = _gold(steps)
    exact = _exact(text, steps, gold)
    if exact is not None:
        return exact
    if parts is not None:
        return _in_parts(text, parts, gold)
    if len(gold) > 1 and all(step.is_value_only for step in gold):
        units = units_of(text)
        breaks = [k for k, unit in enumerate(units) if not k or "\n" in text[units[k - 1].end : unit.start]]
        values = values_in_text(units, breaks, [step.value_units for step in gold])
        if values is not None:
            return [PlacedStep(units[at].end, units[at].end) for at in values]
    return _StepAlignment(text, gold).places()


def _gold(steps: Sequence[Step]) -> list[_Gold]:
    values = [units_of(step.value) for step in steps]
    units = [units_of(step.text) or value for step, value in zip(steps, values, strict=True)]
    runs = [occurrences(of_step, value) for of_step, value in zip(units, values, strict=True)]
    votes = _votes(units, runs, whole=True)
    gold = []
    for of_step, value, candidates in zip(units, values, runs, strict=True):
        scores = [_score(of_step, run, votes, whole=True) for run in candidates]
        # Where nothing tells them apart, the last is the value: an operand comes before the result.
        chosen = next(
            (run for run, score in list(zip(candidates, scores, strict=True))[::-1] if score == max(scores)), None
        )
        gold.append(_Gold(of_step, value, chosen))
    return gold


def _contexts(units: Sequence[Unit], run: tuple[int, int], *, whole: bool) -> Iterator[Hashable]:
    """Yield what is around a run of units, and its place in a whole step: what runs of one format share."""
    first, last = run
    yield "after", units[first - 1].key if first else None
    yield "before", units[last + 1].key if last + 1 < len(units) else None
    if whole:
        yield "from the start", first
        yield "from the end", len(units) - last


def _votes(
    units: Sequence[Sequence[Unit]], runs: Sequence[Sequence[tuple[int, int]]], *, whole: bool
) -> Counter[Hashable]:
    """Return in how many steps each context occurs around the step's value."""
    votes: Counter[Hashable] = Counter()
    for of_step, candidates in zip(units, runs, strict=True):
        votes.update({context for run in candidates for context in _contexts(of_step, run, whole=whole)})
    return votes


def _score(units: Sequence[Unit], run: tuple[int, int], votes: Counter[Hashable], *, whole: bool) -> int:
    return max(votes[context] for context in _contexts(units, run, whole=whole))


def _exact(text: str, steps: Sequence[Step], gold: Sequence[_Gold]) -> list[PlacedStep] | None:
    """Return the places where the text holds all steps one after another, white space aside; None where it does not."""
    offsets = [k for k, letter in enumerate(text) if not letter.isspace()]
    bare = "".join(text[k] for k in offsets)
    texts = ["".join((step.text or step.value).split()) for step in steps]
    start = _whole(bare, "".join(texts), text, offsets)
    if start is None or not all(texts):
        return None
    if bare != "".join(texts) and all(step.is_value_only for step in gold):  # an operand may follow a value by chance
        return None
    places = []
    for step, of_step, bare_text in zip(steps, gold, texts, strict=True):
        written = step.text if step.text.strip() else step.value
        value_end = of_step.units[of_step.last].end
        n_before = sum(not letter.isspace() for letter in written[:value_end])
        places.append(PlacedStep(offsets[start + len(bare_text) - 1] + 1, offsets[start + n_before - 1] + 1))
        start += len(bare_text)
    return places


def _whole(bare: str, wanted: str, text: str, offsets: Sequence[int]) -> int | None:
    """Return where `wanted` stands in `bare`, the text without white space, and cuts no number or word in two."""
    start = bare.find(wanted) if wanted else -1
    while start >= 0:
        first, last = offsets[start], offsets[start + len(wanted) - 1]
        if not (_joined(text, first) or _joined(text, last + 1)):
            return start
        start = bare.find(wanted, start + 1)
    return None


def _joined(text: str, k: int) -> bool:
    """Return whether the characters before and at offset `k` are of one number or one word."""
    pair = text[k - 1 : k + 1] if k else ""
    return len(pair) == 2 and len(units_of(pair)) == 1


def _in_parts(text: str, parts: Sequence[tuple[int, int]], gold: Sequence[_Gold]) -> list[PlacedStep]:
    """Place each step in a part: in the one that writes its text, else in the next that writes no other step's."""
    written = [
        [unit._replace(start=unit.start + start, end=unit.end + start) for unit in units_of(text[start:end])]
        for start, end in parts
    ]
    written_keys = [[unit.key for unit in units] for units in written]
    keys = [[unit.key for unit in step.units] for step in gold]
    part_of = {k: k for k in range(len(gold)) if written_keys[k] == keys[k]}
    for k, step in enumerate(gold):
        if k not in part_of and not step.is_value_only:
            taken = part_of.values()
            same = next((j for j in range(len(parts)) if written_keys[j] == keys[k] and j not in taken), None)
            if same is not None:
                part_of[k] = same
    free = [j for j in range(len(parts)) if j not in part_of.values()]
    for k in range(len(gold)):
        if k not in part_of:
            part_of[k] = free.pop(free.index(k) if k in free else 0)
    values = values_in_parts([written[part_of[k]] for k in range(len(gold))], [step.value_units for step in gold])
    return [
        _in_part(written[part_of[k]], parts[part_of[k]][1], step, values[k] if step.is_value_only else None)
        for k, step in enumerate(gold)
    ]


def _in_part(written: Sequence[Unit], end: int, step: _Gold, value: int | None) -> PlacedStep:
    """Place a step in the part of the text that is known to hold it; `value` is the unit that completes it, if known."""
    if not written:
        return PlacedStep(None, None, left_out=True)
    if value is not None:
        return PlacedStep(end, written[value].end)
    at = align(step.units, [k == len(step.units) - 1 for k in range(len(step.units))], written).at
    where = at[step.last] if at and step.value else -1
    return PlacedStep(end, written[where if where >= 0 else _last_word(written)].end)


def _last_word(units: Sequence[Unit]) -> int:
    return max((k for k, unit in enumerate(units) if unit.is_word), default=len(units) - 1)


class _StepAlignment:
    """The alignment of gold steps with a written text, and what follows from it for each step."""

    def __init__(self, text: str, gold: Sequence[_Gold]) -> None:
        self._written, self._gold = units_of(text), gold
        self._starts = [0]
        for step in gold:
            self._starts.append(self._starts[-1] + len(step.units))
        self._weights = [weight(unit) for step in gold for unit in step.units]
        # For each step the first and last written unit of its text, and the unit that completes its value.
        self._spans: list[tuple[int, int] | None] = [None] * len(gold)
        kept = list(range(len(gold)))
        while True:
            self._align(kept)
            self._spans = [self._span(k, kept) if k in kept else None for k in range(len(gold))]
            recognised = [k for k in kept if self._spans[k] is not None]
            if recognised == kept:
                break
            kept = recognised  # a step that is not written takes no words from its neighbours
        self._values: list[int | None] = [self._value(k) for k in range(len(gold))]

    def _align(self, kept: Sequence[int]) -> None:
        """Align the units of some steps with what is written."""
        units = [unit for k in kept for unit in self._gold[k].units]
        ends_step = [j == len(self._gold[k].units) - 1 for k in kept for j in range(len(self._gold[k].units))]
        aligned = align(units, ends_step, self._written)
        self._at, self._equal = [-1] * len(self._weights), [False] * len(self._weights)
        for place, j in enumerate(j for k in kept for j in self._units(k)):
            self._at[j], self._equal[j] = aligned.at[place], aligned.equal[place]

    def places(self) -> list[PlacedStep]:
        """Return the place of every step."""
        self._place_by_value()
        moved = self._out_of_order()
        return [self._place(k, moved.get(k)) for k in range(len(self._gold))]

    def _place(self, k: int, moved: int | None) -> PlacedStep:
        span, value = self._spans[k], self._values[k]
        if span is not None and value is not None:
            return PlacedStep(self._written[span[1]].end, self._written[value].end)
        if moved is not None:
            return PlacedStep(None, self._written[moved].end)
        first, last = self._gap(k)
        return PlacedStep(None, None, left_out=not any(unit.is_word for unit in self._written[first:last]))

    def _units(self, k: int) -> range:
        return range(self._starts[k], self._starts[k + 1])

    def _span(self, k: int, kept: Sequence[int]) -> tuple[int, int] | None:
        """Return the written units of step k; None where too little of its text is written."""
        at = [self._at[j] for j in self._units(k) if self._at[j] >= 0]
        total = sum(self._weights[j] for j in self._units(k))
        written = sum(self._weights[j] for j in self._units(k) if self._equal[j])
        if not at or (written < _RECOGNISED * total and not self._fills_slot(k, kept)):
            return None
        return at[0], at[-1]

    def _fills_slot(self, k: int, kept: Sequence[int]) -> bool:
        """Return whether words that are not the step's stand exactly between those of the steps around it."""
        own = [self._at[j] for j in self._units(k) if self._at[j] >= 0]
        if len(own) < len(self._units(k)):
            return False
        place = kept.index(k)
        first = self._at[self._units(kept[place - 1])[-1]] if place else None
        last = self._at[self._units(kept[place + 1])[0]] if place + 1 < len(kept) else len(self._written)
        if first == -1 or last == -1:
            return False
        first = -1 if first is None else first
        between = [j for j in range(first + 1, last) if self._written[j].is_word]
        return between == [j for j in own if self._written[j].is_word]

    def _value(self, k: int) -> int | None:
        span, step = self._spans[k], self._gold[k]
        if span is None:
            return None
        if step.value is None:
            return max((j for j in range(span[0], span[1] + 1) if self._written[j].is_word), default=span[1])
        at = self._at[self._starts[k] + step.value[1]]
        if at < 0:  # the rest of its text is there, and not its value
            self._spans[k] = None
            return None
        return at

    def _gap(self, k: int) -> tuple[int, int]:
        """Return the first written unit after the steps before k, and the first of the steps after it."""
        before = [span[1] + 1 for span in self._spans[:k] if span is not None]
        after = [span[0] for span in self._spans[k + 1 :] if span is not None]
        return max(before, default=0), min(after, default=len(self._written))

    def _place_by_value(self) -> None:
        """Place steps that are only a value, or whose text is not recognised, at the likeliest mention of the value."""
        runs = [occurrences(self._written, step.value_units) for step in self._gold]
        votes = _votes([self._written] * len(self._gold), runs, whole=False)
        for k, step in enumerate(self._gold):
            other_value = self._values[k] is not None and not self._equal[self._starts[k] + step.last]
            if other_value or not (self._spans[k] is None or step.is_value_only):
                continue
            first, last = self._gap(k)
            inside = [run for run in runs[k] if first <= run[0] and run[1] < last]
            scores = [_score(self._written, run, votes, whole=False) for run in inside]
            if not inside:
                continue
            best = [run for run, score in zip(inside, scores, strict=True) if score == max(scores)]
            # A format that several steps share writes a value after its operands; without one the first mention counts.
            self._spans[k] = best[-1] if max(scores) > 1 else best[0]
            self._values[k] = self._spans[k][1]  # type: ignore[index]

    def _out_of_order(self) -> dict[int, int]:
        """Return the unit that completes the value of each step that is written whole, but out of order."""
        used = {j for span in self._spans if span is not None for j in range(span[0], span[1] + 1)}
        moved = {}
        for k, step in enumerate(self._gold):
            if self._spans[k] is not None or step.value is None or step.is_value_only:
                continue
            for first, last in occurrences(self._written, step.units):
                if used.isdisjoint(range(first, last + 1)):
                    moved[k] = first + step.value[1]
                    used |= set(range(first, last + 1))
                    break
        return moved
