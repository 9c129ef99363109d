"""Thinking that can be resumed: traces are kept batch by batch, and the same call goes on after the last batch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.runtime.files import commit, refuse_existing
from interp.runtime.locks import locked
from interp.runtime.progress import Progress
from interp.traces import TraceSet

_META = "thinking.json"


def parts_folder(out: Path) -> Path:
    """Return the folder of the finished batches of traces that will be written to `out`."""
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
    """Think about problems and write the traces to a file.

    Each finished batch is kept beside the file, and of reasoners whose rows make room for the next problems each queue
    of four batches. After a crash, the same call goes on with the first that is missing and writes the same file.

    Args:
        reasoner: Who thinks.
        problems: The problems.
        out: The parquet file to write.
        batch_size: Problems that are thought about at once.
        seed: Seed of sampling.
        temperature: 0 takes the likeliest token, more draws at this temperature.
        top_p: Share of the probability that tokens are drawn from.
        progress: Called with (problems done, problems in all) when they are kept; a `WritingProgress` also while
            they are written.

    Returns:
        The traces, one for each problem.

    Raises:
        UsageError: `out` exists.
        StoreError: The batches beside it were thought by another reasoner, about other problems or with other sampling,
            or another process thinks into the same file.
    """
    out = Path(out)
    refuse_existing(out)
    meta = {
        "reasoner": reasoner.describe(),
        "problems": hashlib.sha256("\n".join(p.to_json() for p in problems).encode()).hexdigest()[:16],
        "sampling": {"seed": seed, "temperature": temperature, "top_p": top_p},
    }
    folder = parts_folder(out)
    with locked(folder, "thinking into"):
        try:
            done = _finished(folder, meta)
            if done and progress:
                progress(len(done), len(problems))
            batches = reasoner.thinking(
                problems,
                start=len(done),
                progress=progress,
                batch_size=batch_size,
                seed=seed,
                temperature=temperature,
                top_p=top_p,
            )
            for batch in batches if len(done) < len(problems) else ():
                if not (folder / _META).exists():
                    commit(folder / _META, (json.dumps(meta, indent=2, sort_keys=True) + "\n").encode())
                TraceSet(batch).to_parquet(folder / f"{len(done):08d}.parquet")
                done += batch
                if progress:
                    progress(len(done), len(problems))
        except BaseException:
            if not any(folder.glob("*.parquet")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        traces = TraceSet(done)
        traces.to_parquet(out)
        shutil.rmtree(folder, ignore_errors=True)
    return traces


def _finished(folder: Path, meta: dict[str, Any]) -> list:
    """Return the traces of the finished batches, up to the first that is missing."""
    path = folder / _META
    if not path.exists():
        return []
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Remove {folder} to begin anew.") from None
    differing = [key for key, value in json.loads(json.dumps(meta)).items() if written.get(key) != value]
    if differing:
        raise StoreError(
            f"{folder} holds unfinished traces with another {', '.join(differing)}. Choose another --out, or remove it."
        )
    traces: list = []
    while (part := folder / f"{len(traces):08d}.parquet").exists():
        traces += list(TraceSet.from_parquet(part))
    return traces
