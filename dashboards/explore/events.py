"""What a reader does in a grid, written to the URL."""

from __future__ import annotations

from typing import Any

from dashboards.explore import windows
from dashboards.explore.screen import Screen
from dashboards.explore.windows import Window, start_at, usual_zoom
from dashboards.views.url import go


def answer(event: dict[str, Any], cells: Screen, part: Window) -> None:
    """Write what the reader did in the grid to the URL.

    Args:
        event: What the grid says.
        cells: What was on screen.
        part: The window that it was drawn for.
    """
    kind = event.get("kind")
    if kind == "lock":
        row, column = event.get("row"), event.get("column")
        if (
            isinstance(row, int)
            and isinstance(column, int)
            and 0 <= row < len(cells.rows)
            and 0 <= column < len(cells.first)
        ):
            go("position", str(int(cells.positions[row, column])))
            go("layer", cells.rows[row])
    elif kind == "unlock":
        go("position", None)
        go("layer", None)
    elif kind == "zoom" and event.get("zoom") in windows.ZOOMS:
        _zoom(str(event["zoom"]), event.get("at"), part)
    elif kind == "start" and isinstance(event.get("at"), int):
        zoom = part.zoom if part.zoom != "whole" else "tokens"
        go("zoom", None if zoom == usual_zoom(part.total) else zoom)
        go("start", str(start_at(event["at"], zoom, part.total, part.stop - part.start if zoom == part.zoom else 0)))
    elif kind == "shift" and event.get("by") in (-1, 1):
        size = part.stop - part.start
        go("start", str(max(0, min(part.start + event["by"] * size, part.total - size))))


def _zoom(zoom: str, at: object, part: Window) -> None:
    size = {"chunk": windows.CHUNK, "tokens": windows.TOKENS}.get(zoom, part.total)
    middle = at if isinstance(at, int) else (part.start + part.stop) // 2 if part.zoom != "whole" else None
    go("zoom", None if zoom == usual_zoom(part.total) else zoom)
    go("start", None if zoom == "whole" or middle is None else str(start_at(middle, zoom, part.total, size)))
