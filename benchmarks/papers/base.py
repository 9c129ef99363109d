"""What one system of the papers' table reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PaperFigure:
    """A figure that a paper reports, to stand beside ours: never a target, the scale differs."""

    what: str
    figure: str
    source: str


@dataclass
class Section:
    """One system: tables by caption, measures by id (as `interp.measures.report` takes them), the paper's figures.

    `notes` say what the numbers above them show; they are written from the numbers, not beforehand.
    """

    name: str
    title: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    paper: list[PaperFigure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
