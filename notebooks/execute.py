"""Run notebooks of this folder and keep their outputs: `python notebooks/execute.py [NAME.ipynb ...]`.

Plotly figures are kept as interactive JSON and, where Chromium is installed, also as PNG for viewers without scripts.
What a figure shows, for those who cannot see it, is written in its cell's metadata under `alt`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
FIGURE = "application/vnd.plotly.v1+json"


def execute(path: Path, *, keep: bool) -> nbformat.NotebookNode:
    """Run a notebook in an empty folder and return it with its outputs.

    Args:
        path: The notebook.
        keep: Whether to write the outputs back to `path`.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raises an exception.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}})
        client.execute(env=_environment())
    if keep:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times differ between runs
            for output in cell.get("outputs", []):
                if FIGURE in output.get("data", {}) and (png := picture(output.data[FIGURE])):
                    output.data["image/png"] = base64.b64encode(png).decode()
                    output.metadata["image/png"] = {"alt": cell.metadata.get("alt", "")}
        nbformat.write(notebook, path)
    return notebook


def _environment() -> dict[str, str]:
    """Return the kernel's environment: this Python's `cotlens`, lines of 100 columns, and no moving progress bars."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    plain = {"COLUMNS": "100", "TTY_COMPATIBLE": "0", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}
    return {**os.environ, "PATH": commands, **plain}


def picture(figure: dict, width: int = 1000) -> bytes | None:
    """Return a Plotly figure as PNG; None where no Chromium is installed."""
    import plotly.graph_objects as go

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None
    drawn = go.Figure({"data": figure["data"], "layout": figure["layout"]})
    height = int(drawn.layout.height or 450)
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "figure.html", Path(folder) / "figure.png"
        drawn.write_html(page, include_plotlyjs=True, config={"displayModeBar": False})
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--hide-scrollbars",
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{height + 20}",
                "--virtual-time-budget=5000",
                f"--screenshot={shot}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return shot.read_bytes()


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(p.name for p in HERE.glob("*.ipynb")):
        done = execute(HERE / name, keep=True)
        shown = sum(FIGURE in output.get("data", {}) for cell in done.cells for output in cell.get("outputs", []))
        print(json.dumps({"notebook": name, "figures": shown}))
