"""Capture: a plan carried out by an engine, shard by shard, into a store that no accident makes worse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.activations import layout
from interp.activations.plan import Plan, plan
from interp.activations.reloading import reload
from interp.activations.shards import (
    InProcessInputs,
    ShardSpec,
    capture_shard,
    commit_shard,
    present,
    record_shard,
    shard_ranges,
)
from interp.activations.store import Store, parquet_bytes
from interp.errors import StoreError, UsageError, checked_count
from interp.runtime.engines import Inline, executor
from interp.runtime.files import AnyPath, as_path, is_local
from interp.runtime.progress import Progress
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class Work:
    """How a capture is carried out; none of it changes what is captured.

    Every engine writes the same bytes where `threads`, the number for each shard's mathematics, is the same; None is 1
    for engines that work in other processes, and what this process uses inline. Raises `UsageError` on counts below 1.
    """

    batch_size: int = 64
    engine: str = "inline"
    workers: int | None = None
    threads: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        checked_count("batch_size", self.batch_size)
        if self.threads is not None:
            checked_count("threads", self.threads)


def capture(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    sites: str | Sequence[str] = "resid",
    layers: Iterable[int] | None = None,
    channels: Sequence[str] | None = None,
    positions: Sequence[str] = (),
    out: AnyPath | str,
    dtype: str = "float32",
    shard_size: int = 256,
    **work: Any,
) -> Store:
    """Write the activations of `traces` at `sites` to a store in `out` (a folder or an fsspec URL), and open it.

    `channels` are all but the prompt by default, `positions` narrows them further (`interp.activations.rows`). `work`
    are the fields of `Work`: batch_size, engine, workers, threads, progress. Running the same capture again finishes
    what is missing or damaged and keeps what is there. Raises `StoreError` when `out` holds a store of another model or
    configuration, or the disk has no room; `UsageError` on unknown sites, layers, channels, positions or dtypes;
    `PartialError` when a worker died.
    """
    how = Work(**work)
    planned = plan(
        reasoner,
        traces,
        sites=sites,
        layers=layers,
        channels=channels,
        positions=positions,
        dtype=dtype,
        shard_size=shard_size,
    )
    return carry_out(planned, out, how)


def resume(store: AnyPath | str, *, device: str | None = None, **work: Any) -> Store:
    """Finish a store, and redo its damaged shards, from what it says of itself.

    Its reasoner is loaded again as it was captured, on the same kind of device unless another is given. `work` are the
    fields of `Work`. Raises as `capture` does.
    """
    how = Work(**work)
    there = Store(store)
    meta = there.meta
    if "computed" not in meta:
        raise StoreError(f"{store} does not say how it was computed; run the capture that made it again.")
    planned = plan(
        reload(meta, device=device or meta["computed"]["device"]),
        there.traces,
        sites=meta["addresses"],
        channels=meta["channels"],
        positions=meta.get("positions", ()),
        dtype=meta["dtype"],
        shard_size=meta["shard_size"],
    )
    return carry_out(planned, store, how)


def carry_out(planned: Plan, out: AnyPath | str, work: Work) -> Store:
    """Open or start the store of a plan in `out`, and let an engine write the shards that it lacks."""
    out, progress = as_path(out), work.progress
    made = executor(work.engine, work.workers)
    inline = isinstance(made, Inline)
    if not inline and str(out).startswith("memory://"):
        raise UsageError(f"{out} is the memory of this process, which workers cannot reach. Use engine inline.")
    _open_folder(out, planned)
    done = {entry["shard"] for entry in layout.read_manifest(out)}
    ranges = shard_ranges(planned.index, len(planned.traces))
    computed = planned.meta["computed"]
    where = str(out if not is_local(out) else out.absolute())
    specs = [
        ShardSpec(
            store=where,
            config_hash=planned.meta["config_hash"],
            shard=shard,
            first=first,
            last=last,
            batch_size=work.batch_size,
            threads=work.threads if inline or work.threads else 1,
            device=computed["device"],
            computed=computed["dtype"],
        )
        for shard, (first, last) in enumerate(ranges)
        if shard not in done
    ]
    finished = len(ranges) - len(specs)
    if progress:
        progress(finished, len(ranges))
    at_hand = InProcessInputs(planned.reasoner, planned.traces, planned.index)
    with present(where, planned.meta["config_hash"], at_hand):
        lines = _overlapped(specs) if inline else (line for _, line in made.map(capture_shard, specs))
        try:
            for line in lines:
                layout.append_line(out / layout.MANIFEST, line)
                finished += 1
                if progress:
                    progress(finished, len(ranges))
        finally:
            layout.collect_receipts(out)
    layout.write_manifest(out, sorted(layout.read_manifest(out), key=lambda line: line["shard"]))
    return Store(out)


def _overlapped(specs: Sequence[ShardSpec]) -> Iterator[dict[str, Any]]:
    """Shards in order; each is written while the next is computed."""
    with ThreadPoolExecutor(1) as writer:
        writing = None
        for spec in specs:
            found = record_shard(spec)
            if writing is not None:
                yield writing.result()
            writing = writer.submit(commit_shard, spec, found)
            del found
        if writing is not None:
            yield writing.result()


def _open_folder(out: AnyPath, planned: Plan) -> None:
    """Start a store in `out`, or make sure that the one there is this one."""
    meta = planned.meta
    if (out / layout.META).exists():
        there = Store(out).meta
        if there["config_hash"] == meta["config_hash"]:
            computed = there.get("computed", meta["computed"])
            if computed["dtype"] != meta["computed"]["dtype"]:
                raise StoreError(
                    f"{out} was begun in {computed['dtype']}, and its model now computes in {meta['computed']['dtype']}. "
                    "Load it in that dtype (--model-dtype), or choose another folder."
                )
            layout.collect_receipts(out)
            layout.mend_manifest(out)
            if is_local(out):
                for left in filter(_is_temporary, out.rglob("*")):
                    left.unlink()
            return
        aside = ("config_hash", "versions", "files", "computed", "origin")
        differs = [key for key in meta if key not in aside and meta[key] != there.get(key)]
        raise StoreError(
            f"{out} holds a store with another {', '.join(differs) or 'configuration'} "
            f"(made by {there['reasoner']['name']}). Choose another folder, or remove that one."
        )
    with layout.explain_os_errors(f"opening {out}"):
        started = {layout.TRACES, layout.INDEX}  # what a capture that was killed before its first shard leaves
        if out.exists() and any(p.name not in started for p in out.iterdir() if not _is_temporary(p)):
            raise StoreError(f"{out} is not empty and holds no activation store. Choose another folder.")
        out.mkdir(parents=True, exist_ok=True)
        planned.check_room(out)
    meta["files"] = {
        layout.TRACES: layout.commit(out / layout.TRACES, planned.traces.to_bytes()),
        layout.INDEX: layout.commit(out / layout.INDEX, parquet_bytes(planned.index)),
    }
    # The description comes last: a folder without it is not a store yet.
    layout.commit(out / layout.META, (json.dumps(meta, indent=2, sort_keys=True) + "\n").encode())


def _is_temporary(path: AnyPath) -> bool:
    """Whether a killed writer left this file under its temporary name."""
    return path.name.startswith(".") and path.suffix == ".tmp"
