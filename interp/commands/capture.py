"""`cotlens capture`: record, resume, validate, list, export and import activation stores."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.layers import layer_numbers
from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import with_options
from interp.errors import StoreError, UsageError, counted, unknown
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

if TYPE_CHECKING:
    from interp.activations.plan import CaptureCost

app = new_app("Record activations of traces in a store on disk, and check, export or import stores.")

Engine = Annotated[
    str,
    typer.Option(
        help="Where shards are computed: inline, process, ray or slurm. Settings follow a colon: "
        "slurm:partition=gpu,mem_gb=32."
    ),
]
Workers = Annotated[int | None, typer.Option(help="Number of workers of the engine.", show_default="one for each core")]
Threads = Annotated[int, typer.Option(help="Threads per shard. The same number gives the same bytes.")]
BatchSize = Annotated[int, typer.Option(help="Largest number of traces in a forward pass.")]
Format = Annotated[str, typer.Option(help="Format to write: saelens or arrow.")]


@app.command("run")
@with_options
def run(
    model: Annotated[str, typer.Argument(help="The reasoner that made the traces: an organism, a folder or a hub id.")],
    traces: Annotated[Path, typer.Argument(help="Parquet file that `cotlens think` wrote.")],
    out: Annotated[str, typer.Option(help="Folder or fsspec URL of the store. An unfinished store is resumed.")],
    sites: Annotated[
        list[str] | None,
        typer.Option(
            help="Activations to record: a group such as mlp_out, a hook name or a pattern. Repeatable.",
            show_default="resid",
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Blocks to record, such as 0,2,4 or 0-3.", show_default="every block")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            help="Positions to record: prompt, thought, latent, answer or special. Repeatable.",
            show_default="all but the prompt",
        ),
    ] = None,
    positions: Annotated[
        list[str] | None,
        typer.Option(help="Keep only these of them: a pattern of places (`thought *`) or a slice (`-4:`). Repeatable."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type to store: float32, float16 or bfloat16.")] = "float32",
    shard_size: Annotated[int, typer.Option(help="Largest number of traces in a shard.")] = 256,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Allow traces that another model made, with the same tokens.")
    ] = False,
    batch_size: BatchSize = 64,
    engine: Engine = "inline",
    workers: Workers = None,
    threads: Threads = 1,
    load_options: LoadOptions = LOAD_DEFAULTS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how much space and time it takes, and write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay traces and record activations. Run the same command again to resume.

    Example: cotlens capture run chain-coconut runs/traces.parquet --out runs/store
    """
    from interp.activations.capturing import CheckedExecutionOptions, run_plan
    from interp.activations.plan import plan
    from interp.runtime.engines import executor
    from interp.traces import TraceSet

    executor(engine, workers)  # raises on wrong names before the model is loaded
    recorded = TraceSet.from_parquet(traces)
    planned = plan(
        load_options.load(model),
        recorded,
        sites=sites or "resid",
        layers=layer_numbers(layers),
        channels=channels,
        positions=positions or (),
        dtype=dtype,
        shard_size=shard_size,
        transfer=transfer,
    )
    written = {trace.written_by for trace in recorded if trace.written_by}
    if written:
        print(
            f"note: these texts are read by {model}, and were written by {', '.join(sorted(written)[:3])}",
            file=sys.stderr,
        )
    estimate = planned.estimate()
    if dry_run:
        emit({"out": out, **asdict(estimate)}, as_json, lambda: print(_estimate_line(estimate)))
        return
    with (
        Bars() as bars,
        bars.stage(f"capturing {counted(len(recorded), 'trace')}, {_estimate_line(estimate)}") as report,
    ):
        options = CheckedExecutionOptions(
            batch_size=batch_size, engine=engine, workers=workers, threads=threads, progress=report
        )
        store = run_plan(planned, out, options)
    _print_store(store, as_json)


@app.command("resume")
def resume(
    store: Annotated[str, typer.Argument(help="Folder or URL of an unfinished or damaged store.")],
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to run on, such as cpu or cuda:1.",
            show_default="the type of device that the store was started on",
        ),
    ] = None,
    batch_size: BatchSize = 64,
    engine: Engine = "inline",
    workers: Workers = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Finish a store and repair its damaged shards, with the settings that it records.

    Example: cotlens capture resume runs/store
    """
    from interp.activations import resume as finish

    with Bars() as bars, bars.stage(f"resuming {store}") as report:
        finished = finish(
            store,
            device=device,
            batch_size=batch_size,
            engine=engine,
            workers=workers,
            threads=threads,
            progress=report,
        )
    _print_store(finished, as_json)


@app.command("validate")
def validate(store: Annotated[str, typer.Argument(help="Folder or URL of a store.")], as_json: AsJson = False) -> None:
    """Check every shard against its hash. The exit code is 5 if one is damaged.

    Example: cotlens capture validate runs/store
    """
    from interp.activations import Store

    wrong = Store(store).validate()
    emit(
        {"store": store, "ok": not wrong, "wrong": wrong}, as_json, lambda: print("\n".join(wrong) or "no damage found")
    )
    if wrong:
        raise StoreError(
            f"{store} is damaged in {len(wrong)} places; run `cotlens capture resume {store}` to repair it."
        )


@app.command("ls")
def list_stores(
    root: Annotated[Path, typer.Argument(help="Folder to search.")] = Path("runs"), as_json: AsJson = False
) -> None:
    """List the stores below a folder.

    Example: cotlens capture ls runs
    """
    import pandas as pd

    from interp.activations import Store

    stores: list[dict[str, Any]] = []
    damaged: list[str] = []
    for meta in sorted(root.rglob("meta.json")):
        if (meta.parent / "traces.parquet").exists():
            try:
                stores.append(Store(meta.parent).describe())
            except StoreError as error:
                damaged.append(str(error))

    def human() -> None:
        if stores:
            print_table(pd.DataFrame(stores).drop(columns=["addresses", "steps"], errors="ignore"))
        print("\n".join(damaged) if stores or damaged else f"no stores below {root}")

    emit({"stores": stores, "damaged": damaged}, as_json, human)


@app.command("export")
def export(
    store: Annotated[str, typer.Argument(help="Folder or URL of a finished store.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    to: Format = "saelens",
    address: Annotated[
        list[str] | None,
        typer.Option(help="Activation to export, such as blocks.1.hook_out. Repeatable.", show_default="every address"),
    ] = None,
    context_size: Annotated[int, typer.Option(help="Positions per row of SAELens's format.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write a store in the format of SAELens's cached activations, or as Arrow files.

    Example: cotlens capture export runs/store --to arrow --out runs/arrow
    """
    from interp.activations import Store
    from interp.activations.formats.exports import export as write

    options = {"context_size": context_size} if to == "saelens" else {}
    with Bars() as bars, bars.stage(f"exporting {store}") as report:
        written = write(Store(store), to, out, addresses=address, progress=report, **options)
    dropped = f"; {written.dropped} positions did not fill a row" if written.dropped else ""
    line = f"{counted(written.rows, 'row')} x {counted(len(written.addresses), 'address')} in {out}{dropped}"
    emit(asdict(written), as_json, lambda: print(line))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder of another program's files.")],
    out: Annotated[Path, typer.Option(help="Folder of the store to write.")],
    origin: Annotated[
        str,
        typer.Option(
            "--from", help="Origin: vllm (its hidden states connector) or arrow (`cotlens capture export --to arrow`)."
        ),
    ] = "vllm",
    layers: Annotated[
        str | None, typer.Option(help="vllm: the recorded layer ids in their order, such as 1,2,4.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option(help="Parquet file of the traces that the activations belong to.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="vllm without --traces: folder or hub id of the tokenizer.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="vllm: type to store, float32, float16 or bfloat16.")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Make a store from activations that another program recorded.

    Example: cotlens capture import hidden-states --layers 1,2 --tokenizer MODEL --out runs/imported
    """
    from interp.activations.formats import imports
    from interp.traces import TraceSet

    if origin not in ("vllm", "arrow"):
        raise unknown("origin", origin, ["vllm", "arrow"])
    known = TraceSet.from_parquet(traces) if traces else None
    if origin == "arrow":
        if known is None:
            raise UsageError("expected --traces, got none; give the traces.parquet of the store that was exported.")
        _print_store(imports.from_arrow(source, known, out), as_json)
        return
    chosen = layer_numbers(layers)
    if chosen is None:
        raise UsageError("expected --layers, got none; give vLLM's eagle_aux_hidden_state_layer_ids, in their order.")
    loaded = None
    if tokenizer:
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"expected a tokenizer at {tokenizer}, got none ({str(error).strip().splitlines()[0]}); "
                "give a folder or a hub id."
            ) from None
    files = sorted(source.glob("*.safetensors"))
    _print_store(imports.from_vllm(files, chosen, out, traces=known, tokenizer=loaded, dtype=dtype), as_json)


def _print_store(store: Any, as_json: bool) -> None:
    """Print how much a store holds."""
    from interp.text.placement import step_placement

    about, placement = store.describe(), step_placement(store.traces)
    lines = [
        f"{counted(about['positions'], 'position')} x {counted(len(about['addresses']), 'address')} in {about['path']}"
    ]
    lines += [] if placement is None else [str(placement)]
    emit(about, as_json, lambda: print("\n".join(lines)))


def _estimate_line(estimate: CaptureCost) -> str:
    """Return one line with the space, time and memory that a capture takes."""
    return (
        f"{counted(estimate.positions, 'position')} x {counted(estimate.addresses, 'address')} in {counted(estimate.shards, 'shard')}: "
        f"{estimate.bytes / 2**20:.1f} MB, about {estimate.seconds:.0f} s on one worker, "
        f"which keeps up to {estimate.worker_bytes / 2**20:.0f} MB beside the model"
    )
