"""Ranks and tests of paths in models whose graphs are computed on paper.

Attention writes nothing. All tokens are embedded as `base * P + other * U`, and one more token's embedding has a part along
V, so that its logit alone follows V. P, U, W, Q and V are orthogonal vectors of entries +1 and -1 with mean 0, so a norm
divides by the root of the summed squares of their coefficients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import hadamard

import interp
from interp.causal.graphs import paths as path_tests
from interp.causal.graphs.attribution import FEATURE, AttributionGraph, attribute
from interp.causal.graphs.paths import as_predicted, confirm, frozen_changes, path_outcomes, random_pairs
from interp.causal.graphs.ranking import carried, norm_shares, robust_paths, top_paths, total_effects
from interp.causal.graphs.replacement import predicting_positions

P, U, W, Q, V = torch.tensor(hadamard(128)[1:6], dtype=torch.float32)
RENORMED, KEPT = 0, 1  # neurons of block 1 in the first model
DIRECT, MIDDLE = 0, 0  # neurons of blocks 0 and 1 in the second


class ByHand:
    """An organism whose weights are zero but for those that are set.

    Args:
        base: Coefficient of P in every embedding.
        other: Coefficient of U in every embedding.
    """

    def __init__(self, base: float, other: float) -> None:
        self.reasoner = interp.load("chain-text")
        self.trace = self.reasoner.think(self.reasoner.task.generate(1, seed=3, split="test"))[0]
        self.model = self.reasoner.model.original_model
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.fill_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0)
            embedding = self.model.transformer.wte.weight
            embedding[:] = base * P + other * U
            unused = min(set(range(len(embedding))) - set(self.trace.token_ids))
            embedding[unused] += 9 * V

    @torch.no_grad()
    def neuron(self, layer: int, index: int, *, reads: Any = 0.0, constant: float = 0.0, writes: torch.Tensor) -> None:
        """Set what a neuron reads (the coefficient along `reads`, plus a constant) and what it writes."""
        mlp = self.model.transformer.h[layer].mlp
        mlp.c_fc.weight[:, index] = reads / 128
        mlp.c_fc.bias[index] = constant
        mlp.c_proj.weight[index] = writes

    def graph(self) -> AttributionGraph:
        return attribute(self.reasoner, self.trace, predicting_positions(self.trace)[-1], None, neurons=8)


def row(graph: AttributionGraph, layer: int, feature: int) -> int:
    nodes = graph.nodes
    (k,) = np.flatnonzero((nodes["type"] == FEATURE) & (nodes["layer"] == layer) & (nodes["feature"] == feature))
    return int(k)


@pytest.fixture(scope="module")
def renormed() -> tuple[ByHand, AttributionGraph]:
    """P + 12 U + W before block 1: 6 of U and all of W are written in block 0, and both are read in block 1."""
    model = ByHand(1.0, 6.0)
    model.neuron(0, RENORMED, constant=6.0, writes=U)
    model.neuron(0, KEPT, constant=1.0, writes=W)
    model.neuron(1, RENORMED, reads=U, writes=10 * V)
    model.neuron(1, KEPT, reads=W, writes=10 * V)
    return model, model.graph()


def pairs_of(graph: AttributionGraph) -> list[tuple[int, int]]:
    return [(row(graph, 0, k), row(graph, 1, k)) for k in (RENORMED, KEPT)]


def test_the_share_that_norms_leave_is_one_minus_the_squared_share_of_the_state(renormed: tuple) -> None:
    model, graph = renormed
    pairs = pairs_of(graph)
    size = np.sqrt(1 + 12**2 + 1)
    edges = [float(graph.edges[target, source]) for source, target in pairs]
    np.testing.assert_allclose(edges, [6 / size, 1 / size], rtol=1e-4)
    shares = norm_shares(model.reasoner, graph, pairs)
    np.testing.assert_allclose(shares, [1 - 144 / 146, 1 - 1 / 146], rtol=1e-3)
    assert norm_shares(model.reasoner, graph, []).shape == (0,)


def test_a_path_that_norms_undo_is_not_confirmed_in_the_model_and_is_with_norms_frozen(renormed: tuple) -> None:
    model, graph = renormed
    pairs = pairs_of(graph)
    table, size = confirm(model.reasoner, graph, pairs), np.sqrt(146)
    np.testing.assert_allclose(table["predicted"], [-6 / size, -1 / size], rtol=1e-4)
    # Without its source, U has the coefficient 6 beside 1 and 1; W goes altogether.
    np.testing.assert_allclose(table["measured"], [6 / np.sqrt(38) - 12 / size, -1 / size], rtol=1e-3)
    assert table["confirmed"].tolist() == [False, True]
    np.testing.assert_allclose(frozen_changes(model.reasoner, graph, pairs), table["predicted"], rtol=1e-4)


def test_robust_paths_rank_by_what_norms_leave(renormed: tuple) -> None:
    model, graph = renormed
    undone, kept = pairs_of(graph)
    # Both write V, by their activations 12 and 1. Of what the first reads, one half comes from the embedding.
    influence = carried(graph)
    assert float(influence[undone[1], undone[0]]) == pytest.approx(12 / 13 / 2, rel=1e-3)
    assert float(influence[kept[1], kept[0]]) == pytest.approx(1 / 13, rel=1e-3)
    assert top_paths(graph, 2) == [undone, kept] and top_paths(graph, 1) == [undone]
    assert robust_paths(model.reasoner, graph, 2) == [kept, undone] and robust_paths(model.reasoner, graph, 1) == [kept]
    assert robust_paths(model.reasoner, graph, 7) == [kept, undone] and robust_paths(model.reasoner, graph, 0) == []


def test_robust_paths_look_as_far_as_any_edge_could_still_win(renormed: tuple, monkeypatch: Any) -> None:
    """Five edges carry 5, 4, 3, 2 and 1; the last keeps all, the others a tenth: it wins, though four are asked first."""
    model, _ = renormed
    edges = torch.zeros(7, 7)
    edges[6, 5] = 1.0
    edges[5, :5] = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    types = [FEATURE] * 6 + ["logit"]
    nodes = pd.DataFrame({"type": types, "influence": [1.0] * 6 + [0.0]})
    graph = AttributionGraph(0, nodes, edges, 2, 1.0, model.trace, torch.zeros(7, 2), torch.zeros(7, 2))
    left = {(k, 5): 0.1 for k in range(4)} | {(4, 5): 1.0}
    monkeypatch.setattr(
        "interp.causal.graphs.ranking.norm_shares", lambda reasoner, graph, pairs: np.array([left[p] for p in pairs])
    )
    assert robust_paths(model.reasoner, graph, 1) == [(4, 5)]
    assert robust_paths(model.reasoner, graph, 2) == [(4, 5), (0, 5)]


def test_a_path_whose_direct_and_total_effects_have_opposite_signs() -> None:
    """W adds 1 to what block 2 reads, and through block 1 it takes 5 / sqrt(10) away: together they lower it."""
    model = ByHand(3.0, 0.0)
    model.neuron(0, DIRECT, constant=1.0, writes=W)
    model.neuron(1, MIDDLE, reads=W, writes=-5 * Q)
    model.neuron(2, DIRECT, reads=W + Q, constant=3.0, writes=10 * V)
    graph = model.graph()
    source, middle, target = row(graph, 0, DIRECT), row(graph, 1, MIDDLE), row(graph, 2, DIRECT)
    size = np.sqrt(10 + 2.5)
    assert float(graph.edges[target, source]) == pytest.approx(1 / size, rel=1e-4)
    assert float(graph.edges[target, middle]) == pytest.approx(-5 / np.sqrt(10) / size, rel=1e-4)
    total = (1 - 5 / np.sqrt(10)) / size
    table = confirm(model.reasoner, graph, [(source, target), (source, middle), (middle, target)])
    assert table["predicted"][0] == pytest.approx(-1 / size, rel=1e-4)
    assert table["measured"][0] == pytest.approx(-total, rel=1e-3)
    assert table["confirmed"].tolist() == [False, True, True]
    assert frozen_changes(model.reasoner, graph, [(source, target)])[0] == pytest.approx(-total, rel=1e-3)
    # On the logit the source acts through the target alone: its effect is the target's, by the share of its activation.
    effects = total_effects(graph)
    share = total / float(graph.nodes["activation"][target])
    assert float(effects[target]) > 0
    assert float(effects[source]) == pytest.approx(share * float(effects[target]), rel=1e-3)


def test_controls_keep_the_numbers_of_their_pairs() -> None:
    nodes = pd.DataFrame(
        {
            "type": [FEATURE] * 6 + ["error"],
            "layer": [0, 1, 1, 1, 2, 2, 0],
            "position": [0, 0, 0, 4, 1, 1, 0],
        }
    )
    empty = torch.zeros(7, 2)
    graph = AttributionGraph(4, nodes, torch.zeros(7, 7), 3, 1.0, None, empty, empty)  # type: ignore[arg-type]
    pairs = [(0, 4), (1, 5)]  # layer 0 has no other feature
    drawn = [random_pairs(graph, pairs, seed) for seed in range(20)]
    assert {tuple(control) for control in drawn} == {(1,)}
    assert {control[1] for control in drawn} == {(2, 5), (3, 5)}
    assert {random_pairs(graph, pairs, seed, same_position=True)[1] for seed in range(20)} == {(2, 5)}


def test_a_control_is_held_to_its_own_paths_prediction(renormed: tuple, monkeypatch: Any) -> None:
    """Two paths, of which the first has no control: the second's control moves by what the first predicts."""
    model, graph = renormed
    pairs = pairs_of(graph)
    monkeypatch.setattr(path_tests, "random_pairs", lambda graph, pairs, seed, same_position=False: {1: (9, 9)})
    predicted, measured = [-8.0, -1.0, -8.0, -1.0, 0.0, 0.0], [-8.0, 0.0, -8.0, 0.0, -0.5, -0.1]
    table = pd.DataFrame({"predicted": predicted, "measured": measured, "logit_agrees": False})
    table["confirmed"] = as_predicted(measured, predicted)
    monkeypatch.setattr(path_tests, "confirm", lambda reasoner, graph, pairs: table)
    outcomes = path_outcomes(model.reasoner, graph, pairs, 0)
    assert outcomes["path"] == [True, False] and outcomes["frozen"] != []
    # -0.5 is half of the second path's prediction and a sixteenth of the first's; -0.1 is too little for both.
    assert outcomes["random"] == [True] and outcomes["random here"] == [False]


def test_a_change_needs_the_sign_and_a_quarter_of_the_prediction() -> None:
    assert as_predicted([1.0, 0.24, -1.0, -0.25, 3.0], [1.0, 1.0, 1.0, -1.0, -1.0]).tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]
