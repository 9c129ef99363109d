"""`cotlens causal`: is what can be read also used?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.faithfulness import faithfulness
from interp.commands.models import AS_USUAL, Loading, loads_a_model
from interp.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Change what a model thinks while it thinks, and see whether the answer follows. Controls come with it.")

Model = Annotated[str, typer.Argument(help="a shipped organism, a folder or a hub id")]
TaskOption = Annotated[
    str | None, typer.Option("--task", help="as chain:n=300,seed=7; the reasoner's own task, n=200, by default")
]
Seed = Annotated[int, typer.Option(help="seed of donors, places and noise")]
Batch = Annotated[int, typer.Option(help="problems thought about at once")]
N_DEFAULT = 200

app.command("faithfulness")(faithfulness)


@app.command("interchange")
@loads_a_model
def interchange(
    model: Model,
    task: TaskOption = None,
    site: Annotated[
        str, typer.Option(help="hook name, `everything` or `cache` (keys and values)")
    ] = "blocks.0.hook_in",
    offset: Annotated[int, typer.Option(help="thoughts after the step's own (0); negative is before")] = 0,
    kind: Annotated[list[str] | None, typer.Option(help="kind of edit; repeatable; the usual five by default")] = None,
    donors: Annotated[str, typer.Option(help="auto, others (other problems) or rewrites (of the same one)")] = "auto",
    read: Annotated[bool, typer.Option(help="swap by the values that a probe reads, not by the gold ones")] = False,
    subspace: Annotated[bool, typer.Option(help="swap only within the span of the values' mean states")] = False,
    layer_map: Annotated[bool, typer.Option("--map", help="every address and offsets -1, 0, 1 instead")] = False,
    used_map: Annotated[bool, typer.Option(help="which thought carries which step's value instead")] = False,
    seed: Seed = 0,
    batch_size: Batch = 256,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Swap a thought for a donor's: follow, same-value, wrong-site, wrong-step and random-vector rates."""
    import interp.causal as causal
    from interp.errors import UsageError

    if layer_map and used_map:
        raise UsageError("--map and --used-map are two tables; ask for one of them.")
    reasoner, problems = _asked(loading, model, task)
    with Bars() as bars, bars.stage(f"{reasoner.name} is edited") as report:
        if used_map:
            swaps = causal.swap_each_thought(reasoner, problems, source=donors, seed=seed, batch_size=batch_size)  # type: ignore[arg-type]
            table = causal.used_map(swaps)
            emit(_said(reasoner, problems, seed, cells=_records(table)), as_json, lambda: print_table(table))
            return
        traces = reasoner.think(problems, batch_size=batch_size)
        if layer_map:
            table = causal.layer_map(reasoner, traces, seed=seed, batch_size=batch_size, progress=report)
            emit(_said(reasoner, problems, seed, cells=_records(table)), as_json, lambda: print_table(table))
            return
        learn, kept = causal.separated(traces, len(traces) // 2) if read or subspace else (traces, traces)
        values, right = causal.read_values(reasoner, learn, kept, site=site, offset=offset) if read else (None, None)
        found = causal.interchange_at(
            reasoner,
            kept,
            site=site,
            offset=offset,
            kinds=kind or [*causal.KINDS, *(["random subspace"] if subspace else [])],
            donors=causal.donors_for(reasoner, kept, source=donors, seed=seed, values=values),  # type: ignore[arg-type]
            values=values,
            basis=causal.value_basis(reasoner, learn, site=site, offset=offset) if subspace else None,
            seed=seed,
            batch_size=batch_size,
            progress=report,
        )
    verdict, why = causal.verdict(found)
    table = found.summary()
    result = _said(
        reasoner,
        problems,
        seed,
        site=site,
        offset=offset,
        donors=found.donors,
        read_right=right,
        rates=_records(table),
        contract=found.contract(),
        verdict=verdict,
        why=why,
    )

    def human() -> None:
        print_table(table)
        for name, each in found.contract().items():
            print(f"{name}: {_figure(each)}")
        print(f"verdict: {verdict} ({why})")

    emit(result, as_json, human)


@app.command("ablate")
@loads_a_model
def ablate(
    model: Model,
    task: TaskOption = None,
    arm: Annotated[list[str] | None, typer.Option(help="arm of the battery; repeatable; all by default")] = None,
    frozen_after: Annotated[int, typer.Option(help="the thought that the frozen arm keeps")] = 1,
    margin: Annotated[float, typer.Option(help="the difference of accuracy that counts")] = 0.1,
    seed: Seed = 0,
    batch_size: Batch = 256,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Empty, replace, shuffle, freeze or drop thoughts; content or compute, where the sample can tell."""
    import interp.causal as causal

    reasoner, problems = _asked(loading, model, task)
    with Bars() as bars, bars.stage(f"{reasoner.name} without its thoughts") as report:
        battery = causal.ablate(
            reasoner,
            problems,
            arms=arm,
            frozen_after=frozen_after,
            seed=seed,
            batch_size=batch_size,
            progress=report,
        )
    table = battery.summary()
    complete = set(causal.NEEDED) <= set(table["arm"])
    content = causal.content_or_compute(battery, margin=margin) if complete else None
    result = _said(reasoner, problems, seed, site=battery.site, arms=_records(table))
    result["content"] = None if content is None else content.__dict__

    def human() -> None:
        print_table(table)
        if content is None:
            print(f"no verdict: it needs the arms {', '.join(causal.NEEDED)}")
        else:
            print(
                f"verdict: {content.verdict} ({content.why}); delta {content.delta:.3f} {_interval(content.delta_ci)}"
            )

    emit(result, as_json, human)


@app.command("steer")
@loads_a_model
def steer(
    model: Model,
    task: TaskOption = None,
    site: Annotated[str, typer.Option(help="hook name at which to push")] = "blocks.0.hook_in",
    offset: Annotated[int, typer.Option(help="thoughts after the step's own (0)")] = 0,
    dose: Annotated[list[float] | None, typer.Option(help="multiple of the direction; repeatable")] = None,
    mode: Annotated[str, typer.Option(help="add the direction, or set it (take the present value away first)")] = "set",
    seed: Seed = 0,
    batch_size: Batch = 256,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Push thoughts to a chosen value: dose-response, collateral, random directions. Dose chosen on other problems."""
    import interp.causal as causal
    from interp.errors import UsageError

    reasoner, problems = _asked(loading, model, task)
    with Bars() as bars, bars.stage(f"{reasoner.name} is steered") as report:
        traces = reasoner.think(problems, batch_size=batch_size)
        learn, rest = causal.separated(traces, int(len(traces) * 0.6))
        val, test = causal.separated(rest, len(rest) // 3)
        if not len(val) or not len(test):
            raise UsageError(f"{len(traces)} problems are too few to fit, choose a dose and test; ask for more.")
        directions = causal.Directions.fit(reasoner, learn, site=site, offset=offset)
        found = causal.steer(
            reasoner,
            val,
            test,
            directions,
            doses=dose or causal.DOSES,
            mode=mode,  # type: ignore[arg-type]
            seed=seed,
            batch_size=batch_size,
            progress=report,
        )
    table = found.summary()
    result = _said(reasoner, problems, seed, site=site, offset=offset, mode=mode, doses=_records(table))
    result |= {
        "best": found.best,
        "success": found.rate("steer", "followed"),
        "random_direction": found.rate("random direction", "followed"),
        "collateral": found.collateral(),
    }

    def human() -> None:
        print_table(table)
        print(
            f"dose {found.best:g}: success {_figure(result['success'])}, collateral {_figure(result['collateral'])}, "
        )
        print(f"random direction {_figure(result['random_direction'])}")

    emit(result, as_json, human)


@app.command("attribute")
@loads_a_model
def attribute(
    model: Model,
    task: TaskOption = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for one graph file a prompt, for circuit-tracer's viewer")
    ] = None,
    prompts: Annotated[int, typer.Option(help="held-out prompts to trace")] = 10,
    features: Annotated[int, typer.Option(help="features of each block's transcoder")] = 512,
    sparsity: Annotated[float, typer.Option(help="weight of the sparsity penalty")] = 1.5e-2,
    updates: Annotated[int, typer.Option(help="updates of each transcoder")] = 800,
    seed: Seed = 0,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Attribution graphs over transcoder features; agreement of the replacement, paths tried by intervention."""
    import interp.causal as causal
    from interp.errors import checked_count

    checked_count("prompts", prompts)
    reasoner, problems = _asked(loading, model, task)
    learn_task = reasoner.task if task is None else None
    with Bars() as bars:
        with bars.stage(f"transcoders of {reasoner.name}") as report:
            traces = reasoner.think(problems, batch_size=256)
            learn, test = causal.separated(traces, int(len(traces) * 0.8))
            if learn_task is not None:
                learn = reasoner.think(learn_task.generate(1500, seed=seed, split="train"), batch_size=256)
            transcoders = causal.transcoders_of(
                reasoner, learn, seed=seed, progress=report, d_sae=features, sparsity=sparsity, updates=updates
            )
        with bars.stage("graphs and interventions") as report:
            agrees = causal.agreement(reasoner, test, transcoders)
            silenced = causal.agreement(reasoner, test, None)
            few = type(test)(list(test)[:prompts])
            graphs, paths = causal.trace_prompts(reasoner, few, transcoders, seed=seed, progress=report)
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
    result = _said(
        reasoner,
        problems,
        seed,
        transcoders=_records(causal.quality(reasoner, test, transcoders)),
        replacement_agreement=_records(agreed)[0],
        silenced_agreement=silenced["agrees"].mean(),
        paths=_records(shares),
        satisfying={"hits": int(graphs["satisfying"].sum()), "prompts": len(graphs)},
        graphs=_records(graphs),
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


@app.command("swap")
@loads_a_model
def swap(
    reader: Annotated[str, typer.Argument(help="the reasoner that reads")],
    writer: Annotated[str, typer.Argument(help="the reasoner whose reasoning is read")],
    task: TaskOption = None,
    latents: Annotated[bool, typer.Option(help="latents through a ridge map, in place of the text")] = False,
    seed: Seed = 0,
    batch_size: Batch = 128,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """One reasoner answers on another's chain of thought, or on its latents; shuffled and question-only beside it."""
    import interp.causal as causal

    reading, problems = _asked(loading, reader, task)
    writing = loading.load(writer)
    with Bars() as bars, bars.stage(f"{reading.name} reads {writing.name}"):
        if latents:
            cut = int(len(problems) * 0.75)
            used = {problem.structure for problem in problems[:cut]}
            rest = [problem for problem in problems[cut:] if problem.structure not in used]
            found = causal.swap_latents(reading, writing, problems[:cut], rest, seed=seed, batch_size=batch_size)
        else:
            found = causal.swap_text(reading, writing, problems, seed=seed, batch_size=batch_size)
    table = causal.swap_summary(found)
    result = _said(reading, problems, seed, writer=writing.name, latents=latents, arms=_records(table))
    emit(result, as_json, lambda: print_table(table))


def _asked(loading: Loading, model: str, task: str | None) -> tuple[Any, list]:
    from interp.commands.think import problems_of

    reasoner = loading.load(model)
    spec = task or reasoner.task.spec
    if not any(part.startswith("n=") for part in spec.partition(":")[2].split(",")):
        spec += ("," if ":" in spec else ":") + f"n={N_DEFAULT}"
    return reasoner, problems_of(spec)


def _said(reasoner: Any, problems: list, seed: int, **more: Any) -> dict[str, Any]:
    asked = {"task": problems[0].task, "n": len(problems), "split": problems[0].split}
    return {"reasoner": reasoner.name, "weights": reasoner.weights, **asked, "seed": seed, "interval": "95 %", **more}


def _records(table: Any) -> list[dict[str, Any]]:
    return table.to_dict("records")


def _figure(each: dict[str, Any]) -> str:
    if each["value"] is None:
        return "not measured"
    return f"{each['value']:.3f} {_interval(each['ci'])} (n = {each['n']})"


def _interval(ci: Any) -> str:
    return f"[{ci[0]:.3f}, {ci[1]:.3f}]"
