"""What is on screen: pooled cells of a reading, its control or their difference, and the header that the grid draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from dashboards.explore.cells import Pooling, Scale, pack, pool, quantise, scale_of
from dashboards.explore.read_outs import Pair
from dashboards.explore.segments import Segment
from dashboards.explore.windows import CHUNK, TOKENS, Window
from interp.models.address import Address
from interp.text.token_text import TokenText
from interp.traces import Channel, Trace

SHOWS = ("reading", "control", "difference")
_SINK = 2.0  # doublings of the median length from which a position counts as a sink
ZOOM_LABELS = {"whole": "Whole trace", "chunk": "2,048 positions", "tokens": "Tokens"}


@dataclass(frozen=True)
class Screen:
    """Cells as they are drawn.

    Attributes:
        rows: Name of each row.
        values: One value for each row and column, NaN where there is none.
        texts: One text for each, where columns are single positions and the read-out has texts.
        positions: The position that each value is of, shape (rows, columns).
        first: First position of each column.
        scale: Scale of the values.
        hidden: How many positions are left out, by reason.
    """

    rows: list[str]
    values: Float[np.ndarray, "rows columns"]
    texts: np.ndarray | None
    positions: Int[np.ndarray, "rows columns"]
    first: Int[np.ndarray, " columns"]
    scale: Scale
    hidden: dict[str, int]

    def row_of(self, name: str) -> int | None:
        """Return the number of a row; None for a name that is not there."""
        return self.rows.index(name) if name in self.rows else None

    def column_of(self, position: int) -> int | None:
        """Return the column that holds a position; None where it is not on screen."""
        column = int(np.searchsorted(self.first, position, side="right")) - 1
        return column if column >= 0 else None


def hidden_positions(trace: Trace, lengths: np.ndarray | None, *, special: bool, sinks: bool) -> dict[str, np.ndarray]:
    """Return which positions the filters leave out, by reason.

    Args:
        trace: The trace.
        lengths: For each position, how many doublings its state's length is above the median; None where that is not
            known.
        special: Leave out markers and special tokens.
        sinks: Leave out the first position and those with far longer states than usual.
    """
    reasons: dict[str, np.ndarray] = {}
    if special:
        reasons["special tokens"] = np.array([channel in (Channel.SPECIAL, Channel.PAD) for channel in trace.channel])
    if sinks:
        out = np.zeros(len(trace), bool)
        out[0] = True
        reasons["sinks"] = out if lengths is None else out | (np.nan_to_num(lengths, nan=0.0) > _SINK)
    return reasons


def screen(pair: Pair, show: str, part: Window, hidden: dict[str, np.ndarray]) -> Screen:
    """Return the cells of a window.

    Args:
        pair: The reading and what it is compared with.
        show: One of `SHOWS`.
        part: The window.
        hidden: Positions that are left out, by reason.
    """
    positions = part.positions
    left_out = {name: mask[positions] for name, mask in hidden.items()}
    drop = np.logical_or.reduce([np.zeros(len(positions), bool), *left_out.values()])
    values, differs = pair.compute(show, positions), show == "difference"
    diverging = pair.read_out.diverging or differs
    counts = {name: int(mask.sum()) for name, mask in left_out.items() if mask.any()}
    texts = None
    if part.factor == 1:
        cells, first = values.values[:, ~drop], positions[~drop]
        at = np.broadcast_to(first, cells.shape)
        if values.texts is not None and part.zoom == "tokens":
            texts = values.texts[:, ~drop]
    else:
        masked, by = np.where(drop, np.nan, values.values), ("farthest" if diverging else "largest")
        cells, columns = pool(masked, part.factor // part.stride, cast(Pooling, by))
        at = positions[np.minimum(columns, len(positions) - 1)]
        first = np.arange(part.start, part.stop, part.factor)
    fixed = None if differs else pair.read_out.scale
    return Screen(values.rows, cells, texts, at, first, fixed or scale_of(cells, diverging=diverging), counts)


def header(
    trace: Trace, drawn: Screen, part: Window, segments: Sequence[Segment], *, label: str, unit: str
) -> dict[str, Any]:
    """Return what the grid needs beside its cells.

    Args:
        trace: The trace.
        drawn: The cells.
        part: The window.
        segments: The transcript.
        label: What is shown.
        unit: Unit of the values.
    """
    words, places = TokenText.of(trace), trace.places
    first = drawn.first.tolist()
    return {
        "label": label,
        "unit": unit,
        "rows": drawn.rows,
        "labels": [row_label(name) for name in drawn.rows],
        "first": first,
        "factor": part.factor,
        "token": [words.cell(trace.tokens[k]) for k in first],
        "place": [places[k] for k in first],
        "low": drawn.scale.low,
        "high": drawn.scale.high,
        "diverging": drawn.scale.diverging,
        "texts": None if drawn.texts is None else drawn.texts.ravel().tolist(),
        "zoom": part.zoom,
        "zooms": zooms(part.total),
        "start": part.start,
        "stop": part.stop,
        "total": part.total,
        "segments": [vars(segment) for segment in segments],
    }


def zooms(total: int) -> list[dict[str, str]]:
    """Return the zooms that differ for a trace of a length, as the grid's buttons show them."""
    names = ["tokens"] if total <= TOKENS else ["whole", *(["chunk"] if total > CHUNK else []), "tokens"]
    return [{"name": name, "label": ZOOM_LABELS[name]} for name in names]


def lock_of(trace: Trace, drawn: Screen, segments: Sequence[Segment], row: str, position: int) -> dict[str, Any] | None:
    """Return the locked cell for the grid; None where it is not on screen."""
    number, column = drawn.row_of(row), drawn.column_of(position)
    if number is None or column is None:
        return None
    segment = next(part for part in segments if part.start <= position < part.stop)
    words = TokenText.of(trace)
    before, token, after = (
        words.join(trace.tokens[a:b])
        for a, b in ((segment.start, position), (position, position + 1), (position + 1, segment.stop))
    )
    blank = "" if words.joins_closely else " "
    return {
        "row": number,
        "column": column,
        "position": position,
        "before": before + blank if before else "",
        "token": token,
        "after": blank + after if after else "",
    }


def packed(drawn: Screen, head: dict[str, Any]) -> bytes:
    """Return header and cells as bytes."""
    return pack(head, quantise(drawn.values, drawn.scale))


def row_label(name: str) -> str:
    """Return the short name of a row for its side of the grid."""
    return Address(name).label if "." in name else name


def as_table(trace: Trace, drawn: Screen) -> pd.DataFrame:
    """Return what is on screen as a table: one row for each column of the grid, with its token and place."""
    words, places = TokenText.of(trace), trace.places
    first = drawn.first.tolist()
    table = pd.DataFrame(
        {
            "position": first,
            "token": [words.cell(trace.tokens[k]) for k in first],
            "place": [places[k] for k in first],
        }
    )
    numbers = pd.DataFrame(drawn.values.T, columns=[row_label(name) for name in drawn.rows])
    if drawn.texts is None:
        return pd.concat([table, numbers], axis=1)
    texts = pd.DataFrame(drawn.texts.T, columns=[f"{row_label(name)} reads" for name in drawn.rows])
    return pd.concat([table, numbers, texts], axis=1)
