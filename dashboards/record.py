"""Begin, resume and write a run: the file `run.json` of its folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.runtime.console import jsonable
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.locks import LOCK, locked

RUN_FILE = "run.json"
SCHEMA_VERSION = 1
_PACKAGES = ("torch", "transformers", "transformer-lens", "sae-lens")


@contextmanager
def open_run(out: Path, options: dict[str, Any]) -> Iterator[None]:
    """Begin or resume a run, and let no other process write its folder within a `with` block; see `start_run`."""
    with locked(out, "writing a run into"):
        start_run(out, options)
        yield


def start_run(out: Path, options: dict[str, Any]) -> None:
    """Begin the run in `out`, or resume the one with the same options there.

    Raises:
        StoreError: `out` holds another run, or something else.
    """
    path = out / RUN_FILE
    if path.exists():
        try:
            existing = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise StoreError(f"{path} is damaged. Remove {out}, or choose another --out.") from None
        if any(existing.get(key) != value for key, value in jsonable(options).items()):
            others = ", ".join(f"{key}={existing.get(key)}" for key in options)
            raise StoreError(f"{out} holds another run ({others}). Choose another --out, or remove it.")
        return
    with explain_os_errors(f"opening {out}"):
        if out.exists() and any(path.name != LOCK for path in out.iterdir()):
            raise StoreError(f"{out} is not empty and holds no run. Choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
    write_run(out, {"schema_version": SCHEMA_VERSION, **options, "complete": False})


def write_run(out: Path, result: dict[str, Any]) -> None:
    """Write run.json."""
    commit(out / RUN_FILE, (json.dumps(jsonable(result), indent=2) + "\n").encode())


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a run's figures depend on."""
    return {package: version(package) for package in _PACKAGES}


def peak_rss_mb() -> float | None:
    """Return the peak memory of this process in MB; None on systems that do not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    # KiB on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10, 1)
