"""The rows of a store: which positions of which traces are kept, and in which shard."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import pandas as pd

from interp.errors import UsageError
from interp.traces import TraceSet

_SLICE = re.compile(r"^(-?\d*):(-?\d*)(?::(-?\d*))?$")


def index_of(
    traces: TraceSet,
    channels: Sequence[str],
    shard_size: int,
    positions: Sequence[str] = (),
    *,
    shard_rows: int | None = None,
) -> pd.DataFrame:
    """The index of a store: the kept positions of each trace, at most `shard_size` traces and `shard_rows` rows a shard.

    `positions` narrows them: places by shell-style pattern (`thought *`), or slices of a trace (`0:16`, `-4:`). The
    last prompt position is always kept: it is the state before any thinking, which controls need. A trace never
    spans shards, so one with more than `shard_rows` rows has a shard of its own. Raises `UsageError` on a position
    that matches nothing anywhere.
    """
    columns: dict[str, list] = {
        name: []
        for name in (
            *("trace", "position", "token_id", "token", "channel", "step", "thought", "sentence", "place"),
            *("shard", "row"),
        )
    }
    wanted = set(channels)
    matched: set[str] = set()
    shard, traces_in, rows_in = 0, 0, 0
    for k, trace in enumerate(traces):
        places = trace.places
        narrow = _chosen(places, positions, matched) if positions else None
        keep = [
            at
            for at, place in enumerate(places)
            if place == "question end" or (trace.channel[at] in wanted and (narrow is None or at in narrow))
        ]
        full = traces_in == shard_size or (shard_rows is not None and rows_in and rows_in + len(keep) > shard_rows)
        if full:
            shard, traces_in, rows_in = shard + 1, 0, 0
        columns["trace"] += [k] * len(keep)
        columns["position"] += keep
        columns["token_id"] += [trace.token_ids[at] for at in keep]
        columns["token"] += [trace.tokens[at] for at in keep]
        columns["channel"] += [str(trace.channel[at]) for at in keep]
        columns["step"] += [trace.step[at] for at in keep]
        columns["thought"] += [trace.thought[at] for at in keep]
        columns["sentence"] += [trace.sentence[at] for at in keep] if trace.sentence else [0] * len(keep)
        columns["place"] += [places[at] for at in keep]
        columns["shard"] += [shard] * len(keep)
        columns["row"] += range(rows_in, rows_in + len(keep))
        traces_in, rows_in = traces_in + 1, rows_in + len(keep)
    for position in positions:
        if position not in matched:
            raise UsageError(
                f"no position matches {position!r}. Give places (`thought *`, `answer`, `question end`) or a slice (`-4:`)."
            )
    return pd.DataFrame(columns)


def _chosen(places: list[str], positions: Sequence[str], matched: set[str]) -> set[int]:
    found: set[int] = set()
    for position in positions:
        cut = _SLICE.match(position)
        if cut:
            chosen = set(range(len(places))[slice(*(int(n) if n else None for n in cut.groups()))])
        else:
            chosen = {at for at, place in enumerate(places) if fnmatch.fnmatchcase(place, position)}
        if chosen:
            matched.add(position)
        found |= chosen
    return found
