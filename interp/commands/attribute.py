"""`cotlens causal attribute`: attribution graphs, tested by intervention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.commands.causal_options import PROBLEM_DEFAULTS, ProblemOptions, records, result_of
from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table


@with_options
def attribute(
    model: Model,
    options: ProblemOptions = PROBLEM_DEFAULTS,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one graph file per prompt, for circuit-tracer's viewer.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="Held-out prompts to trace.")] = 10,
    features: Annotated[int, typer.Option(help="Features of each block's transcoder.")] = 512,
    sparsity: Annotated[float, typer.Option(help="Weight of the sparsity penalty.")] = 1.5e-2,
    updates: Annotated[int, typer.Option(help="Updates of each transcoder.")] = 800,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Build attribution graphs over transcoder features, and test their paths by intervention."""
    from interp import causal
    from interp.errors import checked_count

    checked_count("prompts", prompts)
    given = options.problem_set(loading, model)
    reasoner, seed = given.reasoner, options.seed
    with Bars() as bars:
        with bars.stage(f"transcoders of {reasoner.name}") as report:
            learn, test = (given.think(part, batch_size=256) for part in given.split(0.8, n_more=1500))
            transcoders = causal.transcoders_of(
                reasoner, learn, seed=seed, progress=report, d_sae=features, sparsity=sparsity, updates=updates
            )
        with bars.stage("graphs and interventions") as report:
            agreement = causal.agreement(reasoner, test, transcoders)
            silenced = causal.agreement(reasoner, test, None)["agrees"].mean()
            traced = type(test)(list(test)[:prompts])
            graphs, paths = causal.trace_prompts(reasoner, traced, transcoders, seed=seed, progress=report)
    files = []
    for row in records(graphs) if out is not None else []:
        graph = causal.prune(causal.attribute(reasoner, traced[row["trace"]], row["position"], transcoders))
        slug = f"{reasoner.name}-{row['trace']}".replace("/", "-")
        path = Path(str(out)) / f"{slug}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        causal.write_graph(path, causal.graph_json(graph, reasoner, slug=slug))
        files.append(path)
    quality = causal.quality(reasoner, test, transcoders)
    shares = causal.shares(paths)
    agreed = causal.shares(agreement.assign(test="replacement", confirmed=agreement["agrees"]))
    satisfying = int(graphs["satisfying"].sum())
    record = result_of(
        given,
        transcoders=records(quality),
        replacement_agreement=records(agreed)[0],
        silenced_agreement=silenced,
        paths=records(shares),
        satisfying={"hits": satisfying, "prompts": len(graphs)},
        graphs=records(graphs),
        files=files,
    )

    def print_text() -> None:
        print_table(quality)
        print_table(agreed)
        print(f"(share of next tokens on which replacement and model agree; {silenced:.3f} with every MLP silenced)")
        print_table(shares)
        print(f"satisfying graphs: {satisfying} of {len(graphs)} prompts")

    emit(record, as_json, print_text)
