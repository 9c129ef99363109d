"""Pinned charts and tables: one file each, with what they showed when they were pinned."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import StoreError
from interp.runtime.files import commit, explain_os_errors

FOLDER = "panels"
# Rows of a table that are kept; its CSV on the page has all of them.
MOST_ROWS = 2000
_KINDS = ("chart", "table")


@dataclass(frozen=True)
class Panel:
    """A chart or a table.

    Attributes:
        kind: `chart` or `table`.
        title: What the report calls it.
        alt: Description for screen readers.
        link: Path and query of the page that showed it.
        content: A Plotly figure as JSON, or the rows of a table with its columns, as JSON.
        left_out: Rows of the table that were not kept.
        python: Python that shows the same.
        command: The command that shows or makes the same.
        made: When it was pinned.
        version: Version of cotlens.
        machine: Where.
        order: Its place in the report.
    """

    kind: str
    title: str
    alt: str
    link: str
    content: str
    left_out: int
    python: str
    command: str
    made: str
    version: str
    machine: str
    order: float

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers: the rows of a table, or the points of a chart."""
        parsed = json.loads(self.content)
        if self.kind == "table":
            return pd.DataFrame(parsed["data"], columns=parsed["columns"])
        return chart_points(self.content)


def machine() -> str:
    """Return what machine this is: system, processor kind, cores and Python."""
    return f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def new_panel(
    kind: str, title: str, alt: str, content: str, *, link: str, python: str, command: str, left_out: int = 0
) -> Panel:
    """Return a panel that is made now; see `Panel` for the arguments."""
    now = datetime.datetime.now()
    made = now.isoformat(sep=" ", timespec="seconds")
    return Panel(
        kind, title, alt, link, content, left_out, python, command, made, version("cotlens"), machine(), now.timestamp()
    )


def table_content(frame: pd.DataFrame) -> tuple[str, int]:
    """Return the rows of a table as JSON, and how many were left out."""
    kept = frame.head(MOST_ROWS)
    rows = [[_json_value(value) for value in row] for row in kept.itertuples(index=False, name=None)]
    return json.dumps({"columns": [str(c) for c in kept.columns], "data": rows}), len(frame) - len(kept)


def _json_value(value: Any) -> Any:
    """Return a value as JSON has it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and value != value:
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def chart_points(content: str) -> pd.DataFrame:
    """Return the points of a Plotly figure: one row for each, with the name of its trace."""
    import numpy as np
    import plotly.io

    rows: list[dict[str, Any]] = []
    for number, trace in enumerate(plotly.io.from_json(content, skip_invalid=True).data, 1):
        columns = {name: _array(value) for name in ("x", "y", "z") if (value := getattr(trace, name, None)) is not None}
        name = trace.name or f"trace {number}"
        if "z" in columns:
            for (row, column), value in np.ndenumerate(columns["z"]):
                at = {axis: columns[axis][k] for axis, k in (("x", column), ("y", row)) if axis in columns}
                rows.append({"series": name, **at, "z": value})
        else:
            rows += [
                {"series": name, **dict(zip(columns, values, strict=True))}
                for values in zip(*columns.values(), strict=False)
            ]
    return pd.DataFrame(rows)


def _array(value: Any) -> Any:
    """Return numbers of a figure as an array; Plotly writes long ones in base64."""
    import base64

    import numpy as np

    if not isinstance(value, dict):
        return np.asarray(value)
    numbers = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
    shape = value.get("shape")
    return numbers if shape is None else numbers.reshape([int(n) for n in str(shape).split(",")])


def save_panel(root: Path, panel: Panel) -> Path:
    """Write a panel, and return its file.

    Raises:
        StoreError: The folder cannot be written.
    """
    folder = root / FOLDER
    stem = panel.made.replace(" ", "T").replace(":", "").replace("-", "")
    path = next(p for n in range(1, 10_000) if not (p := folder / f"{stem}-{n}.json").exists())
    with explain_os_errors(f"writing {folder}"):
        commit(path, (json.dumps(asdict(panel)) + "\n").encode())
    return path


def panels_of(root: Path) -> tuple[dict[Path, Panel], list[str]]:
    """Return the panels below a folder in their order, by file, and what could not be read."""
    panels, notes = {}, []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            panels[path] = read_panel(path)
        except StoreError as error:
            notes.append(str(error))
    return dict(sorted(panels.items(), key=lambda item: item[1].order)), notes


def read_panel(path: Path) -> Panel:
    """Return a panel.

    Raises:
        StoreError: Its file is damaged, or another program wrote it.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        panel = Panel(**raw)
        texts = [value for name, value in raw.items() if name not in ("left_out", "order")]
        is_right = all(isinstance(text, str) for text in texts) and isinstance(panel.left_out, int)
        if not is_right or panel.kind not in _KINDS or not isinstance(panel.order, (int, float)):
            raise ValueError("wrong types")
        json.loads(panel.content)
        _ = panel.frame
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(
            f"the panel {path} cannot be read ({type(error).__name__}); remove it, and pin it again."
        ) from None
    return panel


def remove_panel(path: Path) -> None:
    """Remove the file of a panel."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def swap_order(paths: Sequence[Path]) -> None:
    """Exchange the places of two panels in the report."""
    first, second = (read_panel(path) for path in paths)
    for path, panel, order in ((paths[0], first, second.order), (paths[1], second, first.order)):
        commit(path, (json.dumps({**asdict(panel), "order": order}) + "\n").encode())
