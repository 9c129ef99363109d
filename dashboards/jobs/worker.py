"""The process of one job: it runs the command of a job's folder, keeps its output, and writes how it ended.

It is a process of its own, so that jobs go on when the dashboard ends.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from dashboards.jobs.forms import KINDS
from interp.errors import StoreError
from interp.runtime.files import commit
from interp.runtime.locks import locked

JOB, STATE, END, LOG = "job.json", "state.json", "end.json", "log.txt"
CANCELLED = 130  # as shells count an end by Ctrl-C


def now() -> str:
    """Return the time of this machine, in seconds."""
    return datetime.datetime.now().isoformat(timespec="seconds")


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object in one step."""
    commit(path, (json.dumps(content, indent=2) + "\n").encode())


def run_job(folder: Path) -> int:
    """Run the command of a job, and return its exit code.

    Args:
        folder: Folder of the job.

    Raises:
        StoreError: It is running already, or its command is none that jobs run.
    """
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    words = [str(word) for word in job["words"]]
    if not any(tuple(words[: len(kind.words)]) == kind.words for kind in KINDS.values()):
        raise StoreError(f"expected a command that jobs run in {folder / JOB}, got {words[:2]}; start the job again.")
    with locked(folder, "running the job of"), (folder / LOG).open("ab") as log:
        log.write(f"$ cotlens {' '.join(words)}\n".encode())
        log.flush()
        # Whoever cancels sends the signal to the whole group: the command ends by itself, and this process reports it.
        cancelled = []
        signal.signal(signal.SIGINT, lambda *_: cancelled.append(True))
        command = subprocess.Popen(
            [sys.executable, "-m", "cotlens.cli", *words],
            cwd=job["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        if cancelled:  # before the command could get the signal
            command.send_signal(signal.SIGINT)
        write(folder / STATE, {"pid": os.getpid(), "started": now()})
        code = command.wait()
        if cancelled and code not in (0, 3):
            code = CANCELLED  # Python that is interrupted while it starts ends with 1
        write(folder / END, {"code": code, "ended": now()})
    return code


if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1])))
