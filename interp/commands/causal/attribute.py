"""`cotlens causal attribute`: attribution graphs, tested by intervention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.causal.options import PROBLEM_DEFAULTS, ProblemOptions, records, result_of
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.errors import counted
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.files import refuse_results

if TYPE_CHECKING:
    from sae_lens import Transcoder

    from interp.reasoners import Reasoner
    from interp.traces import TraceSet


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
    neurons: Annotated[
        int | None,
        typer.Option(help="Take the MLPs' own neurons as features, this many in a graph; nothing is trained.", min=1),
    ] = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Build attribution graphs over transcoder features or neurons, and test their paths by intervention.

    Example: cotlens causal attribute chain-text --prompts 2 --neurons 200 --out runs/graphs
    """
    import pandas as pd

    from interp import causal
    from interp.errors import checked_count

    checked_count("prompts", prompts)
    refuse_results(out, "*.json")
    given = options.problem_set(load_options, model)
    reasoner, seed = given.reasoner, options.seed
    transcoders = None
    with Bars() as bars:
        if neurons is not None:
            test = given.think(given.problems, batch_size=256)
        else:
            with bars.stage(f"transcoders of {reasoner.name}") as report:
                learn, test = (given.think(part, batch_size=256) for part in given.split(0.8, n_more=1500))
                transcoders = causal.transcoders_of(
                    reasoner, learn, seed=seed, progress=report, d_sae=features, sparsity=sparsity, updates=updates
                )
        with bars.stage("graphs and interventions") as report:
            replacement = {} if transcoders is None else _replacement(reasoner, test, transcoders)
            traced, shown = type(test)(list(test)[:prompts]), neurons or causal.NEURONS
            graphs, paths = causal.trace_prompts(
                reasoner, traced, transcoders, seed=seed, neurons=shown, progress=report
            )
    files = []
    for row in records(graphs) if out is not None else []:
        graph = causal.prune(
            causal.attribute(reasoner, traced[row["trace"]], row["position"], transcoders, neurons=shown)
        )
        slug = f"{reasoner.name}-{row['trace']}".replace("/", "-")
        path = Path(str(out)) / f"{slug}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        causal.write_graph(path, causal.graph_json(graph, reasoner, slug=slug))
        files.append(path)
    shares = causal.shares(paths)
    satisfying = int(graphs["satisfying"].sum())
    record = result_of(
        given,
        features="transcoder" if transcoders else "neuron",
        **replacement,
        paths=records(shares),
        satisfying={"hits": satisfying, "prompts": len(graphs)},
        graphs=records(graphs),
        files=files,
    )

    def print_text() -> None:
        if replacement:
            print_table(pd.DataFrame(replacement["transcoders"]))
            print_table(pd.DataFrame([replacement["replacement_agreement"]]))
            silenced = replacement["silenced_agreement"]
            print(
                f"(share of next tokens on which replacement and model agree; {silenced:.3f} with every MLP silenced)"
            )
        print_table(shares)
        print(
            "(path: ranked by what norms leave of their edges; edge: ranked by edges alone; frozen: those with attention "
            "patterns and norm scales frozen; random: another feature of the layer; random here: and of the position)"
        )
        print(f"satisfying graphs: {satisfying} of {counted(len(graphs), 'prompt')}")

    emit(record, as_json, print_text)


def _replacement(reasoner: Reasoner, test: TraceSet, transcoders: list[Transcoder]) -> dict[str, Any]:
    """Return how well transcoders replace the MLPs: quality of each, and agreement of the whole with the model."""
    from interp import causal

    agreement = causal.agreement(reasoner, test, transcoders)
    agreed = causal.shares(agreement.assign(test="replacement", confirmed=agreement["agrees"]))
    return {
        "transcoders": records(causal.quality(reasoner, test, transcoders)),
        "replacement_agreement": records(agreed)[0],
        "silenced_agreement": causal.agreement(reasoner, test, None)["agrees"].mean(),
    }
