"""Directed graphs in which a node is reached from a root; shared by the tasks `graph` and `prosqa`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from interp.errors import unknown
from interp.problems.base import structure_hash
from interp.problems.options import yes_no

# Each fact about nodes, and the number of nodes that it is about.
NODE_FACTS: Mapping[str, int] = MappingProxyType({"distance": 1, "reachable": 1, "frontier": 1, "path": 1})
_MASK = (1 << 64) - 1


class Digraph:
    """A directed graph with a root.

    Args:
        edges: Pairs (source, target).
        root: The node from which distances are counted.
    """

    def __init__(self, edges: Iterable[Sequence[str]], root: str) -> None:
        self.edges = tuple((source, target) for source, target in edges)
        self.root = root
        self.successors: dict[str, list[str]] = {}
        for source, target in self.edges:
            self.successors.setdefault(source, []).append(target)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node, the root first, then in the order in which the edges name them."""
        return tuple(dict.fromkeys([self.root, *(node for edge in self.edges for node in edge)]))

    @cached_property
    def distance(self) -> dict[str, int]:
        """The number of edges from the root to each reachable node."""
        return self.distances(self.root)

    def distances(self, source: str) -> dict[str, int]:
        """Return the number of edges from `source` to each node that it reaches, itself included."""
        distances, frontier, steps = {source: 0}, [source], 0
        while frontier:
            steps += 1
            reached = (target for node in frontier for target in self.successors.get(node, ()))
            frontier = list(dict.fromkeys(node for node in reached if node not in distances))
            distances.update(dict.fromkeys(frontier, steps))
        return distances

    def path_to(self, node: str) -> list[str]:
        """Return a shortest path from the root to `node`, both included; `node` must be reachable."""
        path = [node]
        while path[0] != self.root:
            before = self.distance[path[0]] - 1
            path.insert(0, next(s for s, t in self.edges if t == path[0] and self.distance.get(s) == before))
        return path

    def has(self, source: str, target: str) -> bool:
        """Return whether there is an edge from `source` to `target`."""
        return target in self.successors.get(source, ())

    def leads_to(self, node: str, candidates: Sequence[str]) -> list[str]:
        """Return the candidates that can be reached from `node`, itself included."""
        distances = self.distances(node)
        return [candidate for candidate in candidates if candidate in distances]

    def fact(self, name: str, node: str, step: int, path: Sequence[str]) -> str | None:
        """Return a fact of `NODE_FACTS` about `node` after `step` steps.

        Args:
            name: `distance` from the root (None where unreachable), `reachable` from the root, `frontier` (at
                distance `step` exactly, arXiv 2505.12514), or `path` (on the path to the answer).
            node: The node.
            step: Number of steps done.
            path: The nodes of the path to the answer.
        """
        if name == "distance":
            return str(self.distance[node]) if node in self.distance else None
        if name == "reachable":
            return yes_no(node in self.distance)
        if name == "frontier":
            return yes_no(self.distance.get(node) == step)
        if name == "path":
            return yes_no(node in path)
        raise unknown("fact about a node", name, NODE_FACTS)


def canonical_hash(name: str, edges: Sequence[tuple[int, int]], roles: Sequence[int], *also: object) -> str:
    """Return a hash of a graph that does not depend on the nodes' numbers or the order of the edges.

    Refines the nodes' colours by those of their neighbours (Weisfeiler and Leman 1968). Two drawings of one graph
    always share their hash. Two graphs that refinement cannot tell apart share one too, and so fall into the same
    split; no held-out graph leaks into training.

    Args:
        name: The task's name, hashed too.
        edges: Pairs of node numbers.
        roles: For each node a small number that belongs to the structure: root, candidate, ...
        *also: Anything else that belongs to the structure.
    """
    colours = [_mixed(role + 1) for role in roles]
    for _ in range(max(3, len(roles) // 2)):
        ahead = [colour * 3 for colour in colours]
        behind = [_mixed(colour) for colour in colours]
        for source, target in edges:
            ahead[source] += _mixed(colours[target] ^ 0x9E3779B97F4A7C15)
            ahead[target] += behind[source]
        colours = [_mixed(colour & _MASK) for colour in ahead]
    return structure_hash(name, sorted(colours), *also)


def _mixed(x: int) -> int:
    """Return a bijection of 64-bit numbers that scatters their bits (the finaliser of splitmix64)."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)
