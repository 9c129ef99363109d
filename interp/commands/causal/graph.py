"""`cotlens causal graph`: open the JSON of an attribution graph, rank its paths, prune it, and write it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.runtime.console import AsJson, emit, print_table
from interp.runtime.files import refuse_existing

if TYPE_CHECKING:
    from interp.causal.graphs.opened import OpenedGraph


def graph(
    path: Annotated[Path, typer.Argument(help="Graph file of circuit-tracer or of `cotlens causal attribute`.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the graph, pruned if asked, for circuit-tracer's viewer.")
    ] = None,
    node_share: Annotated[
        float | None, typer.Option(help="Prune to the nodes that carry this share of the influence on the logits.")
    ] = None,
    paths: Annotated[int, typer.Option(help="Number of paths between features to show.", min=0)] = 5,
    as_json: AsJson = False,
) -> None:
    """Open an attribution graph from a file: its nodes, how complete it is, and its strongest paths.

    Example: cotlens causal graph runs/graphs/NAME.json --node-share 0.8
    """
    import pandas as pd

    from interp import causal

    if out is not None:
        refuse_existing(out)
    opened = causal.open_graph(path)
    if node_share is not None:
        opened = causal.prune(opened, node_share=node_share)
    rows = [_path(opened, source, target) for source, target in causal.top_paths(opened, paths)]
    if out is not None:
        causal.write_graph(out, opened.to_json())
    counts = {str(name): int(n) for name, n in opened.nodes["type"].value_counts(sort=False).items()}
    record: dict[str, Any] = {
        "path": str(path),
        "slug": opened.metadata.get("slug"),
        "scan": opened.metadata.get("scan"),
    }
    record |= {"layers": opened.n_layers, "position": opened.position, "nodes": counts, "tokens": opened.tokens}
    record |= {"links": int((opened.edges != 0).sum()), "completeness": opened.completeness, "paths": rows}
    record |= {"out": None if out is None else str(out)}

    def print_text() -> None:
        nodes = ", ".join(f"{n} {name}" for name, n in counts.items())
        print(f"{path}: {nodes}; {record['links']} links, completeness {opened.completeness:.3f}")
        if rows:
            print_table(pd.DataFrame(rows))

    emit(record, as_json, print_text)


def _path(opened: OpenedGraph, source: int, target: int) -> dict[str, Any]:
    return {"source": opened.ids[source], "target": opened.ids[target], "weight": float(opened.edges[target, source])}
