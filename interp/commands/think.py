"""`cotlens think`: traces of a reasoner on generated problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.console import AsJson, Bars, emit, new_app
from interp.errors import UsageError

app = new_app("Let a reasoner think about problems and keep its traces.", single=True)


@app.command()
def think(
    model: Annotated[str, typer.Argument(help="a shipped organism, a folder or a hub id")],
    out: Annotated[Path, typer.Option(help="Parquet file to write")],
    task: Annotated[str | None, typer.Option(help="as chain:n=500,seed=7; the reasoner's own task by default")] = None,
    batch_size: Annotated[int, typer.Option()] = 128,
    as_json: AsJson = False,
) -> None:
    """Think about held-out problems and write the traces."""
    from interp.loading import load

    if out.exists():
        raise UsageError(f"{out} exists already; choose another --out, or remove it.")
    reasoner = load(model)
    problems = problems_of(task or reasoner.task.spec)
    with Bars() as bars, bars.stage(f"{reasoner.name} thinks") as report:
        traces = reasoner.think(problems, batch_size=batch_size, progress=report)
    traces.to_parquet(out)
    result = {"reasoner": reasoner.name, "traces": len(traces), "accuracy": traces.accuracy, "out": str(out)}
    emit(result, as_json, lambda: print(f"{len(traces)} traces, {traces.accuracy:.3f} right, in {out}"))


def problems_of(spec: str) -> list:
    """The problems that a spec such as `chain:n=500,seed=7,split=test,order=shuffled` asks for."""
    from interp.problems import parse_spec
    from interp.problems import task as make_task

    name, options = parse_spec(spec)
    try:
        n, seed = int(options.pop("n", 500)), int(options.pop("seed", 0))
    except ValueError:
        raise UsageError(f"n and seed of a task are whole numbers, but {spec!r} came.") from None
    split = options.pop("split", "test")
    return make_task(name, **options).generate(n, seed=seed, split=split)  # type: ignore[arg-type]
