"""Random graphs for the tasks `graph` and `prosqa`, before their nodes are named."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from interp.problems.reachability import canonical_hash

N_DECOYS = 3
# The part that the root does not reach holds at least three sinks, three parents of them, and a node above.
MIN_UNREACHED = 2 * N_DECOYS + 1
# Roles of nodes that belong to a structure.
INNER, ROOT, TARGET, DECOY = range(4)


@dataclass(frozen=True)
class Shape:
    """A graph with numbered nodes.

    Attributes:
        edges: Pairs (source, target).
        path: The path from the root to the target; the root is node 0.
        decoys: Candidates that the root does not reach.
        n_nodes: Number of nodes.
    """

    edges: tuple[tuple[int, int], ...]
    path: tuple[int, ...]
    decoys: tuple[int, ...]
    n_nodes: int

    @property
    def structure(self) -> str:
        """Hash of the graph with its root, target and decoys."""
        roles = [INNER] * self.n_nodes
        roles[self.path[0]], roles[self.path[-1]] = ROOT, TARGET
        for decoy in self.decoys:
            roles[decoy] = DECOY
        return canonical_hash("graph", self.edges, roles)


def draw_shape(rng: Random, hops: int, n_nodes: int, n_edges: int, max_hops: int, *, dead_ends: bool) -> Shape:
    """Return a random graph with one path from the root to the target.

    Args:
        rng: Source of randomness.
        hops: Length of the path.
        n_nodes: Number of nodes.
        n_edges: Number of edges.
        max_hops: Greatest depth of a decoy.
        dead_ends: Whether the root also reaches nodes off the path.
    """
    while True:
        n_unreached = rng.randint(MIN_UNREACHED, max(MIN_UNREACHED, n_nodes // 2))
        n_reached = n_nodes - n_unreached if dead_ends else hops + 1
        if n_reached < hops + 1 + dead_ends:
            continue
        unreached, decoys = _unreached_tree(rng, n_reached, n_nodes, max_hops)
        edges = _reached_tree(rng, hops, n_reached) + unreached
        shape = Shape(tuple(edges), tuple(range(hops + 1)), decoys, n_nodes)
        more = _more_edges(rng, shape, n_reached, n_edges - len(edges))
        if more is not None:
            return Shape(shape.edges + tuple(more), shape.path, decoys, n_nodes)


def _reached_tree(rng: Random, hops: int, n: int) -> list[tuple[int, int]]:
    """Return the edges of the path 0, 1, ..., hops and of dead ends up to node n - 1, none deeper than the path."""
    depth = list(range(hops + 1))
    edges = [(k, k + 1) for k in range(hops)]
    for node in range(hops + 1, n):
        parent = rng.choice([other for other in range(node) if depth[other] < hops])
        depth.append(depth[parent] + 1)
        edges.append((parent, node))
    return edges


def _unreached_tree(rng: Random, first: int, end: int, max_depth: int) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """Return the edges of a tree of nodes `first` to `end` - 1, and its three decoys.

    The decoys lie 2 to `max_depth` hops below its top, each below a different node, because the target shares its
    parent with no other candidate. Deeper nodes are likelier to get children, because the target is as often deep
    as not.
    """
    depth, edges = {first: 0}, []

    def grow(node: int, max_parent_depth: int) -> None:
        parents = [other for other in depth if depth[other] < max_parent_depth and other not in decoys]
        parent = rng.choices(parents, [(1 + depth[other]) ** 2 for other in parents])[0]
        depth[node] = depth[parent] + 1
        edges.append((parent, node))

    decoys: list[int] = []
    decoy_parents = range(first + 1, first + 1 + N_DECOYS)
    for node in decoy_parents:
        grow(node, max(max_depth, 2) - 1)
    for parent in decoy_parents:
        decoys.append(parent + N_DECOYS)
        edges.append((parent, parent + N_DECOYS))
    for node in range(first + MIN_UNREACHED, end):
        grow(node, max(max_depth, 2))
    return edges, tuple(decoys)


def _more_edges(rng: Random, shape: Shape, n_reached: int, n: int) -> list[tuple[int, int]] | None:
    """Return `n` further edges, or None where there is no room for them.

    No edge ends at a candidate or above one, so one way leads to each. No edge makes a cycle or leads out of the
    part that the root reaches. Edges may lead into dead ends of that part from anywhere.
    """
    candidates = {shape.path[-1], *shape.decoys}
    existing = set(shape.edges)
    parent = {target: source for source, target in shape.edges}
    fixed = {shape.path[0], n_reached}
    for node in candidates:
        while node not in fixed:
            fixed.add(node)
            node = parent[node]
    possible = [
        (source, target)
        for target in range(shape.n_nodes)
        if target not in fixed
        for source in (
            (*range(target), *range(n_reached, shape.n_nodes)) if target < n_reached else range(n_reached, target)
        )
        if source not in candidates and (source, target) not in existing
    ]
    return rng.sample(possible, n) if len(possible) >= n else None
