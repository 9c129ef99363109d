"""Task `graph`: which of four candidates can be reached from the root of a small directed graph?

The question lists the edges in shuffled order, then the candidates, then the root: `b c ; a b ; x y ; y p ; ... c q
p r ? a`. One candidate ends a path of 2 to 4 hops from the root. The other three are sinks of a part of the graph
that the root does not reach. Dead ends branch off the path. The problem is that of ProsQA (arXiv 2412.06769,
section 4) with an open-ended answer: a guess is right in one case of four, and neither the number of steps nor a
candidate's neighbours reveal the answer. Every problem draws new names for its nodes, so a symbol has no fixed meaning.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of
from interp.problems.graph_shapes import DECOY, INNER, MIN_UNREACHED, ROOT, TARGET, Shape, draw_shape
from interp.problems.options import (
    checked_at_most,
    checked_choice,
    checked_rewriting,
    checked_step,
    length_range,
    spec_of,
)
from interp.problems.reachability import NODE_FACTS, Digraph, canonical_hash

DEAD_ENDS = ("yes", "no")
_SYMBOLS = string.ascii_lowercase + string.ascii_uppercase
_PATIENCE = 5000  # graphs in a row of other splits


class GraphTask(Task):
    """Task `graph`: walk a directed graph from its root to the candidate that can be reached.

    A step is one hop; its text and value are the node that it reaches. So a trace's text is `b c c`: the nodes after
    the root, then the answer. There is one path to the answer.

    Args:
        hops: Range of the path's length, such as "2-4" or "3".
        nodes: Number of nodes.
        edges: Number of edges.
        symbols: Number of symbols from which nodes are named.
        dead_ends: With "no" the root reaches its path and nothing else, so each step only recalls an edge. This
            makes a warm-up.
    """

    name = "graph"
    facts = NODE_FACTS
    rewritings = ("constant",)
    has_posterior = True

    def __init__(
        self,
        hops: str = "2-4",
        nodes: int | str = 13,
        edges: int | str = 13,
        symbols: int | str = 40,
        dead_ends: str = "yes",
    ) -> None:
        self.min_steps, self.max_steps = length_range("hops of task graph", hops, "2-4 or 3", 1, 8)
        self.dead_ends = checked_choice("dead_ends of task graph", dead_ends, DEAD_ENDS) == "yes"
        min_nodes = self.max_steps + 1 + self.dead_ends + MIN_UNREACHED
        self.n_nodes = checked_count("nodes of task graph", nodes, at_least=min_nodes)
        # Two trees have two edges fewer than nodes. The dead ends have no room for many more.
        self.n_edges = checked_at_most("edges of task graph", edges, self.n_nodes + 2, at_least=self.n_nodes - 2)
        n_symbols = checked_at_most("symbols of task graph", symbols, len(_SYMBOLS), at_least=self.n_nodes)
        self.values = tuple(_SYMBOLS[:n_symbols])
        self.symbols = self.values
        options = [
            ("hops", str(hops), "2-4"),
            ("nodes", self.n_nodes, 13),
            ("edges", self.n_edges, 13),
            ("symbols", n_symbols, 40),
            ("dead_ends", dead_ends, "yes"),
        ]
        self.spec = spec_of("graph", options)

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        return [*self.values, ";", "?"]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        misses = 0
        while True:
            shape = self.shape(rng, n_steps or rng.randint(self.min_steps, self.max_steps))
            structure = shape.structure
            if split_of(structure) == split:
                misses = 0
                yield self._problem(rng, shape, structure, split)
            elif (misses := misses + 1) >= _PATIENCE:
                raise UsageError(
                    f"expected {self.spec!r} to have graphs in its {split} split, got none in {_PATIENCE} draws; "
                    "ask for more nodes or more hops."
                )

    def shape(self, rng: Random, hops: int) -> Shape:
        """Return a random graph with a path of `hops` hops, before its nodes are named."""
        return draw_shape(rng, hops, self.n_nodes, self.n_edges, self.max_steps, dead_ends=self.dead_ends)

    def _problem(self, rng: Random, shape: Shape, structure: str, split: Split) -> Problem:
        names = rng.sample(self.values, shape.n_nodes)
        edges = [(names[source], names[target]) for source, target in rng.sample(shape.edges, len(shape.edges))]
        path = [names[node] for node in shape.path]
        candidates = [path[-1], *(names[node] for node in shape.decoys)]
        rng.shuffle(candidates)
        question = _question(edges, candidates, path[0])
        return Problem(
            id=canonical_hash(question, (), ()),
            task=self.spec,
            question=question,
            answer=path[-1],
            steps=tuple(Step(text=node, value=node) for node in path[1:]),
            structure=structure,
            split=split,
            readable=_readable(edges, candidates, path[0]),
            meta={"edges": [list(edge) for edge in edges], "root": path[0], "candidates": candidates},
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: the nodes of the path and then the answer, separated by white space.

        A step is right when the graph has an edge from the *written* node before it, at first the root. A walk into
        a dead end is no wrong step; it costs the answer.
        """
        words = text.split()
        written, answer = words[:-1], words[-1] if words else None
        graph = digraph(problem)
        right: list[bool | None] = []
        before = graph.root
        for node in written[: problem.n_steps]:
            right.append(graph.has(before, node))
            before = node
        right.extend(False for _ in written[problem.n_steps :])
        return Verdict.of_steps(answer == problem.answer, right, problem.n_steps)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the one candidate that node `value` leads to, in as many hops as steps follow `step`.

        Raises:
            UsageError: `value` is no node of the graph, or it leads to no candidate, to several, or to one in
                another number of hops. Then no answer follows.
        """
        return implied_candidate(problem, step, value)

    def posterior(self, problem: Problem, step: int) -> dict[str, float]:
        """Return equal probabilities for all nodes at distance `step` from the root."""
        frontier = [node for node, distance in digraph(problem).distance.items() if distance == step]
        return dict.fromkeys(frontier, 1 / len(frontier)) if frontier else {}

    def guess_sets(self, problem: Problem) -> tuple[tuple[str, ...], ...]:
        """Return the candidates, and the nodes with edges both into and out of them.

        The last step is one of the candidates, so a guess there is right in one case of four. A guess among the
        inner nodes is right for about one of five earlier steps. Neither follows an edge to the next.
        """
        candidates = tuple(problem.meta["candidates"])
        sources, targets = ({edge[end] for edge in problem.meta["edges"]} for end in (0, 1))
        return candidates, tuple(sorted(sources & targets))

    def rewrite(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """Return `problem` with the end of one edge of its path changed, so that it leads to another candidate.

        The rest of the question stays as it is.

        Raises:
            UsageError: `what` is not "constant", or no single edge can be changed in this way.
        """
        checked_rewriting(self.name, what, self.rewritings)
        edges, path = redirect_edge(problem, rng)
        candidates = problem.meta["candidates"]
        question = _question(edges, candidates, path[0])
        numbers = {node: k for k, node in enumerate(Digraph(edges, path[0]).nodes)}
        role_of = {path[0]: ROOT, **dict.fromkeys(candidates, DECOY), path[-1]: TARGET}
        roles = [role_of.get(node, INNER) for node in numbers]
        structure = canonical_hash("graph", [(numbers[a], numbers[b]) for a, b in edges], roles)
        return replace(
            problem,
            id=canonical_hash(question, (), ()),
            question=question,
            answer=path[-1],
            steps=tuple(Step(text=node, value=node) for node in path[1:]),
            structure=structure,
            split=split_of(structure),
            readable=_readable(edges, candidates, path[0]),
            meta={**problem.meta, "edges": edges},
        )

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the nodes, the root first."""
        return digraph(problem).nodes

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return `distance`, `reachable`, `frontier` or `path` of a node; see `Digraph.fact`."""
        return node_fact(problem, name, entities, step)


def digraph(problem: Problem) -> Digraph:
    """Return the graph of a problem whose meta holds `edges` and `root`, as those of `graph` and `prosqa` do."""
    return Digraph(problem.meta["edges"], problem.meta["root"])


def implied_candidate(problem: Problem, step: int, node: str) -> str:
    """Return the one candidate that `node` leads to, in the hops that follow `step`.

    Raises:
        UsageError: There is no such candidate, step or node.
    """
    checked_step(problem, step)
    graph = digraph(problem)
    if node not in graph.nodes:
        raise unknown(f"node of problem {problem.id}", node, sorted(graph.nodes))
    distances, hops_left = graph.distances(node), problem.n_steps - step
    reached = {candidate: distances[candidate] for candidate in problem.meta["candidates"] if candidate in distances}
    if list(reached.values()) != [hops_left]:
        listed = " and ".join(f"{candidate} ({hops} hops)" for candidate, hops in reached.items())
        raise UsageError(
            f"expected {node!r} to lead to one candidate in the {hops_left} hops that are left, got "
            f"{listed or 'no candidate'}; choose another node."
        )
    return next(iter(reached))


def node_fact(problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
    """Return a fact of `NODE_FACTS` about a node after `step` steps; None where the problem lacks the node."""
    (node,) = entities
    graph = digraph(problem)
    if node not in graph.nodes:
        return None
    return graph.fact(name, node, step, [graph.root, *(gold.value for gold in problem.steps)])


def redirect_edge(problem: Problem, rng: Random) -> tuple[list[list[str]], list[str]]:
    """Change the end of one edge on the path so that another candidate is right.

    Returns:
        The edges, and the path that leads to the new answer; it is as long as the old one.

    Raises:
        UsageError: No single edge can be changed in this way.
    """
    path = [problem.meta["root"], *(step.value for step in problem.steps)]
    graph = Digraph(problem.meta["edges"], path[0])
    options = [
        (step, node) for step in range(1, len(path)) for node in graph.nodes if _redirects(problem, graph, step, node)
    ]
    if not options:
        raise UsageError(f"no single edge of problem {problem.id} leads to another candidate; take another problem.")
    step, node = rng.choice(options)
    old, new = [path[step - 1], path[step]], [path[step - 1], node]
    edges = [new if list(edge) == old else list(edge) for edge in problem.meta["edges"]]
    (candidate,) = graph.leads_to(node, problem.meta["candidates"])
    return edges, Digraph(edges, path[0]).path_to(candidate)


def _redirects(problem: Problem, graph: Digraph, step: int, node: str) -> bool:
    """Return whether `node` is unreached and leads to one candidate in the hops that follow `step`."""
    if node in graph.distance:
        return False
    distances = graph.distances(node)
    return [distances[c] for c in problem.meta["candidates"] if c in distances] == [problem.n_steps - step]


def _question(edges: list, candidates: list[str], root: str) -> str:
    listed = " ".join(f"{source} {target} ;" for source, target in edges)
    return f"{listed} {' '.join(candidates)} ? {root}"


def _readable(edges: list, candidates: list[str], root: str) -> str:
    listed = ", ".join(f"{source} to {target}" for source, target in edges)
    return f"Edges: {listed}. Which of {', '.join(candidates)} can be reached from {root}?"
