"""`cotlens bench`: measures beside their peers, in one run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Take measures, side by side with peers in one process, and keep them under benchmarks/results/.")


@app.command("probes")
def probes(
    repetitions: Annotated[int, typer.Option(help="interleaved rounds; medians are reported")] = 5,
    as_json: AsJson = False,
) -> None:
    """The batched solver beside scikit-learn, and false discoveries over noise."""
    from benchmarks.probes.figures import bench

    _timed(bench, repetitions, as_json)


@app.command("sae")
def sae(
    repetitions: Annotated[int, typer.Option(help="interleaved rounds of training; medians are reported")] = 5,
    organism: Annotated[str, typer.Option(help="a chain organism of continuous thoughts")] = "chain31-coconut",
    as_json: AsJson = False,
) -> None:
    """SAE training beside SAELens, and single features as read-outs beside untrained dictionaries."""
    from benchmarks.sae.figures import bench

    _timed(bench, repetitions, as_json, organism)


@app.command("capture")
def capture(
    repetitions: Annotated[int, typer.Option(help="interleaved rounds of the large batch; medians are reported")] = 7,
    device: Annotated[str, typer.Option(help="cpu, or cuda, where a large model is timed too")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Recording beside a bare forward pass, other libraries and a Coconut loop, and its peak memory."""
    from benchmarks.capture import contest as capture
    from benchmarks.capture import device as capture_device
    from interp.models.reading import choose_device
    from interp.models.report import LoadReport

    if choose_device(device, LoadReport()) == "cpu":
        _timed(capture.bench, repetitions, as_json)
    else:
        _timed(partial(capture_device.bench, device), repetitions, as_json)


@app.command("store")
def store(
    repetitions: Annotated[int, typer.Option(help="interleaved rounds; medians are reported")] = 15,
    as_json: AsJson = False,
) -> None:
    """Reading a store beside a raw memory map and beside what SAELens writes, and how both grow."""
    from benchmarks.store.contest import bench

    _timed(bench, repetitions, as_json)


@app.command("papers")
def papers(
    only: Annotated[str | None, typer.Option(help="one system, such as coconut; all of them by default")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="larger samples: tighter intervals, several times the time")
    ] = False,
    organisms: Annotated[
        Path | None,
        typer.Option(
            help="folder of organisms that are not shipped, each in NAME-seedN, such as controls and other seeds"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="the training seed of those organisms")] = 0,
    as_json: AsJson = False,
) -> None:
    """The nine systems of the literature, measured again on the organisms, with controls and the papers' figures."""
    from benchmarks.papers.table import bench
    from interp.errors import UsageError, checked_count

    checked_count("seed", seed, at_least=0)
    if seed and organisms is None:
        raise UsageError("the shipped organisms are of seed 0; give --organisms FOLDER with --seed N for others.")
    with Bars() as bars:
        result = bench(only, full, bars, folder=organisms, seed=seed)

    def show() -> None:
        print_measures(result)
        if result["missing"]:
            print(
                f"\nnot measured, for they are not shipped: {', '.join(result['missing'])}.\n"
                f"Train them with `cotlens organisms train NAME --seed {seed} --out FOLDER/NAME-seed{seed}`, and give "
                "--organisms FOLDER."
            )

    emit(result, as_json, show)


@app.command("subtext")
def subtext(
    organisms: Annotated[
        Path | None,
        typer.Option(
            help="folder of organisms that are not shipped, each in NAME-seedN: subtext-0, -2, -4, -value, -brief-*"
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="train those that are missing: 25 of them, a minute each")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Planted bits: measured, detected without being told what, located, and closed by a paraphrase."""
    from benchmarks.subtext import bench

    with Bars() as bars:
        result = bench(bars, organisms, full)
    emit(result, as_json, lambda: print_measures(result))


@app.command("causal")
def causal(
    organisms: Annotated[
        Path | None,
        typer.Option(
            help="folder of organisms of further training seeds, each in NAME-seedN; without it the shipped ones"
        ),
    ] = None,
    scale: Annotated[
        float, typer.Option(help="multiplies every sample size; anything but 1 is a trial, not kept")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Interchange, content or compute, used maps, steering, attribution graphs, on organisms with known answers.

    Of an organism that is there in several training seeds the worst counts.
    """
    from benchmarks.causal.figures import bench
    from interp.errors import UsageError

    if organisms is not None and not organisms.is_dir():
        raise UsageError(f"{organisms} is no folder of organisms. Train some into it, or leave --organisms out.")
    if not 0 < scale <= 10:
        raise UsageError(f"scale must lie between 0 and 10, but {scale} came.")
    with Bars() as bars:
        result = bench(bars, folder=organisms, scale=scale)
    emit(result, as_json, lambda: print_measures(result))


@app.command("decoders")
def decoders(
    organisms: Annotated[
        Path | None,
        typer.Option(help="folder of organisms of seeds 1 and 2, each in NAME-seedN; without it, seed 0 alone"),
    ] = None,
    only: Annotated[str | None, typer.Option(help="one organism, as chain-coconut; nothing is kept then")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="fewer problems and the quickest decoders, as a try; nothing is kept")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Every decoder on every organism with latents: exact match, controls, calibration, cost, and both lenses."""
    from benchmarks.decoders.figures import bench
    from interp.errors import UsageError

    if organisms is not None and not organisms.is_dir():
        raise UsageError(f"{organisms} is no folder of organisms. Train some into it, or leave --organisms out.")
    with Bars() as bars:
        result = bench(bars, organisms=organisms, only=only, quick=quick)
    emit(result, as_json, lambda: print_measures(result))


def _timed(bench: Callable[..., dict[str, Any]], repetitions: int, as_json: bool, *about: str) -> None:
    """Run a bench of interleaved rounds and say what it measured."""
    from interp.errors import checked_count

    checked_count("repetitions", repetitions)
    with Bars() as bars:
        result = bench(repetitions, bars, *about)
    emit(result, as_json, lambda: print_measures(result))


def print_measures(result: dict[str, Any]) -> None:
    """The measures as a table, and under it, wrapped, what stands beside each."""
    import shutil
    import textwrap

    import pandas as pd

    from benchmarks.shown import cell, peer_of, shown

    if "table" in result:
        print_table(pd.DataFrame(result["table"]))
    measures = result["measures"]
    table = pd.DataFrame([{name: cell(value) for name, value in shown(row).items()} for row in measures])
    seeds = [] if any(row.get("other_seeds") for row in measures) else ["other seeds"]
    print_table(table.drop(columns=["what", "beside it", *seeds]))
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    for row in measures:
        peer = peer_of(row)
        said = "; ".join(part for part in (f"beside {peer}" if peer else "", row["note"]) if part)
        if said:
            print(f"\n{row['id']}")
            print(textwrap.fill(said, width, initial_indent="  ", subsequent_indent="  "))
