"""Task `graph`: which of four candidates can be reached from the root of a small directed graph?

The question lists the edges in shuffled order, then the candidates, then the root: `b c ; a b ; x y ; y p ;
... c q p r ? a`. One candidate ends a path of 2 to 4 hops from the root, the other three are sinks of a part
of the graph that the root does not reach; where the path passes there are dead ends. So the problem is
ProsQA's (arXiv 2412.06769, section 4) with an open-ended answer: guessing is right in one case of four, and
neither the number of steps nor a candidate's neighbours give it away. Every problem names its nodes anew, so
a symbol means nothing by itself.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    checked_rewriting,
    checked_step,
    split_of,
)
from interp.problems.drawn import DrawnTask, length_range, spec_of
from interp.problems.reachability import NODE_FACTS, Digraph, canonical_hash
from interp.problems.turned_edges import turned_edge

N_DECOYS = 3
DEAD_ENDS = ("yes", "no")
_SYMBOLS = string.ascii_lowercase + string.ascii_uppercase
_PATIENCE = 5000
# The roles that belong to a structure.
_PLAIN, _ROOT, _TARGET, _DECOY = range(4)


@dataclass(frozen=True)
class Shape:
    """A graph without names: its edges, the path from the root (node 0) to the target, and the decoys."""

    edges: tuple[tuple[int, int], ...]
    path: tuple[int, ...]
    decoys: tuple[int, ...]
    n_nodes: int

    @property
    def structure(self) -> str:
        roles = [_PLAIN] * self.n_nodes
        roles[self.path[0]], roles[self.path[-1]] = _ROOT, _TARGET
        for decoy in self.decoys:
            roles[decoy] = _DECOY
        return canonical_hash("graph", self.edges, roles)


class GraphTask(DrawnTask):
    """`graph`: 13 nodes named by 13 of 40 symbols, 13 edges, paths of 2 to 4 hops, four candidates.

    A step is one hop, its text and value the node that it reaches, so a trace's text is `b c c`: the nodes
    after the root, then the answer. The path to the answer is the only one. With `dead_ends=no` the root
    reaches its path and nothing else, so that each step is mere recall of an edge (a warm-up).
    """

    name = "graph"
    facts = NODE_FACTS

    def __init__(
        self,
        hops: str = "2-4",
        nodes: int | str = 13,
        edges: int | str = 13,
        symbols: int | str = 40,
        dead_ends: str = "yes",
    ) -> None:
        self.min_steps, self.max_steps = length_range("hops of task graph", hops, "2-4 or 3", 1, 8)
        if dead_ends not in DEAD_ENDS:
            raise unknown("dead_ends of task graph", dead_ends, DEAD_ENDS)
        self.dead_ends = dead_ends == "yes"
        self.n_nodes = checked_count("nodes of task graph", nodes, at_least=self._fewest_nodes)
        # Two trees have two edges fewer than nodes; far more than that and the dead ends have no room for them.
        self.n_edges = checked_count("edges of task graph", edges, at_least=self.n_nodes - 2)
        if self.n_edges > self.n_nodes + 2:
            raise UsageError(f"edges of task graph must be at most nodes + 2 = {self.n_nodes + 2}, but {edges} came.")
        n_symbols = checked_count("symbols of task graph", symbols, at_least=self.n_nodes)
        if n_symbols > len(_SYMBOLS):
            raise UsageError(f"symbols of task graph must be at most {len(_SYMBOLS)}, but {symbols} came.")
        self.values = tuple(_SYMBOLS[:n_symbols])
        self.symbols = self.values  # words that may be exchanged for each other throughout a problem
        options = [
            ("hops", str(hops), "2-4"),
            ("nodes", self.n_nodes, 13),
            ("edges", self.n_edges, 13),
            ("symbols", n_symbols, 40),
            ("dead_ends", dead_ends, "yes"),
        ]
        self.spec = spec_of("graph", options)

    @property
    def _fewest_nodes(self) -> int:
        return self.max_steps + 1 + self.dead_ends + _FEWEST_APART

    def vocabulary(self) -> list[str]:
        return [*self.values, ";", "?"]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        misses = 0
        while True:
            shape = self.shape(rng, n_steps or rng.randint(self.min_steps, self.max_steps))
            structure = shape.structure
            if split_of(structure) == split:
                misses = 0
                yield self._problem(rng, shape, structure, split)
            elif (misses := misses + 1) >= _PATIENCE:
                raise UsageError(
                    f"{self.spec!r} has too few different graphs for a {split} split: none of {_PATIENCE} belonged "
                    "to it. Ask for more nodes or more hops."
                )

    def shape(self, rng: Random, hops: int) -> Shape:
        """A random graph with a path of so many hops, before its nodes are named."""
        while True:
            n_apart = rng.randint(_FEWEST_APART, max(_FEWEST_APART, self.n_nodes // 2))
            n_reached = self.n_nodes - n_apart if self.dead_ends else hops + 1
            if n_reached < hops + 1 + self.dead_ends:
                continue
            apart, decoys = _apart(rng, n_reached, self.n_nodes, self.max_steps)
            edges = _reached(rng, hops, n_reached) + apart
            shape = Shape(tuple(edges), tuple(range(hops + 1)), decoys, self.n_nodes)
            more = _more_edges(rng, shape, n_reached, self.n_edges - len(edges))
            if more is not None:
                return Shape(shape.edges + tuple(more), shape.path, decoys, self.n_nodes)

    def _problem(self, rng: Random, shape: Shape, structure: str, split: Split) -> Problem:
        named = rng.sample(self.values, shape.n_nodes)
        edges = [(named[source], named[target]) for source, target in rng.sample(shape.edges, len(shape.edges))]
        path = [named[node] for node in shape.path]
        candidates = [path[-1], *(named[node] for node in shape.decoys)]
        rng.shuffle(candidates)
        listed = " ".join(f"{source} {target} ;" for source, target in edges)
        question = f"{listed} {' '.join(candidates)} ? {path[0]}"
        said = ", ".join(f"{source} to {target}" for source, target in edges)
        return Problem(
            id=canonical_hash(question, (), ()),
            task=self.spec,
            question=question,
            answer=path[-1],
            steps=tuple(Step(text=node, value=node) for node in path[1:]),
            structure=structure,
            split=split,
            readable=f"Edges: {said}. Which of {', '.join(candidates)} can be reached from {path[0]}?",
            meta={"edges": [list(edge) for edge in edges], "root": path[0], "candidates": candidates},
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`, the nodes in the order of the path and then the answer, separated by white space.

        A step is right when the graph has an edge from the *written* node before it (the root at first), so a
        walk into a dead end is no wrong step; it costs the answer.
        """
        words = text.split()
        written, answer = words[:-1], words[-1] if words else None
        graph = digraph(problem)
        right: list[bool | None] = []
        before = graph.root
        for node in written[: problem.n_steps]:
            right.append(graph.has(before, node))
            before = node
        right.extend([None] * (problem.n_steps - len(right)))
        right.extend(False for _ in written[problem.n_steps :])
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        return Verdict(answer=answer == problem.answer, steps=tuple(right), first_error=first)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The one candidate that node `value` leads to, in as many hops as there are steps after `step`.

        Raises `UsageError` where `value` is no node of the problem's graph, leads to no candidate or to several,
        or to one that lies nearer or farther: then nothing follows from having been there.
        """
        return implied_candidate(problem, step, value)

    def posterior(self, problem: Problem, step: int) -> dict[str, float]:
        """Every node at distance `step` from the root alike: where one may be who does not know which way is right."""
        frontier = [node for node, distance in digraph(problem).distance.items() if distance == step]
        return dict.fromkeys(frontier, 1 / len(frontier)) if frontier else {}

    def offers(self, problem: Problem) -> tuple[tuple[str, ...], ...]:
        """The candidates, one of which is the last step, and the other nodes with edges into and out of them.

        A guess among the first is right in one of four last steps, a guess among the second in about one of five
        earlier ones, without any edge being followed to the next.
        """
        candidates = tuple(problem.meta["candidates"])
        sources, targets = ({edge[end] for edge in problem.meta["edges"]} for end in (0, 1))
        return candidates, tuple(sorted(sources & targets))

    def rewritten(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """`problem` with the end of one edge of its path changed, so that it leads to another candidate.

        The rest of the question stays as it is. Raises `UsageError` for `operations`, which a graph has none of,
        and where no single edge can be turned so.
        """
        if checked_rewriting(what) != "constant":
            raise UsageError("a graph has no operations to rewrite; rewrite its constant, one edge.")
        edges, walked = turned_edge(problem, rng)
        listed = " ".join(f"{source} {target} ;" for source, target in edges)
        candidates = problem.meta["candidates"]
        question = f"{listed} {' '.join(candidates)} ? {walked[0]}"
        numbers = {node: k for k, node in enumerate(Digraph(edges, walked[0]).nodes)}
        ends = {walked[0]: _ROOT, **dict.fromkeys(candidates, _DECOY), walked[-1]: _TARGET}
        roles = [ends.get(node, _PLAIN) for node in numbers]
        structure = canonical_hash("graph", [(numbers[a], numbers[b]) for a, b in edges], roles)
        said = ", ".join(f"{source} to {target}" for source, target in edges)
        return replace(
            problem,
            id=canonical_hash(question, (), ()),
            question=question,
            answer=walked[-1],
            steps=tuple(Step(text=node, value=node) for node in walked[1:]),
            structure=structure,
            split=split_of(structure),
            readable=f"Edges: {said}. Which of {', '.join(candidates)} can be reached from {walked[0]}?",
            meta={**problem.meta, "edges": edges},
        )

    def entities(self, problem: Problem) -> tuple[str, ...]:
        return digraph(problem).nodes

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """`distance:a`, `reachable:a`, `frontier:a` (at distance `step`) and `path:a`; see `Digraph.fact`."""
        return node_fact(problem, name, entities, step)


def implied_candidate(problem: Problem, step: int, node: str) -> str:
    """The one candidate that `node` leads to, in the hops that are left after `step`.

    Raises `UsageError` where there is no such one, and on a step or node that the problem does not have.
    """
    checked_step(problem, step)
    graph = digraph(problem)
    if node not in graph.nodes:
        raise unknown(f"node of problem {problem.id}", node, sorted(graph.nodes))
    distance, left = graph.distances(node), problem.n_steps - step
    found = {each: distance[each] for each in problem.meta["candidates"] if each in distance}
    if list(found.values()) != [left]:
        led = " and ".join(f"{each} ({hops} hops)" for each, hops in found.items())
        raise UsageError(
            f"a step to {node!r} implies an answer only where it leads to one candidate, in the {left} hops that are "
            f"left, but it leads to {led or 'none'}. Choose another node."
        )
    return next(iter(found))


def node_fact(problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
    """A fact of `NODE_FACTS` about a node after `step` steps, None where the problem has no such node."""
    (node,) = entities
    graph = digraph(problem)
    if node not in graph.nodes:
        return None
    return graph.fact(name, node, step, [graph.root, *(each.value for each in problem.steps)])


def digraph(problem: Problem) -> Digraph:
    """The graph of a problem that keeps `edges` and `root` in its meta, as those of `graph` and `prosqa` do."""
    return Digraph(problem.meta["edges"], problem.meta["root"])


# Three sinks below three nodes of their own, and a node above them all.
_FEWEST_APART = 2 * N_DECOYS + 1


def _reached(rng: Random, hops: int, n: int) -> list[tuple[int, int]]:
    """The path 0, 1, ..., hops, and dead ends up to node n - 1, none of them deeper than the path."""
    depth = list(range(hops + 1))
    edges = [(k, k + 1) for k in range(hops)]
    for node in range(hops + 1, n):
        parent = rng.choice([other for other in range(node) if depth[other] < hops])
        depth.append(depth[parent] + 1)
        edges.append((parent, node))
    return edges


def _apart(rng: Random, first: int, end: int, deepest: int) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """A tree of the nodes `first` to `end` - 1 that the root does not reach, and its three decoys.

    The decoys lie 2 to `deepest` hops below its top, each below a node of its own: of two candidates below one
    node neither could be the target, which shares its parent with none. Deeper nodes are likelier to get
    children, because the target is as often deep as not.
    """
    depth, edges = {first: 0}, []

    def grow(node: int, most: int) -> None:
        places = [other for other in depth if depth[other] < most and other not in decoys]
        parent = rng.choices(places, [(1 + depth[other]) ** 2 for other in places])[0]
        depth[node] = depth[parent] + 1
        edges.append((parent, node))

    decoys: list[int] = []
    parents = range(first + 1, first + 1 + N_DECOYS)
    for node in parents:
        grow(node, max(deepest, 2) - 1)
    for parent in parents:
        decoys.append(parent + N_DECOYS)
        edges.append((parent, parent + N_DECOYS))
    for node in range(first + _FEWEST_APART, end):
        grow(node, max(deepest, 2))
    return edges, tuple(decoys)


def _more_edges(rng: Random, shape: Shape, n_reached: int, n: int) -> list[tuple[int, int]] | None:
    """`n` further edges, or None where there is no room for them.

    None of them ends at a candidate or above one, so there is still one way to each; none makes a cycle or
    leads out of the part that the root reaches. They may lead into its dead ends from anywhere.
    """
    ends = {shape.path[-1], *shape.decoys}
    there = set(shape.edges)
    above = {target: source for source, target in shape.edges}
    fixed = {shape.path[0], n_reached}
    for node in ends:
        while node not in fixed:
            fixed.add(node)
            node = above[node]
    possible = [
        (source, target)
        for target in range(shape.n_nodes)
        if target not in fixed
        for source in (
            (*range(target), *range(n_reached, shape.n_nodes)) if target < n_reached else range(n_reached, target)
        )
        if source not in ends and (source, target) not in there
    ]
    return rng.sample(possible, n) if len(possible) >= n else None
