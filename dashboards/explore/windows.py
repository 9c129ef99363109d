"""Which positions of a trace are on screen, at three zooms, and which of them are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ZOOMS = ("whole", "chunk", "tokens")
CHUNK = 2048  # positions of the middle zoom
TOKENS = 256  # positions of the closest zoom, at most
COLUMNS = 480  # columns that a grid has at most; each is wider than a pixel on a screen of 1280


@dataclass(frozen=True)
class Window:
    """The part of a trace that is on screen.

    Attributes:
        zoom: One of `ZOOMS`.
        start: First position.
        stop: Position after the last.
        factor: Positions that one column stands for.
        stride: One position of so many is computed.
        total: Positions of the trace.
    """

    zoom: str
    start: int
    stop: int
    factor: int
    stride: int
    total: int

    @property
    def positions(self) -> np.ndarray:
        """The positions that are computed."""
        return np.arange(self.start, self.stop, self.stride)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return -(-(self.stop - self.start) // self.factor)

    def note(self) -> str:
        """Say what a column stands for, and what was left out, in one sentence; empty where nothing was."""
        parts = []
        if self.stride > 1:
            parts.append(f"1 of {self.stride} positions is computed")
        if self.factor > 1:
            parts.append(f"each column shows the extreme value of {self.factor} positions")
        return " and ".join(parts)


def window(total: int, zoom: str, start: int, *, affordable: int) -> Window:
    """Return the window that a zoom shows.

    Args:
        total: Positions of the trace.
        zoom: One of `ZOOMS`.
        start: The position that the URL asks to begin with; moved so that the window lies in the trace.
        affordable: Positions that can be computed without a wait. The closest zoom shows no more, the others compute
            one of several.
    """
    size = {"whole": total, "chunk": CHUNK, "tokens": min(TOKENS, max(affordable, 1))}[zoom]
    size = max(min(size, total), 1)
    first = max(min(start, total - size), 0)
    stride = -(-size // max(affordable, 1))
    factor = -(-size // COLUMNS)
    if stride > 1:  # every column has a computed position, and the same number of them
        factor = max(1, -(-factor // stride)) * stride
    return Window(zoom, first, min(first + size, total), factor, stride, total)


def usual_zoom(total: int) -> str:
    """Return the zoom where the URL names none: tokens where all of them fit."""
    return "tokens" if total <= TOKENS else "whole"


def start_at(position: int, zoom: str, total: int, size: int) -> int:
    """Return the start that puts a position in the middle of the window."""
    return 0 if zoom == "whole" else max(min(position - size // 2, total - size), 0)
