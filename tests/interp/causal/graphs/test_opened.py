"""Graph files open as graphs: ours whole, circuit-tracer's with its colliding ids told apart, hostile ones refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import interp
from interp.causal.graphs.attribution import AttributionGraph, attribute, prune
from interp.causal.graphs.graph_file import graph_json, write_graph
from interp.causal.graphs.opened import open_graph
from interp.causal.graphs.ranking import top_paths
from interp.errors import StoreError


def node(name: str, layer: str, kind: str, place: int, feature: int, **more: Any) -> dict[str, Any]:
    """A node as circuit-tracer writes it."""
    fields = {"node_id": name, "feature": feature, "layer": layer, "ctx_idx": place, "feature_type": kind}
    fields |= {"token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0, "jsNodeId": f"{name}-0"}
    return fields | {"clerp": "", "influence": 0.5, "activation": None} | more


FEATURE, ERROR = "cross layer transcoder", "mlp reconstruction error"


def foreign() -> dict[str, Any]:
    """A file as circuit-tracer writes it, with feature 1 of layer 0 and the error of layer 1 under one id."""
    nodes = [
        node("0_1_0", "0", FEATURE, 0, 1, activation=2.0),
        node("1_7_1", "1", FEATURE, 1, 32775, activation=3.0),
        node("2_9_1", "2", FEATURE, 1, 65545, activation=1.0),
        node("0_1_0", "1", ERROR, 0, -1),
        node("0_2_1", "2", ERROR, 1, -1),
        node("E_464_0", "E", "embedding", 0, 0),
        node("E_50_1", "E", "embedding", 1, 1),
        node("4_99_1", "4", "logit", 1, 99, token_prob=0.75, is_target_logit=True),
    ]
    links = [
        ("0_1_0", "1_7_1", 1.0),  # to layer 1: the error of layer 1 cannot act there
        ("0_1_0", "2_9_1", 2.0),  # the feature's
        ("0_1_0", "2_9_1", -4.0),  # the error's
        ("0_1_0", "4_99_1", 0.5),  # could be either's
        ("E_464_0", "0_1_0", 3.0),  # into the feature: nothing acts on an error
        ("1_7_1", "2_9_1", 5.0),
        ("2_9_1", "4_99_1", 6.0),
        ("0_2_1", "4_99_1", 7.0),
        ("E_50_1", "1_7_1", 8.0),
    ]
    metadata = {"slug": "capital", "scan": "gemma-2-2b", "transcoder_list": [], "prompt_tokens": ["The", "capital"]}
    return {
        "metadata": metadata | {"prompt": "The capital", "node_threshold": 0.8, "studio": {"new": 1}},
        "qParams": {"pinnedIds": ["0_1_0"], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": nodes,
        "links": [{"source": s, "target": t, "weight": w} for s, t, w in links],
        "added later": [1, 2],
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_ids_that_collide_are_told_apart(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="1 links of .* start at an id that a feature of layer 0 and an error node share"
    ):
        graph = open_graph(write(tmp_path / "g.json", foreign()))
    nodes = graph.nodes
    assert nodes["type"].tolist() == ["feature"] * 3 + ["error"] * 2 + ["embedding"] * 2 + ["logit"]
    assert nodes["layer"].tolist() == [0, 1, 2, 1, 2, -1, -1, 3] and graph.n_layers == 3
    assert nodes["feature"].tolist() == [1, 7, 9, -1, -1, 464, 50, 99] and graph.position == 1
    assert nodes["activation"].tolist()[:3] == [2.0, 3.0, 1.0] and graph.probability == 0.75
    expected = {(1, 0): 1.0, (2, 0): 2.0, (2, 3): -4.0, (7, 0): 0.5, (0, 5): 3.0, (2, 1): 5.0, (7, 2): 6.0}
    expected |= {(7, 4): 7.0, (1, 6): 8.0}
    assert {tuple(e): float(graph.edges[tuple(e)]) for e in graph.edges.nonzero().tolist()} == expected
    assert graph.ids[3] == "1_-1_0" and graph.ids[0] == "0_1_0"
    # By hand: of the logit's 13.5, 6 go to the last feature, whose input has weights 2, 4 and 5.
    share = 6 / 13.5
    assert nodes["influence"][2] == pytest.approx(share) and nodes["influence"][3] == pytest.approx(share * 4 / 11)
    assert top_paths(graph, 1) == [(1, 2)]


def test_what_is_not_known_is_kept_and_written_again(tmp_path: Path) -> None:
    content = foreign()
    content["nodes"][1]["my label"] = {"deep": [1]}
    content["links"][5]["sign"] = "+"
    with pytest.warns(UserWarning, match="1 links"):
        graph = open_graph(write(tmp_path / "g.json", content))
    write_graph(tmp_path / "again.json", graph.to_json())
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert again["metadata"] == content["metadata"] and again["added later"] == [1, 2]
    assert again["qParams"] == content["qParams"]
    renamed = copy.deepcopy(content["nodes"])
    renamed[3]["node_id"] = "1_-1_0"
    assert again["nodes"] == renamed
    assert {"source": "1_7_1", "target": "2_9_1", "weight": 5.0, "sign": "+"} in again["links"]
    twice = open_graph(tmp_path / "again.json")  # nothing collides any more
    torch.testing.assert_close(twice.edges, graph.edges)
    pd.testing.assert_frame_equal(twice.nodes, graph.nodes)
    small = prune(graph, node_share=0.5)
    assert len(small.ids) == len(small.node_fields) == len(small.nodes) < len(graph.nodes)
    assert [f["ctx_idx"] for f in small.to_json()["nodes"]] == small.nodes["position"].tolist()


@pytest.fixture(scope="module")
def own() -> tuple[interp.Reasoner, AttributionGraph]:
    writer = interp.load("chain-text")
    trace = writer.think(writer.task.generate(1, seed=3, split="test"))[0]
    return writer, attribute(writer, trace, len(trace) - 3, None, neurons=40)


def test_our_own_graph_comes_back_whole(own: tuple, tmp_path: Path, cotlens: Callable[..., Any]) -> None:
    writer, graph = own
    small = prune(graph)
    write_graph(tmp_path / "own.json", graph_json(small, writer, slug="own"))
    opened = open_graph(tmp_path / "own.json")
    pd.testing.assert_frame_equal(opened.nodes, small.nodes, check_dtype=False)
    torch.testing.assert_close(opened.edges, small.edges)
    assert (opened.n_layers, opened.position) == (small.n_layers, small.position)
    assert opened.tokens == small.trace.tokens[: small.position + 1]
    assert opened.completeness == pytest.approx(small.completeness) and top_paths(opened) == top_paths(small)
    assert opened.to_json() == json.loads((tmp_path / "own.json").read_text(encoding="utf-8"))
    arguments = ("causal", "graph", tmp_path / "own.json", "--node-share", 0.5, "--out", tmp_path / "small.json")
    ended = cotlens(*arguments, "--json")
    assert ended.code == 0 and ended.json["nodes"]["logit"] == 1
    pruned = open_graph(tmp_path / "small.json")
    assert len(pruned.nodes) == sum(ended.json["nodes"].values()) < len(small.nodes)
    assert ended.json["completeness"] == pytest.approx(pruned.completeness)
    assert cotlens(*arguments).code == 2
    assert "completeness" in cotlens("causal", "graph", tmp_path / "own.json").out


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = foreign()
    change(content)
    return content


REFUSED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda c: c.pop("links"), "links as list"),
    (lambda c: c.update(nodes=[]), "between 1 and 20000 nodes"),
    (lambda c: c["nodes"].pop(), "a logit among the nodes|links between nodes"),
    (lambda c: c["nodes"].append(7), "nodes with a node_id"),
    (lambda c: c["nodes"][0].update(feature_type="lorsa"), "nodes of the types .*, got 'lorsa'"),
    (lambda c: c["nodes"][0].update(node_id="0_1"), "ids of layer, feature and ctx_idx"),
    (lambda c: c["nodes"][0].update(ctx_idx=5), "ids of layer, feature and ctx_idx"),
    (lambda c: c["nodes"][0].update(node_id="0_" + "9" * 5000 + "_0"), "ids of layer, feature and ctx_idx"),
    (lambda c: c["nodes"][1].update(layer="one"), "ids that begin with the layer|layers that are numbers"),
    (lambda c: c["nodes"][0].update(activation="big"), "a finite number as activation"),
    (lambda c: c["nodes"].append(dict(c["nodes"][1])), "each id once, or for one feature and one error"),
    (lambda c: c["links"].append({"source": "x", "target": "1_7_1", "weight": 1}), "links between nodes"),
    (lambda c: c["links"].append({"source": [], "target": "1_7_1", "weight": 1}), "links between nodes"),
    (lambda c: c["links"].append(dict(c["links"][5])), "each link once"),
    (lambda c: c["links"].append({"source": "2_9_1", "target": "1_7_1", "weight": 1}), "from lower to higher nodes"),
    (lambda c: c["links"].append({"source": "4_99_1", "target": "4_99_1", "weight": 1}), "from lower to higher nodes"),
    (lambda c: c["links"][0].update(weight=float("nan")), "a finite number as weight"),
    (lambda c: c["links"][0].update(weight=1e300), "weights that fit into float32"),
    (lambda c: c["links"][0].update(weight=True), "a finite number as weight"),
]


@pytest.mark.parametrize(("change", "pattern"), REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_hostile_files_are_refused_in_one_line(
    change: Callable[[dict[str, Any]], Any], pattern: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=pattern) as error:
        open_graph(write(tmp_path / "g.json", changed(change)))
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_files_that_are_no_graphs(tmp_path: Path, cotlens: Callable[..., Any]) -> None:
    for text in ("", "[]", "[" * 100_000, '{"metadata": 1}'):
        (tmp_path / "g.json").write_text(text, encoding="utf-8")
        with pytest.raises(StoreError, match="attribution graph") as error:
            open_graph(tmp_path / "g.json")
        assert "\n" not in str(error.value)
    assert cotlens("causal", "graph", tmp_path / "nothing.json").code == 5
