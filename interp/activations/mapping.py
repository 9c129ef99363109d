"""Memory mapping of an address's shards: each on its own, or all of them as one array of rows."""

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

_NUMPY_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Shard(NamedTuple):
    """The header of a shard's file.

    Attributes:
        path: The file.
        shape: Rows and width.
        dtype: Dtype as safetensors names it, such as `F32`.
        offset: Byte at which the rows begin.
    """

    path: AnyPath
    shape: tuple[int, int]
    dtype: str
    offset: int

    @property
    def end(self) -> int:
        """Byte at which the rows end."""
        return self.offset + self.shape[0] * self.shape[1] * np.dtype(_NUMPY_DTYPES[self.dtype]).itemsize


def read_header(path: AnyPath) -> Shard:
    """Read a shard's header. Raises `StoreError` when the file is missing, damaged or not as long as its header says."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))[KEY]
            shard = Shard(path, tuple(header["shape"]), header["dtype"], 8 + size)
            file.seek(0, os.SEEK_END)
            if file.tell() != shard.end:
                raise ValueError(f"{file.tell()} bytes, where {shard.end} were written")
        return shard
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. Capture again to redo it.") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise StoreError(f"{path} is damaged ({error}). Capture again to redo it.") from None


class MappedRows:
    """The rows of one shard, mapped into memory, or fetched completely behind a URL."""

    def __init__(self, path: AnyPath) -> None:
        shard = read_header(path)
        self.shape, self._dtype, dtype = shard.shape, shard.dtype, _NUMPY_DTYPES[shard.dtype]
        try:
            if is_local(path):
                self._rows: np.ndarray = np.memmap(path, dtype, "r", offset=shard.offset, shape=shard.shape)
            else:
                self._rows = np.frombuffer(path.read_bytes(), dtype, offset=shard.offset).reshape(shard.shape)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is damaged ({error}). Capture again to redo it.") from None

    def take(self, rows: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Return the chosen rows as float32. Raises `IndexError` on a row that does not exist."""
        out = np.empty((len(rows), self.shape[1]), np.float32)
        _widen(self._rows[rows], self._dtype, out)
        return out

    def between(self, first: int, last: int, out: np.ndarray | None = None) -> Float32[np.ndarray, "n d"]:
        """Return rows `first` to `last` - 1 as float32, in `out` where it is given."""
        out = np.empty((last - first, self.shape[1]), np.float32) if out is None else out
        _widen(self._rows[first:last], self._dtype, out)
        return out


class Region:
    """All shards of an address mapped into one range of memory, so that any rows are one call.

    Random rows that are read shard by shard must be sorted by shard and put back in order, which takes longer than
    copying them. The files are mapped into one reserved range, at distances that are whole numbers of rows. Of a region
    larger than the memory only the pages of the rows are read, and none around them.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._dtype, self._width = shards[0].dtype, shards[0].shape[1]
        row = self._width * np.dtype(_NUMPY_DTYPES[self._dtype]).itemsize
        starts = _file_starts(shards, row)
        self._reserved = mmap.mmap(-1, starts[-1], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        reserved = np.frombuffer(self._reserved, np.uint8)
        for shard, start in zip(shards, starts, strict=False):
            _map_over(reserved.ctypes.data + start, shard)
        if starts[-1] > _memory():
            # The system would read 128 kB around each row, most of which is dropped again before it is used.
            self._reserved.madvise(mmap.MADV_RANDOM)
        begin = starts[0] + shards[0].offset
        count = (len(reserved) - begin) // row
        self._rows = _tensor(reserved[begin : begin + count * row], self._dtype).reshape(count, self._width)
        lengths = [shard.shape[0] for shard in shards]
        self._firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        first_rows = [(start + shard.offset - begin) // row for shard, start in zip(shards, starts, strict=False)]
        self._shifts = np.array(first_rows) - self._firsts

    @classmethod
    def of(cls, paths: Sequence[AnyPath], counts: Sequence[int]) -> Region | None:
        """Return the region of these files with this many rows each, or None where they cannot be mapped as one.

        That is on systems without `mmap`, for older files whose rows do not begin on a page, and where a file is missing
        or damaged: a reader of single shards then fails only for the rows of that file.
        """
        if sys.platform not in ("linux", "darwin"):
            return None
        try:
            shards = [read_header(path) for path in paths]
            uniform = len({(shard.dtype, shard.shape[1]) for shard in shards}) == 1
            return cls(shards) if uniform and [shard.shape[0] for shard in shards] == list(counts) else None
        except (StoreError, LookupError, OSError):
            return None

    def take(self, rows: Int[np.ndarray, " n"], out: np.ndarray | None = None) -> Float32[np.ndarray, "n d"]:
        """Return rows by their number over all shards, which must exist, in `out` where it is given."""
        if len(self._firsts) > 1:
            rows = rows + self._shifts[np.searchsorted(self._firsts, rows, side="right") - 1]
        return take_rows(self._rows, rows, out)


def _memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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


def _file_starts(shards: Sequence[Shard], row: int) -> list[int]:
    """Return the byte of a region at which each shard's file begins, and the end of the last.

    A file begins on a page, and its rows a whole number of rows after the first shard's. Raises `LookupError` where that
    is impossible.
    """
    page = mmap.ALLOCATIONGRANULARITY
    starts, free = [], 0
    for shard in shards:
        # The first page at which the distance to the first shard's rows is a whole number of rows.
        remainder = (shards[0].offset - shard.offset - free) % row
        step = math.gcd(page, row)
        if remainder % step:
            raise LookupError("rows of this shard do not begin where those of the first do")
        pages = remainder // step * pow(page // step, -1, row // step) % (row // step) if row > step else 0
        starts.append(free + pages * page)
        free = -(-(starts[-1] + shard.end) // page) * page
    return [*starts, free]


def _map_over(address: int, shard: Shard) -> None:
    """Map a file into reserved memory. The mapping ends with the reservation."""
    library = ctypes.CDLL(None, use_errno=True)
    call = library.mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    fixed = 0x10  # MAP_FIXED, on Linux and on macOS
    with shard.path.open("rb") as file:
        mapped = call(address, shard.end, mmap.PROT_READ, mmap.MAP_SHARED | fixed, file.fileno(), 0)
    if mapped != address:
        raise OSError(ctypes.get_errno(), f"{shard.path} could not be mapped")


def checked_out(out: np.ndarray | None, rows: int, width: int) -> Float32[np.ndarray, "rows width"]:
    """Return the array to write rows into, a new one where none is given. Raises `UsageError` on a wrong `out`."""
    if out is None:
        return np.empty((rows, width), np.float32)
    if out.shape != (rows, width) or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise UsageError(
            f"expected `out` to be a contiguous float32 array of {rows} x {width}, got {out.dtype} {out.shape}; make one."
        )
    return out


def _widen(rows: np.ndarray, dtype: str, out: np.ndarray) -> None:
    """Write rows of a stored dtype into a float32 array."""
    if dtype == "BF16":
        np.left_shift(rows, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, rows)


def _tensor(memory: np.ndarray, dtype: str) -> torch.Tensor:
    """Return read-only memory as a tensor, without a copy."""
    import torch  # imported here, because listing and describing stores does not need it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        numbers = torch.from_numpy(memory.view(_NUMPY_DTYPES[dtype]))
    return numbers.view(torch.bfloat16) if dtype == "BF16" else numbers
