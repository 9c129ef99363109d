"""The slot of a step that holds its value: the same in every step of a text that writes them all in one format.

A value alone says little about where it was reached, because operands and values of other steps are often equal to it. The
slot that holds the value of every step of a text at once is seldom another one by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from interp.text.units import Unit, occurrences

Part = list[Unit]


def values_in_parts(parts: Sequence[Part], values: Sequence[Sequence[Unit]]) -> list[int | None]:
    """Return for each part the index of the unit that completes its value; None where nothing tells.

    A part that has another value in the slot of the others is given what stands there.

    Args:
        parts: The units of each step.
        values: The units of the value of each step.
    """
    slot, _ = _common_slot(parts, values)
    return [_in_slot(part, value, slot) for part, value in zip(parts, values, strict=True)]


def values_in_text(units: Part, breaks: Sequence[int], values: Sequence[Sequence[Unit]]) -> list[int] | None:
    """Return for each step the index of the unit that completes its value; None where the text has no clear format.

    The text is divided into as many parts as there are steps: at line breaks, at a sign, before a word, or into parts
    of one length. The division whose parts agree most about a slot counts, and of those the one with the most equal parts.

    Args:
        units: The units of the text.
        breaks: Indices of the units that begin a line.
        values: The units of the value of each step.
    """
    if not units:
        return None
    best, agreed, most_uneven = None, max(1, len(values) // 2) + 1, len(units)
    for starts in _divisions(units, breaks, len(values)):
        ends = [*starts[1:], len(units)]
        parts = [units[start:end] for start, end in zip(starts, ends, strict=True)]
        slot, count = _common_slot(parts, values)
        lengths = [len(part) for part in parts]
        uneven = max(lengths) - min(lengths)
        if count > agreed or (count == agreed and uneven < most_uneven):
            inside = [_in_slot(part, value, slot) for part, value in zip(parts, values, strict=True)]
            best = [None if at is None else start + at for start, at in zip(starts, inside, strict=True)]
            agreed, most_uneven = count, uneven
    return None if best is None or None in best else [at for at in best if at is not None]


def _divisions(units: Part, breaks: Sequence[int], n: int) -> Iterator[list[int]]:
    """Yield the first indices of `n` parts, for each way to divide a text into so many that have a word each."""
    keys = [unit.key for unit in units]
    by_key: dict[Hashable, list[int]] = {}
    for k, key in enumerate(keys):
        by_key.setdefault(key, []).append(k)
    candidates = [list(breaks)]
    candidates += [[0, *(k + 1 for k in at)] for key, at in by_key.items() if not units[at[0]].is_word]
    candidates += [at for at in by_key.values() if at[0] == 0]
    if len(units) % n == 0:
        candidates.append(list(range(0, len(units), len(units) // n)))
    for starts in candidates:
        ends = [*starts[1:], len(units)]
        starts = [s for s, e in zip(starts, ends, strict=True) if any(unit.is_word for unit in units[s:e])]
        if len(starts) == n and starts[0] == 0:
            yield starts


def _common_slot(parts: Sequence[Part], values: Sequence[Sequence[Unit]]) -> tuple[tuple[str, Hashable] | None, int]:
    """Return the slot that holds the value in most parts, the last of them where several do, and in how many."""
    counts: Counter[tuple[str, Hashable]] = Counter()
    to_the_end: Counter[tuple[str, Hashable]] = Counter()
    for part, value in zip(parts, values, strict=True):
        for slot, (_, last) in _slots(part, value).items():
            counts[slot] += 1
            to_the_end[slot] += len(part) - last
    if not counts:
        return None, 0
    slot = max(counts, key=lambda slot: (counts[slot], -to_the_end[slot] / counts[slot]))
    return slot, counts[slot]


def _slots(part: Part, value: Sequence[Unit]) -> dict[tuple[str, Hashable], tuple[int, int]]:
    """Return the slots of a part that hold the value, with its first and last unit there."""
    slots: dict[tuple[str, Hashable], tuple[int, int]] = {}
    for first, last in occurrences(part, value):
        slots["from the start", first] = first, last
        slots["from the end", len(part) - last] = first, last
        if first:
            slots["after", part[first - 1].key] = first, last
        if last + 1 < len(part):
            slots["before", part[last + 1].key] = first, last
    return slots


def _in_slot(part: Part, value: Sequence[Unit], slot: tuple[str, Hashable] | None) -> int | None:
    """Return the index of the unit that completes what stands in a slot; without it, the last mention of the value."""
    slots = _slots(part, value)
    if slot in slots:
        return slots[slot][1]
    at = _unit_at(part, *slot) if slot is not None else None
    if at is not None:
        return at
    return max((last for _, last in slots.values()), default=None)


def _unit_at(part: Part, side: str, what: Hashable) -> int | None:
    """Return the index of the unit in a slot, where that is a word."""
    keys = [unit.key for unit in part]
    if isinstance(what, int) and side in ("from the start", "from the end"):
        at = what if side == "from the start" else len(part) - what
    elif what in keys:
        last = max(k for k, key in enumerate(keys) if key == what)
        at = last + 1 if side == "after" else last - 1
    else:
        return None
    return at if 0 <= at < len(part) and part[at].is_word else None
