"""Thinking that can be cut off: traces are kept batch by batch, and the same call goes on after the last one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError
from interp.problems.base import Problem
from interp.runtime.files import commit
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.runtime.progress import Progress


_META = "thinking.json"


def parts_folder(out: Path) -> Path:
    """Where the traces of an unfinished thinking are kept."""
    return out.with_name(f"{out.name}.parts")


def think_to_file(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    out: Path | str,
    *,
    batch_size: int = 64,
    seed: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    progress: Progress | None = None,
) -> TraceSet:
    """The traces of `problems`, written to `out` when all are there; each finished batch is kept beside it.

    The same call after a kill goes on with the first batch that is missing and leaves the same file. Raises
    `UsageError` when `out` is there already, `StoreError` when the batches beside it belong to another thinking.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out} exists already; choose another --out, or remove it.")
    asked = {
        "reasoner": reasoner.describe(),
        "problems": hashlib.sha256("\n".join(p.to_json() for p in problems).encode()).hexdigest()[:16],
        "sampling": {"seed": seed, "temperature": temperature, "top_p": top_p},
    }
    folder = parts_folder(out)
    done = _finished(folder, asked)
    if done and progress:
        progress(len(done), len(problems))
    batches = reasoner.thinking(
        problems, start=len(done), batch_size=batch_size, seed=seed, temperature=temperature, top_p=top_p
    )
    try:
        for batch in batches if len(done) < len(problems) else ():
            if not (folder / _META).exists():
                commit(folder / _META, (json.dumps(asked, indent=2, sort_keys=True) + "\n").encode())
            TraceSet(batch).to_parquet(folder / f"{len(done):08d}.parquet")
            done += batch
            if progress:
                progress(len(done), len(problems))
    except BaseException:
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    traces = TraceSet(done)
    traces.to_parquet(out)
    shutil.rmtree(folder, ignore_errors=True)
    return traces


def _finished(folder: Path, asked: dict[str, Any]) -> list:
    """The traces of the batches that are there, as far as they follow on one another."""
    if not (folder / _META).exists():
        return []
    try:
        there = json.loads((folder / _META).read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / _META} cannot be read ({error}). Remove {folder} to begin anew.") from None
    differs = [key for key, value in json.loads(json.dumps(asked)).items() if there.get(key) != value]
    if differs:
        raise StoreError(
            f"{folder} holds unfinished traces with another {', '.join(differs)}. Choose another --out, or remove it."
        )
    done: list = []
    while (part := folder / f"{len(done):08d}.parquet").exists():
        done += list(TraceSet.from_parquet(part))
    return done
