"""`cotlens causal`: is what can be read also used?"""

from __future__ import annotations

from typing import Annotated

import typer

from interp.commands.asking import Batched, figure, measured, records, said
from interp.commands.attribute import attribute
from interp.commands.faithfulness import faithfulness
from interp.commands.follow import follow
from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.monitor import monitor
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Change what a model thinks while it thinks, and see whether the answer follows. Controls come with it.")

app.command("faithfulness")(faithfulness)
app.command("attribute")(attribute)
app.command("follow")(follow)
app.command("monitor")(monitor)


@app.command("interchange")
@with_options
def interchange(
    model: Model,
    asked: Batched = Batched(),
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
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Swap a thought for a donor's: follow, same-value, wrong-site, wrong-step and random-vector rates."""
    import interp.causal as causal
    from interp.errors import UsageError

    if layer_map and used_map:
        raise UsageError("--map and --used-map are two tables; ask for one of them.")
    reasoner, problems = asked.of(loading, model)
    with Bars() as bars, bars.stage(f"{reasoner.name} is edited") as report:
        if used_map:
            swaps = causal.swap_each_thought(
                reasoner, problems, source=donors, seed=asked.seed, batch_size=asked.batch_size
            )  # type: ignore[arg-type]
            table = causal.used_map(swaps)
            emit(said(reasoner, problems, asked.seed, cells=records(table)), as_json, lambda: print_table(table))
            return
        traces = reasoner.think(problems, batch_size=asked.batch_size)
        if layer_map:
            table = causal.layer_map(reasoner, traces, seed=asked.seed, batch_size=asked.batch_size, progress=report)
            emit(said(reasoner, problems, asked.seed, cells=records(table)), as_json, lambda: print_table(table))
            return
        learn, kept = (
            causal.structure_disjoint_split(traces, len(traces) // 2) if read or subspace else (traces, traces)
        )
        values, right = causal.read_values(reasoner, learn, kept, address=site, offset=offset) if read else (None, None)
        found = causal.interchange(
            reasoner,
            kept,
            address=site,
            offset=offset,
            edits=kind or [*causal.EDITS, *(["random subspace"] if subspace else [])],
            donors=causal.donors_for(reasoner, kept, source=donors, seed=asked.seed, values=values),  # type: ignore[arg-type]
            values=values,
            basis=causal.value_basis(reasoner, learn, address=site, offset=offset) if subspace else None,
            seed=asked.seed,
            batch_size=asked.batch_size,
            progress=report,
        )
    verdict = found.verdict()
    table = found.summary()
    result = said(
        reasoner,
        problems,
        asked.seed,
        site=site,
        offset=offset,
        donors=found.donors,
        read_right=right,
        rates=records(table),
        contract={name: measured(estimate) for name, estimate in found.contract().items()},
        verdict=verdict.name,
        why=verdict.why,
    )

    def human() -> None:
        print_table(table)
        for name, estimate in found.contract().items():
            print(f"{name}: {figure(estimate)}")
        print(f"verdict: {verdict.name} ({verdict.why})")

    emit(result, as_json, human)


@app.command("ablate")
@with_options
def ablate(
    model: Model,
    asked: Batched = Batched(),
    arm: Annotated[list[str] | None, typer.Option(help="arm of the battery; repeatable; all by default")] = None,
    frozen_after: Annotated[int, typer.Option(help="the thought that the frozen arm keeps")] = 1,
    margin: Annotated[float, typer.Option(help="the difference of accuracy that counts")] = 0.1,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Empty, replace, shuffle, freeze or drop thoughts; content or compute, where the sample can tell."""
    import interp.causal as causal

    reasoner, problems = asked.of(loading, model)
    with Bars() as bars, bars.stage(f"{reasoner.name} without its thoughts") as report:
        battery = causal.ablate(
            reasoner,
            problems,
            arms=arm,
            frozen_after=frozen_after,
            seed=asked.seed,
            batch_size=asked.batch_size,
            progress=report,
        )
    table = battery.summary()
    complete = set(causal.NEEDED) <= set(table["arm"])
    content = causal.content_or_compute(battery, margin=margin) if complete else None
    result = said(reasoner, problems, asked.seed, site=battery.address, arms=records(table))
    result["content"] = None if content is None else content.to_dict()

    def human() -> None:
        print_table(table)
        if content is None:
            print(f"no verdict: it needs the arms {', '.join(causal.NEEDED)}")
        else:
            print(f"verdict: {content.verdict} ({content.why}); delta {content.delta}")

    emit(result, as_json, human)


@app.command("steer")
@with_options
def steer(
    model: Model,
    asked: Batched = Batched(),
    site: Annotated[str, typer.Option(help="hook name at which to push")] = "blocks.0.hook_in",
    offset: Annotated[int, typer.Option(help="thoughts after the step's own (0)")] = 0,
    dose: Annotated[list[float] | None, typer.Option(help="multiple of the direction; repeatable")] = None,
    mode: Annotated[str, typer.Option(help="add the direction, or set it (take the present value away first)")] = "set",
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Push thoughts to a chosen value: dose-response, collateral, random directions. Dose chosen on other problems."""
    import interp.causal as causal
    from interp.errors import UsageError

    reasoner, problems = asked.of(loading, model)
    with Bars() as bars, bars.stage(f"{reasoner.name} is steered") as report:
        traces = reasoner.think(problems, batch_size=asked.batch_size)
        if asked.task is None:  # directions of every step of every length want more problems than edits do
            learn = reasoner.think(
                reasoner.task.generate(1000, seed=asked.seed, split="train"), batch_size=asked.batch_size
            )
            rest = traces
        else:
            learn, rest = causal.structure_disjoint_split(traces, int(len(traces) * 0.6))
        val, test = causal.structure_disjoint_split(rest, len(rest) // 3)
        if not len(val) or not len(test):
            raise UsageError(f"{len(traces)} problems are too few to fit, choose a dose and test; ask for more.")
        directions = causal.Directions.fit(reasoner, learn, address=site, offset=offset)
        found = causal.steer(
            reasoner,
            val,
            test,
            directions,
            doses=dose or causal.DOSES,
            mode=mode,  # type: ignore[arg-type]
            seed=asked.seed,
            batch_size=asked.batch_size,
            progress=report,
        )
    table = found.summary()
    result = said(reasoner, problems, asked.seed, site=site, offset=offset, mode=mode, doses=records(table))
    success, random = found.rate("steer", "followed"), found.rate("random direction", "followed")
    collateral = found.collateral()
    result |= {
        "best": found.best,
        "success": measured(success),
        "random_direction": measured(random),
        "collateral": measured(collateral),
    }

    def human() -> None:
        print_table(table)
        print(f"dose {found.best:g}: success {figure(success)}, collateral {figure(collateral)}, ")
        print(f"random direction {figure(random)}")

    emit(result, as_json, human)


@app.command("swap")
@with_options
def swap(
    reader: Annotated[str, typer.Argument(help="the reasoner that reads")],
    writer: Annotated[str, typer.Argument(help="the reasoner whose reasoning is read")],
    asked: Batched = Batched(batch_size=128),
    latents: Annotated[bool, typer.Option(help="latents through a ridge map, in place of the text")] = False,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """One reasoner answers on another's chain of thought, or on its latents; shuffled and question-only beside it."""
    import interp.causal as causal

    reading, problems = asked.of(loading, reader)
    writing = loading.load(writer)
    with Bars() as bars, bars.stage(f"{reading.name} reads {writing.name}"):
        if latents:
            cut = int(len(problems) * 0.75)
            used = {problem.structure for problem in problems[:cut]}
            rest = [problem for problem in problems[cut:] if problem.structure not in used]
            found = causal.swap_latents(
                reading, writing, problems[:cut], rest, seed=asked.seed, batch_size=asked.batch_size
            )
        else:
            found = causal.swap_text(reading, writing, problems, seed=asked.seed, batch_size=asked.batch_size)
    table = causal.swap_summary(found)
    result = said(reading, problems, asked.seed, writer=writing.name, latents=latents, arms=records(table))
    emit(result, as_json, lambda: print_table(table))
