"""Task `graph`: one reachable candidate, one path, meaningless names, disjoint splits."""

from __future__ import annotations

import dataclasses
from random import Random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import Problem, Step, task
from interp.problems.base import SPLITS, split_of
from interp.problems.graph import GraphTask, Shape
from interp.problems.reachability import Digraph, canonical_hash

GRAPH = GraphTask()
RECALL = GraphTask(dead_ends="no")
SPECS = (
    "graph",
    "graph:dead_ends=no",
    "graph:hops=1-3,nodes=14,edges=13",
    "graph:hops=3-6,nodes=20,edges=22,symbols=52",
)


def parsed(question: str) -> tuple[nx.DiGraph, list[str], str]:
    """The graph, candidates and root that a question's words say, read without the task's own code."""
    listed, asked = question.rsplit(";", 1)
    *candidates, mark, root = asked.split()
    assert mark == "?"
    edges = [tuple(edge.split()) for edge in listed.split(";")]
    assert len(set(edges)) == len(edges)
    return nx.DiGraph(edges), candidates, root


@pytest.mark.parametrize("spec", SPECS)
def test_exactly_one_candidate_is_reached_and_by_one_path(spec: str) -> None:
    made = task(spec)
    for problem in made.generate(150, seed=1):
        graph, candidates, root = parsed(problem.question)
        assert len(graph) == made.n_nodes and graph.number_of_edges() == made.n_edges
        assert nx.is_directed_acyclic_graph(graph)
        assert len(set(candidates)) == 4
        assert [c for c in candidates if nx.has_path(graph, root, c)] == [problem.answer]
        assert list(nx.all_simple_paths(graph, root, problem.answer)) == [[root, *(s.value for s in problem.steps)]]
        assert [step.text for step in problem.steps] == [step.value for step in problem.steps]
        assert made.min_steps <= problem.n_steps <= made.max_steps


@pytest.mark.parametrize("spec", SPECS)
def test_a_candidates_own_edges_give_nothing_away(spec: str) -> None:
    for problem in task(spec).generate(150, seed=2):
        graph, candidates, _ = parsed(problem.question)
        assert {(graph.in_degree(c), graph.out_degree(c)) for c in candidates} == {(1, 0)}
        above = [next(graph.predecessors(c)) for c in candidates]
        assert len(set(above)) == 4, "candidates below one node could be ruled out together"
        assert {graph.in_degree(node) for node in above} <= {0, 1}


def test_the_answer_stands_anywhere_and_its_symbol_means_nothing() -> None:
    result = GRAPH.generate(1200, seed=3)
    places = [parsed(p.question)[1].index(p.answer) for p in result]
    assert all(places.count(k) / len(result) == pytest.approx(0.25, abs=0.04) for k in range(4))
    answers = [p.answer for p in result]
    assert max(answers.count(symbol) for symbol in set(answers)) < 1200 / 40 * 2
    # The first edge of the path stands before the second as often as after it.
    order = [
        p.question.index(f"{p.meta['root']} {p.steps[0].value} ;")
        < p.question.index(f"{p.steps[0].value} {p.steps[1].value} ;")
        for p in result
    ]
    assert sum(order) / len(order) == pytest.approx(0.5, abs=0.05)


def test_dead_ends_are_there_unless_they_are_left_out() -> None:
    for made, there in ((GRAPH, True), (RECALL, False)):
        for problem in made.generate(150, seed=4):
            graph, _, root = parsed(problem.question)
            off_path = nx.descendants(graph, root) - {step.value for step in problem.steps}
            assert bool(off_path) == there


def test_lengths_are_equally_frequent_and_can_be_asked_for() -> None:
    lengths = [problem.n_steps for problem in GRAPH.generate(900, seed=5)]
    assert all(lengths.count(n) / 900 == pytest.approx(1 / 3, abs=0.05) for n in (2, 3, 4))
    draws = GRAPH.draws(Random(0), "train", 4)
    assert {next(draws).n_steps for _ in range(20)} == {4}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_structure_is_the_same_whatever_the_numbers_and_the_order(seed: int) -> None:
    rng = Random(seed)
    shape = GRAPH.shape(rng, rng.randint(2, 4))
    name = list(range(shape.n_nodes))
    rng.shuffle(name)
    edges = [(name[source], name[target]) for source, target in shape.edges]
    rng.shuffle(edges)
    decoys = [name[node] for node in shape.decoys]
    rng.shuffle(decoys)
    again = Shape(tuple(edges), tuple(name[node] for node in shape.path), tuple(decoys), shape.n_nodes)
    assert again.structure == shape.structure


def test_other_graphs_and_other_roles_have_other_structures() -> None:
    """Against networkx: two graphs share a structure only where they are isomorphic, roles included."""

    def drawn(shape: Shape) -> nx.DiGraph:
        graph = nx.DiGraph(shape.edges)
        nx.set_node_attributes(graph, "", "role")
        roles = {shape.path[0]: "root", shape.path[-1]: "target", **dict.fromkeys(shape.decoys, "decoy")}
        nx.set_node_attributes(graph, roles, "role")
        return graph

    rng = Random(0)
    shapes = [made.shape(rng, rng.randint(2, 4)) for made in (GRAPH, RECALL) for _ in range(40)]
    same = 0
    for k, one in enumerate(shapes):
        for other in shapes[:k]:
            equal = nx.is_isomorphic(drawn(one), drawn(other), node_match=lambda a, b: a["role"] == b["role"])
            assert (one.structure == other.structure) == equal
            same += equal
    assert same > 0, "no two graphs were alike, so half of this test did not run"
    assert canonical_hash("x", [(0, 1)], [0, 1]) == canonical_hash("x", [(1, 0)], [1, 0])
    assert canonical_hash("x", [(0, 1)], [0, 1]) != canonical_hash("x", [(1, 0)], [0, 1])


def test_no_structure_appears_in_two_splits() -> None:
    result = {split: {p.structure for p in GRAPH.generate(300, 0, split)} for split in SPLITS}
    assert min(map(len, result.values())) > 50
    assert (
        not result["train"] & result["test"]
        and not result["train"] & result["val"]
        and not result["val"] & result["test"]
    )
    for split in SPLITS:
        problems = GRAPH.generate(30, 1, split)
        assert {(p.split, split_of(p.structure)) for p in problems} == {(split, split)}


@given(seed=st.integers(0, 10_000), n=st.integers(1, 10), more=st.integers(1, 10))
@settings(max_examples=15, deadline=None)
def test_the_same_seed_gives_the_same_problems_and_a_larger_n_extends_them(seed: int, n: int, more: int) -> None:
    assert GRAPH.generate(n + more, seed)[:n] == GRAPH.generate(n, seed)


def test_problems_survive_their_json() -> None:
    for problem in GRAPH.generate(20, seed=0):
        assert Problem.from_json(problem.to_json()) == problem
        assert Problem.from_json(problem.to_json()).meta == problem.meta


def test_every_word_is_in_the_vocabulary() -> None:
    words = set(GRAPH.vocabulary())
    assert len(words) == len(GRAPH.vocabulary()) == 42
    for problem in GRAPH.generate(200, seed=6):
        assert set(problem.question.split()) | {problem.answer} <= words
        assert "Which of" in problem.readable


# --- checking a trace -------------------------------------------------------------------------------------


@pytest.fixture
def by_hand() -> Problem:
    """a -> b -> c -> d is the path, b -> e -> f a dead end, x -> y -> {p, q} and x -> r out of reach."""
    edges = [["b", "c"], ["a", "b"], ["b", "e"], ["e", "f"], ["c", "d"], ["x", "y"], ["y", "p"], ["y", "q"], ["x", "r"]]
    listed = " ".join(f"{source} {target} ;" for source, target in edges)
    return Problem(
        id="1",
        task="graph",
        question=f"{listed} p d q r ? a",
        answer="d",
        steps=(Step("b", "b"), Step("c", "c"), Step("d", "d")),
        structure="s",
        split="test",
        readable="",
        meta={"edges": edges, "root": "a", "candidates": ["p", "d", "q", "r"]},
    )


@pytest.mark.parametrize(
    ("text", "answer", "steps", "first"),
    [
        ("b c d d", True, (True, True, True), None),
        ("b c d p", False, (True, True, True), None),
        ("b e f d", True, (True, True, True), None),  # a walk into the dead end, edge by edge
        ("b d d d", True, (True, False, False), 2),
        ("c d d", True, (False, True, None), 1),  # the second step follows from the written first
        ("b d", True, (True, None, None), None),
        ("d", True, (None, None, None), None),
        ("b c d d d", True, (True, True, True, False), 4),
        ("", False, (None, None, None), None),
        ("z c d d", True, (False, False, True), 1),
    ],
)
def test_verify(by_hand: Problem, text: str, answer: bool, steps: tuple, first: int | None) -> None:
    verdict = GRAPH.verify(by_hand, text)
    assert (verdict.answer, verdict.steps, verdict.first_error) == (answer, steps, first)


def test_gold_traces_are_right() -> None:
    for problem in GRAPH.generate(100, seed=7):
        verdict = GRAPH.verify(problem, " ".join([*(step.text for step in problem.steps), problem.answer]))
        assert verdict.answer and all(verdict.steps) and verdict.first_error is None


def test_another_node_would_have_led_to_another_answer(by_hand: Problem) -> None:
    assert GRAPH.counterfactual(by_hand, 1, "b") == GRAPH.counterfactual(by_hand, 2, "c") == "d"
    assert GRAPH.counterfactual(by_hand, 3, "q") == "q"
    with pytest.raises(UsageError, match=r"expected 'e' to lead to one candidate .* got no candidate"):
        GRAPH.counterfactual(by_hand, 2, "e")
    with pytest.raises(UsageError, match=r"got p \(1 hops\) and q \(1 hops\)"):
        GRAPH.counterfactual(by_hand, 2, "y")
    with pytest.raises(UsageError, match=r"in the 2 hops that are left, got d \(1 hops\); choose"):
        GRAPH.counterfactual(by_hand, 1, "c")
    with pytest.raises(UsageError, match="expected a known node of problem 1, got 'z'"):
        GRAPH.counterfactual(by_hand, 1, "z")
    with pytest.raises(UsageError, match="expected a step between 1 and 3, got 4"):
        GRAPH.counterfactual(by_hand, 4, "b")


def test_the_counterfactual_of_every_node_agrees_with_a_search() -> None:
    for problem in GRAPH.generate(40, seed=8):
        graph, candidates, _ = parsed(problem.question)
        for step in range(1, problem.n_steps + 1):
            for node in graph:
                hops = nx.single_source_shortest_path_length(graph, node)
                reached = [c for c in candidates if c in hops]
                if len(reached) == 1 and hops[reached[0]] == problem.n_steps - step:
                    assert GRAPH.counterfactual(problem, step, node) == reached[0]
                else:
                    with pytest.raises(UsageError, match="to lead to one candidate in the"):
                        GRAPH.counterfactual(problem, step, node)


# --- what is known about its nodes ------------------------------------------------------------------------


def test_facts(by_hand: Problem) -> None:
    def of(name: str, node: str, step: int = 0) -> str | None:
        return GRAPH.fact(by_hand, name, (node,), step)

    assert GRAPH.entities(by_hand) == ("a", "b", "c", "e", "f", "d", "x", "y", "p", "q", "r")
    assert [of("distance", node) for node in "abefdx"] == ["0", "1", "2", "3", "3", None]
    assert [of("reachable", node) for node in "aefxp"] == ["yes", "yes", "yes", "no", "no"]
    assert [of("frontier", "e", step) for step in range(4)] == ["no", "no", "yes", "no"]
    assert [of("frontier", "x", step) for step in range(4)] == ["no"] * 4
    assert [of("path", node) for node in "abcdef"] == ["yes", "yes", "yes", "yes", "no", "no"]
    assert of("distance", "z") is None
    with pytest.raises(UsageError, match="expected a known fact about a node, got 'colour'"):
        of("colour", "a")


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_distances_agree_with_networkx_on_any_graph(seed: int) -> None:
    rng = Random(seed)
    edges = {(str(rng.randrange(8)), str(rng.randrange(8))) for _ in range(rng.randint(1, 20))}
    graph = Digraph(sorted(edges), "0")
    other = nx.DiGraph(sorted(edges))
    other.add_node("0")
    assert graph.distance == dict(nx.single_source_shortest_path_length(other, "0"))
    assert set(graph.nodes) == set(other)


# --- options ----------------------------------------------------------------------------------------------


def test_the_spec_holds_what_differs_from_the_default() -> None:
    assert task("graph:hops=2-4,nodes=13,edges=13,symbols=40,dead_ends=yes").spec == GRAPH.spec == "graph"
    for spec in SPECS:
        assert task(task(spec).spec).generate(3, 0) == task(spec).generate(3, 0)
        assert task(task(spec).spec).spec == task(spec).spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": "many"}, "expected hops of task graph like 2-4 or 3, got 'many'"),
        ({"hops": "4-2"}, "between 1 and 8, the smaller first, got '4-2'"),
        ({"hops": "2-5"}, "nodes of task graph to be a whole number of at least 14, got 13"),
        ({"nodes": "x"}, "nodes of task graph to be a whole number"),
        ({"edges": 10}, "edges of task graph to be a whole number of at least 11, got 10"),
        ({"edges": 16}, r"expected edges of task graph to be at most 15, got 16"),
        ({"symbols": 12}, "symbols of task graph to be a whole number of at least 13, got 12"),
        ({"symbols": 60}, "expected symbols of task graph to be at most 52, got 60"),
        ({"dead_ends": "some"}, "expected a known dead_ends of task graph, got 'some'"),
        ({"colour": "red"}, "expected a known option of task graph, got 'colour'"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task("graph", **options)


def test_a_split_without_graphs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = GraphTask()
    (only,) = {dataclasses.replace(made.shape(Random(0), 2))}
    monkeypatch.setattr(made, "shape", lambda rng, hops: only)
    other = next(split for split in SPLITS if split != split_of(only.structure))
    with pytest.raises(UsageError, match=f"expected 'graph' to have graphs in its {other} split, got none"):
        made.generate(1, 0, other)
