"""Start, watch, cancel and resume jobs. Each has a folder, with its command, its log and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dashboards.jobs.worker import CANCELLED, END, JOB, LOG, STATE, now, write
from interp.errors import StoreError
from interp.runtime.locks import LOCK

FOLDER = "jobs"
_ENDS = {0: "finished", 3: "finished in part", CANCELLED: "cancelled", -signal.SIGINT: "cancelled"}
# Processes that this one started; asked after, so that none stays behind as a zombie.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        folder: Its folder.
        kind: What it does.
        words: The arguments of `cotlens`.
        made: When it was first started.
        state: `starting`, `running`, `finished`, `finished in part`, `cancelled`, `failed (exit code N)` or `stopped`.
        pid: Its process; None before it runs.
        ended: When it ended; empty where it has not.
    """

    folder: Path
    kind: str
    words: tuple[str, ...]
    made: str
    state: str
    pid: int | None
    ended: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def is_running(self) -> bool:
        """Whether its process is alive, or about to be."""
        return self.state in ("starting", "running")

    @property
    def command(self) -> str:
        """The command, quoted for a shell."""
        return shlex.join(["cotlens", *self.words])


def start_job(root: Path, kind: str, words: Sequence[str]) -> Job:
    """Start a command in a process of its own.

    Args:
        root: Folder that the job's folder and its relative paths are below.
        kind: Kind of job.
        words: The arguments of `cotlens`, as `dashboards.jobs.forms.words_of` checks them.

    Raises:
        StoreError: The folder cannot be written.
    """
    stem = f"{now().replace(':', '').replace('-', '')}-{kind}"
    for number in range(1, 1000):
        folder = root / FOLDER / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise StoreError(
                f"a job cannot be kept in {folder} ({error.strerror}); start the dashboard elsewhere."
            ) from None
    write(folder / JOB, {"kind": kind, "words": list(words), "cwd": str(root), "made": now()})
    _launch(folder)
    return read_job(folder)


def resume_job(job: Job) -> None:
    """Run the command of a job again, which goes on where it was.

    Raises:
        StoreError: It is running.
    """
    if job.is_running:
        raise StoreError(f"{job.name} is running; cancel it first.")
    _launch(job.folder)


def _launch(folder: Path) -> None:
    for name in (END, STATE):
        (folder / name).unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COTLENS_DASH")}
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboards.jobs.worker", str(folder)],
            cwd=Path(__file__).parents[2],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _started.append(process)


def cancel_job(job: Job, *, force: bool = False) -> None:
    """End a job as Ctrl-C does, which leaves what it has done so far.

    Args:
        job: The job.
        force: End it at once, which loses what it is writing.
    """
    if job.pid is None or not _is_locked(job.folder):
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL if force else signal.SIGINT)


def jobs_of(root: Path) -> list[Job]:
    """Return the jobs below a folder, the newest first. Folders that are none are left out."""
    for process in _started:
        process.poll()
    folders = sorted((root / FOLDER).glob(f"*/{JOB}"), reverse=True)
    jobs = []
    for path in folders:
        with contextlib.suppress(StoreError):
            jobs.append(read_job(path.parent))
    return jobs


def read_job(folder: Path) -> Job:
    """Return a job.

    Raises:
        StoreError: Its folder is damaged.
    """
    job, state, end = (_read(folder / name) for name in (JOB, STATE, END))
    words = job.get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise StoreError(f"{folder} is no job that can be read; remove it.")
    pid, code = state.get("pid"), end.get("code")
    return Job(
        folder=folder,
        kind=str(job.get("kind", "")),
        words=tuple(words),
        made=str(job.get("made", "")),
        state=_state(folder, bool(state), code),
        pid=pid if isinstance(pid, int) and pid > 1 else None,
        ended=str(end.get("ended", "")),
    )


def _state(folder: Path, begun: bool, code: Any) -> str:
    if isinstance(code, int):
        return _ENDS.get(code, f"failed (exit code {code})")
    if _is_locked(folder):
        return "running" if begun else "starting"
    ours = any(process.poll() is None and str(folder) in process.args for process in _started)  # type: ignore[operator]
    return "starting" if ours and not begun else "stopped"


def _is_locked(folder: Path) -> bool:
    """Return whether the process of a job is alive: it holds the lock of its folder, which its end frees."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
