"""`cotlens causal attribute`: attribution graphs, tried by intervention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.commands.asking import ProblemOptions, records, said
from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table


@with_options
def attribute(
    model: Model,
    asked: ProblemOptions = ProblemOptions(),
    out: Annotated[
        Path | None, typer.Option(help="folder for one graph file a prompt, for circuit-tracer's viewer")
    ] = None,
    prompts: Annotated[int, typer.Option(help="held-out prompts to trace")] = 10,
    features: Annotated[int, typer.Option(help="features of each block's transcoder")] = 512,
    sparsity: Annotated[float, typer.Option(help="weight of the sparsity penalty")] = 1.5e-2,
    updates: Annotated[int, typer.Option(help="updates of each transcoder")] = 800,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Attribution graphs over transcoder features; agreement of the replacement, paths tried by intervention."""
    import interp.causal as causal
    from interp.errors import checked_count

    checked_count("prompts", prompts)
    reasoner, problems = asked.of(loading, model)
    learn_task = reasoner.task if asked.task is None else None
    with Bars() as bars:
        with bars.stage(f"transcoders of {reasoner.name}") as report:
            traces = reasoner.think(problems, batch_size=256)
            learn, test = causal.structure_disjoint_split(traces, int(len(traces) * 0.8))
            if learn_task is not None:
                learn = reasoner.think(learn_task.generate(1500, seed=asked.seed, split="train"), batch_size=256)
            transcoders = causal.transcoders_of(
                reasoner, learn, seed=asked.seed, progress=report, d_sae=features, sparsity=sparsity, updates=updates
            )
        with bars.stage("graphs and interventions") as report:
            agrees = causal.agreement(reasoner, test, transcoders)
            silenced = causal.agreement(reasoner, test, None)
            few = type(test)(list(test)[:prompts])
            graphs, paths = causal.trace_prompts(reasoner, few, transcoders, seed=asked.seed, progress=report)
    files = []
    for row in graphs.to_dict("records") if out is not None else []:
        graph = causal.prune(causal.attribute(reasoner, few[row["trace"]], row["position"], transcoders))
        slug = f"{reasoner.name}-{row['trace']}".replace("/", "-")
        path = Path(str(out)) / f"{slug}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        causal.write_graph(path, causal.graph_json(graph, reasoner, slug=slug))
        files.append(path)
    shares = causal.shares(paths)
    agreed = causal.shares(agrees.assign(kind="replacement", confirmed=agrees["agrees"]))
    result = said(
        reasoner,
        problems,
        asked.seed,
        transcoders=records(causal.quality(reasoner, test, transcoders)),
        replacement_agreement=records(agreed)[0],
        silenced_agreement=silenced["agrees"].mean(),
        paths=records(shares),
        satisfying={"hits": int(graphs["satisfying"].sum()), "prompts": len(graphs)},
        graphs=records(graphs),
        files=files,
    )

    def human() -> None:
        print_table(causal.quality(reasoner, test, transcoders))
        print_table(agreed)
        print("(next tokens of the replacement that are the model's own; ", end="")
        print(f"with every MLP silenced {silenced['agrees'].mean():.3f})")
        print_table(shares)
        print(f"satisfying graphs: {result['satisfying']['hits']} of {len(graphs)} prompts")

    emit(result, as_json, human)
