"""One edge of a graph problem's path turned elsewhere: the smallest rewrite after which another answer is right."""

from __future__ import annotations

from random import Random

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.problems.reachability import Digraph


def turned_edge(problem: Problem, rng: Random) -> tuple[list[list[str]], list[str]]:
    """The edges of `problem` with the end of one on its path changed, and the path that then leads to a candidate.

    The new path is as long as the old one. Raises `UsageError` where no single edge can be turned so.
    """
    path = [problem.meta["root"], *(step.value for step in problem.steps)]
    graph = Digraph(problem.meta["edges"], path[0])
    options = [
        (step, node) for step in range(1, len(path)) for node in graph.nodes if _turns(problem, graph, step, node)
    ]
    if not options:
        raise UsageError(f"no single edge of problem {problem.id} leads elsewhere; take another problem.")
    step, node = rng.choice(options)
    old, new = [path[step - 1], path[step]], [path[step - 1], node]
    edges = [new if list(edge) == old else list(edge) for edge in problem.meta["edges"]]
    (candidate,) = graph.leads_to(node, problem.meta["candidates"])
    return edges, Digraph(edges, path[0]).path_to(candidate)


def _turns(problem: Problem, graph: Digraph, step: int, node: str) -> bool:
    """Whether `node`, not reached so far, leads to one candidate in the hops that are left after `step`."""
    if node in graph.distance:
        return False
    distance = graph.distances(node)
    return [distance[c] for c in problem.meta["candidates"] if c in distance] == [problem.n_steps - step]
