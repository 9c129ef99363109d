"""`cotlens capture`: record, resume, validate, list, export and import stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import AS_USUAL, Loading
from interp.commands.options import with_options
from interp.errors import StoreError, UsageError, unknown
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Record activations of traces in a store on disk.")

Engine = Annotated[
    str, typer.Option(help="inline, process, ray or slurm; settings behind a colon, as slurm:partition=gpu,mem_gb=32")
]
Workers = Annotated[int | None, typer.Option(help="workers of the engine; one for each core by default")]
Threads = Annotated[int, typer.Option(help="threads for each shard; bytes are the same for the same number")]
BatchSize = Annotated[int, typer.Option(help="traces in a forward pass, at most")]
Format = Annotated[str, typer.Option(help="saelens or arrow")]


@app.command("run")
@with_options
def run(
    model: Annotated[str, typer.Argument(help="the reasoner that made the traces")],
    traces: Annotated[Path, typer.Argument(help="Parquet file of `cotlens think`")],
    out: Annotated[str, typer.Option(help="folder or fsspec URL of the store; an unfinished one is resumed")],
    sites: Annotated[list[str] | None, typer.Option(help="site group, hook name or pattern; repeatable")] = None,
    layers: Annotated[str | None, typer.Option(help="blocks to keep, as 0,2,4 or 0-3; all by default")] = None,
    channels: Annotated[
        list[str] | None, typer.Option(help="prompt, thought, latent, answer, special; all but the prompt by default")
    ] = None,
    positions: Annotated[
        list[str] | None, typer.Option(help="places by pattern (`thought *`) or slices (`-4:`); repeatable")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16")] = "float32",
    shard_size: Annotated[int, typer.Option(help="traces in a shard, at most")] = 256,
    batch_size: BatchSize = 64,
    engine: Engine = "inline",
    workers: Workers = None,
    threads: Threads = 1,
    loading: Loading = AS_USUAL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would take, and write nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Replay the traces and write what passes each site. Run it again to resume."""
    from interp.activations.capturing import Work, carry_out
    from interp.activations.plan import plan
    from interp.runtime.engines import executor
    from interp.traces import TraceSet

    executor(engine, workers)  # refuses wrong ones before the model is loaded
    found = TraceSet.from_parquet(traces)
    planned = plan(
        loading.load(model),
        found,
        sites=sites or "resid",
        layers=_layers(layers),
        channels=channels,
        positions=positions or (),
        dtype=dtype,
        shard_size=shard_size,
    )
    said = planned.estimate()
    if dry_run:
        emit({"out": out, **said}, as_json, lambda: print(_estimate(said)))
        return
    with Bars() as bars, bars.stage(f"capturing {len(found)} traces, {_estimate(said)}") as report:
        work = Work(batch_size=batch_size, engine=engine, workers=workers, threads=threads, progress=report)
        store = carry_out(planned, out, work)
    _captured(store, as_json)


@app.command("resume")
def resume(
    store: Annotated[str, typer.Argument(help="folder or URL of a store that is not finished, or damaged")],
    device: Annotated[str | None, typer.Option(help="as cpu or cuda:1; the kind it was begun on by default")] = None,
    batch_size: BatchSize = 64,
    engine: Engine = "inline",
    workers: Workers = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Finish a store and redo its damaged shards, from what it says of itself."""
    from interp.activations import resume as finish

    with Bars() as bars, bars.stage(f"resuming {store}") as report:
        found = finish(
            store,
            device=device,
            batch_size=batch_size,
            engine=engine,
            workers=workers,
            threads=threads,
            progress=report,
        )
    _captured(found, as_json)


@app.command("validate")
def validate(store: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """Check every shard against its hash (exit code 5 if something is wrong)."""
    from interp.activations import Store

    wrong = Store(store).validate()
    emit({"store": store, "ok": not wrong, "wrong": wrong}, as_json, lambda: print("\n".join(wrong) or "whole"))
    if wrong:
        raise StoreError(
            f"{store} is not whole: {len(wrong)} faults. `cotlens capture resume {store}` redoes what is missing."
        )


@app.command("ls")
def list_stores(root: Annotated[Path, typer.Argument()] = Path("runs"), as_json: AsJson = False) -> None:
    """The stores below a folder."""
    import pandas as pd

    from interp.activations import Store

    found: list[dict[str, Any]] = []
    damaged: list[str] = []
    for meta in sorted(root.rglob("meta.json")):
        if (meta.parent / "traces.parquet").exists():
            try:
                found.append(Store(meta.parent).describe())
            except StoreError as error:
                damaged.append(str(error))

    def human() -> None:
        if found:
            print_table(pd.DataFrame(found).drop(columns=["addresses"]))
        print("\n".join(damaged) if found or damaged else f"no stores below {root}")

    emit({"stores": found, "damaged": damaged}, as_json, human)


@app.command("export")
def export(
    store: Annotated[str, typer.Argument(help="folder or URL of a finished store")],
    out: Annotated[Path, typer.Option(help="folder to write")],
    to: Format = "saelens",
    address: Annotated[list[str] | None, typer.Option(help="hook name; repeatable; all by default")] = None,
    context_size: Annotated[int, typer.Option(help="positions in one row of SAELens's format")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write a store as SAELens's cached activations, or as Arrow files."""
    from interp.activations import Store
    from interp.activations.exports import export as write

    options = {"context_size": context_size} if to == "saelens" else {}
    with Bars() as bars, bars.stage(f"exporting {store}") as report:
        said = write(Store(store), to, out, addresses=address, progress=report, **options)
    dropped = f", {said['dropped']} left over" if said["dropped"] else ""
    emit(said, as_json, lambda: print(f"{said['rows']} rows x {len(said['addresses'])} addresses in {out}{dropped}"))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="folder of another program's files")],
    out: Annotated[Path, typer.Option(help="folder of the store")],
    origin: Annotated[
        str, typer.Option("--from", help="vllm (hidden states connector) or arrow (an export of ours)")
    ] = "vllm",
    layers: Annotated[str | None, typer.Option(help="vllm: its layer ids in their order, as 1,2,4")] = None,
    traces: Annotated[Path | None, typer.Option(help="traces that the activations belong to")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="vllm without traces: folder or hub id for the words")] = None,
    dtype: Annotated[str, typer.Option(help="vllm: float32, float16 or bfloat16")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Make a store of what another program recorded."""
    from interp.activations import imports
    from interp.traces import TraceSet

    if origin not in ("vllm", "arrow"):
        raise unknown("origin", origin, ["vllm", "arrow"])
    known = TraceSet.from_parquet(traces) if traces else None
    if origin == "arrow":
        if known is None:
            raise UsageError("give --traces: the traces.parquet of the store that was exported.")
        _captured(imports.from_arrow(source, known, out), as_json)
        return
    chosen = _layers(layers)
    if chosen is None:
        raise UsageError("give --layers, the eagle_aux_hidden_state_layer_ids that vLLM was given, in their order.")
    words = None
    if tokenizer:
        from transformers import AutoTokenizer

        try:
            words = AutoTokenizer.from_pretrained(tokenizer)
        except (OSError, ValueError) as error:
            raise UsageError(f"no tokenizer at {tokenizer}: {str(error).strip().splitlines()[0]}") from None
    files = sorted(source.glob("*.safetensors"))
    _captured(imports.from_vllm(files, chosen, out, traces=known, tokenizer=words, dtype=dtype), as_json)


def _captured(store: Any, as_json: bool) -> None:
    said = store.describe()
    emit(
        said,
        as_json,
        lambda: print(f"{said['positions']} positions x {len(said['addresses'])} addresses in {said['path']}"),
    )


def _estimate(said: dict[str, Any]) -> str:
    return (
        f"{said['positions']} positions x {said['addresses']} addresses in {said['shards']} shards: "
        f"{said['bytes'] / 2**20:.1f} MB, about {said['seconds']:.0f} s on one worker, "
        f"which keeps up to {said['worker_bytes'] / 2**20:.0f} MB beside the model"
    )


def _layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--layers takes numbers and ranges, as 0,2,4 or 0-3, but {text!r} came.")
        found += range(int(first), int(last or first) + 1)
    return found
