"""Positions of many traces as columns, from which the lists of single traces are made when they are read.

A Python list takes up to 40 bytes a number, a column 1 to 8. So that a set of ten million positions fits in memory, only
the lists that were read last are kept.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int, Shaped

_LISTS_KEPT = 1 << 21  # values of all lists that were read last, about 80 MB
_ENTRY = 8  # what an empty list counts


class Column(Protocol):
    """A list for each trace."""

    def values(self, number: int) -> list[Any]:
        """Return the list of a trace."""
        ...


class Numbers:
    """A list of numbers for each trace, in the smallest dtype that holds them.

    Args:
        values: The numbers of all traces, one after the other.
        bounds: Where each trace begins, and the number of values.
    """

    def __init__(self, values: Shaped[np.ndarray, " values"], bounds: Int[np.ndarray, " traces_and_one"]) -> None:
        self._values, self._bounds = _narrowed(values), bounds

    def values(self, number: int) -> list[Any]:
        """Return the list of a trace."""
        return self._values[self._bounds[number] : self._bounds[number + 1]].tolist()


class Texts:
    """A list of texts for each trace. A text that occurs often is kept once.

    Args:
        codes: For each position of all traces, the number of its text.
        words: The texts.
        bounds: Where each trace begins, and the number of positions.
    """

    def __init__(
        self, codes: Int[np.ndarray, " values"], words: Sequence[str], bounds: Int[np.ndarray, " traces_and_one"]
    ) -> None:
        self._codes, self._words = Numbers(codes, bounds), words

    def values(self, number: int) -> list[Any]:
        """Return the list of a trace."""
        words = self._words
        return [words[code] for code in self._codes.values(number)]


class PositionColumns:
    """The columns of some traces.

    Args:
        columns: Columns by the name of their attribute.
        lengths: The number of positions of each trace.
    """

    def __init__(self, columns: Mapping[str, Column], lengths: Int[np.ndarray, " traces"]) -> None:
        self._columns, self._lengths = dict(columns), lengths

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def length(self, number: int) -> int:
        """Return the number of positions of a trace."""
        return int(self._lengths[number])

    def keep_list(self, owner: Any, name: str, number: int) -> list[Any]:
        """Return the list of a trace, and keep it as the attribute `name` of `owner` until others took its place."""
        values = self._columns[name].values(number)
        _kept_lists.add(owner, name, values)
        return values


class _KeptLists:
    """The lists that were made last, as attributes of their traces."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._order: deque[tuple[weakref.ref[Any], str, int]] = deque()
        self._lock = threading.Lock()

    def add(self, owner: Any, name: str, values: list[Any]) -> None:
        """Keep a list, and drop the oldest ones where there are too many values."""
        with self._lock:
            owner.__dict__[name] = values
            self._order.append((weakref.ref(owner), name, len(values) + _ENTRY))
            self._count += len(values) + _ENTRY
            while self._count > self._most and len(self._order) > 1:
                reference, oldest, size = self._order.popleft()
                self._count -= size
                trace = reference()
                if trace is not None and not (trace is owner and oldest == name):
                    trace.__dict__.pop(oldest, None)


_kept_lists = _KeptLists(_LISTS_KEPT)


def column_of(lists: Sequence[Sequence[Any]]) -> Column:
    """Return the column of one list a trace, all of numbers or all of texts."""
    bounds = np.concatenate([[0], np.cumsum([len(values) for values in lists])]).astype(np.int64)
    if any(isinstance(value, str) for values in lists for value in values[:1]):
        codes: dict[str, int] = {}
        numbers = [codes.setdefault(str(value), len(codes)) for values in lists for value in values]
        return Texts(np.array(numbers, np.int64), list(codes), bounds)
    joined = [value for values in lists for value in values]
    return Numbers(np.array(joined) if joined else np.zeros(0, np.int64), bounds)


def _narrowed(values: Shaped[np.ndarray, " values"]) -> Shaped[np.ndarray, " values"]:
    """Return integers in the smallest signed dtype that holds all of them; other numbers as they are."""
    if values.dtype.kind not in "iu" or not len(values):
        return values
    low, high = int(values.min()), int(values.max())
    fits = (t for t in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return values.astype(next(fits, values.dtype))
