"""`cotlens probe trajectory` and `cotlens probe confabulation`: a probe at every position, and labels of false steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.options import with_options
from interp.errors import QualityError, StoreError, UsageError
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.files import refuse_existing


@with_options
def trajectory_command(
    store: Annotated[Path, typer.Argument(help="Folder of an activation store.")],
    target: Annotated[
        str, typer.Option(help="Target of whole traces or of steps, such as correct, value_2 or a label of your own.")
    ],
    says: Annotated[
        str | None,
        typer.Option(
            help="The label to look for.", show_default="False for correct, True among truth values, else every label"
        ),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(help="Address to choose from. Repeatable.", show_default="every captured address"),
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(help="Channel of the positions. Repeatable.", show_default="thought and latent"),
    ] = None,
    estimator: Annotated[str, typer.Option(help="Estimator: ridge, logistic, mass_mean or lda.")] = "ridge",
    pooling: Annotated[
        list[str] | None,
        typer.Option(
            help="Pooling to choose from: max, 'rolling max', mean or last. Repeatable.", show_default="all of them"
        ),
    ] = None,
    window: Annotated[int, typer.Option(help="Positions of the rolling mean.")] = 4,
    false_alarms: Annotated[
        float, typer.Option(help="False-alarm rate on validation at which the threshold is set.")
    ] = 0.05,
    cross_fit: Annotated[
        bool, typer.Option("--cross-fit", help="Hold out every problem once, in five folds. Five times the work.")
    ] = False,
    split_seed: Annotated[int, typer.Option(help="Seed of the problem split, the folds and the controls.")] = 0,
    controls: Annotated[bool, typer.Option("--controls/--no-controls", help="Also compute the controls.")] = True,
    steer: Annotated[
        bool,
        typer.Option("--steer", help="Also push the thought against the probe where it fired, beside two controls."),
    ] = False,
    dose: Annotated[
        list[float] | None,
        typer.Option(
            help="Length of the push of --steer, in mean norms of a state. Repeatable.", show_default="0.25 and 1"
        ),
    ] = None,
    along: Annotated[
        str, typer.Option(help="Direction of --steer: probe, or class means (the mean states of both kinds of traces).")
    ] = "probe",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the probe, the scores of traces and positions, and the result as JSON."),
    ] = None,
    fail_under: Annotated[float | None, typer.Option(help="Exit with code 4 if the held-out AUROC is lower.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a probe on every position of the thoughts, pool its scores over a trace, and say where it fires.

    Address, pooling and threshold are chosen on validation. The AUROC stands beside shuffled labels, length, words and
    random directions, and the places beside a place at random and that of another problem.

    Example: cotlens probe trajectory runs/text-store --target value_2 --pooling max --out runs/trajectory-value
    """
    from interp.activations import Store
    from interp.traces import THINKING
    from probes.trajectories.pooling import POOLINGS
    from probes.trajectories.run import trajectory

    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"expected an empty folder, got {out}; choose another --out, or remove it.")
    if (dose or along != "probe") and not steer:
        raise UsageError("expected --dose and --along with --steer, got them alone; add --steer.")
    opened = Store(store)
    with Bars() as bars, bars.stage(f"fitting at every position of {store}") as report:
        result = trajectory(
            opened,
            target,
            says=says,
            addresses=address,
            channels=channels or list(THINKING),
            estimator=estimator,
            pooling=pooling or list(POOLINGS),
            window=window,
            false_alarms=false_alarms,
            cross_fit=cross_fit,
            split_seed=split_seed,
            controls=controls,
            progress=report,
        )
    record = result.record()
    steered = None
    if steer:
        from probes.trajectories.steering import steer_trajectory

        with Bars() as bars, bars.stage("steering where the probe fired") as report:
            steered = steer_trajectory(
                opened, result, doses=dose or (0.25, 1.0), along=along, seed=split_seed, progress=report
            )
        record |= {"steering": {"arms": steered.table.to_dict("records"), "verdict": steered.verdict}}
    if out is not None:
        _save(result, record, opened, out, split_seed)
        record |= {"out": str(out)}

    def human() -> None:
        (part, *others) = result.parts
        print_table(result.table)
        for name, why in result.why_not.items():
            print(f"{name}: not computed, {why}")
        print(
            f"read at {part.address}, pooled by {part.pooling}"
            + (f" (and {len(others)} more folds)" if others else "")
            + f"\nat {result.wanted_false_alarms:.0%} false alarms on validation, held-out: {result.detected} found, "
            f"{result.false_alarms} false alarms"
        )
        if result.places:
            print(f"\nwhere it fires, against {result.truth}:")
            print_table(result.place_table())
        print(f"\n{result.verdict}")
        if steered is not None:
            print_table(steered.table)
            print(steered.verdict)
        if out is not None:
            print(f"saved in {out}")
            if part.alarm is not None:
                print(
                    f"watch thoughts with it: cotlens causal monitor MODEL --watch {out} --says {part.events[0]} "
                    f"--threshold {part.alarm:.4g}"
                )

    emit(record, as_json, human)
    if fail_under is not None and not result.auroc().value >= fail_under:
        raise QualityError(f"expected a held-out AUROC of at least {fail_under}, got {result.auroc().value:.3f}.")


def _save(result: Any, record: dict[str, Any], store: Any, out: Path, split_seed: int) -> None:
    """Write the first split's probe, both tables and the result."""
    from interp.activations.store import parquet_bytes
    from interp.runtime.console import jsonable
    from interp.runtime.files import commit
    from probes.estimators.saved import save_probe

    part = result.parts[0]
    metrics = {
        "place": "every thought",
        "auroc": result.auroc().value,
        "pooling": part.pooling,
        "threshold": part.threshold,
        "alarm": part.alarm,
        "window": part.window,
        "events": part.events,
        "used_structures": sorted({store.traces[int(t)].problem.structure for t in (*part.train, *part.val)}),
    }
    save_probe(
        part.probe, out, address=part.address, store=store, target=result.target, split=split_seed, metrics=metrics
    )
    commit(out / "traces.parquet", parquet_bytes(result.traces))
    commit(out / "positions.parquet", parquet_bytes(result.positions))
    commit(out / "trajectory.json", (json.dumps(jsonable(record), allow_nan=False) + "\n").encode())


@with_options
def confabulation_command(
    store: Annotated[Path, typer.Argument(help="Folder of an activation store of visible thoughts.")],
    out: Annotated[Path, typer.Option(help="CSV file of labels to write, one row for each step.")],
    address: Annotated[
        list[str] | None,
        typer.Option(help="Address to choose from. Repeatable.", show_default="every captured address"),
    ] = None,
    coverage: Annotated[float, typer.Option(help="Share of validation readings that count as confident.")] = 0.9,
    split_seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Label each written step: false, false though the state held the true value, or misread with confidence.

    `cotlens import labels` adds the labels to the store, as targets of probes and trajectories.

    Example: cotlens probe confabulation runs/text-store --out runs/confabulated.csv
    """
    from interp.activations import Store
    from probes.trajectories.confabulation import confabulation

    refuse_existing(out)
    with Bars() as bars, bars.stage(f"reading the steps of {store}"):
        result = confabulation(Store(store), addresses=address, coverage=coverage, seed=split_seed)
    result.write(out)
    record = {**result.record(), "out": str(out)}

    def human() -> None:
        print(f"{result}\nlabels in {out}; add them with `cotlens import labels {out} --to {store}`")

    emit(record, as_json, human)
