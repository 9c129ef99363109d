"""Small directed graphs in which one node has to be reached from another; what tasks `graph` and `prosqa` share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from interp.errors import unknown
from interp.problems.base import structure_hash

# What is known about a node, and about how many nodes each fact is.
NODE_FACTS: Mapping[str, int] = MappingProxyType({"distance": 1, "reachable": 1, "frontier": 1, "path": 1})
_MASK = (1 << 64) - 1


class Digraph:
    """A directed graph with a root, given by its edges (source, target)."""

    def __init__(self, edges: Iterable[Sequence[str]], root: str) -> None:
        self.edges = tuple((source, target) for source, target in edges)
        self.root = root
        self.after: dict[str, list[str]] = {}
        for source, target in self.edges:
            self.after.setdefault(source, []).append(target)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node, in the order in which the edges name them, the root first."""
        return tuple(dict.fromkeys([self.root, *(node for edge in self.edges for node in edge)]))

    @cached_property
    def distance(self) -> dict[str, int]:
        """How many edges lie between the root and each node that can be reached from it."""
        return self.distances(self.root)

    def distances(self, source: str) -> dict[str, int]:
        """How many edges lie between `source` and each node that can be reached from it, itself included."""
        found, frontier, steps = {source: 0}, [source], 0
        while frontier:
            steps += 1
            frontier = list(dict.fromkeys(n for s in frontier for n in self.after.get(s, ()) if n not in found))
            found.update(dict.fromkeys(frontier, steps))
        return found

    def path_to(self, node: str) -> list[str]:
        """A shortest path from the root to `node`, both included; `node` must be reachable."""
        path = [node]
        while path[0] != self.root:
            here = self.distance[path[0]]
            path.insert(0, next(s for s, t in self.edges if t == path[0] and self.distance.get(s) == here - 1))
        return path

    def has(self, source: str, target: str) -> bool:
        """Whether there is an edge from `source` to `target`."""
        return target in self.after.get(source, ())

    def leads_to(self, node: str, candidates: Sequence[str]) -> list[str]:
        """The candidates that can be reached from `node`, itself included."""
        found = self.distances(node)
        return [candidate for candidate in candidates if candidate in found]

    def fact(self, name: str, node: str, step: int, path: Sequence[str]) -> str | None:
        """A fact of `NODE_FACTS` about `node` after `step` steps.

        `distance` from the root (None where it cannot be reached), `reachable` from the root, `frontier` (at
        distance `step` exactly, as in arXiv 2505.12514), and on the `path` to the answer.
        """
        if name == "distance":
            return str(self.distance[node]) if node in self.distance else None
        if name == "reachable":
            return _yes(node in self.distance)
        if name == "frontier":
            return _yes(self.distance.get(node) == step)
        if name == "path":
            return _yes(node in path)
        raise unknown("fact about a node", name, NODE_FACTS)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def canonical_hash(name: str, edges: Sequence[tuple[int, int]], roles: Sequence[int], *also: object) -> str:
    """A hash of a graph whose nodes are numbers, whatever the numbers and the order of the edges.

    `roles` holds a small number for each node (the root's, a candidate's, ...) that is part of the structure.
    The colours of the nodes are refined by those of their neighbours (Weisfeiler and Leman 1968), so the same
    graph drawn twice always shares its hash; two graphs that refinement cannot tell apart would share one
    too, and so fall into the same split, which is the safe side.
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
    """A bijection of 64-bit numbers that scatters their bits (the finaliser of splitmix64)."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)
