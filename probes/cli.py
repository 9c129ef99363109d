"""`cotlens probe`: sweeps over a store, and single probes that are kept and used again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.console import AsJson, Bars, emit, new_app, print_table
from interp.errors import QualityError

app = new_app("Probes over an activation store, each score beside its controls.")
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="one setting of the configuration, as seeds=5; repeatable")
]


@app.command("sweep")
def sweep_command(
    store: Annotated[Path | None, typer.Argument(help="folder of an activation store")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or TOML file of the sweep")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="folder for the table; STORE/../sweep by default")] = None,
    target: Annotated[list[str] | None, typer.Option(help="repeatable; the value after each step by default")] = None,
    place: Annotated[list[str] | None, typer.Option(help="repeatable, as 'thought 2'; every place by default")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="repeatable, as latent; narrows the places")] = None,
    address: Annotated[list[str] | None, typer.Option(help="repeatable; every captured address by default")] = None,
    estimator: Annotated[
        list[str] | None, typer.Option(help="repeatable: ridge, logistic, mass_mean, lda, mlp")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="number of problem splits (3)")] = None,
    controls: Annotated[str | None, typer.Option(help="all, none, or names with commas")] = None,
    random_init: Annotated[Path | None, typer.Option(help="store of the same problems by an untrained twin")] = None,
    engine: Annotated[str | None, typer.Option(help="inline or process")] = None,
    workers: Annotated[int | None, typer.Option(help="worker processes; one for each core by default")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say how many cells, how long and how much memory")
    ] = False,
    fail_under: Annotated[float | None, typer.Option(help="exit with 4 if the best held-out accuracy is below")] = None,
    as_json: AsJson = False,
) -> None:
    """Sweep probes over address, place and target. Run again with the same --out, it computes only what is missing."""
    from interp.activations import Store
    from interp.config import resolve
    from interp.errors import UsageError
    from probes.config import SweepConfig
    from probes.sweeping import plan, run

    axes = {"target": target, "place": place, "channel": channel, "address": address, "estimator": estimator}
    given = {
        "store": store,
        "out": out,
        "seeds": seeds,
        "random_init": random_init,
        "engine": engine,
        "workers": workers,
    }
    if controls is not None:
        given["controls"] = controls if controls in ("all", "none") else controls.split(",")  # type: ignore[assignment]
    named = [*(settings or []), *(f"grid.{axis}={_listed(values)}" for axis, values in axes.items() if values)]
    if store is None and config is None and not any(setting.startswith("store=") for setting in named):
        raise UsageError("say which store: cotlens probe sweep STORE, or --config FILE with a `store`.")
    made = resolve(SweepConfig, config, named, given=given)
    opened = Store(made.store)
    twin = Store(made.random_init) if made.random_init else None
    common: dict[str, Any] = {"controls": made.controls, "seeds": made.seeds, "random_init": twin}
    plans = [plan(opened, **selection, **common) for selection in made.selections()]
    if dry_run:
        from probes.estimate import estimate

        said = estimate(opened, plans, made.engine, made.workers)
        emit(said, as_json, lambda: print("\n".join(f"{name}: {value}" for name, value in said.items())))
        return
    folder = made.out or made.store.parent / "sweep"
    with Bars() as bars, bars.stage("sweeping probes") as report:
        found = run(opened, plans, engine=made.engine, workers=made.workers, out=folder, progress=report)
    found.save(folder)
    best = found.table().sort_values("accuracy", ascending=False).groupby("target", sort=False).head(1)
    shown = [
        "target",
        "place",
        "address",
        "estimator",
        "accuracy",
        "ci_low",
        "ci_high",
        *found.notes["controls"],
        "q",
        "n",
    ]
    emit(
        {"out": str(folder), "cells": len(found.table()), "best": best.to_dict("records"), "notes": found.notes},
        as_json,
        lambda: print_table(best[shown]),
    )
    if fail_under is not None and best["accuracy"].max() < fail_under:
        raise QualityError(f"the best held-out accuracy is {best['accuracy'].max():.3f}, below {fail_under}.")


def _listed(values: list[str]) -> str:
    import json

    return json.dumps(values)
