"""`cotlens causal`: test whether what can be read is also used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from interp.commands.attribute import attribute
from interp.commands.causal_options import BATCH_DEFAULTS, BatchOptions, figure, measured, records, result_of
from interp.commands.faithfulness import faithfulness
from interp.commands.follow import follow
from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.monitor import monitor
from interp.commands.options import OldName, with_options
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Edit a model's thoughts while it thinks, and test whether the answer follows. Controls are included.")

app.command("faithfulness")(faithfulness)
app.command("attribute")(attribute)
app.command("follow")(follow)
app.command("monitor")(monitor)

DonorSource = Literal["auto", "others", "rewrites"]
SWAP_DEFAULTS = BatchOptions(batch_size=128)


@app.command("interchange")
@with_options
def interchange(
    model: Model,
    options: BatchOptions = BATCH_DEFAULTS,
    address: Annotated[
        str,
        typer.Option(help="Where to edit: a hook name, `everything`, or `cache` (keys and values)."),
        OldName("--site"),
    ] = "blocks.0.hook_in",
    offset: Annotated[int, typer.Option(help="Thoughts after the step's last one; negative is before it.")] = 0,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="Edit to run, such as 'other value'. Repeatable. Default: the usual five."),
        OldName("--kind"),
    ] = None,
    donors: Annotated[
        DonorSource, typer.Option(help="Donors: other problems (others) or rewrites of the same problem (rewrites).")
    ] = "auto",
    read: Annotated[bool, typer.Option(help="Use the values that a probe reads instead of the gold ones.")] = False,
    subspace: Annotated[bool, typer.Option(help="Swap only within the span of the values' mean states.")] = False,
    layer_map: Annotated[
        bool, typer.Option("--map", help="Test every address at offsets -1, 0 and 1 instead.")
    ] = False,
    used_map: Annotated[bool, typer.Option(help="Show which thought carries which step's value instead.")] = False,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Swap each thought for a donor's and test whether the answer follows the donor's value.

    Controls: donors of the same value, swaps at wrong places, random vectors.
    """
    from interp import causal
    from interp.errors import UsageError

    if layer_map and used_map:
        raise UsageError("expected one of --map and --used-map, got both; ask for one of them.")
    reasoner, problems = options.load(loading, model)
    seed, batch_size = options.seed, options.batch_size
    with Bars() as bars, bars.stage(f"interchange on {reasoner.name}") as report:
        if used_map:
            swaps = causal.swap_each_thought(reasoner, problems, source=donors, seed=seed, batch_size=batch_size)
            _emit_cells(result_of(reasoner, problems, seed), causal.used_map(swaps), as_json)
            return
        traces = reasoner.think(problems, batch_size=batch_size)
        if layer_map:
            cells = causal.layer_map(reasoner, traces, seed=seed, batch_size=batch_size, progress=report)
            _emit_cells(result_of(reasoner, problems, seed), cells, as_json)
            return
        learn, edited = (
            causal.structure_disjoint_split(traces, len(traces) // 2) if read or subspace else (traces, traces)
        )
        location = {"address": address, "offset": offset}
        values, right = causal.read_values(reasoner, learn, edited, **location) if read else (None, None)
        result = causal.interchange(
            reasoner,
            edited,
            **location,
            edits=edit or [*causal.EDITS, *(["random subspace"] if subspace else [])],
            donors=causal.donors_for(reasoner, edited, source=donors, seed=seed, values=values),
            values=values,
            basis=causal.value_basis(reasoner, learn, **location) if subspace else None,
            seed=seed,
            batch_size=batch_size,
            progress=report,
        )
    verdict, contract, table = result.verdict(), result.contract(), _rates(result.summary())
    record = result_of(reasoner, problems, seed, **location, donors=result.donors, read_right=right)
    record |= {
        "rates": records(table),
        "contract": {name: measured(estimate) for name, estimate in contract.items()},
        "verdict": verdict.name,
        "why": verdict.why,
    }

    def print_text() -> None:
        print_table(table)
        for name, estimate in contract.items():
            print(f"{name}: {figure(estimate)}")
        print(f"verdict: {verdict.name} ({verdict.why})")

    emit(record, as_json, print_text)


def _emit_cells(record: dict[str, Any], table: Any, as_json: bool) -> None:
    emit(record | {"cells": records(table)}, as_json, lambda: print_table(table))


def _rates(summary: Any) -> Any:
    """Return a summary with each interval in one column, which is narrower to print."""
    intervals = {
        "followed_ci": [list(ci) for ci in summary[["ci_low", "ci_high"]].to_numpy().tolist()],
        "changed_ci": [list(ci) for ci in summary[["change_low", "change_high"]].to_numpy().tolist()],
    }
    table = summary.rename(columns={"follow_rate": "followed", "change_rate": "changed"}).assign(**intervals)
    return table[["edit", "step", "followed", "followed_ci", "chance", "changed", "changed_ci", "n"]]


@app.command("ablate")
@with_options
def ablate(
    model: Model,
    options: BatchOptions = BATCH_DEFAULTS,
    arm: Annotated[list[str] | None, typer.Option(help="Arm of the battery. Repeatable. Default: all.")] = None,
    frozen_after: Annotated[int, typer.Option(help="The thought that the arm `frozen` keeps.")] = 1,
    margin: Annotated[float, typer.Option(help="Difference of accuracy that counts.")] = 0.1,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Empty, replace, shuffle, freeze or drop thoughts, and decide whether their content or only their compute counts.

    There is no verdict when the sample is too small to support one.
    """
    from interp import causal

    reasoner, problems = options.load(loading, model)
    with Bars() as bars, bars.stage(f"ablation of {reasoner.name}") as report:
        battery = causal.ablate(
            reasoner,
            problems,
            arms=arm,
            frozen_after=frozen_after,
            seed=options.seed,
            batch_size=options.batch_size,
            progress=report,
        )
    table = battery.summary()
    complete = set(causal.NEEDED) <= set(table["arm"])
    content = causal.content_or_compute(battery, margin=margin) if complete else None
    record = result_of(reasoner, problems, options.seed, address=battery.address, arms=records(table))
    record["content"] = None if content is None else content.to_dict()

    def print_text() -> None:
        print_table(table)
        if content is None:
            print(f"no verdict: it needs the arms {', '.join(causal.NEEDED)}")
        else:
            print(f"verdict: {content.verdict} ({content.why}); delta {content.delta}")

    emit(record, as_json, print_text)


@app.command("steer")
@with_options
def steer(
    model: Model,
    options: BatchOptions = BATCH_DEFAULTS,
    address: Annotated[str, typer.Option(help="Hook name at which to push."), OldName("--site")] = "blocks.0.hook_in",
    offset: Annotated[int, typer.Option(help="Thoughts after the step's last one; negative is before it.")] = 0,
    dose: Annotated[
        list[float] | None, typer.Option(help="Multiple of the direction. Repeatable. Default: 0.5, 1, 2, 4, 8.")
    ] = None,
    mode: Annotated[
        Literal["add", "set"],
        typer.Option(help="add: add the direction. set: remove the present value first."),
    ] = "set",
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Push thoughts towards a chosen value at several doses, and measure success and collateral.

    The control is a random direction of the same length. The dose is chosen on other problems.
    """
    from interp import causal
    from interp.errors import UsageError

    reasoner, problems = options.load(loading, model)
    seed, batch_size = options.seed, options.batch_size
    with Bars() as bars, bars.stage(f"steering {reasoner.name}") as report:
        traces = reasoner.think(problems, batch_size=batch_size)
        if options.task is None:
            # Directions of every step of every length need more problems than the edits do.
            learn = reasoner.think(reasoner.task.generate(1000, seed=seed, split="train"), batch_size=batch_size)
            others = traces
        else:
            learn, others = causal.structure_disjoint_split(traces, int(len(traces) * 0.6))
        val, test = causal.structure_disjoint_split(others, len(others) // 3)
        if not len(val) or not len(test):
            raise UsageError(
                f"expected problems to fit directions, choose a dose and test, got {len(traces)}, which are too few; "
                "ask for more."
            )
        directions = causal.Directions.fit(reasoner, learn, address=address, offset=offset)
        result = causal.steer(
            reasoner,
            val,
            test,
            directions,
            doses=dose or causal.DOSES,
            mode=mode,
            seed=seed,
            batch_size=batch_size,
            progress=report,
        )
    table = result.summary()
    success, random = result.rate("steer", "followed"), result.rate("random direction", "followed")
    collateral = result.collateral()
    record = result_of(reasoner, problems, seed, address=address, offset=offset, mode=mode, doses=records(table))
    record |= {
        "best": result.best,
        "success": measured(success),
        "random_direction": measured(random),
        "collateral": measured(collateral),
    }

    def print_text() -> None:
        print_table(table)
        print(f"dose {result.best:g}: success {figure(success)}, collateral {figure(collateral)}, ")
        print(f"random direction {figure(random)}")

    emit(record, as_json, print_text)


@app.command("swap")
@with_options
def swap(
    reader: Annotated[str, typer.Argument(help="The reasoner that reads.")],
    writer: Annotated[str, typer.Argument(help="The reasoner whose reasoning is read.")],
    options: BatchOptions = SWAP_DEFAULTS,
    latents: Annotated[bool, typer.Option(help="Pass latents through a ridge map instead of the text.")] = False,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Let one reasoner answer after another's chain of thought, or with its latents.

    Controls: another problem's reasoning, and the question only.
    """
    from interp import causal

    reading, problems = options.load(loading, reader)
    writing = loading.load(writer)
    seed, batch_size = options.seed, options.batch_size
    with Bars() as bars, bars.stage(f"{reading.name} reads {writing.name}"):
        if latents:
            cut = int(len(problems) * 0.75)
            used = {problem.structure for problem in problems[:cut]}
            tested = [problem for problem in problems[cut:] if problem.structure not in used]
            answers = causal.swap_latents(reading, writing, problems[:cut], tested, seed=seed, batch_size=batch_size)
        else:
            answers = causal.swap_text(reading, writing, problems, seed=seed, batch_size=batch_size)
    table = causal.swap_summary(answers)
    record = result_of(reading, problems, seed, writer=writing.name, latents=latents, arms=records(table))
    emit(record, as_json, lambda: print_table(table))
