"""`cotlens demo`, `cotlens report` and `cotlens dash`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.runtime.console import AsJson, Bars, emit, new_app

demo = new_app("Run a whole study on one shipped organism.", single=True)
report = new_app("Write a run as one self-contained HTML file.")
dash = new_app("Open the dashboard over a run.", single=True)


@demo.command()
def demo_command(
    out: Annotated[Path | None, typer.Option(help="Folder of the run. runs/demo-ORGANISM by default.")] = None,
    organism: Annotated[
        str, typer.Option(help="A shipped organism that thinks (`cotlens organisms ls`).")
    ] = "chain-coconut",
    n: Annotated[int, typer.Option(help="Number of held-out problems.")] = 2500,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Think, capture, probe, decode, intervene and report, in less than three minutes on two cores."""
    from dashboards.demo import run_demo
    from interp.runtime.console import STARTED

    folder = out or Path("runs") / f"demo-{organism}"
    with Bars() as bars:
        result = run_demo(folder, organism, n=n, seed=seed, bars=bars, started=STARTED)
    emit(result, as_json, lambda: _print_summary(result, folder))


def _print_summary(run: dict, folder: Path) -> None:
    """Print the three main figures of a demo, each with its control."""
    edits, steps = run["interchange"], run["steps"]
    weakest = min(steps, key=lambda step: step["probe_top1"])
    control = max(max(step["question_only"], step["other_problem"]) for step in steps)
    direct = next((c for c in run["comparisons"] if c["kind"] == "direct"), None)
    low, high = run["ci"]
    comparison = f" ({direct['accuracy']:.3f} without thinking, chance {run['chance']:.2f})" if direct else ""
    print(f"answers right:    {run['accuracy']:.3f} [{low:.3f}, {high:.3f}]{comparison}")
    low, high = weakest["ci"]
    print(
        f"thoughts read:    {weakest['probe_top1']:.3f} [{low:.3f}, {high:.3f}] at the worst step "
        f"(controls at most {control:.3f})"
    )
    low, high = edits["ci"]
    print(
        f"thoughts used:    {edits['follow_rate']:.3f} [{low:.3f}, {high:.3f}] of edited thoughts change the answer as "
        f"predicted (same-value edits change {edits['same_value_change_rate']:.3f})"
    )
    print()
    print(f"report:     {run['report']}   ({run['seconds']:.0f} s, {run['peak_rss_mb']:.0f} MB)")
    print(f"dashboard:  cotlens dash {folder}")


@report.command("build")
def build(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="File to write. RUN/report.html by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run."""
    from dashboards.report import build_report

    written = build_report(run, out)
    emit({"report": str(written)}, as_json, lambda: print(written))


@dash.command()
def dash_command(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run. The newest below runs/ by default.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8501,
    print_url: Annotated[bool, typer.Option("--print-url", help="Print the URL and do not start the server.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open the dashboard over a run. It can be reached from this machine only."""
    from dashboards.launch import serve, url_of

    url, folder = url_of(run, port)
    if print_url or as_json:
        emit({"url": url, "run": str(folder)}, as_json, lambda: print(url))
        return
    serve(folder, port, url)
