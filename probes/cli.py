"""`cotlens probe`: sweeps over a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.console import AsJson, Bars, emit, new_app, print_table
from interp.errors import QualityError

app = new_app("Linear probes over an activation store, each score beside its controls.")


@app.command("sweep")
def sweep_command(
    store: Annotated[Path, typer.Argument(help="folder of an activation store")],
    out: Annotated[Path | None, typer.Option(help="folder for the table; STORE/../sweep by default")] = None,
    target: Annotated[list[str] | None, typer.Option(help="repeatable; the value after each step by default")] = None,
    place: Annotated[list[str] | None, typer.Option(help="repeatable, as 'thought 2'; every place by default")] = None,
    address: Annotated[list[str] | None, typer.Option(help="repeatable; every captured address by default")] = None,
    seeds: Annotated[int, typer.Option(help="number of problem splits")] = 3,
    controls: Annotated[str, typer.Option(help="all, none, or names with commas")] = "all",
    random_init: Annotated[Path | None, typer.Option(help="store of the same problems by an untrained twin")] = None,
    fail_under: Annotated[float | None, typer.Option(help="exit with 4 if the best held-out accuracy is below")] = None,
    as_json: AsJson = False,
) -> None:
    """Sweep probes over address, place and target."""
    from interp.activations import Store
    from probes.sweeping import sweep

    opened = Store(store)
    with Bars() as bars, bars.stage("sweeping probes") as report:
        found = sweep(
            opened,
            target,
            places=place,
            addresses=address,
            seeds=seeds,
            controls=controls if controls in ("all", "none") else controls.split(","),
            random_init=Store(random_init) if random_init else None,
            progress=report,
        )
    folder = out or store.parent / "sweep"
    found.save(folder)
    best = found.table().sort_values("accuracy", ascending=False).groupby("target", sort=False).head(1)
    emit(
        {"out": str(folder), "cells": len(found.table()), "best": best.to_dict("records"), "notes": found.notes},
        as_json,
        lambda: print_table(best.drop(columns=["depth", "layer", "label"])),
    )
    if fail_under is not None and best["accuracy"].max() < fail_under:
        raise QualityError(f"the best held-out accuracy is {best['accuracy'].max():.3f}, below {fail_under}.")
