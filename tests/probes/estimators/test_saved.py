"""Saved probes are equal to the last bit when loaded, and refuse other models, other addresses and damaged files."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.base import BaseEstimator, ClassifierMixin

from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.problems import task
from interp.traces import TraceSet
from probes import (
    AttentionProbe,
    LDAProbe,
    LogisticProbe,
    MassMeanProbe,
    MLPProbe,
    RidgeProbe,
    SavedProbe,
    StepEmbeddingProbe,
    load_probe,
    save_probe,
)
from probes.estimators.attention import sequences_by_trace
from probes.estimators.registry import saved_classes
from probes.estimators.saved import DESCRIPTION, arrays_name

HERE, THERE = "blocks.1.hook_out", "blocks.0.hook_out"
EVERY = [
    AttentionProbe(epochs=3),
    LDAProbe(0.1),
    LogisticProbe(C=0.5),
    MLPProbe(hidden=5, epochs=3),
    MassMeanProbe(whitening=True),
    RidgeProbe(strengths=(0.01, 1.0)),
    StepEmbeddingProbe(candidates=["a b", "b c", "c a"], embeddings=np.eye(3) + 0.1),
    StepEmbeddingProbe(),
]


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory, write_store: Callable, written_trace: Callable
) -> dict[str, Store]:
    """Two stores of one model, one of another, and one of another width."""
    traces = TraceSet([written_trace(p) for p in task("chain:steps=3").generate(40, seed=0, split="test")])
    folder = tmp_path_factory.mktemp("stores")

    def noise(seed: int, d: int = 6) -> Callable:
        return lambda index: np.random.default_rng(seed).normal(size=(len(index), d))

    def store(name: str, weights: str, d: int = 6, seed: int = 1) -> Store:
        return write_store(folder / name, traces, {HERE: noise(seed, d), THERE: noise(2, d)}, weights=weights)

    return {
        "own": store("own", "aaaa"),
        "again": store("again", "aaaa", seed=4),
        "other": store("other", "bbbb"),
        "wide": store("wide", "aaaa", 9),
        "one": write_store(folder / "one", traces, {THERE: noise(3)}, weights="aaaa"),
    }


def fitted(probe, store: Store):
    rows = store.rows(channel="latent")
    x = store.acts(HERE, rows)
    y = np.array(["a b", "b c", "c a"])[np.arange(len(x)) % 3]
    return probe.fit(x, y)


@pytest.fixture
def saved(stores: dict[str, Store], tmp_path: Path) -> SavedProbe:
    return save_probe(fitted(RidgeProbe(), stores["own"]), tmp_path / "probe", address=HERE, store=stores["own"])


@pytest.mark.parametrize("probe", EVERY, ids=lambda probe: type(probe).__name__)
def test_every_class_is_equal_to_the_last_bit_after_loading(probe, stores: dict[str, Store], tmp_path: Path) -> None:
    store = stores["own"]
    fitted(probe, store)
    save_probe(probe, tmp_path, address=HERE, store=store)
    again = load_probe(tmp_path).probe
    x = store.acts(HERE)
    assert type(again) is type(probe) and again.classes_.dtype == probe.classes_.dtype
    for name in (*probe.fitted_shapes, "classes_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(probe, name), err_msg=name)
        assert type(getattr(again, name)) is type(getattr(probe, name)), name
    np.testing.assert_array_equal(again.decision_function(x), probe.decision_function(x))
    np.testing.assert_array_equal(again.predict_proba(x), probe.predict_proba(x))
    rows = store.rows(channel="latent")
    np.testing.assert_array_equal(load_probe(tmp_path).predict(store, rows), probe.predict(store.acts(HERE, rows)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [arrays_of(tmp_path).name, DESCRIPTION]


def test_every_class_that_can_be_saved_is_tested() -> None:
    assert {type(probe).__name__ for probe in EVERY} == set(saved_classes())


def test_parameters_are_saved(stores: dict[str, Store], tmp_path: Path) -> None:
    for probe in EVERY:
        save_probe(fitted(probe, stores["own"]), tmp_path, address=HERE, store=stores["own"])
        again = load_probe(tmp_path).probe.get_params()
        for name, value in probe.get_params().items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(again[name], value)
            else:
                assert again[name] == (tuple(value) if isinstance(value, list) else value), name


@pytest.mark.parametrize(
    "classes",
    [np.array([3, -1, 7]), np.array([1.0, -2.0, 4.0]), np.array(["é", "b", "c"]), np.array(["x", "y", "z"], object)],
)
def test_class_labels_of_any_type_are_saved(classes: np.ndarray, stores: dict[str, Store], tmp_path: Path) -> None:
    x = stores["own"].acts(HERE)
    probe = LDAProbe().fit(x, classes[np.arange(len(x)) % 3])
    save_probe(probe, tmp_path, address=HERE, store=stores["own"])
    again = load_probe(tmp_path).probe
    assert again.classes_.dtype == probe.classes_.dtype and (again.predict(x) == probe.predict(x)).all()


def test_boolean_labels_and_column_names_are_saved(stores: dict[str, Store], tmp_path: Path) -> None:
    import pandas as pd

    x = stores["own"].acts(HERE)
    frame = pd.DataFrame(x, columns=[f"unit {k}" for k in range(6)])
    probe = LogisticProbe().fit(frame, x[:, 0] > 0)
    save_probe(probe, tmp_path, address=HERE, store=stores["own"])
    again = load_probe(tmp_path).probe
    assert again.classes_.dtype == bool and again.feature_names_in_.tolist() == list(frame.columns)
    assert (again.predict(frame) == probe.predict(frame)).all()


def test_model_address_and_store_are_saved(stores: dict[str, Store], tmp_path: Path) -> None:
    probe = fitted(LDAProbe(), stores["own"])
    metrics = {"accuracy": np.float64(0.5), "auroc": float("nan")}
    save_probe(
        probe,
        tmp_path,
        address="blocks.1.hook_resid_post",
        store=stores["own"],
        target="value_2",
        split=3,
        metrics=metrics,
    )
    saved = load_probe(tmp_path)
    assert saved.address == Address(HERE) and (saved.model, saved.weights) == ("by hand", "aaaa")
    assert saved.store == stores["own"].meta["config_hash"]
    assert (saved.target, saved.split) == ("value_2", 3)
    assert saved.metrics == {"accuracy": 0.5, "auroc": None}
    assert saved.versions["numpy"] == np.__version__ and "scikit-learn" in saved.versions


def test_another_store_of_the_same_model_is_read(saved: SavedProbe, stores: dict[str, Store]) -> None:
    again = stores["again"]
    assert again.meta["config_hash"] != saved.store
    assert (saved.predict(again, again.index) == saved.probe.predict(again.acts(HERE))).all()


def test_another_model_raises_without_transfer(saved: SavedProbe, stores: dict[str, Store]) -> None:
    other = stores["other"]
    for read in (saved.predict, saved.predict_proba):
        with pytest.raises(
            StoreError,
            match=r"expected activations of by hand \(weights aaaa\), got by hand \(weights bbbb\); fit a probe to this store, or use transfer=True",
        ):
            read(other, other.index)
    assert (saved.predict(other, other.index, transfer=True) == saved.probe.predict(other.acts(HERE))).all()


def test_another_address_raises_without_transfer(saved: SavedProbe, stores: dict[str, Store]) -> None:
    own = stores["own"]
    with pytest.raises(StoreError, match=rf"expected activations of {HERE}, got {THERE}; .* transfer=True"):
        saved.predict(own, own.index, address=THERE)
    read = saved.predict_proba(own, own.index, address=THERE, transfer=True)
    np.testing.assert_array_equal(read, saved.probe.predict_proba(own.acts(THERE)))


@pytest.mark.parametrize("transfer", [False, True])
def test_a_store_without_the_address_or_of_another_width_raises(
    saved: SavedProbe, stores: dict[str, Store], transfer: bool
) -> None:
    with pytest.raises(StoreError, match=rf"expected {HERE} in the store .*one, got only {THERE}; capture it too"):
        saved.predict(stores["one"], stores["one"].index, transfer=transfer)
    with pytest.raises(StoreError, match=r"expected 6 features, got 9 at .*; a probe cannot transfer between widths"):
        saved.predict(stores["wide"], stores["wide"].index, transfer=transfer)


def test_a_probe_over_positions_predicts_one_label_for_each_trace(stores: dict[str, Store], tmp_path: Path) -> None:
    own = stores["own"]
    rows = own.rows(channel="latent")
    sequences, mask, traces = sequences_by_trace(own.acts(HERE, rows), rows)
    probe = AttentionProbe(epochs=3).fit(sequences, np.arange(len(traces)) % 2, mask=mask)
    save_probe(probe, tmp_path, address=HERE, store=own)
    read = load_probe(tmp_path).predict_proba(own, rows)
    assert read.shape == (40, 2)
    np.testing.assert_array_equal(read, probe.predict_proba(sequences, mask))


def test_probes_that_cannot_be_saved_raise(stores: dict[str, Store], tmp_path: Path) -> None:
    class Stranger(ClassifierMixin, BaseEstimator):
        pass

    own = stores["own"]
    with pytest.raises(UsageError, match=r"expected a known probe class, got 'Stranger'. Known: AttentionProbe"):
        save_probe(Stranger(), tmp_path, address=HERE, store=own)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"expected a fitted probe, got a RidgeProbe without coef_; call fit first"):
        save_probe(RidgeProbe(), tmp_path, address=HERE, store=own)
    with pytest.raises(UsageError, match=r"expected a known address in this store, got 'blocks.7.hook_out'"):
        save_probe(fitted(LDAProbe(), own), tmp_path, address="blocks.7.hook_out", store=own)
    odd = fitted(RidgeProbe(), own).set_params(strengths=object())
    with pytest.raises(
        UsageError, match=r"expected the parameter strengths to be a number, a text or a sequence of them, got <object"
    ):
        save_probe(odd, tmp_path, address=HERE, store=own)
    assert not list(tmp_path.iterdir())


def arrays_of(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def damaged(folder: Path, change: Callable[[dict], None], arrays: Callable[[dict], None] = lambda a: None) -> None:
    """Change the saved files and correct their hash, as an attacker would."""
    held = load(arrays_of(folder).read_bytes())
    arrays(held)
    content = save(held)
    raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    raw["arrays_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / arrays_name(raw["arrays_sha256"])).write_bytes(content)
    change(raw)
    (folder / DESCRIPTION).write_text(json.dumps(raw), encoding="utf-8")


def keep(raw: dict) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "arrays", "message"),
    [
        (
            keep,
            lambda a: a.update(coef_=np.zeros((3, 7))),
            r"expected coef_ to be outputs \(3\) x features \(6\), got 3 x 7",
        ),
        (keep, lambda a: a.update(intercept_=np.zeros(2)), r"expected intercept_ to be outputs \(3\), got 2"),
        (keep, lambda a: a.update(temperature_=np.zeros(3)), "expected temperature_ to be one number, got 3"),
        (keep, lambda a: a.update(coef_=np.zeros((3, 6), bool)), "expected coef_ to hold numbers, got bool"),
        (keep, lambda a: a.update(coef_=np.full((3, 6), np.nan)), "coef_ holds NaN or inf"),
        (
            keep,
            lambda a: a.update(coef_=np.zeros((5, 6)), intercept_=np.zeros(5)),
            "expected one output for each of 3 classes, got 5",
        ),
        (
            keep,
            lambda a: a.update(coef_=np.zeros((1, 6)), intercept_=np.zeros(1)),
            "expected one output for each of 3 classes, got 1",
        ),
        (keep, lambda a: a.pop("coef_"), "'coef_' is missing"),
        (keep, lambda a: a.update(extra_=np.zeros(1)), "'extra_' is not an array of RidgeProbe"),
        (lambda r: r.update({"class": "Popen"}), keep, "expected one of the classes AttentionProbe.*, got 'Popen'"),
        (lambda r: r.update({"class": "MLPProbe"}), keep, "is not an array of MLPProbe|unexpected keyword"),
        (lambda r: r.update({"class": ["RidgeProbe"]}), keep, "expected the name of a class"),
        (lambda r: r.update(parameters={"shell": True}), keep, "unexpected keyword argument 'shell'"),
        (lambda r: r.update(schema_version=99), keep, "expected schema_version 1"),
        (lambda r: r["classes"].update(values=["a", "a", "b"]), keep, "classes that are two or more different labels"),
        (lambda r: r["classes"].update(dtype="nonsense"), keep, "nonsense"),
        (lambda r: r.update(n_features=-6), keep, r"features \(-6\)"),
        (lambda r: r.update(address=None), keep, "expected address to be a text, got None"),
        (lambda r: r.pop("weights"), keep, "'weights' is missing"),
        (lambda r: r.update(arrays_sha256="../../elsewhere"), keep, "expected a sha256, got '../../elsewhere'"),
    ],
)
def test_changed_files_raise_with_one_line(
    saved: SavedProbe, tmp_path: Path, change: Callable, arrays: Callable, message: str
) -> None:
    damaged(tmp_path / "probe", change, arrays)
    with pytest.raises(StoreError, match=message) as caught:
        load_probe(tmp_path / "probe")
    assert "\n" not in str(caught.value) and "fit and save it again" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("arrays", None, "cannot be read .*No such file"),
        ("arrays", b"", "is not a safetensors file"),
        ("arrays", pickle.dumps({"coef_": np.zeros((3, 6))}), "is not a safetensors file"),
        ("arrays", save({"coef_": np.zeros((3, 6))}), "was changed after it was saved with probe.json"),
        (DESCRIPTION, None, "got no probe.json; fit a probe and save it there"),
        (DESCRIPTION, b"{", "cannot be read"),
        (DESCRIPTION, b"[]", "expected schema_version 1"),
        (DESCRIPTION, b"\xff\xfe\x00", "cannot be read"),
        (DESCRIPTION, pickle.dumps({}), "cannot be read"),
    ],
)
def test_missing_and_foreign_files_raise(
    saved: SavedProbe, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = arrays_of(tmp_path / "probe") if name == "arrays" else tmp_path / "probe" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError, match=message) as caught:
        load_probe(tmp_path / "probe")
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "probe.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StoreError, match=r"expected a folder .*, got the file .* Pickles are never read"):
        load_probe(path)
    (tmp_path / arrays_name("0" * 64)).write_bytes(path.read_bytes())
    (tmp_path / DESCRIPTION).write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match="cannot be read"):
        load_probe(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_full_disk_leaves_the_old_probe(
    writes: int,
    saved: SavedProbe,
    stores: dict[str, Store],
    tmp_path: Path,
    full_after: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The arrays and then the description are synced to disk, each with its folder: four writes that can fail."""
    with monkeypatch.context() as patch:
        full_after(writes, patch)
        with pytest.raises(StoreError, match="The disk is full"):
            save_probe(fitted(LDAProbe(), stores["own"]), tmp_path / "probe", address=HERE, store=stores["own"])
    assert type(load_probe(tmp_path / "probe").probe) is (RidgeProbe if writes < 3 else LDAProbe)


def test_saving_again_replaces_the_old_files(saved: SavedProbe, stores: dict[str, Store], tmp_path: Path) -> None:
    save_probe(fitted(LDAProbe(), stores["own"]), tmp_path / "probe", address=HERE, store=stores["own"])
    assert type(load_probe(tmp_path / "probe").probe) is LDAProbe
    assert len(list((tmp_path / "probe").iterdir())) == 2
