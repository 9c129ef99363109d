"""`cotlens probe`: sweeps over a store, and single probes that are saved and used again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.options import OldName, with_options
from interp.errors import QualityError, counted
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.environment import variable_prefix, warn_renamed
from probes.commands.trajectory import confabulation_command, trajectory_command

if TYPE_CHECKING:
    import pandas as pd

app = new_app("Fit probes to the activations in a store. Each score is shown with its controls.")
_SWEEP = ("probe", "sweep")  # as variables are named
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting of the configuration, such as splits=5. Repeatable."),
]
Controls = Annotated[
    str, typer.Option(help="Controls to compute: all, none, or names separated by commas, such as majority,text_only.")
]
RandomInit = Annotated[
    Path | None, typer.Option(help="Store of the same problems made by an untrained twin, for the control random_init.")
]
_ESTIMATORS = "ridge, logistic, mass_mean, lda, mlp, or the name of an installed plugin"


@app.command("sweep")
@with_options
def sweep_command(
    store: Annotated[Path | None, typer.Argument(help="Folder of an activation store.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or TOML file with the configuration of the sweep.")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the table.", show_default="STORE-sweep")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Target to probe. Repeatable.", show_default="the value after each step")
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            help="Place to probe, such as 'thought 2' or 'every sentence'. Repeatable.", show_default="every place"
        ),
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            help="Channel whose places are probed, such as latent. Repeatable.", show_default="all that were captured"
        ),
        OldName("--channel"),
    ] = None,
    address: Annotated[
        list[str] | None, typer.Option(help="Address to probe. Repeatable.", show_default="every captured address")
    ] = None,
    estimator: Annotated[
        list[str] | None, typer.Option(help=f"Estimator: {_ESTIMATORS}. Repeatable.", show_default="ridge")
    ] = None,
    splits: Annotated[
        int | None, typer.Option(help="Number of problem splits.", show_default="3"), OldName("--seeds")
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(help="Controls to compute: all, none, or names separated by commas.", show_default="all"),
    ] = None,
    random_init: RandomInit = None,
    description_length: Annotated[
        bool, typer.Option("--description-length", help="Also compute the bits of the online code. Doubles the time.")
    ] = False,
    max_unplaced: Annotated[
        float | None,
        typer.Option(
            help="Largest share of the steps of visible thoughts that may have no place.", show_default="0.02"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Where to run: inline, process, ray or slurm, with settings behind a colon.", show_default="inline"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of workers of the engine.", show_default="one for each core")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate cells, time and memory, and do nothing else.")
    ] = False,
    fail_under: Annotated[
        float | None, typer.Option(help="Exit with code 4 if the best held-out accuracy is lower.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sweep probes over address, place and target. Run the same command again to resume.

    Example: cotlens probe sweep runs/store --target step_value --out runs/sweep
    """
    from interp.activations import Store
    from interp.errors import UsageError
    from interp.runtime.config import resolve_config
    from probes.sweeps.config import SweepConfig
    from probes.sweeps.run import plan, run

    axes = {"target": target, "place": place, "channels": channels, "address": address, "estimator": estimator}
    options = {
        "store": store,
        "out": out,
        "splits": splits,
        "controls": None if controls is None else _control_list(controls),
        "random_init": random_init,
        "description_length": description_length or None,
        "max_unplaced": max_unplaced,
        "engine": engine,
        "workers": workers,
    }
    all_settings = [
        *_old_environment(),
        *(settings or []),
        *(f"grid.{axis}={json.dumps(values)}" for axis, values in axes.items() if values),
    ]
    if store is None and config is None and not any(setting.startswith("store=") for setting in all_settings):
        raise UsageError("expected a store, got none; run cotlens probe sweep STORE, or use a --config with a `store`.")
    settled = resolve_config(SweepConfig, config, all_settings, options=options, command=_SWEEP)
    opened = Store(settled.store)
    twin = Store(settled.random_init) if settled.random_init else None
    plans = [
        plan(
            opened,
            **selection,
            controls=settled.controls,
            splits=settled.splits,
            random_init=twin,
            description_length=settled.description_length,
            max_unplaced=settled.max_unplaced,
        )
        for selection in settled.selections()
    ]
    if dry_run:
        from probes.sweeps.cost import estimate_cost

        cost = asdict(estimate_cost(opened, plans, settled.engine, settled.workers))
        emit(cost, as_json, lambda: print("\n".join(f"{name}: {value}" for name, value in cost.items())))
        return
    folder = settled.folder()
    with Bars() as bars, bars.stage("sweeping probes") as report:
        swept = run(opened, plans, engine=settled.engine, workers=settled.workers, out=folder, progress=report)
    swept.save(folder)
    best = swept.table().sort_values("accuracy", ascending=False).groupby("target", sort=False).head(1)
    columns = [
        "target",
        "place",
        "address",
        "estimator",
        "accuracy",
        "ci_low",
        "ci_high",
        *swept.notes["controls"],
        *(["compression"] if "compression" in best else []),
        "q",
        "n",
    ]
    emit(
        {"out": str(folder), "cells": len(swept.table()), "best": best.to_dict("records"), "notes": swept.notes},
        as_json,
        lambda: _print_best(
            best[columns],
            swept.notes,
            f"the best of each target; all {counted(len(swept.table()), 'cell')}: cotlens dash {folder}",
        ),
    )
    _require(fail_under, best["accuracy"].max(), "the best held-out accuracy")


def _print_best(best: pd.DataFrame, notes: dict[str, Any], where: str) -> None:
    from interp.activations.splits import split_sentence
    from interp.text.placement import StepPlacement

    print_table(best)
    if unconverged := notes.get("unconverged"):
        print(
            f"warning: {counted(unconverged, 'logistic fit')} did not converge, so those scores are not of the optimum; "
            "the column unconverged of the table says in which cells."
        )
    if sentence := split_sentence(notes["split"]):
        print(sentence)
    if (steps := notes.get("steps")) is not None:
        print(StepPlacement(steps["placed"], steps["left_out"], steps["unplaced"]))
    print(where)


@app.command("train")
@with_options
def train_command(
    store: Annotated[Path, typer.Argument(help="Folder of an activation store.")],
    target: Annotated[str, typer.Option(help="Target to predict, such as value_2.")],
    place: Annotated[str, typer.Option(help="Place to read, such as 'thought 2'.")],
    address: Annotated[str, typer.Option(help="Address to read, such as blocks.1.hook_out.")],
    out: Annotated[Path, typer.Option(help="Folder for the probe.")],
    estimator: Annotated[str, typer.Option(help=f"Estimator: {_ESTIMATORS}.")] = "ridge",
    split_seed: Annotated[
        int,
        typer.Option(help="Seed of the problem split: which structures are fitted, selected on and held out."),
        OldName("--seed"),
    ] = 0,
    controls: Controls = "all",
    random_init: RandomInit = None,
    fail_under: Annotated[
        float | None, typer.Option(help="Exit with code 4 if the held-out accuracy is lower.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit one probe, save it, and show its held-out accuracy with its controls.

    Example: cotlens probe train runs/store --target value_2 --place "thought 2" --address ln_final.hook_out --out runs/probe
    """
    from interp.activations import Store
    from probes.sweeps.single import train_probe

    result = train_probe(
        Store(store),
        out,
        target=target,
        place=place,
        address=address,
        estimator=estimator,
        split_seed=split_seed,
        controls=_control_list(controls),
        random_init=Store(random_init) if random_init else None,
    )

    def human() -> None:
        print(f"{target} at {place}, {address}: {result.accuracy}")
        for name, value in result.controls.items():
            print(f"  {name}: {value:.3f}" if value == value else f"  {name}: – ({result.why_not.get(name)})")
        print(f"saved in {out}")

    emit(result.record(), as_json, human)
    _require(fail_under, result.accuracy.value, "the held-out accuracy")


@app.command("eval")
def eval_command(
    probe: Annotated[list[Path], typer.Argument(help="Folders of saved probes.")],
    store: Annotated[list[Path], typer.Option(help="Store to read with them. Repeatable.")],
    place: Annotated[str | None, typer.Option(help="Place to read.", show_default="that of the probe")] = None,
    target: Annotated[str | None, typer.Option(help="Target to score.", show_default="that of the probe")] = None,
    transfer: Annotated[bool, typer.Option("--transfer", help="Allow activations of another model.")] = False,
    fail_under: Annotated[float | None, typer.Option(help="Exit with code 4 if any accuracy is lower.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate saved probes on stores, on problems that they were not fitted to.

    Example: cotlens probe eval runs/probe --store runs/store
    """
    from interp.activations import Store
    from probes.estimators.saved import load_probe
    from probes.sweeps.single import evaluate_probe

    stores = [Store(path) for path in store]
    rows: list[dict[str, Any]] = [
        {
            "probe": str(folder),
            **evaluate_probe(load_probe(folder), opened, place=place, target=target, transfer=transfer).record(),
        }
        for folder in probe
        for opened in stores
    ]

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(rows))

    emit({"rows": rows}, as_json, human)
    _require(fail_under, min(row["accuracy"] for row in rows), "the lowest accuracy")


@app.command("ls")
def list_command(
    folder: Annotated[Path, typer.Argument(help="Folder to search, with its subfolders.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """List the saved probes below a folder.

    Example: cotlens probe ls runs
    """
    from interp.errors import StoreError
    from probes.sweeps.single import saved_probes

    if not folder.is_dir():
        raise StoreError(f"expected a folder, got {folder}; name a folder that exists.")
    rows = saved_probes(folder)

    def human() -> None:
        import pandas as pd

        if rows:
            print_table(pd.DataFrame(rows))
        else:
            print(f"no saved probes below {folder}; train one with `cotlens probe train`.")

    emit({"probes": rows}, as_json, human)


app.command("trajectory")(trajectory_command)
app.command("confabulation")(confabulation_command)


def _old_environment() -> list[str]:
    """Return the setting of an environment variable that has a new name."""
    seeds, new = os.environ.get("COTLENS_SEEDS"), f"{variable_prefix(*_SWEEP)}_SPLITS"
    if seeds is None or new in os.environ or "COTLENS_SPLITS" in os.environ:
        return []
    warn_renamed("COTLENS_SEEDS", new)
    return [f"splits={seeds}"]


def _control_list(controls: str) -> str | list[str]:
    """Return the controls that an option names."""
    return controls if controls in ("all", "none") else controls.split(",")


def _require(fail_under: float | None, accuracy: float, what: str) -> None:
    """Raise an error if an accuracy is lower than required."""
    if fail_under is not None and not accuracy >= fail_under:  # NaN fails too
        raise QualityError(f"expected {what} of at least {fail_under}, got {accuracy:.3f}.")
