"""What a folder or file is that this toolkit wrote, for messages where another kind was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: The file that tells a folder's kind, and files of which one must lie beside it.
FOLDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("run.json", ()),
    "store": ("meta.json", ("manifest.jsonl", "index.parquet")),
    "sweep": ("sweep.json", ()),
    "probe": ("probe.json", ()),
    "sae": ("cfg.json", ("sae_weights.safetensors", "sae.safetensors")),
}
MODEL = "the folder of a model"
_WORDS = {
    "run": "the folder of a run",
    "store": "an activation store",
    "sweep": "a sweep of probes",
    "probe": "a saved probe",
    "sae": "a sparse autoencoder",
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
