"""The log of a job: its last lines without terminal escapes, and how far it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_UNPRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What `interp.runtime.console.Bars` writes where stderr is a file.
_PROGRESS = re.compile(r"^(?P<stage>.+): (?P<done>\d+) of (?P<total>\d+) after \d+ s(?:, (?P<note>.+))?$")
_READ = 64 * 1024  # bytes at the end of a log that are read


@dataclass(frozen=True)
class JobProgress:
    """How far a job is in its present stage.

    Attributes:
        stage: What it does.
        done: Parts that are done.
        total: Parts in all.
        note: What has been written and the time left, as far as they are known.
    """

    stage: str
    done: int
    total: int
    note: str = ""


def tail(path: Path, lines: int = 40) -> str:
    """Return the last lines of a log without terminal escapes and control characters; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _READ))
            content = file.read()
    except OSError:
        return ""
    text = _ESCAPES.sub("", content.decode("utf-8", "replace")).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(_UNPRINTED.sub("", text).splitlines()[-lines:])


def progress_of(text: str) -> JobProgress | None:
    """Return how far a job is; None where the last lines of its log do not say."""
    for line in reversed(text.splitlines()):
        match = _PROGRESS.match(line)
        if match:
            return JobProgress(match["stage"], int(match["done"]), int(match["total"]), match["note"] or "")
        if line and not line.startswith((" ", "note", "warning")):
            return None  # a later stage has begun, of which nothing is known
    return None
