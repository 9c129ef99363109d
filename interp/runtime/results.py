"""Results of commands as files: what was measured, of which model, and the command that measured it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.errors import StoreError
from interp.runtime.console import jsonable
from interp.runtime.files import commit, refuse_existing

SCHEMA_VERSION = 1
#: How a file begins, so that a search reads no more of it.
MARK = "cotlens result"
_MAX_BYTES = 64 * 2**20

_arguments: list[str] = []


def remember_command(arguments: Sequence[str]) -> None:
    """Keep the arguments of the command that runs now, for the file that it writes."""
    _arguments[:] = arguments


def _new_file(path: Path | None) -> Path | None:
    """Refuse a file that exists, before anything is computed."""
    if path is not None:
        refuse_existing(path)
    return path


ResultFile = Annotated[
    Path | None,
    typer.Option("--out", help="Also write the result to this JSON file; `cotlens dash` shows it.", callback=_new_file),
]


def write_result(
    path: Path | None,
    name: str,
    model: Mapping[str, Any],
    result: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write the result of a command; nothing where no file was asked for.

    Args:
        path: The file; None for none.
        name: What was measured, such as `causal interchange`.
        model: `name`, `weights` (their hash) and `kind` of the reasoner.
        result: What the command prints as JSON.
        details: Tables that it does not print, such as rows for single traces.

    Raises:
        StoreError: The file cannot be written.
    """
    if path is None:
        return
    content = {
        "file": MARK,
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "command": shlex.join(["cotlens", *_arguments]),
        "model": {key: model[key] for key in ("name", "kind", "weights")},
        "result": jsonable(dict(result)),
        "details": jsonable(dict(details or {})),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    commit(path, (json.dumps(content, allow_nan=False) + "\n").encode())


def read_result(path: Path) -> dict[str, Any]:
    """Return the content of a file that `write_result` wrote.

    Args:
        path: The file.

    Raises:
        StoreError: It is damaged, made by a newer version, or no such file.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StoreError(f"expected {path} of at most {_MAX_BYTES >> 20} MiB, got a larger file; it is no result.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise StoreError(f"{path} cannot be read (it is nested too deeply).") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}).") from None
    if not isinstance(content, dict) or content.get("file") != MARK:
        raise StoreError(f"expected the result of a command in {path}, got another file; give one that --out wrote.")
    version = content.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StoreError(
            f"expected {path} of schema version {SCHEMA_VERSION} or older, got {version!r}; update cotlens."
        )
    model, kinds = content.get("model"), {"name": str, "command": str, "result": dict, "details": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]
    if wrong or not isinstance(model, dict) or not all(isinstance(model.get(k), str) for k in ("name", "weights")):
        raise StoreError(f"{path} is damaged: {', '.join(wrong) or 'model'} cannot be read; make it again.")
    if not content["command"].isprintable() or not content["name"].isprintable():
        raise StoreError(f"{path} names a command that cannot be printed; make it again.")
    return content
