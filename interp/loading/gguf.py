"""Finding GGUF files: a path, a folder with one, or a file of a hub repository (`owner/repo:file.gguf`).

Transformers reads them with its own dequantising loader, so the model that thinks is an ordinary one in the dtype that
is asked for. The chat template and the tokenizer come from the file.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from interp.errors import UsageError

SUFFIX = ".gguf"


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file and where it lies.

    Attributes:
        source: Its folder, or the id of a hub repository.
        name: Name of the file.
    """

    source: str
    name: str

    @property
    def path(self) -> Path | None:
        """The path of the file; None for a file of a hub repository."""
        path = Path(self.source) / self.name
        return path if path.is_file() else None


def gguf_file(spec: str | Path) -> GgufFile | None:
    """Return the GGUF file that a model is given by, or None where it is given in another way.

    Args:
        spec: What `interp.load` was given: a file, a folder with one GGUF file and no `config.json`, or
            `owner/repo:file.gguf`.

    Raises:
        UsageError: The file does not exist, the folder holds several, or the package that reads them is not installed.
    """
    file = _located(spec)
    if file is not None and importlib.util.find_spec("gguf") is None:
        raise UsageError(
            f"expected the package gguf to read {file.name}, got none; install it: pip install 'cotlens[gguf]'."
        )
    return file


def _located(spec: str | Path) -> GgufFile | None:
    path, text = Path(spec), str(spec)
    if path.is_dir():
        return _in_folder(path)
    if not text.lower().endswith(SUFFIX):
        return None
    if path.is_file():
        return GgufFile(str(path.parent), path.name)
    repository, colon, name = text.partition(":")
    if colon and "/" in repository and not Path(repository).exists():
        return GgufFile(repository, name)
    raise UsageError(f"expected a GGUF file at {text}, got none; give its path, or owner/repo:file.gguf of the hub.")


def _in_folder(folder: Path) -> GgufFile | None:
    files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == SUFFIX)
    if not files or (folder / "config.json").exists():
        return None
    if len(files) > 1:
        raise UsageError(
            f"expected one GGUF file in {folder}, got {len(files)} ({', '.join(files[:3])}); give the path of one."
        )
    return GgufFile(str(folder), files[0])
