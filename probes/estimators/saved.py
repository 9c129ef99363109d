"""Saved probes with the model and address that they were fitted to, as safetensors and JSON; pickles are never read.

PROBE/probe.json                class, parameters, classes, address, model, store, target, split, metrics, versions
PROBE/probe-HASH.safetensors    the learned arrays, named by their hash, so an interrupted save leaves the old ones
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
from interp.runtime.written import refuse_other_kinds
from probes.estimators.base import Probe
from probes.estimators.serialization import from_arrays, to_arrays

DESCRIPTION = "probe.json"
SCHEMA_VERSION = 1
_PACKAGES = ("cotlens", "numpy", "scikit-learn", "scipy", "torch")
_HASH_DIGITS = 12


def arrays_name(digest: str) -> str:
    """Return the name of the file that holds the arrays of that hash."""
    return f"probe-{digest[:_HASH_DIGITS]}.safetensors"


@dataclass(frozen=True)
class SavedProbe:
    """A fitted probe with the address and model that it reads.

    Attributes:
        probe: The fitted estimator.
        address: The address whose activations it reads.
        model: Name of the model.
        weights: Hash of the model's weights.
        store: Configuration hash of the store whose rows it was fitted to.
        target: The target that it predicts.
        split: Seed of the problem split that it was fitted on.
        metrics: Its scores when it was saved.
        versions: Versions of the packages that saved it.
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
        """Return the most probable class of rows of a store.

        Args:
            store: The store.
            rows: Rows of its index.
            address: The address to read; that of the probe by default.
            transfer: Allow another address, or activations of another model.

        Returns:
            Class labels, one a row; one a trace for a probe over positions.

        Raises:
            StoreError: The rows are of another model or address and `transfer` is False, the store does not hold the
                address, or the rows have another width.
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
        """Return the probability of each of `probe.classes_` for rows of a store.

        Args:
            store: The store.
            rows: Rows of its index.
            address: The address to read; that of the probe by default.
            transfer: Allow another address, or activations of another model.

        Returns:
            Probabilities, shape (rows, classes); one row a trace for a probe over positions.

        Raises:
            StoreError: As in `predict`.
        """
        acts = self._acts(store, rows, address, transfer)
        return self.probe.predict_proba(**self._inputs(acts, rows))

    def _inputs(self, acts: np.ndarray, rows: pd.DataFrame) -> dict[str, Any]:
        if not getattr(self.probe, "over_positions_", 0):
            return {"X": acts}
        from probes.estimators.attention import sequences_by_trace

        sequences, mask, _ = sequences_by_trace(acts, rows)
        return {"X": sequences, "mask": mask}

    def _acts(
        self, store: ActivationSource, rows: pd.DataFrame, address: Address | str | None, transfer: bool
    ) -> np.ndarray:
        read = self.address if address is None else Address(str(address))
        allow = "use transfer=True to read them nevertheless"
        if not transfer and read != self.address:
            raise StoreError(
                f"expected activations of {self.address}, got {read}; leave address out, fit a probe there, or {allow}."
            )
        reasoner = store.meta["reasoner"]
        if not transfer and reasoner["weights"] != self.weights:
            raise StoreError(
                f"expected activations of {self.model} (weights {self.weights}), got {reasoner['name']} "
                f"(weights {reasoner['weights']}); fit a probe to this store, or {allow}."
            )
        if read not in store.addresses:
            held = ", ".join(map(str, store.addresses))
            raise StoreError(f"expected {read} in the store {store.name}, got only {held}; capture it too.")
        acts = store.acts(read, rows)
        if acts.shape[1] != self.probe.n_features_in_:
            raise StoreError(
                f"expected {self.probe.n_features_in_} features, got {acts.shape[1]} at {read} in {store.name}; "
                "a probe cannot transfer between widths, so fit one there."
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
    """Save a fitted probe with the model and address that it reads.

    Args:
        probe: The fitted probe.
        folder: Folder to write; a probe in it is replaced.
        address: The address that the probe reads.
        store: The store that the probe was fitted to.
        target: The target that the probe predicts.
        split: Seed of the problem split that it was fitted on.
        metrics: Scores to keep with it.

    Returns:
        The saved probe.

    Raises:
        UsageError: The probe is of an unknown class or not fitted, or has a parameter that JSON cannot hold.
        StoreError: The folder cannot be written.
    """
    description, arrays = to_arrays(probe)
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
    record = {
        "schema_version": SCHEMA_VERSION,
        **description,
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
    commit(Path(folder) / DESCRIPTION, (json.dumps(record, indent=2) + "\n").encode())
    for path in Path(folder).glob(arrays_name("?" * _HASH_DIGITS)):
        if path.name != arrays_name(digest):
            path.unlink(missing_ok=True)
    return saved


def load_probe(folder: Path | str) -> SavedProbe:
    """Load a saved probe, equal to the last bit.

    Args:
        folder: Folder that `save_probe` wrote.

    Returns:
        The probe.

    Raises:
        StoreError: The folder holds no probe, or the probe is damaged or was changed.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).exists():
        refuse_other_kinds(folder, "a saved probe", "fit one with `cotlens probe train`")
    if folder.is_file():
        raise StoreError(
            f"expected a folder with {DESCRIPTION} and safetensors, got the file {folder}; save the probe with "
            "save_probe. Pickles are never read, because they can run code."
        )
    if not (folder / DESCRIPTION).exists():
        raise StoreError(f"expected a probe in {folder}, got no {DESCRIPTION}; fit a probe and save it there.")
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"{error} is missing" if isinstance(error, KeyError) else lines[0]
        raise StoreError(f"the probe in {folder} cannot be read ({reason}); fit and save it again.") from None


def _read(folder: Path) -> SavedProbe:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or raw["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"expected schema_version {SCHEMA_VERSION} in {DESCRIPTION}")
    digest = _text(raw, "arrays_sha256")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"expected a sha256, got {digest!r}")
    name = arrays_name(digest)
    content = (folder / name).read_bytes()
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(f"{name} is not a safetensors file: {error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{name} was changed after it was saved with {DESCRIPTION}")
    return SavedProbe(
        from_arrays(raw, arrays),
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
        raise ValueError(f"expected {name} to be a text, got {raw[name]!r}")
    return raw[name]
