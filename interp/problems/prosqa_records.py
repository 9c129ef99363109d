"""Reading and writing the objects of a ProsQA file (arXiv 2412.06769, appendix A), with checks of their content."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from interp.problems.base import Problem, Step, split_of, structure_hash
from interp.problems.graph import digraph
from interp.problems.graph_shapes import Shape
from interp.problems.reachability import Digraph, canonical_hash

FIELDS = {"question": str, "answer": str, "steps": list, "edges": list, "root": int, "target": int, "neg_target": int}
NAMES = ("Alex", "Bob", "Carol", "Davis", "Eva", "Fae", "Jack", "Max", "Rex", "Sally", "Stella", "Tom")
NOUNS = (
    *("bompus", "boompus", "brimpus", "chorpus", "dumpus", "felpus", "fompus", "gerpus", "gorpus"),
    *("grimpus", "gwompus", "hilpus", "impus", "jelpus", "jompus", "kerpus", "lempus", "lorpus"),
    *("numpus", "quimpus", "rempus", "rompus", "rorpus", "scrompus", "shumpus", "sterpus", "storpus"),
    *("terpus", "timpus", "tumpus", "vumpus", "worpus", "wumpus", "yerpus", "yimpus", "yumpus"),
    *("zhorpus", "zumpus"),
)
_SYMBOLS_FIELD = "idx_to_symbol"
_SENTENCE = re.compile(r"(?:Every )?(\w+) is an? (\w+)")
_QUESTION = re.compile(r"Is (\w+) an? (\w+) or (\w+)\?")


def problem_of(raw: Any, task: str) -> Problem:
    """Return the problem that an object of a file describes.

    Raises:
        ValueError: The object is no ProsQA problem, or contradicts itself; the message says why.
    """
    _check_fields(raw)
    *sentences, last = re.split(r"(?<=\.)\s+", raw["question"].strip())
    query = _QUESTION.fullmatch(last)
    if not query:
        raise ValueError(f"expected its question to end like 'Is Sally a hilpus or sterpus?', got {last[:60]!r}")
    root, *candidates = query.groups()
    graph = Digraph([_required_edge(sentence) for sentence in sentences], root)
    steps = tuple(Step(text=sentence, value=_required_edge(sentence)[1]) for sentence in raw["steps"])
    target = _required_edge(raw["answer"])[1]
    _check_consistency(raw, graph, candidates, target, [_required_edge(sentence) for sentence in raw["steps"]])
    structure = _structure(graph, target, next(name for name in candidates if name != target))
    return Problem(
        id=structure_hash(raw["question"]),
        task=task,
        question=raw["question"],
        answer=raw["answer"],
        steps=steps,
        structure=structure,
        split=split_of(structure),
        readable=raw["question"],
        meta={
            "edges": [list(edge) for edge in graph.edges],
            "root": root,
            "candidates": candidates,
            "record": {key: value for key, value in raw.items() if key not in ("question", "answer", "steps")},
        },
    )


def _check_fields(raw: Any) -> None:
    if isinstance(raw, str):
        raise ValueError(raw)
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {json.dumps(raw)[:60]}")
    for name, expected in FIELDS.items():
        if name not in raw:
            raise ValueError(f"it has no {name!r}")
        if not isinstance(raw[name], expected) or isinstance(raw[name], bool):
            raise ValueError(f"expected its {name} to be a {expected.__name__}, got {json.dumps(raw[name])[:60]}")
    for sentence in raw["steps"]:
        if not isinstance(sentence, str):
            raise ValueError(f"expected its steps to be sentences, got {json.dumps(sentence)[:60]}")
    for edge in raw["edges"]:
        if not isinstance(edge, list) or len(edge) != 2 or not all(type(node) is int for node in edge):
            raise ValueError(f"expected its edges to be pairs of numbers, got {json.dumps(edge)[:60]}")


def _check_consistency(
    raw: dict[str, Any], graph: Digraph, candidates: list[str], target: str, steps: list[tuple[str, str]]
) -> None:
    """Raise `ValueError` unless sentences, steps, answer and numbers agree."""
    reached = graph.leads_to(graph.root, candidates)
    if reached != [target]:
        raise ValueError(f"its answer says {target!r}, but {' and '.join(reached) or 'no candidate'} can be reached")
    before = graph.root
    for number, (source, after) in enumerate(steps, 1):
        if source != before or not graph.has(source, after):
            raise ValueError(f"its step {number} goes from {source!r} to {after!r}, which is no edge from {before!r}")
        before = after
    if before != target:
        raise ValueError(f"its steps end at {before!r}, its answer at {target!r}")
    if len(raw["edges"]) != len(graph.edges):
        raise ValueError(f"it has {len(raw['edges'])} edges, but its question has {len(graph.edges)}")
    if _SYMBOLS_FIELD in raw:
        _check_numbers(raw, graph, candidates, target)


def _check_numbers(raw: dict[str, Any], graph: Digraph, candidates: list[str], target: str) -> None:
    symbols = raw[_SYMBOLS_FIELD]
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise ValueError(f"expected its {_SYMBOLS_FIELD} to be a list of names")
    numbers = [raw["root"], raw["target"], raw["neg_target"], *(node for edge in raw["edges"] for node in edge)]
    if not all(0 <= number < len(symbols) for number in numbers):
        raise ValueError(f"expected its numbers to lie between 0 and {len(symbols) - 1}, got {max(numbers)}")
    other = next(name for name in candidates if name != target)
    for name, symbol in (("root", graph.root), ("target", target), ("neg_target", other)):
        if symbols[raw[name]] != symbol:
            raise ValueError(f"its {name} is {symbols[raw[name]]!r}, but its question and answer say {symbol!r}")
    for source, after in raw["edges"]:
        if not graph.has(symbols[source], symbols[after]):
            raise ValueError(f"its edge from {symbols[source]!r} to {symbols[after]!r} is not in its question")


def _structure(graph: Digraph, target: str, decoy: str) -> str:
    number = {node: k for k, node in enumerate(dict.fromkeys([*graph.nodes, target, decoy]))}
    roles = [0] * len(number)
    roles[number[graph.root]], roles[number[target]], roles[number[decoy]] = 1, 2, 3
    return canonical_hash("prosqa", [(number[source], number[after]) for source, after in graph.edges], roles)


def record_of(shape: Shape, rng: Random) -> dict[str, Any]:
    """Return a shape as an object of a ProsQA file; nodes without an edge into them get names of people."""
    entered = {after for _, after in shape.edges}
    people = iter(rng.sample(NAMES, len(NAMES)))
    nouns = iter(rng.sample(NOUNS, len(NOUNS)))
    symbols = [next(nouns) if node in entered else next(people) for node in range(shape.n_nodes)]
    root, target, decoy = symbols[shape.path[0]], symbols[shape.path[-1]], symbols[shape.decoys[0]]
    sentences = [sentence_of(symbols[s], symbols[t]) for s, t in rng.sample(shape.edges, len(shape.edges))]
    first, second = rng.sample([target, decoy], 2)
    return {
        "question": " ".join([*sentences, f"Is {root} a {first} or {second}?"]),
        "answer": sentence_of(root, target),
        "steps": [sentence_of(symbols[s], symbols[t]) for s, t in zip(shape.path, shape.path[1:], strict=False)],
        _SYMBOLS_FIELD: symbols,
        "edges": [list(edge) for edge in shape.edges],
        "root": shape.path[0],
        "target": shape.path[-1],
        "neg_target": shape.decoys[0],
    }


def shape_of(problem: Problem) -> Shape:
    """Return the shape of a problem of task `graph`; its candidates keep their order."""
    path = [problem.meta["root"], *(step.value for step in problem.steps)]
    number = {node: k for k, node in enumerate(dict.fromkeys([*path, *digraph(problem).nodes]))}
    decoys = [number[name] for name in problem.meta["candidates"] if name != problem.answer]
    edges = tuple((number[source], number[after]) for source, after in problem.meta["edges"])
    return Shape(edges, tuple(range(len(path))), tuple(decoys), len(number))


def sentence_of(source: str, after: str) -> str:
    """Return the sentence that states an edge."""
    return f"{source} is a {after}." if source[0].isupper() else f"Every {source} is a {after}."


def edge_of(sentence: str) -> tuple[str, str] | None:
    """Return the edge that a sentence states, as (source, target); None where it states none."""
    match = _SENTENCE.fullmatch(sentence.strip().rstrip("."))
    return (match.group(1), match.group(2)) if match else None


def _required_edge(sentence: str) -> tuple[str, str]:
    edge = edge_of(sentence)
    if edge is None:
        raise ValueError(f"expected a sentence like 'Every gerpus is a terpus.', got {sentence[:60]!r}")
    return edge
