"""`cotlens demo`, `cotlens report` and `cotlens dash`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.runtime.console import AsJson, Bars, emit, new_app

demo = new_app("The whole story on one shipped organism.", single=True)
report = new_app("Write a run as one self-contained HTML file.")
dash = new_app("Open the dashboard over a run.", single=True)


@demo.command()
def demo_command(
    out: Annotated[Path | None, typer.Option(help="folder of the run; runs/demo-ORGANISM by default")] = None,
    organism: Annotated[str, typer.Option(help="a shipped organism that thinks")] = "chain-coconut",
    n: Annotated[int, typer.Option(help="held-out problems to think about")] = 2500,
    seed: Annotated[int, typer.Option(help="seed of the problems")] = 7,
    as_json: AsJson = False,
) -> None:
    """Think, capture, probe, decode, intervene, report: under three minutes on two cores."""
    from dashboards.demo import run_demo
    from interp.runtime.console import STARTED

    folder = out or Path("runs") / f"demo-{organism}"
    with Bars() as bars:
        found = run_demo(folder, organism, n=n, seed=seed, bars=bars, started=STARTED)
    emit(found, as_json, lambda: _tell(found, folder))


def _tell(found: dict, folder: Path) -> None:
    edits, steps = found["interchange"], found["steps"]
    weakest = min(steps, key=lambda step: step["probe_top1"])
    blind = max(max(step["question_only"], step["other_problem"]) for step in steps)
    direct = next((c for c in found["comparisons"] if c["kind"] == "direct"), None)
    low, high = found["ci"]
    beside = f" ({direct['accuracy']:.3f} without thinking, chance {found['chance']:.2f})" if direct else ""
    print(f"answers right:    {found['accuracy']:.3f} [{low:.3f}, {high:.3f}]{beside}")
    low, high = weakest["ci"]
    print(
        f"thoughts read:    {weakest['probe_top1']:.3f} [{low:.3f}, {high:.3f}] at the worst step "
        f"(controls at most {blind:.3f})"
    )
    low, high = edits["ci"]
    print(
        f"thoughts used:    {edits['follow_rate']:.3f} [{low:.3f}, {high:.3f}] of edited thoughts change the answer as "
        f"predicted (same-value edits change {edits['same_value_change_rate']:.3f})"
    )
    print()
    print(f"report:     {found['report']}   ({found['seconds']:.0f} s, {found['peak_rss_mb']:.0f} MB)")
    print(f"dashboard:  cotlens dash {folder}")


@report.command("build")
def build(
    run: Annotated[Path, typer.Argument(help="folder of a run")],
    out: Annotated[Path | None, typer.Option(help="file to write; RUN/report.html by default")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run again."""
    from dashboards.report import build_report

    written = build_report(run, out)
    emit({"report": str(written)}, as_json, lambda: print(written))


@dash.command()
def dash_command(
    run: Annotated[Path | None, typer.Argument(help="folder of a run; the newest below runs/ by default")] = None,
    port: Annotated[int, typer.Option(help="port on 127.0.0.1")] = 8501,
    print_url: Annotated[bool, typer.Option("--print-url", help="print the address and do not start")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the dashboard on this machine only."""
    from dashboards.launch import address_of, serve

    url, folder = address_of(run, port)
    if print_url or as_json:
        emit({"url": url, "run": str(folder)}, as_json, lambda: print(url))
        return
    serve(folder, port, url)
