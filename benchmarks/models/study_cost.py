"""Print what a study takes, as one JSON object on the last line: wall seconds, and the peak memory of this process.

Run as `python -m benchmarks.models.study_cost MODEL N`, so that the peak is this work's alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def study_cost(model: str, n: int) -> dict[str, Any]:
    """Return `seconds` and `peak`, in bytes, of `cotlens study MODEL --n N` in a process of its own, and `skipped`.

    Args:
        model: A shipped organism or adapter.
        n: Number of problems.

    Raises:
        RuntimeError: The study failed.
    """
    command = [sys.executable, "-m", "benchmarks.models.study_cost", model, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=os.environ)
    if done.returncode:
        raise RuntimeError(f"the study of {model} failed: {done.stderr.strip()[-500:]}")
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return cost


def _run(model: str, n: str) -> None:
    started = time.monotonic()
    from benchmarks.capture.memory import peak_memory
    from dashboards.studying import StudyOptions, run_study
    from interp.commands.models import LOAD_DEFAULTS
    from interp.runtime.console import Bars

    with tempfile.TemporaryDirectory() as folder, Bars() as bars:
        options = StudyOptions(
            model=model,
            questions=None,
            traces=None,
            task=None,
            n=int(n),
            seed=0,
            batch_size=128,
            max_thought_tokens=None,
            max_answer_tokens=None,
            dictionaries=True,
            twin=True,
            load_options=LOAD_DEFAULTS,
        )
        info = run_study(options, Path(folder), bars, started=started)
        seconds = time.monotonic() - started
        options.raise_for(info, Path(folder))
    skipped = [entry["stage"] for entry in info["skipped"]]
    print(json.dumps({"seconds": seconds, "peak": peak_memory(), "skipped": skipped}))


if __name__ == "__main__":
    _run(*sys.argv[1:])
