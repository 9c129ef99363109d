"""Probes on disk, with what they were fitted to: safetensors and JSON, never a pickle.

PROBE/probe.json                class, parameters, classes, address, model, store, target, split, metrics, versions
PROBE/probe-HASH.safetensors    the learned arrays, named by their hash, so that a save cut short leaves the old ones
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations import ActivationSource
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.console import jsonable
from interp.runtime.files import commit
from probes.estimators.base import Probe
from probes.estimators.codec import decode, encode

DESCRIPTION = "probe.json"
SCHEMA_VERSION = 1
_PACKAGES = ("cotlens", "numpy", "scikit-learn", "scipy", "torch")
_SHORT = 12


def arrays_name(digest: str) -> str:
    """The file that holds arrays of that hash."""
    return f"probe-{digest[:_SHORT]}.safetensors"


@dataclass(frozen=True)
class SavedProbe:
    """A fitted probe, and where it belongs: an address of a model.

    `weights` is the hash of that model's weights, `store` the hash of the store whose rows it was fitted to, `split`
    the seed of the problem split, `metrics` its scores when it was saved.
    """

    probe: Probe
    address: Address
    model: str
    weights: str
    store: str
    target: str | None = None
    split: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def predict(
        self,
        store: ActivationSource,
        rows: pd.DataFrame,
        *,
        address: Address | str | None = None,
        transfer: bool = False,
    ) -> np.ndarray:
        """The likeliest class of each of `rows` of `store`'s index; a probe over positions reads one a trace.

        Rows of another model, or of another `address` than the probe's, are refused with a `StoreError` unless
        `transfer` says that this is meant.
        """
        acts = self._acts(store, rows, address, transfer)
        return self.probe.predict(**self._inputs(acts, rows))

    def predict_proba(
        self,
        store: ActivationSource,
        rows: pd.DataFrame,
        *,
        address: Address | str | None = None,
        transfer: bool = False,
    ) -> Float[np.ndarray, "rows classes"]:
        """The probability of each of `probe.classes_`; rows are refused as by `predict`."""
        acts = self._acts(store, rows, address, transfer)
        return self.probe.predict_proba(**self._inputs(acts, rows))

    def _inputs(self, acts: np.ndarray, rows: pd.DataFrame) -> dict[str, Any]:
        if not getattr(self.probe, "over_positions_", 0):
            return {"X": acts}
        from probes.estimators.attention import by_trace

        sequences, mask, _ = by_trace(acts, rows)
        return {"X": sequences, "mask": mask}

    def _acts(
        self, store: ActivationSource, rows: pd.DataFrame, address: Address | str | None, transfer: bool
    ) -> np.ndarray:
        at = self.address if address is None else Address(str(address))
        means_it = "say transfer=True to read them all the same"
        if not transfer and at != self.address:
            raise StoreError(
                f"this probe reads {self.address}, but rows of {at} came. Leave address out, fit one there, or {means_it}."
            )
        given = store.meta["reasoner"]
        if not transfer and given["weights"] != self.weights:
            raise StoreError(
                f"this probe reads {self.model} (weights {self.weights}), but the store holds {given['name']} "
                f"(weights {given['weights']}). Fit one to this store, or {means_it}."
            )
        if at not in store.addresses:
            held = ", ".join(map(str, store.addresses))
            raise StoreError(f"this probe reads {at}, which {store.name} does not hold, but {held}. Capture it too.")
        acts = store.acts(at, rows)
        if acts.shape[1] != self.probe.n_features_in_:
            raise StoreError(
                f"this probe reads {self.probe.n_features_in_} features, but rows of {at} in {store.name} have "
                f"{acts.shape[1]}. A probe cannot transfer between widths; fit one there."
            )
        return acts


def save_probe(
    probe: Probe,
    folder: Path | str,
    *,
    address: Address | str,
    store: ActivationSource,
    target: str | None = None,
    split: int | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> SavedProbe:
    """Write a fitted probe and where it belongs: an `address` of the model that `store` was captured from.

    Raises `UsageError` when the probe is of another kind, not fitted, or has a parameter that JSON cannot hold, and
    `StoreError` when the folder cannot be written.
    """
    said, arrays = encode(probe)
    reasoner = store.meta["reasoner"]
    saved = SavedProbe(
        probe,
        store.address(address),
        reasoner["name"],
        reasoner["weights"],
        store.meta["config_hash"],
        target,
        split,
        jsonable(dict(metrics or {})),
        {package: version(package) for package in _PACKAGES},
    )
    from safetensors.numpy import save

    content = save(arrays)
    digest = hashlib.sha256(content).hexdigest()
    description = {
        "schema_version": SCHEMA_VERSION,
        **said,
        "address": saved.address.name,
        "model": saved.model,
        "weights": saved.weights,
        "store": saved.store,
        "target": target,
        "split": split,
        "metrics": saved.metrics,
        "versions": saved.versions,
        "arrays_sha256": digest,
    }
    commit(Path(folder) / arrays_name(digest), content)
    commit(Path(folder) / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())
    for path in Path(folder).glob(arrays_name("?" * _SHORT)):
        if path.name != arrays_name(digest):
            path.unlink(missing_ok=True)
    return saved


def load_probe(folder: Path | str) -> SavedProbe:
    """A probe that was saved, to the last bit. Raises `StoreError` when there is none, or it is damaged or foreign."""
    folder = Path(folder)
    if folder.is_file():
        raise StoreError(
            f"{folder} is a file, but a saved probe is a folder with {DESCRIPTION} and safetensors. "
            "Pickles are never read, because they run code; save the probe with save_probe."
        )
    if not (folder / DESCRIPTION).exists():
        raise StoreError(f"no probe in {folder}: it has no {DESCRIPTION}. Fit one and save it there.")
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        what = f"{error} is missing" if isinstance(error, KeyError) else said[0]
        raise StoreError(f"the probe in {folder} cannot be read ({what}). Fit and save it again.") from None


def _read(folder: Path) -> SavedProbe:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = json.loads((folder / DESCRIPTION).read_text())
    if not isinstance(raw, dict) or raw["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"{DESCRIPTION} should have schema_version {SCHEMA_VERSION}")
    digest = _text(raw, "arrays_sha256")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is no sha256")
    name = arrays_name(digest)
    content = (folder / name).read_bytes()
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(f"{name} is not a safetensors file: {error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{name} is not the one that was saved with {DESCRIPTION}")
    return SavedProbe(
        decode(raw, arrays),
        Address(_text(raw, "address")),
        _text(raw, "model"),
        _text(raw, "weights"),
        _text(raw, "store"),
        raw["target"],
        raw["split"],
        raw["metrics"],
        raw["versions"],
    )


def _text(raw: Mapping[str, Any], name: str) -> str:
    if not isinstance(raw[name], str):
        raise ValueError(f"{name} should be a text, but is {raw[name]!r}")
    return raw[name]
