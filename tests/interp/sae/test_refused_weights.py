"""SAEs that cannot be trusted or written: weights that are not finite, full disks, folders that cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.sae.load import load_sae, save_sae
from interp.sae.settings import SAESettings
from interp.sae.train import checked_settings, fit, require_finite
from interp.sae.trained import train_into

SMALL = SAESettings(d_sae=16, k=2, samples=600, batch_size=64)
AT = "ln_final.hook_out"


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sae") / "sae"
    train_into(out, store, AT, SMALL)
    return out


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("reference", [True, False], ids=["with reference", "without"])
def test_weights_that_are_not_finite_are_refused(
    value: float, reference: bool, trained: Path, tmp_path: Path, store: Store, cotlens: Callable
) -> None:
    for path in trained.iterdir():
        if reference or path.name != "reference.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "sae_weights.safetensors")
    weights["W_dec"][3, 5] = value
    save_file(weights, tmp_path / "sae_weights.safetensors")
    with pytest.raises(StoreError, match=r"expected finite weights in the SAE at .*, got some .* in W_dec; train or"):
        load_sae(tmp_path)
    result = cotlens("sae", "features", tmp_path, "--store", store.path, "--no-logits")
    assert result.code == 5 and "expected finite weights" in result.error


def test_a_training_that_ends_in_nan_is_refused(trained: Path) -> None:
    sae = load_sae(trained)
    require_finite(sae, SMALL)
    sae.W_enc.data[0, 0] = float("nan")
    with pytest.raises(UsageError, match=r"got weights that are not finite; choose a learning_rate below 0.001"):
        require_finite(sae, SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1e30}, "learning_rate: Input should be less than or equal to 1"),
        ({"learning_rate": float("inf")}, "learning_rate: Input should be"),
        ({"learning_rate": float("nan")}, "learning_rate: Input should be a finite number"),
        ({"dead_loss": float("inf")}, "dead_loss: Input should be a finite number"),
        ({"samples": 10**20}, "samples: Input should be less than or equal to"),
        ({"seed": 10**20}, "seed: Input should be less than or equal to"),
    ],
)
def test_settings_that_no_training_can_have(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked_settings(None, settings)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "The disk is full",
        ),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), "No permission to write there"),
        (
            RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0: file write failed"),
            "disk is full",
        ),
    ],
)
def test_a_disk_that_is_full_while_training_is_one_line(
    error: Exception, what: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cotlens: Callable
) -> None:
    from sae_lens import SAETrainer

    command = ["sae", "train", store.path, "--address", AT, "--out", tmp_path / "sae"]
    command += [f"--set={name}={value}" for name, value in SMALL.model_dump().items() if name != "architecture"]
    saved = SAETrainer.save_trainer_state

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(SAETrainer, "save_trainer_state", fail)
        result = cotlens(*command)
    assert result.code == 5 and what in result.error and f"writing checkpoints to {tmp_path}" in result.error
    assert SAETrainer.save_trainer_state is saved
    assert cotlens(*command).code == 0, "the same command goes on"


def test_an_error_of_the_training_itself_is_not_called_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    from interp.sae import train

    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(train, "to_inference", broken)
    batches = train.batches_of(store, store.address(AT), store.thought_rows, 64, 0)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit(batches, SMALL)


def test_a_full_disk_while_the_sae_is_saved(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = load_sae(trained)

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(type(sae), "save_model", full)
    with pytest.raises(StoreError, match=r"writing .* failed. The disk is full"):
        save_sae(sae, tmp_path / "out", inputs=np.zeros((4, sae.cfg.d_in), np.float32))
    assert torch.isfinite(sae.W_dec).all()
