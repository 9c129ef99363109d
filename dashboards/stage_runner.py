"""Runs the stages of a study. One that cannot be done for a model says why in one line, and the others go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from interp.errors import CotlensError, UsageError
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from interp.runtime.console import Bars

Result = TypeVar("Result")


@dataclass(frozen=True)
class Skipped:
    """A stage that was not done.

    Attributes:
        stage: Its name.
        why: The reason, in one line.
        is_defect: Whether it failed where it should not have.
    """

    stage: str
    why: str
    is_defect: bool = False


class StageRunner:
    """Runs stages one after the other, and keeps which were skipped and why.

    Attributes:
        skipped: The stages that were not done.
    """

    def __init__(self, name: str, bars: Bars | None) -> None:
        self._name, self._bars = name, bars
        self.skipped: list[Skipped] = []

    def run(self, doing: str, body: Callable[[Progress | None], Result]) -> Result:
        """Run a stage that the others need; its errors end the study."""
        with self._shown(doing) as report:
            return body(report)

    def attempt(self, stage: str, doing: str, body: Callable[[Progress | None], Result]) -> Result | None:
        """Run a stage that may be impossible for this model; return None and keep the reason where it is."""
        try:
            with self._shown(doing) as report:
                return body(report)
        except UsageError as error:
            self.skip(stage, str(error))
        except CotlensError:
            raise  # a full disk or a damaged store is no property of the model
        except Exception as error:
            if os.environ.get("COTLENS_DEBUG"):
                raise
            detail = str(error).strip().splitlines()[0] if str(error).strip() else ""
            why = f"unexpected {type(error).__name__}: {detail} This is a defect; COTLENS_DEBUG=1 shows where."
            self.skip(stage, why, is_defect=True)
        return None

    def skip(self, stage: str, why: str, *, is_defect: bool = False) -> None:
        """Keep and print why a stage is not done."""
        line = " ".join(why.split())
        self.skipped.append(Skipped(stage, line, is_defect))
        if self._bars is not None:
            print(f"{self._name}: no {stage}: {line}", file=sys.stderr, flush=True)

    def _shown(self, doing: str) -> AbstractContextManager[Progress | None]:
        title = f"{self._name}: {doing}"
        return nullcontext() if self._bars is None else self._bars.stage(title)
