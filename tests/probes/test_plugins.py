"""Estimators and controls of another package work like the built-in ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import probes
from interp.activations import Store
from interp.errors import UsageError
from probes.estimators.registry import ESTIMATORS, estimator_class, estimator_names, saved_class, saved_classes
from probes.estimators.saved import load_probe
from probes.sweeps.controls import chosen_controls, control_names
from probes.sweeps.single import train_probe

ADDRESS = "blocks.1.hook_out"
AT = {"target": "value_2", "place": "thought 2", "address": ADDRESS}
MODULE = '''
import numpy as np
from probes import LinearProbe
from probes.sweeps.controls import ControlInputs


class NearestMeanProbe(LinearProbe):
    """The class whose mean is nearest."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def fit(self, X, y, sample_weight=None):
        X, codes, _ = self._validate_fit(X, y, sample_weight)
        means = np.array([X[codes == c].mean(axis=0) for c in range(len(self.classes_))])
        offset = -0.5 * (means**2).sum(axis=1) + self.shift
        if len(means) == 2:
            return self._set(means[1:] - means[:1], offset[1:] - offset[:1])
        return self._set(means, offset)


class NotAProbe:
    pass


def trace_parity(store, rows):
    """the same probe on whether the trace's number is even

    More text.
    """
    return ControlInputs({"parity": (rows["trace"].to_numpy()[:, None] % 2).astype(np.float32)})


def never(store, rows):
    """the same probe on nothing"""
    return ControlInputs({}, "there is nothing")
'''
ENTRY_POINTS = """
[cotlens.estimators]
nearest_mean = probe_example:NearestMeanProbe
not_a_probe = probe_example:NotAProbe
ridge = probe_example:NotAProbe

[cotlens.controls]
trace_parity = probe_example:trace_parity
never = probe_example:never
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution `probe-example` with two estimators and two controls, on the path."""
    site = tmp_path / "site"
    (site / "probe_example-1.0.dist-info").mkdir(parents=True)
    (site / "probe_example.py").write_text(MODULE, encoding="utf-8")
    (site / "probe_example-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: probe-example\nVersion: 1.0\n", encoding="utf-8"
    )
    (site / "probe_example-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def store(planted_store: Callable[..., Store]) -> Store:
    return planted_store(ADDRESS, "blocks.0.hook_out")


def test_the_lists_have_the_built_in_names_first(installed: None) -> None:
    assert estimator_names()[: len(ESTIMATORS)] == list(ESTIMATORS)
    assert {"nearest_mean", "not_a_probe"} <= set(estimator_names())
    assert control_names()[-2:] == ["trace_parity", "never"] and "majority" in control_names()
    assert chosen_controls("all") == control_names() and chosen_controls(["never"]) == ["never"]
    assert "NearestMeanProbe" in saved_classes() and saved_class("NearestMeanProbe").__name__ == "NearestMeanProbe"


def test_without_the_package_its_names_are_unknown() -> None:
    with pytest.raises(UsageError, match="expected a known estimator, got 'nearest_mean'"):
        estimator_class("nearest_mean")
    with pytest.raises(UsageError, match="expected a known control, got 'trace_parity'"):
        chosen_controls(["trace_parity"])
    with pytest.raises(UsageError, match="expected a known probe class, got 'NearestMeanProbe'"):
        saved_class("NearestMeanProbe")


def test_a_built_in_name_means_the_built_in_estimator(installed: None) -> None:
    assert estimator_class("ridge") is probes.RidgeProbe and estimator_names().count("ridge") == 1


def test_an_estimator_that_is_no_probe_is_refused(installed: None, store: Store) -> None:
    with pytest.raises(UsageError, match=r"expected the estimators plugin 'not_a_probe' to be a subclass of probes\."):
        probes.sweep(store, ["value_2"], places=["thought 2"], estimator="not_a_probe", controls="none")


def test_a_sweep_takes_both_by_name(installed: None, store: Store) -> None:
    controls = ["majority", "trace_parity", "never"]
    swept = probes.sweep(
        store, ["value_2"], places=["thought 2"], splits=1, estimator="nearest_mean", controls=controls
    )
    cell = swept.cell("value_2", "thought 2", ADDRESS)
    assert cell["accuracy"] > 0.9 and cell["estimator"] == "nearest_mean"
    assert cell["trace_parity"] < 0.3 and np.isnan(cell["never"])
    assert swept.notes["controls"]["trace_parity"] == "the same probe on whether the trace's number is even"
    assert swept.notes["why_not"] == {"never": "there is nothing"}


def test_a_probe_of_another_package_is_trained_saved_and_loaded(installed: None, store: Store, tmp_path: Path) -> None:
    result = train_probe(store, tmp_path / "p", **AT, estimator="nearest_mean", controls="none")
    assert result.accuracy.value > 0.9
    saved = load_probe(tmp_path / "p")
    assert type(saved.probe).__name__ == "NearestMeanProbe"
    rows = store.rows(place="thought 2")
    assert (saved.predict(store, rows) == saved.probe.predict(store.acts(ADDRESS, rows))).all()
