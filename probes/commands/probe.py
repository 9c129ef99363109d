"""`cotlens probe`: sweeps over a store, and single probes that are kept and used again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.errors import QualityError
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

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
    description_length: Annotated[
        bool, typer.Option("--description-length", help="also the bits of the online code, at about twice the time")
    ] = False,
    engine: Annotated[str | None, typer.Option(help="inline, process, ray or slurm, settings behind a colon")] = None,
    workers: Annotated[int | None, typer.Option(help="worker processes; one for each core by default")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say how many cells, how long and how much memory")
    ] = False,
    fail_under: Annotated[float | None, typer.Option(help="exit with 4 if the best held-out accuracy is below")] = None,
    as_json: AsJson = False,
) -> None:
    """Sweep probes over address, place and target. Run again with the same --out, it computes only what is missing."""
    from interp.activations import Store
    from interp.errors import UsageError
    from interp.runtime.config import resolve_config
    from probes.sweeps.config import SweepConfig
    from probes.sweeps.run import plan, run

    axes = {"target": target, "place": place, "channel": channel, "address": address, "estimator": estimator}
    given = {
        "store": store,
        "out": out,
        "seeds": seeds,
        "random_init": random_init,
        "description_length": description_length or None,
        "engine": engine,
        "workers": workers,
    }
    if controls is not None:
        given["controls"] = controls if controls in ("all", "none") else controls.split(",")  # type: ignore[assignment]
    named = [*(settings or []), *(f"grid.{axis}={_listed(values)}" for axis, values in axes.items() if values)]
    if store is None and config is None and not any(setting.startswith("store=") for setting in named):
        raise UsageError("say which store: cotlens probe sweep STORE, or --config FILE with a `store`.")
    made = resolve_config(SweepConfig, config, named, options=given)
    opened = Store(made.store)
    twin = Store(made.random_init) if made.random_init else None
    common: dict[str, Any] = {
        "controls": made.controls,
        "seeds": made.seeds,
        "random_init": twin,
        "description_length": made.description_length,
    }
    plans = [plan(opened, **selection, **common) for selection in made.selections()]
    if dry_run:
        from probes.sweeps.cost import estimate

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
        *(["compression"] if "compression" in best else []),
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


@app.command("train")
def train_command(
    store: Annotated[Path, typer.Argument(help="folder of an activation store")],
    target: Annotated[str, typer.Option(help="what to read, as value_2")],
    place: Annotated[str, typer.Option(help="where in the trace, as 'thought 2'")],
    address: Annotated[str, typer.Option(help="where in the network, as blocks.1.hook_out")],
    out: Annotated[Path, typer.Option(help="folder to keep the probe in")],
    estimator: Annotated[str, typer.Option(help="ridge, logistic, mass_mean, lda or mlp")] = "ridge",
    seed: Annotated[int, typer.Option(help="the problem split")] = 0,
    controls: Annotated[str, typer.Option(help="all, none, or names with commas")] = "all",
    random_init: Annotated[Path | None, typer.Option(help="store of the same problems by an untrained twin")] = None,
    fail_under: Annotated[float | None, typer.Option(help="exit with 4 if the held-out accuracy is below")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit one probe, keep it, and say how it does beside its controls."""
    from interp.activations import Store
    from probes.sweeps.single import train_probe

    found = train_probe(
        Store(store),
        out,
        target=target,
        place=place,
        address=address,
        estimator=estimator,
        seed=seed,
        controls=controls if controls in ("all", "none") else controls.split(","),
        random_init=Store(random_init) if random_init else None,
    )

    def human() -> None:
        print(
            f"{target} at {place}, {address}: {found['accuracy']:.3f} [{found['ci_low']:.3f}, {found['ci_high']:.3f}]"
        )
        for name, value in found["controls"].items():
            why = found["why_not"].get(name)
            print(f"  {name}: {value:.3f}" if value == value else f"  {name}: – ({why})")
        print(f"kept in {out}")

    emit(found, as_json, human)
    if fail_under is not None and found["accuracy"] < fail_under:
        raise QualityError(f"the held-out accuracy is {found['accuracy']:.3f}, below {fail_under}.")


@app.command("eval")
def eval_command(
    probe: Annotated[list[Path], typer.Argument(help="folders of saved probes")],
    store: Annotated[list[Path], typer.Option(help="a store to read with them; repeatable")],
    place: Annotated[str | None, typer.Option(help="another place than the probe's own")] = None,
    target: Annotated[str | None, typer.Option(help="another target than the probe's own")] = None,
    transfer: Annotated[bool, typer.Option("--transfer", help="read other models' activations, and mean it")] = False,
    fail_under: Annotated[float | None, typer.Option(help="exit with 4 if any accuracy is below")] = None,
    as_json: AsJson = False,
) -> None:
    """Apply saved probes to other stores, on problems that they never saw."""
    from interp.activations import Store
    from probes.estimators.saved import load_probe
    from probes.sweeps.single import evaluate_probe

    stores = [Store(each) for each in store]
    rows = [
        {
            "probe": str(folder),
            **evaluate_probe(load_probe(folder), each, place=place, target=target, transfer=transfer),
        }
        for folder in probe
        for each in stores
    ]

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(rows))

    emit({"rows": rows}, as_json, human)
    if fail_under is not None and (least := min(row["accuracy"] for row in rows)) < fail_under:
        raise QualityError(f"the least accuracy is {least:.3f}, below {fail_under}.")


@app.command("ls")
def list_command(
    folder: Annotated[Path, typer.Argument(help="folder to look below")] = Path(),
    as_json: AsJson = False,
) -> None:
    """List the saved probes below a folder."""
    from interp.errors import StoreError
    from probes.sweeps.single import kept_probes

    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder.")
    rows = kept_probes(folder)

    def human() -> None:
        import pandas as pd

        if rows:
            print_table(pd.DataFrame(rows))
        else:
            print(f"no saved probes below {folder}; make one with `cotlens probe train`.")

    emit({"probes": rows}, as_json, human)
