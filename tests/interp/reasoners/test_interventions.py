"""Interventions are exact: identity changes nothing, edits compose, and hooks never outlive their use."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import interp
from interp.errors import UsageError
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, add, identity, replace_with
from interp.reasoners.rollouts.batch import BatchState
from interp.traces import Channel

SITES = ["blocks.0.hook_in", "blocks.1.hook_out", "blocks.0.attn.hook_out", "ln_final.hook_out"]


@pytest.fixture(scope="module")
def reasoner():
    return interp.load("chain-coconut")


@pytest.fixture(scope="module")
def problems(reasoner):
    return reasoner.task.generate(24, seed=21, split="test")


@pytest.fixture(scope="module")
def traces(reasoner, problems):
    return reasoner.think(problems)


def thoughts(traces):
    return np.array([(k, p) for k, t in enumerate(traces) for p, c in enumerate(t.channel) if c == Channel.LATENT])


def same(one, other):
    return all(
        a.token_ids == b.token_ids
        and np.array_equal(a.latents, b.latents)
        and np.array_equal(a.entropy, b.entropy, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("site", SITES)
def test_identity_changes_nothing_bit_for_bit(reasoner, problems, traces, site):
    """Compared with an edit of no row, because both run the wrapped model."""
    edit, nothing = (Intervention(Address(site), rows, identity) for rows in (thoughts(traces), np.empty((0, 2))))
    assert same(reasoner.think(problems, interventions=[edit]), reasoner.think(problems, interventions=[nothing]))


def test_adding_and_subtracting_a_direction_changes_nothing(reasoner, problems, traces):
    direction = np.random.default_rng(0).normal(size=128).astype(np.float32)
    rows = thoughts(traces)
    both = [Intervention(Address(SITES[1]), rows, add(direction, s)) for s in (2.0, -2.0)]
    twice = [Intervention(Address(SITES[1]), rows, add(direction, 1.5)) for _ in range(2)]
    once = [Intervention(Address(SITES[1]), rows, add(direction, 3.0))]
    back = reasoner.think(problems, interventions=both)
    for a, b in zip(back, traces, strict=True):
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-4)
    for a, b in zip(
        reasoner.think(problems, interventions=twice), reasoner.think(problems, interventions=once), strict=True
    ):
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-4)


def test_batched_equals_single_under_intervention(reasoner, problems, traces):
    rows = thoughts(traces)
    values = np.random.default_rng(1).normal(size=(len(rows), 128)).astype(np.float32)
    edit = Intervention(Address("blocks.0.hook_in"), rows, replace_with(values))
    together = reasoner.think(problems, interventions=[edit], batch_size=24)
    alone = reasoner.think(problems, interventions=[edit], batch_size=1)
    for a, b in zip(together, alone, strict=True):
        assert a.token_ids == b.token_ids
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-4)
    assert not same(together, traces), "the edit must change something, or this test shows nothing"


def test_only_the_named_rows_change(reasoner, problems, traces):
    rows = thoughts(traces[:1])
    edit = Intervention(Address("blocks.0.hook_in"), rows, add(np.full(128, 5.0, np.float32)))
    after = reasoner.think(problems, interventions=[edit])
    assert not np.array_equal(after[0].latents, traces[0].latents)
    for a, b in zip(list(after)[1:], list(traces)[1:], strict=True):
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-5)


def test_replay_sees_the_edit_where_it_was_made(reasoner, traces):
    rows = thoughts(traces)
    values = np.random.default_rng(2).normal(size=(len(rows), 128)).astype(np.float32)
    seen = {}

    def keep(activations, batch):
        for b, k in enumerate(batch.traces.tolist()):
            seen[k] = activations[b].clone()

    reasoner.replay(
        traces,
        hooks={"blocks.1.hook_out": keep},
        interventions=[Intervention(Address("blocks.1.hook_out"), rows, replace_with(values))],
    )
    for row, (k, p) in enumerate(rows):
        torch.testing.assert_close(seen[k][p].cpu(), torch.tensor(values[row]))


def test_hooks_are_removed_after_an_exception(reasoner, problems, traces):
    def fail(found, rows):
        raise RuntimeError("on purpose")

    edit = Intervention(Address("blocks.1.hook_out"), thoughts(traces), fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        reasoner.think(problems, interventions=[edit])
    assert same(reasoner.think(problems), traces)
    with pytest.raises(RuntimeError, match="on purpose"):
        reasoner.replay(traces, hooks={"blocks.1.hook_out": lambda a, b: fail(a, b)})
    assert same(reasoner.think(problems), traces)


def test_the_edited_cells_are_those_that_a_search_of_all_pairs_finds():
    """Random rows, some of them twice, which the later row wins; padding is never edited."""
    rng = np.random.default_rng(0)
    state = BatchState()
    state.traces = rng.permutation(50)[:8]
    lengths = rng.integers(1, 12, 8)
    state.positions = np.where(np.arange(12) >= 12 - lengths[:, None], np.arange(12) - (12 - lengths[:, None]), -1)
    rows = np.stack([rng.integers(0, 50, 300), rng.integers(0, 12, 300)], axis=1)
    edit = Intervention(Address(SITES[0]), rows, identity)
    batch_rows, columns, chosen = edit.edited_cells(state)
    index = {(trace, position): k for k, (trace, position) in enumerate(rows.tolist())}
    expected = [
        (row, column, index[trace, position])
        for row, trace in enumerate(state.traces.tolist())
        for column, position in enumerate(state.positions[row].tolist())
        if (trace, position) in index
    ]
    assert len(index) < len(rows) and len(expected) > 10
    assert list(zip(batch_rows.tolist(), columns.tolist(), chosen.tolist(), strict=True)) == expected
    nothing = Intervention(Address(SITES[0]), np.empty((0, 2)), identity)
    assert [len(part) for part in nothing.edited_cells(state)] == [0, 0, 0]


def test_rows_of_the_wrong_shape_are_refused():
    with pytest.raises(UsageError, match="pairs"):
        Intervention(Address("blocks.0.hook_in"), np.arange(4), identity)


def test_an_unknown_address_is_refused(reasoner, problems):
    edit = Intervention(Address("blocks.9.hook_out"), np.array([[0, 0]]), identity)
    with pytest.raises(UsageError, match="expected a known address"):
        reasoner.think(problems[:1], interventions=[edit])


@pytest.mark.parametrize("name", ["blocks.0.hook_nothing", "blocks.99.hook_out", "unembed.hook_out"])
def test_a_hook_that_would_see_nothing_is_refused(name, reasoner, problems, traces):
    """TransformerLens passes over names that it does not know, and the unembedding does not run here."""
    with pytest.raises(UsageError, match=re.escape(name)):
        reasoner.replay(traces, hooks={name: lambda acts, batch: None})
    with pytest.raises(UsageError, match=re.escape(name)):
        reasoner.think(problems, hooks={name: lambda acts, state: None})
