"""Recordings: the rows of a store in memory, read by everything that reads a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
import probes
from interp.activations import Recording, Store
from interp.decoders.logit_lens import LogitLens
from interp.errors import StoreError, UsageError
from interp.sae import select, train_sae
from interp.sae.concepts import concepts_of
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def recording(coconut: interp.Reasoner, traces: TraceSet) -> Recording:
    """The same arguments as those of the session's store."""
    return interp.record(coconut, traces, shard_size=50)


def test_rows_are_those_of_a_store_bit_for_bit(recording: Recording, store: Store) -> None:
    pd.testing.assert_frame_equal(recording.index, store.index)
    assert recording.addresses == store.addresses and len(recording.addresses) > 1
    assert recording.meta["config_hash"] == store.meta["config_hash"]
    assert recording.places == store.places
    for address in store.addresses:
        np.testing.assert_array_equal(recording.acts(address), store.acts(address))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_dtypes_are_kept_as_a_store_keeps_them(
    coconut: interp.Reasoner, traces: TraceSet, tmp_path: Path, dtype: str
) -> None:
    options: dict[str, Any] = {
        "sites": "resid_post",
        "layers": [1],
        "channels": ["latent"],
        "positions": ["thought *"],
        "dtype": dtype,
        "shard_size": 7,
        "batch_size": 5,
    }
    recording = interp.record(coconut, traces[:20], **options)
    store = interp.capture(coconut, traces[:20], out=tmp_path / "store", **options)
    (address,) = recording.addresses
    acts = recording.acts(address)
    assert acts.dtype == np.float32 and len(acts)
    np.testing.assert_array_equal(acts, store.acts(address))
    pd.testing.assert_frame_equal(recording.index, store.index)


def test_rows_are_chosen_as_in_a_store(recording: Recording, store: Store) -> None:
    address = store.addresses[-1]
    numbers = np.random.default_rng(0).permutation(len(store.index))[:30]
    mask = (store.index["channel"] == "latent").to_numpy()
    for rows in (store.thought_rows, store.thought_rows.iloc[::-1], numbers, np.arange(5, 20), mask, numbers[:0]):
        np.testing.assert_array_equal(recording.acts(address, rows), store.acts(address, rows))
    out = np.empty((30, store.meta["d_model"]), np.float32)
    assert recording.acts(address, numbers, out=out) is out
    np.testing.assert_array_equal(out, store.acts(address, numbers))
    for there, acts in recording.trace_acts(7).items():
        np.testing.assert_array_equal(acts, store.trace_acts(7)[there])


def test_what_does_not_exist_is_refused(recording: Recording) -> None:
    address = recording.addresses[0]
    with pytest.raises(IndexError, match="expected row numbers from 0 to"):
        recording.acts(address, np.array([len(recording.index)]))
    with pytest.raises(UsageError, match="address in this store"):
        recording.acts("blocks.40.hook_out")
    with pytest.raises(UsageError, match="expected a trace from 0 to 119, got 120"):
        recording.trace_acts(120)
    with pytest.raises(UsageError, match="expected `out` to be a contiguous float32 array"):
        recording.acts(address, out=np.empty((1, 1), np.float32))


def test_activations_that_are_not_finite_are_refused(coconut: interp.Reasoner, traces: TraceSet) -> None:
    import torch

    weight = next(coconut.base.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        with pytest.raises(StoreError, match="not finite in trace 0"):
            interp.record(coconut, traces[:3])
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_progress_counts_shards(coconut: interp.Reasoner, traces: TraceSet) -> None:
    reports: list[tuple[int, int]] = []
    interp.record(coconut, traces[:6], shard_size=2, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_the_logit_lens_reads_a_recording(recording: Recording, store: Store, coconut: interp.Reasoner) -> None:
    lens, rows = LogitLens(coconut), store.thought_rows
    for address in (store.addresses[0], store.addresses[-1]):
        np.testing.assert_array_equal(
            lens.decode(recording, address, rows).texts, lens.decode(store, address, rows).texts
        )


def test_decode_takes_the_reasoner_from_the_recording(recording: Recording, store: Store) -> None:
    assert recording.load_reasoner() is recording.reasoner
    addresses = [recording.addresses[-1].name]
    ours = interp.decode(recording, ["logit_lens", "probe"], addresses=addresses).scores()
    pd.testing.assert_frame_equal(ours, interp.decode(store, ["logit_lens", "probe"], addresses=addresses).scores())


def test_a_ridge_sweep_of_a_recording_is_that_of_the_store(recording: Recording, store: Store) -> None:
    options: dict[str, Any] = {
        "places": ["thought 1", "thought 2"],
        "addresses": [store.addresses[-1].name],
        "controls": ["shuffled_labels"],
        "splits": 1,
    }
    swept = probes.sweep(recording, ["value_1"], **options)
    pd.testing.assert_frame_equal(swept.table(), probes.sweep(store, ["value_1"], **options).table())
    assert swept.notes["store"] == "the recording of chain-coconut"


def test_workers_cannot_sweep_a_recording(recording: Recording) -> None:
    with pytest.raises(UsageError, match="workers cannot reach; use engine inline"):
        probes.sweep(recording, ["value_1"], places=["thought 1"], controls="none", splits=1, engine="process")


def test_an_sae_learns_from_a_recording_as_from_a_store(recording: Recording, store: Store) -> None:
    address = store.addresses[-1]
    settings: dict[str, Any] = {"d_sae": 16, "k": 4, "samples": 400, "batch_size": 50}
    saes = []
    for source in (recording, store):
        rows, _ = select(source, address)
        saes.append(train_sae(source, address, rows, **settings))
    ours, theirs = saes
    np.testing.assert_array_equal(ours.W_dec.detach().numpy(), theirs.W_dec.detach().numpy())
    assert ours.cfg.metadata.hook_name == address.name
    assert concepts_of(recording, recording.thought_rows).names == concepts_of(store, store.thought_rows).names


def test_recording_leaves_no_files(
    coconut: interp.Reasoner, traces: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    full_after(0, monkeypatch)
    assert len(interp.record(coconut, traces[:3]).index)
    assert not list(tmp_path.iterdir())
