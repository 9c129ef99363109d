"""Read `run.json`, which may come from anybody: what is not a run of this version or an older one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from dashboards.record import RUN_FILE, SCHEMA_VERSION
from interp.errors import StoreError

_MAX_BYTES = 64 * 2**20


def _one_line(text: str) -> str:
    """Refuse text that a terminal could take for more than one argument of a command."""
    if not text.isprintable() or text.startswith("-"):
        raise ValueError("expected one line of printable text that does not start with a dash")
    return text


_Line = Annotated[str, AfterValidator(_one_line)]
_Option = _Line | bool | int | float | None


class _Skipped(BaseModel):
    model_config = ConfigDict(extra="allow")
    stage: str
    why: str


class _RunInfo(BaseModel):
    """The fields of `run.json` that titles and suggested commands are made of; pages check the others as they draw."""

    model_config = ConfigDict(extra="allow", strict=True)
    schema_version: int = SCHEMA_VERSION
    organism: _Line | None = None
    model: _Line | None = None
    name: _Line | None = None
    task: _Line | None = None
    kind: _Line | None = None
    questions: _Line | None = None
    n: int | None = None
    n_problems: int | None = None
    seed: int | None = None
    options: dict[_Line, _Option] = {}
    skipped: list[_Skipped] = []
    complete: bool = False


def read_info(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's `run.json`, of a finished run or one that has begun.

    Args:
        folder: Folder of the run.

    Raises:
        FileNotFoundError: There is no such file.
        StoreError: It is damaged, made by a newer version, or no description of a run.
    """
    path = folder / RUN_FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StoreError(f"expected {path} of at most {_MAX_BYTES >> 20} MiB, got a larger file; it is no run's.")
        info = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except RecursionError:
        raise StoreError(f"{path} cannot be read (it is nested too deeply).") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}).") from None
    if not isinstance(info, dict) or not (info.get("organism") or info.get("model")):
        raise StoreError(f"{path} does not describe a run. Make one: `cotlens study MODEL`.")
    version = info.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"expected {path} of schema version {SCHEMA_VERSION} or older, got {version}; update cotlens, or make the run "
            "again with this version."
        )
    try:
        _RunInfo.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or str(part).isidentifier())
        raise StoreError(f"{path} does not describe a run: {where or 'a field'}: {first['msg']}.") from None
    return info
