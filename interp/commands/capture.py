"""`cotlens capture`: record, validate and list stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.console import AsJson, Bars, emit, new_app, print_table
from interp.errors import StoreError

app = new_app("Record activations of traces in a store on disk.")


@app.command("run")
def run(
    model: Annotated[str, typer.Argument(help="the reasoner that made the traces")],
    traces: Annotated[Path, typer.Argument(help="Parquet file of `cotlens think`")],
    out: Annotated[Path, typer.Option(help="folder of the store; an unfinished one is resumed")],
    sites: Annotated[list[str] | None, typer.Option(help="site group, hook name or pattern; repeatable")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16")] = "float32",
    shard_size: Annotated[int, typer.Option(help="traces in a shard")] = 256,
    as_json: AsJson = False,
) -> None:
    """Replay the traces and write what passes each site. Run it again to resume."""
    from interp.activations import capture
    from interp.loading import load
    from interp.traces import TraceSet

    found = TraceSet.from_parquet(traces)
    reasoner = load(model)
    with Bars() as bars, bars.stage(f"capturing {len(found)} traces") as report:
        store = capture(
            reasoner, found, sites=sites or "resid", out=out, dtype=dtype, shard_size=shard_size, progress=report
        )
    said = store.describe()
    emit(said, as_json, lambda: print(f"{said['positions']} positions x {len(said['addresses'])} addresses in {out}"))


@app.command("validate")
def validate(store: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """Check every shard against its hash (exit code 5 if something is wrong)."""
    from interp.activations import Store

    wrong = Store(store).validate()
    emit({"store": str(store), "ok": not wrong, "wrong": wrong}, as_json, lambda: print("\n".join(wrong) or "whole"))
    if wrong:
        raise StoreError(
            f"{store} is not whole: {len(wrong)} faults. Run the same capture again to redo what is missing."
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
