"""Training from a store: every architecture, its folder, interruption, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.sae import explained_variance, load_sae, preflight, save_sae, select, train_sae
from interp.sae.dictionaries import SAEDictionary
from interp.sae.quality import sparsity
from interp.sae.settings import SAEOptions, SAESettings
from interp.sae.trained import open_trained, train_into

ADDRESS = Address("blocks.1.hook_out")
SMALL: dict[str, Any] = {"d_sae": 32, "k": 2, "samples": 60_000, "batch_size": 256, "learning_rate": 3e-3}


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka", "jumprelu"])
def test_every_architecture_finds_what_was_planted_and_survives_its_folder(
    planted: tuple[Store, np.ndarray], tmp_path: Path, architecture: Any
) -> None:
    store, directions = planted
    rows, _ = select(store, ADDRESS)
    sae = train_sae(store, ADDRESS, rows, architecture=architecture, **SMALL)
    acts = store.acts(ADDRESS, rows)
    sparse = sparsity(SAEDictionary(sae).encode(acts))
    assert explained_variance(sae, acts) > 0.85 and sparse.l0 < 6
    atoms = sae.W_dec.detach().numpy()
    cosines = atoms @ directions[:10].T / np.linalg.norm(atoms, axis=1, keepdims=True).clip(1e-9)
    untrained = np.random.default_rng(0).normal(size=atoms.shape)
    chance = untrained @ directions[:10].T / np.linalg.norm(untrained, axis=1, keepdims=True)
    assert np.median(cosines.max(axis=0)) > 0.8 > np.median(chance.max(axis=0))
    save_sae(sae, tmp_path, inputs=acts)
    loaded = load_sae(tmp_path, store=store)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(torch.from_numpy(acts)), sae.encode(torch.from_numpy(acts)))
    assert all(check.verdict == "pass" for check in preflight(loaded, tmp_path, store))


def test_fast_and_dense_training_explain_as_much(planted: tuple[Store, np.ndarray]) -> None:
    store, _ = planted
    rows = store.thought_rows
    one, two = (
        explained_variance(train_sae(store, ADDRESS, rows, fast=fast, **SMALL), store.acts(ADDRESS, rows))
        for fast in (True, False)
    )
    assert abs(one - two) < 0.02


@pytest.mark.parametrize("architecture", ["topk", "matryoshka"])
def test_an_interrupted_training_ends_at_the_same_weights(
    planted: tuple[Store, np.ndarray], tmp_path: Path, architecture: Any
) -> None:
    store, _ = planted
    settings = SAESettings(architecture=architecture, **{**SMALL, "samples": 12_000})
    whole = train_into(tmp_path / "whole", store, ADDRESS, settings)

    def stop(done: int, total: int) -> None:
        if done >= 0.7 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_into(tmp_path / "cut", store, ADDRESS, settings, progress=stop)
    assert len(list((tmp_path / "cut" / "checkpoint").iterdir())) == 1
    seen: list[int] = []
    again = train_into(tmp_path / "cut", store, ADDRESS, settings, progress=lambda done, _: seen.append(done))
    assert min(seen) > 0.5 * max(seen), "it went on where it was cut off"
    assert not (tmp_path / "cut" / "checkpoint").exists()
    for name, value in whole.sae.state_dict().items():
        np.testing.assert_array_equal(again.sae.state_dict()[name], value, err_msg=name)


def test_a_checkpoint_of_other_settings_and_a_damaged_one_are_refused(
    planted: tuple[Store, np.ndarray], tmp_path: Path
) -> None:
    store, _ = planted
    settings = SAESettings(**{**SMALL, "samples": 8_000})

    def stop(done: int, total: int) -> None:
        if done >= 0.7 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_into(tmp_path / "cut", store, ADDRESS, settings, progress=stop)
    with pytest.raises(StoreError, match=r"holds a training with another learning_rate\. Give the same settings"):
        train_into(tmp_path / "cut", store, ADDRESS, settings.model_copy(update={"learning_rate": 1e-4}))
    (checkpoint,) = (tmp_path / "cut" / "checkpoint").iterdir()
    (checkpoint / "trainer_state.pt").write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"is damaged .* Remove .* and train again"):
        train_into(tmp_path / "cut", store, ADDRESS, settings)


def test_a_finished_folder_is_opened_not_trained_again(planted: tuple[Store, np.ndarray], tmp_path: Path) -> None:
    store, _ = planted
    settings = SAESettings(**{**SMALL, "samples": 2_000})
    first = train_into(tmp_path / "s", store, ADDRESS, settings)
    again = train_into(tmp_path / "s", store, ADDRESS, settings, progress=lambda *_: pytest.fail("it trained again"))
    assert again.record == json.loads(json.dumps(first.record))
    assert again.mask == first.mask and again.mask is not None and again.mask.rows == first.record["mask"]["rows"]
    assert again.sae.cfg.metadata.mask == first.mask.to_dict()
    with pytest.raises(StoreError, match="holds an SAE with another settings"):
        train_into(tmp_path / "s", store, ADDRESS, settings.model_copy(update={"k": 3}))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="is not empty and holds no unfinished training"):
        train_into(tmp_path / "foreign", store, ADDRESS, settings)
    assert (tmp_path / "foreign" / "notes.txt").read_text(encoding="utf-8") == "mine"


# --- preflight --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(planted: tuple[Store, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    store, _ = planted
    folder = tmp_path_factory.mktemp("kept") / "sae"
    train_into(folder, store, ADDRESS, SAESettings(architecture="batchtopk", **{**SMALL, "samples": 20_000}))
    return folder


def changed(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "sae")
    return tmp_path / "sae"


def test_an_sae_that_lost_its_thresholds_is_refused(kept: Path, tmp_path: Path) -> None:
    folder = changed(kept, tmp_path)
    weights = load_file(folder / "sae_weights.safetensors")
    save_file({**weights, "threshold": torch.zeros_like(weights["threshold"])}, folder / "sae_weights.safetensors")
    with pytest.raises(StoreError, match=r"refused: its features differ by .* from those it gave when it was saved"):
        load_sae(folder)


def test_an_sae_that_loads_as_another_architecture_is_refused(kept: Path, tmp_path: Path) -> None:
    folder = changed(kept, tmp_path)
    config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    (folder / "cfg.json").write_text(json.dumps({**config, "architecture": "topk", "k": 2}), encoding="utf-8")
    weights = load_file(folder / "sae_weights.safetensors")
    save_file({k: v for k, v in weights.items() if k != "threshold"}, folder / "sae_weights.safetensors")
    with pytest.raises(StoreError, match=r"refused: its (features|reconstruction) differ by .*architecture topk"):
        load_sae(folder)


def test_an_sae_of_another_width_is_refused(kept: Path, store: Store) -> None:
    with pytest.raises(StoreError, match=r"reads activations 24 wide, and blocks\.1\.hook_out of .* is 128 wide"):
        load_sae(kept, store=store)


def test_an_sae_of_another_address_is_refused(kept: Path, store: Store, planted: tuple[Store, np.ndarray]) -> None:
    with pytest.raises(UsageError, match=r"expected a known address in this store, got 'blocks\.2\.hook_out'"):
        load_sae(kept, store=planted[0], address="blocks.2.hook_out")


def test_an_sae_of_other_activations_is_refused(
    kept: Path, tmp_path: Path, planted: tuple[Store, np.ndarray], write_store: Any
) -> None:
    def noise(index: Any) -> np.ndarray:
        return np.random.default_rng(5).normal(size=(len(index), 24))

    near = write_store(tmp_path / "near", list(planted[0].traces), {ADDRESS.name: noise})
    checks = preflight(load_sae(kept, store=near), kept, near)
    assert [check.verdict for check in checks if check.name == "explains"] == ["warn"]
    far = write_store(tmp_path / "far", list(planted[0].traces), {ADDRESS.name: lambda index: 20 + noise(index)})
    with pytest.raises(StoreError, match=r"less than the mean does; it belongs to other activations"):
        load_sae(kept, store=far)


def test_without_a_reference_it_is_told_but_not_refused(kept: Path, tmp_path: Path) -> None:
    folder = changed(kept, tmp_path)
    (folder / "reference.safetensors").unlink()
    verdicts = [check.verdict for check in preflight(load_sae(folder), folder)]
    assert verdicts == ["warn"]
    assert open_trained(kept).settings is not None


@pytest.mark.parametrize("file", ["sae_weights.safetensors", "reference.safetensors", "training.json", "cfg.json"])
def test_a_damaged_file_is_one_line(kept: Path, tmp_path: Path, file: str) -> None:
    folder = changed(kept, tmp_path)
    (folder / file).write_bytes(b"{")
    with pytest.raises(StoreError, match=r"damaged|cannot be loaded"):
        open_trained(folder)


def test_a_release_that_is_not_there_is_one_line() -> None:
    with pytest.raises(
        StoreError, match=r"the SAE blocks\.8 of release no-such-release cannot be downloaded .* give a folder"
    ):
        load_sae("no-such-release", sae_id="blocks.8")


def test_the_options_of_a_training_are_the_fields_of_its_settings() -> None:
    assert list(SAEOptions.__annotations__) == list(SAESettings.model_fields)


def test_the_old_setting_kind_is_the_architecture_and_warns() -> None:
    with pytest.warns(FutureWarning, match="`kind` is now `architecture`"):
        settings = SAESettings.model_validate({"kind": "jumprelu", "k": 3})
    assert settings == SAESettings(architecture="jumprelu", k=3)
    with pytest.raises(ValidationError, match="kind"):
        SAESettings.model_validate({"kind": "topk", "architecture": "topk"})


def test_a_folder_that_calls_the_architecture_kind_still_opens(
    kept: Path, tmp_path: Path, planted: tuple[Store, np.ndarray], recwarn: pytest.WarningsRecorder
) -> None:
    folder = changed(kept, tmp_path)
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    record["settings"]["kind"] = record["settings"].pop("architecture")
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    trained = open_trained(folder)
    assert trained.settings is not None and trained.settings.architecture == "batchtopk"
    again = train_into(folder, planted[0], ADDRESS, trained.settings)
    assert again.settings == trained.settings, "the same settings are not trained again"
    assert not [warning for warning in recwarn if issubclass(warning.category, FutureWarning)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 40, "d_sae": 32}, r"expected k of at most d_sae \(32\), got 40"),
        ({"architecture": "gated"}, "architecture: Input should be 'topk'"),
        ({"sizes": 3}, "sizes: Extra inputs are not permitted"),
        ({"learning_rate": 0}, "learning_rate: Input should be greater than 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    planted: tuple[Store, np.ndarray], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train_sae(planted[0], ADDRESS, planted[0].thought_rows, **wrong)
