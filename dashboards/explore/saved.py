"""Probes and SAEs that lie below the dashboard's folders and fit a store: the read-outs that they add."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.explore.read_outs import ReadOut, Scale, Sources, Values, scattered
from dashboards.views import opened
from interp.activations import Store
from interp.errors import UsageError
from interp.models.address import Address

MOST = 12  # probes and SAEs that are offered


@dataclass(frozen=True)
class Saved:
    """A saved probe or SAE of a store's model.

    Attributes:
        key: Name of its read-out: `probe:NAME` or `sae:NAME`.
        kind: `probe` or `sae`.
        path: Its folder.
        address: Where it reads.
    """

    key: str
    kind: str
    path: Path
    address: Address


def saved_for(store: Store) -> tuple[list[Saved], list[str]]:
    """Return the probes and SAEs that fit a store, and a line for each that was left out though it might seem to fit."""
    fits, notes = [], []
    for item in opened.found().artifacts.values():
        if item.kind not in ("probe", "sae"):
            continue
        described = _described(str(item.path), last_written(item.path), item.kind)
        if described is None:
            continue
        model, weights, address = described
        if weights == store.meta["reasoner"]["weights"] and Address(address) in store.addresses:
            fits.append(Saved(f"{item.kind}:{item.name}", item.kind, item.path, Address(address)))
        elif model == store.meta["reasoner"]["name"]:
            notes.append(f"{item.name} is not offered: it is of other weights or of an address that was not captured.")
    if len(fits) > MOST:
        notes.append(
            f"{len(fits) - MOST} more probes and SAEs fit; start the dashboard on a smaller folder to see them."
        )
    return fits[:MOST], notes


@st.cache_resource(max_entries=500, show_spinner=False)
def _described(path: str, written: int, kind: str) -> tuple[str, str, str] | None:
    """Return model, hash of weights and address of a probe or an SAE, read from its description alone."""
    try:
        content = json.loads(
            (Path(path) / ("probe.json" if kind == "probe" else "cfg.json")).read_text(encoding="utf-8")
        )
        if kind == "probe":
            return str(content["model"]), str(content["weights"]), str(content["address"])
        metadata = content["metadata"]
        return str(metadata["model_name"]), str(metadata["weights"]), str(metadata["hook_name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def read_out_of(saved: Saved) -> ReadOut:
    """Return the read-out of a saved probe or SAE, which has one row: the address that it reads."""
    name = saved.key.partition(":")[2]
    if saved.kind == "probe":
        return ReadOut(f"probe {name}", "probability", _probe(saved), "store", Scale(0, 1))
    return ReadOut(f"SAE {name}", "activation of a feature", _sae(saved), "store")


def _probe(saved: Saved) -> Any:
    def compute(sources: Sources, positions: np.ndarray) -> Values:
        rows, known = _captured(sources, positions)
        probabilities, classes = probe_scores(saved, sources.states(saved.address, rows))
        best = probabilities.argmax(axis=1) if len(rows) else np.zeros(0, int)
        values = scattered(known, probabilities.max(axis=1) if len(rows) else np.zeros(0))
        texts = scattered(known, np.array([str(classes[k]) for k in best], dtype=object), "")
        return Values([saved.address.name], values[None], texts[None])

    return compute


def _sae(saved: Saved) -> Any:
    def compute(sources: Sources, positions: np.ndarray) -> Values:
        rows, known = _captured(sources, positions)
        features = sae_features(saved, sources.states(saved.address, rows))
        chosen = np.full(len(rows), sources.feature) if sources.feature is not None else features.argmax(axis=1)
        active = features[np.arange(len(rows)), chosen]
        words = np.array([f"#{k}" if value > 0 else "" for k, value in zip(chosen, active, strict=True)], dtype=object)
        return Values([saved.address.name], scattered(known, active)[None], scattered(known, words, "")[None])

    return compute


def _captured(sources: Sources, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = sources.at[positions] >= 0
    return sources.at[positions][known], known


def probe_scores(saved: Saved, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each class for some states, shape (rows, classes), and the classes."""
    probe = _loaded_probe(str(saved.path), last_written(saved.path))
    if getattr(probe.probe, "over_positions_", 0):
        raise UsageError(f"the probe {saved.path.name} reads whole traces, not single positions; choose another.")
    return probe.probe.predict_proba(X=states), probe.probe.classes_


def sae_features(saved: Saved, states: np.ndarray) -> np.ndarray:
    """Return an SAE's features of some states, shape (rows, features)."""
    from interp.sae.dictionaries import as_dictionary

    return as_dictionary(_loaded_sae(str(saved.path), last_written(saved.path))).encode(np.ascontiguousarray(states))


@st.cache_resource(max_entries=4, show_spinner="Loading the probe …")
def _loaded_probe(path: str, written: int) -> Any:
    from probes.estimators.saved import load_probe

    return load_probe(path)


@st.cache_resource(max_entries=2, show_spinner="Loading the SAE …")
def _loaded_sae(path: str, written: int) -> Any:
    from interp.sae.load import load_sae

    return load_sae(path)
