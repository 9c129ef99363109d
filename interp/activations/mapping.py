"""The shards of an address in memory: each mapped alone, or all of them behind each other as one array of rows."""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from interp.activations.layout import KEY
from interp.errors import StoreError, UsageError
from interp.runtime.files import AnyPath, is_local

if TYPE_CHECKING:
    import torch

_KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Shard(NamedTuple):
    """What the header of a shard's file says, and where its rows begin in it."""

    path: AnyPath
    shape: tuple[int, int]
    dtype: str
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.shape[0] * self.shape[1] * np.dtype(_KINDS[self.dtype]).itemsize


def read_header(path: AnyPath) -> Shard:
    """Raises `StoreError` where the file is missing, damaged or shorter than its header says."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))[KEY]
            found = Shard(path, tuple(header["shape"]), header["dtype"], 8 + size)
            file.seek(0, os.SEEK_END)
            if file.tell() < found.end:
                raise ValueError(f"{file.tell()} bytes, where {found.end} were written")
        return found
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. Capture again to redo it.") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{path} is damaged ({error}). Capture again to redo it.") from None


class MappedRows:
    """The rows of one shard, mapped into memory (fetched whole behind a URL)."""

    def __init__(self, path: AnyPath) -> None:
        shard = read_header(path)
        self.shape, self._dtype, kind = shard.shape, shard.dtype, _KINDS[shard.dtype]
        try:
            if is_local(path):
                self._rows: np.ndarray = np.memmap(path, kind, "r", offset=shard.offset, shape=shard.shape)
            else:
                self._rows = np.frombuffer(path.read_bytes(), kind, offset=shard.offset).reshape(shard.shape)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is damaged ({error}). Capture again to redo it.") from None

    def take(self, rows: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """The chosen rows. Raises `IndexError` where there is no such row."""
        out = np.empty((len(rows), self.shape[1]), np.float32)
        _widen(self._rows[rows], self._dtype, out)
        return out

    def between(self, first: int, last: int, out: np.ndarray | None = None) -> Float32[np.ndarray, "n d"]:
        """Rows `first` to `last` - 1, in `out` where it is given."""
        out = np.empty((last - first, self.shape[1]), np.float32) if out is None else out
        _widen(self._rows[first:last], self._dtype, out)
        return out


class Region:
    """All shards of an address mapped into one stretch of addresses, so that any rows are one call.

    Shard by shard, rows drawn at random have to be sorted out and put into their places again, which takes longer than
    copying them. Files are mapped over parts of one reserved stretch, at distances that are whole numbers of rows.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._dtype, self._width = shards[0].dtype, shards[0].shape[1]
        row = self._width * np.dtype(_KINDS[self._dtype]).itemsize
        starts = _places(shards, row)
        self._reserved = mmap.mmap(-1, starts[-1], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        stretch = np.frombuffer(self._reserved, np.uint8)
        for shard, start in zip(shards, starts, strict=False):
            _map_over(stretch.ctypes.data + start, shard)
        begin = starts[0] + shards[0].offset
        count = (len(stretch) - begin) // row
        self._rows = _tensor(stretch[begin : begin + count * row], self._dtype).reshape(count, self._width)
        lengths = [shard.shape[0] for shard in shards]
        self._firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        places = [(start + shard.offset - begin) // row for shard, start in zip(shards, starts, strict=False)]
        self._shifts = np.array(places) - self._firsts

    @classmethod
    def of(cls, paths: Sequence[AnyPath], counts: Sequence[int]) -> Region | None:
        """The region of these files, of so many rows each, or None where there is none.

        That is on systems without `mmap`, over older files, whose rows begin anywhere, and over a file that is missing or
        damaged: who reads each shard for itself meets that one only where its rows are asked for.
        """
        if sys.platform not in ("linux", "darwin"):
            return None
        try:
            shards = [read_header(path) for path in paths]
            alike = len({(shard.dtype, shard.shape[1]) for shard in shards}) == 1
            return cls(shards) if alike and [shard.shape[0] for shard in shards] == list(counts) else None
        except (StoreError, LookupError, OSError):
            return None

    def take(self, rows: Int[np.ndarray, " n"], out: np.ndarray | None = None) -> Float32[np.ndarray, "n d"]:
        """Return rows by their number over all shards, which must exist, in `out` where it is given."""
        if len(self._firsts) > 1:
            rows = rows + self._shifts[np.searchsorted(self._firsts, rows, side="right") - 1]
        return take_rows(self._rows, rows, out)


def take_rows(
    tensor: torch.Tensor, rows: slice | Int[np.ndarray, " n"], out: np.ndarray | None = None
) -> Float32[np.ndarray, "n d"]:
    """Return the chosen rows of a tensor on the CPU as float32, in `out` where it is given."""
    import torch

    count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    out = checked_out(out, count, tensor.shape[1])
    target = torch.from_numpy(out)
    if isinstance(rows, slice):
        target.copy_(tensor[rows])
        return out
    # PyTorch copies rows on all threads that it may use, NumPy's `take` on one.
    numbers = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
    if tensor.dtype == torch.float32:
        torch.index_select(tensor, 0, numbers, out=target)
    else:
        target.copy_(torch.index_select(tensor, 0, numbers))
    return out


def _places(shards: Sequence[Shard], row: int) -> list[int]:
    """Where in a region each shard's file begins, on a page, its rows whole rows behind the first shard's; and the end.

    Raises `LookupError` where there are no such places.
    """
    page = mmap.ALLOCATIONGRANULARITY
    starts, free = [], 0
    for shard in shards:
        # The first page from which the rows' distance to the first shard's is a number of rows, if there is one.
        behind = (shards[0].offset - shard.offset - free) % row
        step = math.gcd(page, row)
        if behind % step:
            raise LookupError("rows of this shard do not begin where those of the first do")
        pages = behind // step * pow(page // step, -1, row // step) % (row // step) if row > step else 0
        starts.append(free + pages * page)
        free = -(-(starts[-1] + shard.end) // page) * page
    return [*starts, free]


def _map_over(address: int, shard: Shard) -> None:
    """Put a file's pages at an address that is reserved; they go when the reservation does."""
    library = ctypes.CDLL(None, use_errno=True)
    call = library.mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    fixed = 0x10  # MAP_FIXED, on Linux and on macOS
    with shard.path.open("rb") as file:
        got = call(address, shard.end, mmap.PROT_READ, mmap.MAP_SHARED | fixed, file.fileno(), 0)
    if got != address:
        raise OSError(ctypes.get_errno(), f"{shard.path} could not be mapped")


def checked_out(out: np.ndarray | None, rows: int, width: int) -> Float32[np.ndarray, "rows width"]:
    """The array that rows are to be written into, made here where none is given. Raises `UsageError` on another shape."""
    if out is None:
        return np.empty((rows, width), np.float32)
    if out.shape != (rows, width) or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise UsageError(
            f"`out` has to be a contiguous float32 array of {rows} x {width}, but {out.dtype} {out.shape} came."
        )
    return out


def _widen(found: np.ndarray, dtype: str, out: np.ndarray) -> None:
    if dtype == "BF16":
        np.left_shift(found, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, found)


def _tensor(found: np.ndarray, dtype: str) -> torch.Tensor:
    """The same memory, which is only to be read, as a tensor."""
    import torch  # here, for who only looks at a store, as the dashboard does, has no need of it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        numbers = torch.from_numpy(found.view(_KINDS[dtype]))
    return numbers.view(torch.bfloat16) if dtype == "BF16" else numbers
