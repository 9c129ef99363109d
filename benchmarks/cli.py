"""`cotlens bench`: take measures beside their peers, in one run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.options import OldName, with_options
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.environment import warn_renamed

app = new_app("Take measures beside their peers, in one process, and keep them under benchmarks/results/.")

Repetitions = Annotated[int, typer.Option(help="Number of interleaved rounds. Medians over them are reported.")]
# Sample sizes of `bench causal`, relative to the normal ones.
_CAUSAL_SCALES = {"quick": 0.25, "normal": 1.0, "full": 2.0}


def _part(names: str) -> Any:
    """Return the option that takes some parts of a bench alone."""
    help_ = f"Only this part: {names}. Repeatable. What was kept of the other parts stays."
    return typer.Option(help=help_, show_default="all")


@app.command("probes")
def probes(
    repetitions: Repetitions = 5,
    part: Annotated[list[str] | None, _part("solvers, floor, noise, streaming, sweep or growth")] = None,
    as_json: AsJson = False,
) -> None:
    """Time the batched solver beside scikit-learn, and count false discoveries over noise.

    Example: cotlens bench probes
    """
    from benchmarks.probes.figures import bench

    _run_timed(partial(bench, parts=part or ()), repetitions, as_json)


@app.command("sae")
def sae(
    repetitions: Repetitions = 5,
    organism: Annotated[str, typer.Option(help="A chain organism of continuous thoughts.")] = "chain31-coconut",
    part: Annotated[list[str] | None, _part("scale or features")] = None,
    as_json: AsJson = False,
) -> None:
    """Time SAE training beside SAELens, and read out single features beside untrained dictionaries.

    Example: cotlens bench sae
    """
    from benchmarks.sae.figures import bench

    _run_timed(partial(bench, parts=part or ()), repetitions, as_json, organism)


@app.command("capture")
def capture(
    repetitions: Repetitions = 7,
    device: Annotated[str, typer.Option(help="cpu, or cuda, where a large model is timed too.")] = "cpu",
    part: Annotated[list[str] | None, _part("peers, memory, growth or scale")] = None,
    as_json: AsJson = False,
) -> None:
    """Time recording beside a bare forward pass, other libraries and a Coconut loop, and measure its peak memory.

    Example: cotlens bench capture
    """
    from benchmarks.capture import contest as capture
    from benchmarks.capture import device as capture_device
    from interp.errors import UsageError
    from interp.models.devices import choose_device
    from interp.models.report import LoadReport

    if choose_device(device, LoadReport()) == "cpu":
        _run_timed(partial(capture.bench, parts=part or ()), repetitions, as_json)
    elif part:
        raise UsageError(f"expected --part on the CPU only, got --device {device}; leave one of them out.")
    else:
        _run_timed(partial(capture_device.bench, device), repetitions, as_json)


@app.command("store")
def store(
    repetitions: Repetitions = 15,
    part: Annotated[list[str] | None, _part("reading, growth or scale")] = None,
    as_json: AsJson = False,
) -> None:
    """Time reading a store beside a raw memory map and beside SAELens's format, and how both grow.

    Example: cotlens bench store
    """
    from benchmarks.store.contest import bench

    _run_timed(partial(bench, parts=part or ()), repetitions, as_json)


@app.command("dash")
def dash(
    repetitions: Repetitions = 5,
    part: Annotated[list[str] | None, _part("paint, lock, bytes, memory, pages, search or edit")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the dashboard in a headless browser: first paint, locking a cell, bytes, memory, search and live edits.

    Example: cotlens bench dash --part search
    """
    from benchmarks.dash.figures import bench

    _run_timed(partial(bench, parts=part or ()), repetitions, as_json)


@app.command("generate")
def generate(
    repetitions: Repetitions = 3,
    part: Annotated[list[str] | None, _part("equal, spread, prefix or capture")] = None,
    as_json: AsJson = False,
) -> None:
    """Time thinking on SmolLM2 beside transformers' own generation, with shared prompts and answers of all lengths.

    Example: cotlens bench generate
    """
    from benchmarks.generate import bench

    _run_timed(partial(bench, parts=part or ()), repetitions, as_json)


@app.command("models")
def models(
    part: Annotated[
        list[str] | None, _part("parity, silent, grading, gguf, adapters, study, reading, follow or base")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold real architectures to Hugging Face, count silent errors, and measure SmolLM2 on the task words.

    Example: cotlens bench models --part parity
    """
    from benchmarks.models.figures import bench

    with Bars() as bars:
        result = bench(bars, part or ())
    emit(result, as_json, lambda: print_measures(result))


@app.command("papers")
@with_options
def papers(
    only: Annotated[
        str | None,
        typer.Option(
            help="One system, such as coconut, or seeds: measure nothing, read the kept results of other benches.",
            show_default="all",
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="normal, or full: larger samples and tighter intervals, in several times the time."),
        OldName("--full", value="full"),
    ] = "normal",
    organisms: Annotated[
        Path | None,
        typer.Option(
            help="Folder of organisms that are not shipped, such as controls and other training seeds. "
            "Each is in NAME-seedN."
        ),
    ] = None,
    training_seed: Annotated[int, typer.Option(help="Training seed of those organisms."), OldName("--seed")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure nine systems of the literature again on the organisms, with controls and the papers' figures.

    Example: cotlens bench papers --only coconut
    """
    from benchmarks.papers.table import bench
    from interp.errors import UsageError, checked_count

    _check_size(size, "normal", "full")
    checked_count("training_seed", training_seed, at_least=0)
    if training_seed and organisms is None:
        raise UsageError(
            f"expected --organisms FOLDER with --training-seed {training_seed}, got none; "
            "the shipped organisms have training seed 0."
        )
    with Bars() as bars:
        result = bench(only, size == "full", bars, folder=organisms, seed=training_seed)

    def human() -> None:
        print_measures(result)
        if result["missing"]:
            print(
                f"\nnot measured, because they are not shipped: {', '.join(result['missing'])}.\n"
                f"Train them with `cotlens organisms train NAME --training-seed {training_seed} "
                f"--out FOLDER/NAME-seed{training_seed}`, and give --organisms FOLDER."
            )

    emit(result, as_json, human)


@app.command("subtext")
@with_options
def subtext(
    organisms: Annotated[
        Path | None,
        typer.Option(
            help="Folder of organisms that are not shipped, each in NAME-seedN: subtext-0, -2, -4, -value, -brief-*."
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="normal, or full: also train the organisms that are missing, 25 of them, a minute each."),
        OldName("--full", value="full"),
    ] = "normal",
    as_json: AsJson = False,
) -> None:
    """Measure planted bits, detect them without labels, locate them, and remove them with a paraphrase.

    Example: cotlens bench subtext
    """
    from benchmarks.subtext import bench

    _check_size(size, "normal", "full")
    with Bars() as bars:
        result = bench(bars, organisms, size == "full")
    emit(result, as_json, lambda: print_measures(result))


@app.command("causal")
@with_options
def causal(
    organisms: Annotated[
        Path | None,
        typer.Option(help="Folder of organisms of further training seeds, each in NAME-seedN.", show_default="none"),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="quick, normal or full: a quarter, all or twice the sample. Only normal results are kept."),
    ] = "normal",
    part: Annotated[list[str] | None, _part("interchange, content, used, steering, graphs or commitment")] = None,
    scale: Annotated[float | None, typer.Option(hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Interchange, content or compute, used maps, steering and attribution graphs, with known answers.

    Where an organism is there in several training seeds, the worst one counts.

    Example: cotlens bench causal --organisms FOLDER
    """
    from benchmarks.causal.figures import bench
    from interp.errors import UsageError

    _check_folder(organisms)
    _check_size(size, *_CAUSAL_SCALES)
    if scale is not None:
        warn_renamed("--scale", "--size")
        if not 0 < scale <= 10:
            raise UsageError(f"expected a --scale between 0 and 10, got {scale}.")
    with Bars() as bars:
        factor = _CAUSAL_SCALES[size] if scale is None else scale
        result = bench(bars, folder=organisms, scale=factor, parts=part or ())
    emit(result, as_json, lambda: print_measures(result))


@app.command("decoders")
@with_options
def decoders(
    organisms: Annotated[
        Path | None,
        typer.Option(help="Folder of organisms of training seeds 1 and 2, each in NAME-seedN.", show_default="none"),
    ] = None,
    part: Annotated[
        list[str] | None, _part("an organism, such as chain-coconut, or transfer"), OldName("--only")
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="normal, or quick: fewer problems and the fastest decoders; the result is not kept then."),
        OldName("--quick", value="quick"),
    ] = "normal",
    as_json: AsJson = False,
) -> None:
    """Measure every decoder on every organism with latents: exact match, controls, calibration, cost, both lenses.

    Example: cotlens bench decoders --organisms FOLDER
    """
    from benchmarks.decoders.figures import bench

    _check_folder(organisms)
    _check_size(size, "quick", "normal")
    with Bars() as bars:
        result = bench(bars, organisms=organisms, parts=part or (), quick=size == "quick")
    emit(result, as_json, lambda: print_measures(result))


@app.command("faithfulness")
def faithfulness(
    size: Annotated[
        str, typer.Option(help="normal, or quick: fewer than half of the chains; the result is not kept then.")
    ] = "normal",
    organisms: Annotated[
        Path | None,
        typer.Option(help="Folder of organisms of further training seeds, each in NAME-seedN.", show_default="none"),
    ] = None,
    part: Annotated[list[str] | None, _part("text or latent")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge every metric of faithfulness where it is known which steps are used: AUROC, lean, decay, cost.

    Example: cotlens bench faithfulness --size quick
    """
    from benchmarks.faithfulness.figures import SIZES, bench

    _check_size(size, *SIZES)
    _check_folder(organisms)
    with Bars() as bars:
        result = bench(bars, size, organisms, part or ())
    emit(result, as_json, lambda: print_measures(result))


def _check_size(size: str, *known: str) -> None:
    """Raise `UsageError` for a `--size` that a bench does not have."""
    from interp.errors import UsageError

    if size not in known:
        raise UsageError(f"expected --size {' or '.join(known)} for this bench, got {size!r}.")


def _check_folder(organisms: Path | None) -> None:
    """Raise `UsageError` where the folder of organisms does not exist."""
    from interp.errors import UsageError

    if organisms is not None and not organisms.is_dir():
        raise UsageError(
            f"expected a folder of organisms at {organisms}, got none; train some into it, or leave --organisms out."
        )


def _run_timed(bench: Callable[..., dict[str, Any]], repetitions: int, as_json: bool, *arguments: str) -> None:
    """Run a bench of interleaved rounds and print its measures."""
    from interp.errors import checked_count

    checked_count("repetitions", repetitions)
    with Bars() as bars:
        result = bench(repetitions, bars, *arguments)
    emit(result, as_json, lambda: print_measures(result))


def print_measures(result: dict[str, Any]) -> None:
    """Print the measures of a bench as a table, then the notes and the peer of each.

    Args:
        result: What a bench returns: `measures`, and for some benches a `table` that is printed first.
    """
    import shutil
    import textwrap

    import pandas as pd

    from benchmarks.shown import cell, peer_of, table_row

    if "table" in result:
        print_table(pd.DataFrame(result["table"]))
    measures = result["measures"]
    table = pd.DataFrame([{name: cell(value) for name, value in table_row(row).items()} for row in measures])
    unused = [] if any(row.get("other_seeds") for row in measures) else ["other seeds"]
    print_table(table.drop(columns=["what", "beside it", *unused]))
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    for row in measures:
        peer = peer_of(row)
        note = "; ".join(part for part in (f"beside {peer}" if peer else "", row["note"]) if part)
        if note:
            print(f"\n{row['id']}")
            print(textwrap.fill(note, width, initial_indent="  ", subsequent_indent="  "))
