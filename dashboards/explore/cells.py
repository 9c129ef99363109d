"""Cells of a grid as one byte each: pooling over positions, quantising, and packing for the browser."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

STEPS = 254  # the largest byte that stands for a value
NO_VALUE = 255
_LENGTH = 4  # bytes
Pooling = Literal["largest", "farthest"]


@dataclass(frozen=True)
class Scale:
    """What bytes mean: 0 is `low`, 254 is `high`, and 255 is no value.

    Attributes:
        low: Value of byte 0.
        high: Value of byte 254.
        diverging: Whether the middle is a zero that values lie on both sides of.
    """

    low: float
    high: float
    diverging: bool = False

    @property
    def error(self) -> float:
        """The largest difference between a value inside the scale and what its byte stands for."""
        return (self.high - self.low) / STEPS / 2


def scale_of(values: Float[np.ndarray, "rows columns"], *, diverging: bool = False) -> Scale:
    """Return the scale that holds all finite values; around zero where it diverges."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if diverging:
        high = max(abs(low), abs(high)) or 1.0
        return Scale(-high, high, True)
    return Scale(low, high if high > low else low + 1.0)


def quantise(values: Float[np.ndarray, "rows columns"], scale: Scale) -> UInt8[np.ndarray, "rows columns"]:
    """Return one byte for each value; those outside the scale become its ends, and NaN becomes `NO_VALUE`."""
    known = np.isfinite(values)
    steps = (np.where(known, values, scale.low) - scale.low) / (scale.high - scale.low) * STEPS
    return np.where(known, np.clip(np.rint(steps), 0, STEPS), NO_VALUE).astype(np.uint8)


def dequantise(cells: UInt8[np.ndarray, "rows columns"], scale: Scale) -> Float[np.ndarray, "rows columns"]:
    """Return the values that bytes stand for, NaN where there is none."""
    values = scale.low + cells.astype(float) / STEPS * (scale.high - scale.low)
    return np.where(cells == NO_VALUE, np.nan, values)


def pool(
    values: Float[np.ndarray, "rows columns"], factor: int, by: Pooling = "largest"
) -> tuple[Float[np.ndarray, "rows pooled"], np.ndarray]:
    """Return the largest value of every `factor` columns, and the column that it comes from.

    Args:
        values: Values; NaN where there is none.
        factor: Columns that become one; the last may have fewer.
        by: `largest`, or `farthest` from zero.

    Returns:
        Pooled values, NaN where none of the columns has one, and for each the number of its column.
    """
    rows, columns = values.shape
    n = -(-columns // factor)
    padded = np.full((rows, n * factor), np.nan)
    padded[:, :columns] = values
    groups = padded.reshape(rows, n, factor)
    size = np.abs(groups) if by == "farthest" else groups
    best = np.where(np.isnan(size), -np.inf, size).argmax(axis=2)
    pooled = np.take_along_axis(groups, best[:, :, None], 2)[:, :, 0]
    return pooled, best + np.arange(n) * factor


def pack(header: dict[str, Any], cells: UInt8[np.ndarray, "rows columns"]) -> bytes:
    """Return a header and cells, without a locked cell, as the bytes that the grid in the browser reads.

    They are three parts: what changes (the locked cell, and a hash of the rest, by which the browser knows what it has),
    the header, and the cells row by row. The first two are JSON, each after its length (4 bytes, little-endian).
    """
    rest = _sized(header) + np.ascontiguousarray(cells).tobytes()
    return _sized({"lock": None, "content": hashlib.sha256(rest).hexdigest()[:16]}) + rest


def with_lock(content: bytes, lock: dict[str, Any] | None) -> bytes:
    """Return the bytes of a grid with another locked cell; its header and cells stay as they are."""
    end = _after(content, 0)
    return _sized(json.loads(content[_LENGTH:end]) | {"lock": lock}) + content[end:]


def unpack(content: bytes) -> tuple[dict[str, Any], UInt8[np.ndarray, "rows columns"]]:
    """Return what `pack` packed; the header holds the locked cell as `lock`."""
    middle = _after(content, 0)
    end = _after(content, middle)
    changing, header = json.loads(content[_LENGTH:middle]), json.loads(content[middle + _LENGTH : end])
    cells = np.frombuffer(content, np.uint8, offset=end)
    return header | {"lock": changing["lock"]}, cells.reshape(len(header["rows"]), -1)


def _sized(value: Any) -> bytes:
    """Return JSON after its length."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text


def _after(content: bytes, start: int) -> int:
    """Return where the part that begins at `start` ends."""
    (length,) = struct.unpack_from("<I", content, start)
    return int(start + _LENGTH + length)
