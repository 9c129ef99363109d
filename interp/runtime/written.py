"""What a folder or file is that this toolkit wrote, for messages where another kind was expected."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from interp.errors import StoreError

#: The file that tells a folder's kind, and files of which one must lie beside it.
FOLDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("run.json", ()),
    "store": ("meta.json", ("manifest.jsonl", "index.parquet")),
    "sweep": ("sweep.json", ()),
    "probe": ("probe.json", ()),
    "sae": ("cfg.json", ("sae_weights.safetensors", "sae.safetensors")),
    "lens": ("tuned_lens.json", ()),
}
MODEL = "the folder of a model"
_WORDS = {
    "run": "the folder of a run",
    "store": "an activation store",
    "sweep": "a sweep of probes",
    "probe": "a saved probe",
    "sae": "a sparse autoencoder",
    "lens": "a tuned lens",
}


def kind_in_words(path: Any) -> str:
    """Return what a path holds, such as "an activation store"; empty where it is nothing that this toolkit wrote.

    Args:
        path: A path on disk, or one of fsspec.
    """
    if isinstance(path, str):
        path = Path(path)
    if path.suffix == ".parquet" and path.exists():
        return "a Parquet file"
    if (path / "config.json").exists() or (path.is_dir() and any(path.glob("*.gguf"))):
        return MODEL
    for kind, (sign, beside) in FOLDERS.items():
        if (path / sign).exists() and (not beside or any((path / name).exists() for name in beside)):
            return _WORDS[kind]
    return ""


def refuse_other_kinds(path: Path, wanted: str, advice: str) -> None:
    """Refuse something that this toolkit wrote where a thing of another kind is wanted.

    Args:
        path: What was given, which is no such thing.
        wanted: What is expected, such as "a saved probe".
        advice: What to do instead.

    Raises:
        StoreError: The path holds something else.
    """
    if kind := kind_in_words(path):
        raise StoreError(f"expected {wanted}, got {path}, which is {kind}; {advice}.")


def is_jacobian_lens(path: Path) -> bool:
    """Return whether a file is a Jacobian lens; only the names in it are looked at, and no code of it is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(name) as file:
                head = file.read(1 << 16)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False
    return b"d_model" in head and (b"source_layers" in head or b"jacobian_sum" in head)
