"""Attribution graphs: the linear pass equals the model, edges add up, and paths hold when features are ablated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import interp
from interp.causal.graphs.attribution import ERROR, LOGIT, attribute, influences, prune
from interp.causal.graphs.features import transcoder_features
from interp.causal.graphs.frozen import FrozenPass
from interp.causal.graphs.graph_file import graph_json, write_graph
from interp.causal.graphs.paths import confirm, random_pairs
from interp.causal.graphs.ranking import top_paths
from interp.causal.graphs.replacement import agreement, mlp_rows, predicting_positions, transcoders_of
from interp.causal.patching.states import states
from interp.errors import UsageError
from interp.models.address import Address
from interp.sae.across.transcoders import explained_variance, mean_active, train_transcoder


@pytest.fixture(scope="module")
def writer() -> interp.Reasoner:
    return interp.load("chain-text")


@pytest.fixture(scope="module")
def written(writer):
    return writer.think(writer.task.generate(20, seed=81, split="test"))


@pytest.fixture(scope="module")
def transcoders(writer):
    learn = writer.think(writer.task.generate(300, seed=80, split="train"), batch_size=300)
    return transcoders_of(writer, learn, d_sae=256, updates=400, sparsity=6e-3, batch_size=256)


@pytest.fixture(scope="module")
def graph(writer, written, transcoders):
    return attribute(writer, written[0], predicting_positions(written[0])[-1], transcoders)


def test_a_transcoder_is_learned_and_is_saelens_own(tmp_path: Path, writer, written, transcoders) -> None:
    from sae_lens import SAE

    inputs, outputs = mlp_rows(writer, written)[1]
    assert explained_variance(transcoders[1], inputs, outputs) > 0.8 and 0 < mean_active(transcoders[1], inputs) < 150
    transcoders[1].save_model(tmp_path / "t")
    again = SAE.load_from_disk(tmp_path / "t")
    torch.testing.assert_close(again(inputs), transcoders[1](inputs))
    with pytest.raises(UsageError, match="expected as many inputs as outputs"):
        train_transcoder(inputs, outputs[:-1])


def test_the_linear_pass_is_the_models_own(writer, written, transcoders) -> None:
    trace = written[0]
    at = predicting_positions(trace)[-1]
    frozen = FrozenPass(writer, trace, at)
    inputs, logits = frozen.run(frozen.embedded, frozen.mlp_out)
    state = states(writer, [trace], Address("ln_final.hook_out"), np.array([[0, at]]))
    torch.testing.assert_close(logits.detach(), writer.unembed(state)[0].detach(), atol=1e-4, rtol=1e-4)
    for block, read in zip(transcoder_features(frozen, transcoders), inputs, strict=True):
        torch.testing.assert_close(torch.relu(block.read(read)).detach(), block.acts, atol=1e-4, rtol=1e-4)


def test_edges_into_a_node_add_up_to_what_it_reads(writer, written, transcoders, graph) -> None:
    """All that is written, features and errors and embeddings, plus constants: two prompts share the constants."""
    target = int(torch.nonzero(graph.logits)[0])
    edges = graph.edges[target]
    assert edges[graph.logits].abs().sum() == 0
    # Scaling every source by (1 + h) moves the logit by h times the sum of its edges: the pass is linear.
    frozen = FrozenPass(writer, graph.trace, graph.position)
    features = transcoder_features(frozen, transcoders)
    token = int(graph.nodes["feature"].iloc[target])
    leaves = [t.clone().requires_grad_() for t in (frozen.embedded, *frozen.mlp_out)]
    _, logits = frozen.run(leaves[0], leaves[1:])
    gradients = torch.autograd.grad(logits[token] - logits.mean(), leaves)
    written_out = [frozen.embedded, *(f.errors + f.acts @ f.writes for f in features)]  # not the decoder's bias
    expected = sum(float((g * w).sum()) for g, w in zip(gradients, written_out, strict=True))
    assert float(edges.sum()) == pytest.approx(expected, abs=1e-3)


def test_error_nodes_are_shown_and_pruning_keeps_the_strongest(graph) -> None:
    kinds = graph.nodes["type"].value_counts()
    assert kinds[ERROR] == graph.n_layers * (graph.position + 1) and kinds[LOGIT] == 1
    assert 0 < graph.completeness < 1
    small = prune(graph)
    assert len(small.nodes) < len(graph.nodes) / 2
    assert (small.edges != 0).sum() < (graph.edges != 0).sum() / 4
    kept, left = small.nodes["influence"], graph.nodes["influence"]
    assert kept[small.nodes["type"] == "feature"].min() >= left[graph.nodes["type"] == "feature"].median()
    with pytest.raises(UsageError, match="between 0 and 1"):
        prune(graph, node_share=0.0)


def test_influence_of_a_known_graph() -> None:
    """Logit <- a (3/4), b (1/4); a <- c: so a 0.75, b 0.25, c 0.75."""
    edges = torch.zeros(4, 4)
    edges[0, 1], edges[0, 2], edges[1, 3] = 3.0, -1.0, 0.1
    result = influences(edges, torch.tensor([True, False, False, False]))
    torch.testing.assert_close(result, torch.tensor([0.0, 0.75, 0.25, 0.75]))


def test_paths_hold_oftener_than_random_features(writer, transcoders, graph) -> None:
    pairs = top_paths(graph, 8)
    result = confirm(writer, graph, pairs)
    control = confirm(writer, graph, list(random_pairs(graph, pairs, 0).values()))
    assert len(result) == 8 and result["confirmed"].mean() >= 0.5
    assert np.abs(control["measured"]).median() < np.abs(result["measured"]).median()


def test_the_replacement_agrees_and_a_silenced_model_does_not(writer, written, transcoders) -> None:
    assert agreement(writer, written, transcoders)["agrees"].mean() > 0.7
    assert agreement(writer, written, None)["agrees"].mean() < 0.4


def test_the_file_has_what_the_viewer_reads(writer, graph, tmp_path: Path) -> None:
    small = prune(graph)
    write_graph(tmp_path / "g.json", graph_json(small, writer, slug="one"))
    read = json.loads((tmp_path / "g.json").read_text(encoding="utf-8"))
    assert set(read) == {"metadata", "qParams", "nodes", "links"}
    ids = [node["node_id"] for node in read["nodes"]]
    assert len(set(ids)) == len(ids) == len(small.nodes)
    assert len(read["links"]) == int((small.edges != 0).sum())
    assert {end for link in read["links"] for end in (link["source"], link["target"])} <= set(ids)
    assert {node["feature_type"] for node in read["nodes"]} >= {"embedding", "logit", "cross layer transcoder"}
    (logit,) = [node for node in read["nodes"] if node["is_target_logit"]]
    assert logit["layer"] == str(graph.n_layers + 1) and read["metadata"]["schema_version"] == 1


def test_a_position_that_is_not_there_is_refused(writer, written, transcoders) -> None:
    with pytest.raises(UsageError, match="expected a position between"):
        attribute(writer, written[0], 99, transcoders)
