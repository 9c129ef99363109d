"""What a run, a store or a file of traces gives the explorer: one trace, its activations, and the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.artifacts.trace_file import TraceFile
from dashboards.explore.controls import matched
from dashboards.explore.lens import LensCache
from dashboards.explore.segments import Segment, segments_of
from dashboards.views import opened
from dashboards.views.loaded import models
from interp.activations import Store
from interp.errors import CotlensError
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class Material:
    """One trace of an artifact, with its activations where there are any.

    Attributes:
        file: The traces.
        row: Row of the trace in the file.
        trace: The trace.
        store: The activations of the same traces; None where there are none, or where they cannot be used.
        why_not: Why there are none; empty where there are.
    """

    file: TraceFile
    row: int
    trace: Trace
    store: Store | None
    why_not: str = ""

    @cached_property
    def rows(self) -> np.ndarray:
        """The row of the store's index for each position of the trace, -1 where it was not captured."""
        return rows_of(self.store, self.row, len(self.trace)) if self.store else np.full(len(self.trace), -1)

    @cached_property
    def places(self) -> list[str]:
        """The place of each position. Naming those of a long trace takes longer than the rest of a card."""
        return self.trace.places


def rows_of(store: Store, trace: int, length: int) -> np.ndarray:
    """Return the row of the index for each position of a trace, -1 where it was not captured.

    Args:
        store: The store.
        trace: Number of the trace in the store, from 0.
        length: Positions of the trace.
    """
    first, last = np.searchsorted(store.index["trace"].to_numpy(), [trace, trace + 1])
    rows = np.full(length, -1)
    rows[store.index["position"].to_numpy()[first:last]] = np.arange(first, last)
    return rows


def store_of(artifact: Artifact) -> tuple[Store | None, str]:
    """Return the activations of an artifact's traces; where there are none that can be used, why not."""
    path = artifact.path
    folder = {"run": path / "store", "store": path}.get(artifact.kind, path.with_name(f"{path.stem}-store"))
    if not (folder / "meta.json").exists():
        return None, "there are no activations of these traces yet"
    try:
        store = open_store(folder)
        is_complete = store.complete  # reads the index, which may be damaged too
    except CotlensError as error:
        return None, str(error).rstrip(".")
    if not is_complete:
        return None, f"the store at {folder} is not finished"
    if artifact.kind == "traces" and not _same_traces(store, path):
        return None, f"the store at {folder} was captured from other traces"
    return store, ""


def _same_traces(store: Store, path: Path) -> bool:
    """Return whether a store was captured from a file of traces: the first has the same tokens, and there are as many."""
    ours, theirs = opened.trace_file(path), opened.trace_file(Path(store.name) / "traces.parquet")
    return len(ours) == len(theirs) and ours.trace(0).token_ids == theirs.trace(0).token_ids


def open_store(folder: Path) -> Store:
    """Return a store, opened once for all sessions; one that was made again is opened again."""
    return _store(str(folder), last_written(folder))


@st.cache_resource(max_entries=4, show_spinner="Opening the store …")
def _store(path: str, written: int) -> Store:
    return Store(path)


def material(artifact: Artifact, row: int) -> Material:
    """Return one trace of an artifact with its activations."""
    file = opened.traces_of(artifact)
    store, why_not = store_of(artifact)
    return Material(file, row, trace_of(file, row), store, why_not)


def trace_of(file: TraceFile, row: int) -> Trace:
    """Return a trace of a file; the ones shown last are kept."""
    return _trace(str(file.path), last_written(file.path), row, file)


# A trace of 30,000 tokens takes some ten megabytes.
@st.cache_resource(max_entries=3, show_spinner=False)
def _trace(path: str, written: int, row: int, _file: TraceFile) -> Trace:
    return _file.trace(row)


def segments(material: Material, unit: str) -> list[Segment]:
    """Return the transcript of a trace in sentences or steps."""
    path = material.file.path
    return _segments(str(path), last_written(path), material.row, unit, material.trace)


@st.cache_resource(max_entries=8, show_spinner=False)
def _segments(path: str, written: int, row: int, unit: str, _trace: Trace) -> list[Segment]:
    return segments_of(_trace, unit)


def other_trace(material: Material) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the trace that a trace is compared with, and what it has at the same places (`controls.matched`).

    It is the next trace of the file; the first for the last.
    """
    path = material.file.path
    return _other_trace(str(path), last_written(path), material.row, material.store is not None, material)


@st.cache_resource(max_entries=8, show_spinner=False)
def _other_trace(
    path: str, written: int, row: int, stored: bool, _material: Material
) -> tuple[int, np.ndarray, np.ndarray]:
    other = (row + 1) % len(_material.file)
    trace, store = trace_of(_material.file, other), _material.store
    rows = np.full(len(trace), -1) if store is None else rows_of(store, other, len(trace))
    return other, *matched(_material.trace, trace, rows)


@dataclass(frozen=True)
class Model:
    """The model that made a store, or why it cannot be had."""

    reasoner: Reasoner | None
    why_not: str = ""


def model_of(store: Store) -> Model:
    """Return the model of a store, loaded once for all pages; its activations and its weights must belong together."""
    if is_in_memory(store):
        return _model(store)
    with st.spinner("Loading the model …"):
        return _model(store)


def is_in_memory(store: Store) -> bool:
    """Return whether the model of a store can be had at once; loading one takes seconds."""
    return models().holds(store)


def _model(store: Store) -> Model:
    from interp.decoders.logit_lens import require_same_model

    try:
        reasoner = models().model(store)
        require_same_model(store, reasoner, "the lens")
    except CotlensError as error:
        return Model(None, str(error))
    return Model(reasoner)


@st.cache_resource(max_entries=1, show_spinner=False)
def lens_cache() -> LensCache:
    """Return the read-outs of the lens that are kept for all sessions."""
    return LensCache()
