"""The index: which positions of which traces are kept, and in which shard."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import pandas as pd

from interp.errors import UsageError
from interp.traces import TraceSet

_SLICE = re.compile(r"^(-?\d*):(-?\d*)(?::(-?\d*))?$")

_COLUMNS = (
    *("trace", "position", "token_id", "token", "channel", "step", "thought", "sentence", "place"),
    *("shard", "row"),
)
# Lists of Python objects take five times the memory of series, so that they are made into these now and then.
_ROWS_AT_ONCE = 1 << 17


def index_of(
    traces: TraceSet,
    channels: Sequence[str],
    shard_size: int,
    positions: Sequence[str] = (),
    *,
    shard_rows: int | None = None,
) -> pd.DataFrame:
    """Return the index of a store.

    The last prompt position is always kept: it is the state before any thinking, which controls need.

    Args:
        traces: The traces.
        channels: Channels of positions to keep.
        shard_size: Most traces in a shard.
        positions: Places as shell-style patterns (`thought *`), or slices of a trace (`0:16`, `-4:`), that narrow the
            positions further.
        shard_rows: Most rows in a shard. A trace never spans shards, so a longer one fills its own shard.

    Returns:
        One row for each kept position, with the columns of `interp.activations.ActivationSource.index`.

    Raises:
        UsageError: On a position that matches nothing in any trace, or nothing in the channels.
    """
    columns: dict[str, list] = {name: [] for name in _COLUMNS}
    parts: dict[str, list[pd.Series]] = {name: [] for name in _COLUMNS}
    wanted = set(channels)
    matched: set[str] = set()
    elsewhere: dict[str, str] = {}  # of a position that matches, the channel where it does
    shard, traces_in, rows_in = 0, 0, 0
    for number, trace in enumerate(traces):
        places = trace.places
        allowed = {k for k, place in enumerate(places) if place == "question end" or trace.channel[k] in wanted}
        chosen = {position: _chosen(places, position) for position in positions}
        matched |= {position for position, numbers in chosen.items() if numbers & allowed}
        elsewhere |= {position: str(trace.channel[min(numbers)]) for position, numbers in chosen.items() if numbers}
        narrow = set().union(*chosen.values()) if positions else allowed
        keep = [k for k, place in enumerate(places) if k in allowed and (place == "question end" or k in narrow)]
        full = traces_in == shard_size or (shard_rows is not None and rows_in and rows_in + len(keep) > shard_rows)
        if full:
            shard, traces_in, rows_in = shard + 1, 0, 0
        columns["trace"] += [number] * len(keep)
        columns["position"] += keep
        columns["token_id"] += [trace.token_ids[k] for k in keep]
        columns["token"] += [trace.tokens[k] for k in keep]
        columns["channel"] += [str(trace.channel[k]) for k in keep]
        columns["step"] += [trace.step[k] for k in keep]
        columns["thought"] += [trace.thought[k] for k in keep]
        columns["sentence"] += [trace.sentence[k] for k in keep] if trace.sentence else [0] * len(keep)
        columns["place"] += [places[k] for k in keep]
        columns["shard"] += [shard] * len(keep)
        columns["row"] += range(rows_in, rows_in + len(keep))
        traces_in, rows_in = traces_in + 1, rows_in + len(keep)
        if len(columns["row"]) >= _ROWS_AT_ONCE:
            _move(columns, parts)
    for position in positions:
        if position not in matched and position in elsewhere:
            raise UsageError(
                f"expected positions in the channels {', '.join(sorted(wanted))}, got {position!r}, which matches in the "
                f"channel {elsewhere[position]}; name it with --channels."
            )
        if position not in matched:
            raise UsageError(
                f"no position matches {position!r}. Give places (`thought *`, `answer`, `question end`) or a slice (`-4:`)."
            )
    if columns["row"] or not parts["row"]:
        _move(columns, parts)
    # Column by column, so that no more than one is in memory twice.
    whole = {name: pd.concat(parts.pop(name), ignore_index=True) for name in _COLUMNS}
    return pd.DataFrame(whole, copy=False)


def _move(columns: dict[str, list], parts: dict[str, list[pd.Series]]) -> None:
    """Move the lists of a part of the index to series, which take a fifth of the memory."""
    for name, values in columns.items():
        parts[name].append(pd.DataFrame({name: values})[name])
        columns[name] = []


def _chosen(places: list[str], position: str) -> set[int]:
    """Return the numbers of the positions that match."""
    cut = _SLICE.match(position)
    if cut and cut.group(3) and int(cut.group(3)) == 0:
        raise UsageError(f"expected a slice whose step is not 0, got {position!r}; `::2` takes every second position.")
    if cut:
        return set(range(len(places))[slice(*(int(n) if n else None for n in cut.groups()))])
    return {number for number, place in enumerate(places) if fnmatch.fnmatchcase(place, position)}
