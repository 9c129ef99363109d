"""Capture: an engine writes the shards of a plan to a crash-safe store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from interp.activations import layout
from interp.activations.plan import Plan, plan
from interp.activations.reloading import reload
from interp.activations.shards import (
    InProcessInputs,
    ShardSpec,
    capture_shard,
    commit_shard,
    record_shard,
    shard_ranges,
    share_inputs,
)
from interp.activations.store import Store, parquet_bytes
from interp.errors import StoreError, UsageError, checked_count
from interp.runtime.engines import Executor, Inline, executor
from interp.runtime.files import AnyPath, as_path, file_hash, is_local
from interp.runtime.locks import LOCK, locked
from interp.runtime.progress import Progress
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_MAX_THREADS = 1024  # far more only make the process end: OpenMP cannot start them


@dataclass(frozen=True)
class CheckedExecutionOptions:
    """How a capture runs. None of it changes which activations are captured.

    Attributes:
        batch_size: Most traces in one forward pass.
        engine: `inline`, `process`, `ray` or `slurm`, with settings behind a colon.
        workers: Number of workers; one for each core by default.
        threads: Threads that compute one shard. The same number gives the same bytes with every engine. None is 1 in
            other processes, and this process's number inline.
        progress: Called with the number of shards that are done, and of all.

    Raises:
        UsageError: On counts below 1.
    """

    batch_size: int = 64
    engine: str = "inline"
    workers: int | None = None
    threads: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        checked_count("batch_size", self.batch_size)
        if self.threads is not None:
            checked_count("threads", self.threads, at_most=_MAX_THREADS)


class ExecutionOptions(TypedDict, total=False):
    """How a capture runs, as keyword arguments; `CheckedExecutionOptions` explains each."""

    batch_size: int
    engine: str
    workers: int | None
    threads: int | None
    progress: Progress | None


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
    transfer: bool = False,
    **execution: Unpack[ExecutionOptions],
) -> Store:
    """Capture the activations of finished traces in a store, and open it.

    Running the same capture again writes what is missing or damaged, and keeps the rest.

    Args:
        reasoner: The reasoner that made the traces.
        traces: The traces to replay.
        sites: Activation kinds, hook names or patterns; `resid` is the residual stream at every layer.
        layers: Layers to keep; all by default.
        channels: Channels of positions to keep; all but the prompt by default. The prompt's last position is always
            kept.
        positions: Places (`thought *`) or slices (`-4:`) that narrow the positions further.
        out: Folder or fsspec URL of the store.
        dtype: `float32`, `float16` or `bfloat16`.
        shard_size: Most traces in one shard.
        transfer: Allow traces that another model made, with the same tokens.
        **execution: See `CheckedExecutionOptions`: batch_size, engine, workers, threads, progress.

    Returns:
        The store.

    Raises:
        UsageError: On unknown sites, layers, channels, positions or dtypes, and where there are no traces.
        StoreError: When `out` holds another store or something else, the disk has no room, an activation is not finite,
            or another model made the traces.
        PartialError: When a worker died.
    """
    options = CheckedExecutionOptions(**execution)
    planned = plan(
        reasoner,
        traces,
        sites=sites,
        layers=layers,
        channels=channels,
        positions=positions,
        dtype=dtype,
        shard_size=shard_size,
        transfer=transfer,
    )
    return run_plan(planned, out, options)


def resume(store: AnyPath | str, *, device: str | None = None, **execution: Unpack[ExecutionOptions]) -> Store:
    """Finish an unfinished store and redo its damaged shards, from its own description.

    Args:
        store: Folder or fsspec URL of the store.
        device: Device to load the reasoner on; the kind that the store was begun on by default.
        **execution: See `CheckedExecutionOptions`.

    Returns:
        The store.

    Raises:
        UsageError: When the reasoner cannot be loaded.
        StoreError: When its weights have changed, or the store cannot be read or written.
        PartialError: When a worker died.
    """
    options = CheckedExecutionOptions(**execution)
    unfinished = Store(store)
    meta = unfinished.meta
    if "computed" not in meta:
        raise StoreError(f"{store} does not record how it was computed; run the capture that made it again.")
    planned = plan(
        reload(meta, device=device or meta["computed"]["device"]),
        unfinished.traces,
        sites=meta["addresses"],
        channels=meta["channels"],
        positions=meta.get("positions", ()),
        dtype=meta["dtype"],
        shard_size=meta["shard_size"],
        transfer=True,  # what the capture that began it allowed
    )
    return run_plan(planned, store, options)


def run_plan(planned: Plan, out: AnyPath | str, options: CheckedExecutionOptions) -> Store:
    """Open or start the store of a plan, and let an engine write the missing shards.

    Raises as `capture` does, and `StoreError` where another process captures to the same store.
    """
    out = as_path(out)
    engine = executor(options.engine, options.workers)
    if not isinstance(engine, Inline) and str(out).startswith("memory://"):
        raise UsageError(f"{out} is the memory of this process, which workers cannot reach; use engine inline.")
    if not _is_finished(out, planned):  # a finished store may be where nothing can be written
        with locked(out, "capturing to"):
            _open_folder(out, planned)
            _write_shards(planned, out, options, engine)
    elif options.progress:
        n_shards = planned.index["shard"].nunique()
        options.progress(n_shards, n_shards)
    return Store(out)


def _is_finished(out: AnyPath, planned: Plan) -> bool:
    """Return whether `out` holds the complete, unchanged store of a plan."""
    if not (out / layout.META).exists() or (out / layout.RECEIPTS).exists():
        return False
    store = Store(out)
    computed = store.meta.get("computed", planned.meta["computed"])
    same = store.meta["config_hash"] == planned.meta["config_hash"]
    if not same or computed["dtype"] != planned.meta["computed"]["dtype"]:
        return False
    try:
        return store.complete and not store.validate()
    except StoreError:
        return False


def _write_shards(planned: Plan, out: AnyPath, options: CheckedExecutionOptions, engine: Executor) -> None:
    """Write the shards that are missing, and their records."""
    inline, progress = isinstance(engine, Inline), options.progress
    committed = {entry["shard"] for entry in layout.read_manifest(out)}
    ranges = shard_ranges(planned.index, len(planned.traces))
    computed = planned.meta["computed"]
    location = str(out if not is_local(out) else out.absolute())
    specs = [
        ShardSpec(
            store=location,
            config_hash=planned.meta["config_hash"],
            shard=shard,
            first=first,
            last=last,
            batch_size=options.batch_size,
            threads=options.threads if inline or options.threads else 1,
            device=computed["device"],
            computed=computed["dtype"],
        )
        for shard, (first, last) in enumerate(ranges)
        if shard not in committed
    ]
    finished = len(ranges) - len(specs)
    if progress:
        progress(finished, len(ranges))
    inputs = InProcessInputs(planned.reasoner, planned.traces, planned.index)
    with share_inputs(location, planned.meta["config_hash"], inputs):
        records = _record_and_write(specs) if inline else (record for _, record in engine.map(capture_shard, specs))
        try:
            for record in records:
                layout.append_line(out / layout.MANIFEST, record)
                finished += 1
                if progress:
                    progress(finished, len(ranges))
        finally:
            layout.collect_receipts(out)
    layout.write_manifest(out, sorted(layout.read_manifest(out), key=lambda record: record["shard"]))


def _record_and_write(specs: Sequence[ShardSpec]) -> Iterator[layout.ShardRecord]:
    """Yield the manifest record of each shard in order; a shard is written while the next is computed."""
    with ThreadPoolExecutor(1) as writer:
        writing = None
        for spec in specs:
            buffers = record_shard(spec)
            if writing is not None:
                yield writing.result()
            writing = writer.submit(commit_shard, spec, buffers)
            del buffers
        if writing is not None:
            yield writing.result()


def _open_folder(out: AnyPath, planned: Plan) -> None:
    """Start a store in `out`, or check that it holds the store of this plan."""
    meta = planned.meta
    if (out / layout.META).exists():
        existing = Store(out).meta
        if existing["config_hash"] == meta["config_hash"]:
            computed = existing.get("computed", meta["computed"])
            if computed["dtype"] != meta["computed"]["dtype"]:
                raise StoreError(
                    f"expected a model in {computed['dtype']}, in which {out} was begun, got {meta['computed']['dtype']}; "
                    "load it in that dtype (--model-dtype), or choose another folder."
                )
            _repair_tables(out, planned, existing)
            layout.collect_receipts(out)
            layout.repair_manifest(out)
            if is_local(out):
                for leftover in filter(_is_temporary, out.rglob("*")):
                    leftover.unlink()
            return
        differs = [key for key in meta if key not in layout.NOT_HASHED and meta[key] != existing.get(key)]
        raise StoreError(
            f"{out} holds a store with another {', '.join(differs) or 'configuration'} "
            f"(made by {existing['reasoner']['name']}). Choose another folder, or remove that one."
        )
    with layout.explain_os_errors(f"opening {out}"):
        # A capture that was killed before its first shard leaves the tables.
        started = {layout.TRACES, layout.INDEX, LOCK}
        if any(p.name not in started for p in (out.iterdir() if out.exists() else ()) if not _is_temporary(p)):
            raise StoreError(f"{out} is not empty and holds no activation store. Choose another folder.")
        planned.check_room(out)
    meta["files"] = {name: layout.commit(out / name, table()) for name, table in _tables(planned).items()}
    # Written last: a folder without it is not a store yet.
    _write_meta(out, meta)


def _tables(planned: Plan) -> dict[str, Callable[[], bytes]]:
    """Return functions that make the content of a store's tables, by file name."""
    return {layout.TRACES: planned.traces.to_bytes, layout.INDEX: lambda: parquet_bytes(planned.index)}


def _repair_tables(out: AnyPath, planned: Plan, meta: dict[str, Any]) -> None:
    """Write the tables of a store again that are missing or changed."""
    hashes = meta.get("files", {})
    changed = [
        name
        for name in _tables(planned)
        if not (out / name).exists() or (name in hashes and file_hash(out / name) != hashes[name])
    ]
    if changed:
        tables = _tables(planned)
        meta["files"] = hashes | {name: layout.commit(out / name, tables[name]()) for name in changed}
        _write_meta(out, meta)


def _write_meta(out: AnyPath, meta: dict[str, Any]) -> None:
    layout.commit(out / layout.META, (json.dumps(meta, indent=2, sort_keys=True) + "\n").encode())


def _is_temporary(path: AnyPath) -> bool:
    """Return whether a killed writer left this file under its temporary name."""
    return path.name.startswith(".") and path.suffix == ".tmp"
