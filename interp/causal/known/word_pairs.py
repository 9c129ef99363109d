"""Pairs of words for the in-context tasks of `interp.causal.known.task_vectors`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from interp.errors import UsageError

Pairs = Mapping[str, Sequence[tuple[str, str]]]

_TABLES = {
    "capital": """France Paris, Japan Tokyo, Italy Rome, Spain Madrid, Germany Berlin, Egypt Cairo, Greece Athens,
        Russia Moscow, China Beijing, Cuba Havana, Peru Lima, Iraq Baghdad, Iran Tehran, Kenya Nairobi, Austria Vienna,
        Portugal Lisbon, Norway Oslo, Sweden Stockholm, Finland Helsinki, Ireland Dublin, Poland Warsaw, Hungary Budapest,
        Turkey Ankara, Thailand Bangkok, Vietnam Hanoi, Canada Ottawa, England London, Denmark Copenhagen, Syria Damascus,
        Chile Santiago, Lebanon Beirut, Jordan Amman, Ukraine Kiev, Bulgaria Sofia, Romania Bucharest, Scotland Edinburgh""",
    "opposite": """hot cold, big small, up down, left right, good bad, day night, black white, open closed, fast slow,
        old new, high low, rich poor, happy sad, early late, long short, hard soft, light dark, wet dry, full empty,
        in out, yes no, true false, first last, inside outside, near far, strong weak, thick thin, love hate, push pull,
        start end, buy sell, win lose, male female, north south, east west, before after""",
    "past tense": """go went, eat ate, see saw, run ran, take took, give gave, write wrote, drive drove, sing sang,
        drink drank, begin began, break broke, speak spoke, know knew, grow grew, fly flew, find found, think thought,
        buy bought, bring brought, teach taught, sleep slept, keep kept, feel felt, leave left, tell told, sell sold,
        make made, say said, come came, get got, win won, lose lost, build built, send sent, hold held""",
    "plural": """cat cats, dog dogs, car cars, book books, tree trees, house houses, bird birds, hand hands, child children,
        man men, woman women, foot feet, tooth teeth, mouse mice, city cities, baby babies, lady ladies, leaf leaves,
        wife wives, box boxes, bus buses, church churches, day days, key keys, boy boys, girl girls, friend friends,
        river rivers, road roads, song songs, story stories, party parties, star stars, ship ships, king kings, door doors""",
}
#: The built-in tasks.
WORD_PAIRS: Pairs = {
    name: tuple((first, second) for first, second in (pair.split() for pair in table.split(",")))
    for name, table in _TABLES.items()
}


def read_pairs(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Read pairs from a JSON file, `{"task": [["word", "answer"], ...], ...}`.

    Raises:
        UsageError: The file is not of this form.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        pairs = {str(name): [(str(one), str(other)) for one, other in rows] for name, rows in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f'expected a JSON file such as {{"capital": [["France", "Paris"], ...]}}, got {str(path)!r} ({error}).'
        ) from None
    return pairs
