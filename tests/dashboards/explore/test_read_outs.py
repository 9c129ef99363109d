"""Read-outs of a grid: equal to the toolkit's own lens, and beside a control that knows nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import interp
from dashboards.explore.controls import by_row, matched
from dashboards.explore.lens import LensCache, read_states
from dashboards.explore.opening import rows_of
from dashboards.explore.read_outs import READ_OUTS, Pair, Sources
from dashboards.explore.screen import hidden_positions, screen
from dashboards.explore.windows import window
from interp.activations import Store
from interp.decoders.logit_lens import LogitLens
from interp.traces import TraceSet


@pytest.fixture
def sources(store: Store, traces: TraceSet, coconut: interp.Reasoner) -> Sources:
    return Sources(traces[0], rows_of(store, 0, len(traces[0])), store, coconut)


@pytest.fixture
def pair(sources: Sources, store: Store, traces: TraceSet) -> Pair:
    rows, recorded = matched(traces[0], traces[1], rows_of(store, 1, len(traces[1])))
    read_out = READ_OUTS["top1"]
    return Pair(sources, replace(sources, at=rows, recorded=recorded), read_out, read_out, "trace 1")


def test_rows_of_a_trace_are_those_of_the_index(store: Store, traces: TraceSet) -> None:
    for number in (0, 5, len(traces) - 1):
        rows = rows_of(store, number, len(traces[number]))
        captured = store.index.iloc[rows[rows >= 0]]
        assert (captured["trace"] == number).all()
        assert captured["position"].tolist() == np.flatnonzero(rows >= 0).tolist()


def test_the_lens_reads_what_the_decoder_reads(sources: Sources, store: Store, coconut: interp.Reasoner) -> None:
    positions = np.flatnonzero(sources.at >= 0)
    values = READ_OUTS["top1"].compute(sources, positions)
    for row, name in enumerate(values.rows):
        part = store.index.iloc[sources.at[positions]]
        read = LogitLens(coconut).decode(store, store.address(name), part, top_k=1)
        assert values.texts is not None and values.texts[row].tolist() == read.texts[:, 0].tolist()
        assert np.allclose(values.values[row], read.scores[:, 0], atol=1e-5)


def test_rank_and_probability_of_a_target_agree(sources: Sources, store: Store, coconut: interp.Reasoner) -> None:
    address = store.addresses[-1]
    states = store.acts(address, sources.at[sources.at >= 0])
    targets = np.arange(len(states)) % 5 - 1
    block = read_states(coconut, states, address, targets)
    assert (np.isnan(block.target) == (targets < 0)).all()
    for k in np.flatnonzero(targets >= 0):
        first = block.rank[k] == 1
        assert first == (block.ids[k, 0] == targets[k])
    assert (block.entropy >= -1e-6).all()


def test_kept_blocks_are_the_computed_ones(sources: Sources, store: Store, coconut: interp.Reasoner) -> None:
    cache, address = LensCache(), store.addresses[1]
    rows, none = np.arange(70), np.full(70, -1)
    first = cache.read(store, coconut, address, rows, none)
    again = cache.read(store, coconut, address, rows, none)
    assert (first.ids == again.ids).all()
    whole = read_states(coconut, store.acts(address, rows), address, none)
    assert np.allclose(first.probabilities, whole.probabilities, atol=1e-6)


def test_positions_that_were_not_captured_have_no_value(sources: Sources) -> None:
    positions = np.arange(len(sources.trace))
    for name in ("top1", "entropy", "norm", "cosine"):
        values = READ_OUTS[name].compute(sources, positions).values
        assert np.isnan(values[:, sources.at < 0]).all()
    assert np.isfinite(READ_OUTS["norm"].compute(sources, positions).values[:, sources.at >= 0]).all()


def test_random_directions_keep_lengths_and_lose_content(sources: Sources, store: Store) -> None:
    rows = sources.at[sources.at >= 0]
    ours, noise = (replace(sources, random=on).states(store.addresses[-1], rows) for on in (False, True))
    assert np.allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(noise, axis=1), rtol=1e-4)
    assert abs(float((ours * noise).sum() / (ours**2).sum())) < 0.5


def test_the_control_of_the_likeliest_token_is_that_token_elsewhere(pair: Pair) -> None:
    table = by_row(pair, np.arange(len(pair.reading.trace)))
    assert (table["mean"] > table["control"]).all()
    assert ((table["low"] <= table["difference"] + 1e-9) & (table["difference"] <= table["high"] + 1e-9)).all()


def test_the_difference_is_the_reading_minus_its_control(pair: Pair) -> None:
    positions = np.arange(len(pair.reading.trace))
    own, other, gap = (pair.compute(show, positions).values for show in ("reading", "control", "difference"))
    assert np.allclose(gap, own - other, equal_nan=True)


def test_hidden_columns_are_counted(pair: Pair) -> None:
    trace = pair.reading.trace
    part = window(len(trace), "tokens", 0, affordable=1000)
    hidden = hidden_positions(trace, None, special=True, sinks=True)
    drawn = screen(pair, "reading", part, hidden)
    assert drawn.hidden == {"special tokens": trace.channel.count("special"), "sinks": 1}
    assert 0 not in drawn.first and drawn.values.shape[1] == len(drawn.first) == len(trace) - sum(drawn.hidden.values())
