"""`cotlens demo`, `cotlens study`, `cotlens report` and `cotlens dash`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions, MaxAnswerTokens, MaxThoughtTokens, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, new_app

demo = new_app("Run a whole study on one shipped organism.", single=True)
study = new_app("Study any model: think, capture, probe, decode, intervene, report.", single=True)
report = new_app("Write a run as one self-contained HTML file.")
dash = new_app("Open the dashboard over anything that this toolkit wrote.", single=True)


@demo.command()
def demo_command(
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/demo-ORGANISM")] = None,
    organism: Annotated[
        str, typer.Option(help="A shipped organism that thinks (`cotlens organisms ls`).")
    ] = "chain-coconut",
    n: Annotated[int, typer.Option(help="Number of held-out problems.")] = 2500,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Think, capture, probe, decode, intervene and report, in less than three minutes on two cores.

    Example: cotlens demo --out runs/demo
    """
    from dashboards.demo import run_demo
    from interp.runtime.console import STARTED

    folder = out or Path("runs") / f"demo-{organism}"
    with Bars() as bars:
        result = run_demo(folder, organism, n=n, seed=seed, bars=bars, started=STARTED)
    emit(result, as_json, lambda: _print_summary(result, folder))


def _print_summary(run: dict, folder: Path) -> None:
    """Print the headline of a run, and how to open it."""
    from dashboards.headline import sentence

    for name, figure in run["headline"].items():
        print(f"{name + ':':<10}{sentence(figure)}")
    for entry in run["skipped"]:
        print(f"skipped:  {entry['stage']}: {entry['why']}")
    print()
    memory = f", {run['peak_rss_mb']:.0f} MB" if run["peak_rss_mb"] is not None else ""
    print(f"report:     {run['report']}   ({run['seconds']:.0f} s{memory})")
    print(f"dashboard:  cotlens dash {folder}")


@study.command()
@with_options
def study_command(
    model: Model,
    questions: Annotated[
        Path | None, typer.Option(help="JSONL file with one question and its answer per line, in place of --task.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Problems to generate, such as chain:steps=3.", show_default="the reasoner's own task"),
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(help="Parquet file of traces of this model (`cotlens think`), in place of thinking now."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run.",
            show_default="runs/study-MODEL, with the questions, the task or the traces in its name",
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option(help="Number of problems.", show_default="all questions of a file, 1,000 of a task")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of generated problems.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Number of problems in a batch.")] = 128,
    max_thought_tokens: MaxThoughtTokens = None,
    max_answer_tokens: MaxAnswerTokens = None,
    dictionaries: Annotated[
        bool, typer.Option(help="Also train a sparse autoencoder and read with it, beside three baselines.")
    ] = True,
    twin: Annotated[
        bool,
        typer.Option(help="Also capture an untrained twin: the control random_init. Takes the model's size again."),
    ] = True,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Think, capture, probe, decode, intervene and report, for any model: an organism, a folder or a hub id.

    What cannot be done for the model is said in one line, and the rest goes on. Run the same command again to resume.

    Example: cotlens study MODEL --questions questions.jsonl --out runs/study
    """
    from dashboards.studying import StudyOptions, run_study
    from interp.runtime.console import STARTED

    options = StudyOptions(
        model=model,
        questions=questions,
        task=task,
        traces=traces,
        n=n,
        seed=seed,
        batch_size=batch_size,
        max_thought_tokens=max_thought_tokens,
        max_answer_tokens=max_answer_tokens,
        dictionaries=dictionaries,
        twin=twin,
        load_options=load_options,
    )
    folder = out or options.default_folder()
    with Bars() as bars:
        result: dict[str, Any] = run_study(options, folder, bars, started=STARTED)
    emit(result, as_json, lambda: _print_summary(result, folder))
    options.raise_for(result, folder)


@report.command("build")
def build(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="RUN/report.html")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run.

    Example: cotlens report build runs/demo
    """
    from dashboards.report import build_report

    written = build_report(run, out)
    emit({"report": str(written)}, as_json, lambda: print(written))


@dash.command()
def dash_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="path",
            help="Runs, stores, sweeps, traces, SAEs, probes, lenses, graphs, or folders of them.",
            show_default="runs, or the current folder where there is none",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8501,
    with_token: Annotated[
        bool, typer.Option("--token/--no-token", help="Let in only browsers that open the URL with its token.")
    ] = True,
    print_url: Annotated[
        bool, typer.Option("--print-url", help="Print the URL without its token, and do not start the server.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Open the dashboard over anything that this toolkit wrote. It can be reached from this machine only.

    Example: cotlens dash runs/demo
    """
    from dashboards.launch import checked_roots, serve, url_of

    roots = checked_roots(paths or [])
    if print_url or as_json:
        url = url_of(port)
        emit({"url": url, "paths": [str(root) for root in roots]}, as_json, lambda: print(url))
        return
    from dashboards.serving.guard import new_token

    serve(roots, port, new_token() if with_token else None)
