"""`cotlens causal`: test whether what can be read is also used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from interp.commands.causal.attribute import attribute
from interp.commands.causal.edit import edit as edit_command
from interp.commands.causal.faithfulness import faithfulness
from interp.commands.causal.follow import follow
from interp.commands.causal.graph import graph
from interp.commands.causal.known import heads, task_vector
from interp.commands.causal.lens_swap import lens_swap
from interp.commands.causal.monitor import monitor
from interp.commands.causal.options import BATCH_DEFAULTS, BatchOptions, chance_warning, figure, records, result_of
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import OldName, with_options
from interp.commands.problem_options import ProblemSet
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.results import ResultFile, write_result

app = new_app("Edit a model's thoughts while it thinks, and test whether the answer follows. Controls are included.")

DonorSource = Literal["auto", "others", "rewrites"]
SWAP_DEFAULTS = BatchOptions(batch_size=128)


@app.command("interchange")
@with_options
def interchange(
    model: Model,
    options: BatchOptions = BATCH_DEFAULTS,
    address: Annotated[
        str | None,
        typer.Option(
            help="Where to edit: a hook name, `everything`, or `cache` (keys and values).",
            show_default="the input of the first block for continuous thoughts and words, which are fed there; otherwise everything",
        ),
        OldName("--site"),
    ] = None,
    offset: Annotated[int, typer.Option(help="Thoughts after the step's last one; negative is before it.")] = 0,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="Edit to run, such as 'other value'. Repeatable.", show_default="the usual five"),
        OldName("--kind"),
    ] = None,
    donors: Annotated[
        DonorSource, typer.Option(help="Donors: other problems (others) or rewrites of the same problem (rewrites).")
    ] = "auto",
    read: Annotated[
        bool, typer.Option("--read", help="Use the values that a probe reads instead of the gold ones.")
    ] = False,
    subspace: Annotated[
        bool, typer.Option("--subspace", help="Swap only within the span of the values' mean states.")
    ] = False,
    layer_map: Annotated[
        bool, typer.Option("--map", help="Test every address at offsets -1, 0 and 1 instead.")
    ] = False,
    used_map: Annotated[
        bool, typer.Option("--used-map", help="Show which thought carries which step's value instead.")
    ] = False,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Swap each thought for a donor's and test whether the answer follows the donor's value.

    Controls: donors of the same value, swaps at wrong places, random vectors. A model that answers at once is edited
    where its answer begins; name an --address there, because all of them together are the whole of the answer.

    Example: cotlens causal interchange chain-coconut --traces runs/traces.parquet --read
    """
    from interp import causal
    from interp.errors import UsageError
    from interp.reasoners.needs import needs_thoughts

    if layer_map and used_map:
        raise UsageError("expected one of --map and --used-map, got both; ask for one of them.")
    given = options.problem_set(load_options, model)
    reasoner, seed, batch_size = given.reasoner, options.seed, options.batch_size
    if used_map:
        needs_thoughts(reasoner)
    address = address or causal.input_address(reasoner)
    with Bars() as bars, bars.stage(f"interchange on {reasoner.name}") as report:
        if used_map:
            swaps = causal.swap_each_thought(reasoner, given.problems, source=donors, seed=seed, batch_size=batch_size)
            _emit_cells(given, "used map", out, {}, causal.used_map(swaps), as_json)
            return
        traces = given.think(batch_size=batch_size)
        warned = chance_warning(given, traces)
        if layer_map:
            cells = causal.layer_map(reasoner, traces, seed=seed, batch_size=batch_size, progress=report)
            _emit_cells(given, "layer map", out, warned, cells, as_json)
            return
        learn, edited = traces, traces
        if read or subspace:
            learn, edited = (given.think(part, batch_size=batch_size) for part in given.split(0.5))
        location: dict[str, Any] = {"address": address, "offset": offset}
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
    record = result_of(given, **warned, **location, donors=result.donors, read_right=right)
    record |= {
        "rates": records(table),
        "contract": {name: estimate.measure_or_none() for name, estimate in contract.items()},
        "verdict": verdict.name,
        "why": verdict.why,
        "claim": verdict.claim,
    }
    write_result(out, "causal interchange", reasoner.describe(), record)

    def print_text() -> None:
        print_table(table.assign(step=table["step"].map(lambda step: step or "all")))
        for name, estimate in contract.items():
            print(f"{name}: {figure(estimate)}")
        print(f"verdict: {verdict.name} ({verdict.why}): {verdict.claim}")

    emit(record, as_json, print_text)


def _emit_cells(
    given: ProblemSet, name: str, out: Path | None, warned: dict[str, Any], table: Any, as_json: bool
) -> None:
    record = result_of(given, **warned) | {"cells": records(table)}
    write_result(out, f"causal {name}", given.reasoner.describe(), record)
    emit(record, as_json, lambda: print_table(table))


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
    arm: Annotated[
        list[str] | None, typer.Option(help="Arm of the battery. Repeatable.", show_default="every arm")
    ] = None,
    frozen_after: Annotated[int, typer.Option(help="The thought that the arm `frozen` keeps.")] = 1,
    margin: Annotated[float, typer.Option(help="Difference of accuracy that counts.")] = 0.1,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Empty, replace, shuffle, freeze or drop thoughts, and decide whether their content or only their compute counts.

    There is no verdict when the sample is too small to support one.

    Example: cotlens causal ablate chain-coconut --n 300
    """
    from interp import causal

    given = options.problem_set(load_options, model)
    with Bars() as bars, bars.stage(f"ablation of {given.reasoner.name}") as report:
        battery = causal.ablate(
            given.reasoner,
            given.problems,
            arms=arm,
            frozen_after=frozen_after,
            seed=options.seed,
            batch_size=options.batch_size,
            progress=report,
        )
    table = battery.summary()
    complete = set(causal.NEEDED) <= set(table["arm"])
    content = causal.content_or_compute(battery, margin=margin) if complete else None
    record = result_of(given, address=battery.address, arms=records(table))
    record["content"] = None if content is None else content.to_dict()
    write_result(out, "causal ablate", given.reasoner.describe(), record)

    def print_text() -> None:
        print_table(table)
        if content is None:
            print(f"no verdict: it needs the arms {', '.join(causal.NEEDED)}")
        else:
            print(f"verdict: {content.verdict} ({content.why}): {content.claim}")
            print(f"delta {content.delta}, {content.share:.0%} of the accuracy")

    emit(record, as_json, print_text)


@app.command("steer")
@with_options
def steer(
    model: Model,
    options: BatchOptions = BATCH_DEFAULTS,
    address: Annotated[
        str | None,
        typer.Option(
            help="Hook name at which to push.",
            show_default="the input of the first block for continuous thoughts and words, which are fed there; otherwise the output of the middle block",
        ),
        OldName("--site"),
    ] = None,
    offset: Annotated[int, typer.Option(help="Thoughts after the step's last one; negative is before it.")] = 0,
    dose: Annotated[
        list[float] | None, typer.Option(help="Multiple of the direction. Repeatable.", show_default="0.5, 1, 2, 4, 8")
    ] = None,
    mode: Annotated[
        Literal["add", "set"],
        typer.Option(help="add: add the direction. set: remove the present value first."),
    ] = "set",
    n_fit: Annotated[
        int, typer.Option(help="Training problems of the reasoner's own task to fit the directions on.")
    ] = 1000,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Push thoughts towards a chosen value at several doses, and measure success and collateral.

    A model that answers at once is pushed where its answer begins.

    The control is a random direction of the same length. The dose is chosen on other problems.

    Example: cotlens causal steer chain-coconut --n 200 --dose 1 --dose 2
    """
    from interp import causal
    from interp.errors import UsageError, checked_count

    checked_count("n_fit", n_fit)
    given = options.problem_set(load_options, model)
    reasoner, seed, batch_size = given.reasoner, options.seed, options.batch_size
    address = address or causal.steering_address(reasoner)
    with Bars() as bars, bars.stage(f"steering {reasoner.name}") as report:
        # Directions of every step of every length need more problems than the edits do.
        learn, others = (given.think(part, batch_size=batch_size) for part in given.split(0.6, n_more=n_fit))
        if given.fitted.get("val"):
            val, test = given.think(given.fitted["val"], batch_size=batch_size), others
        else:
            val, test = causal.structure_disjoint_split(others, len(others) // 3)
        if not len(learn) or not len(val) or not len(test):
            raise UsageError(
                f"expected problems to fit directions, choose a dose and test, got {len(given.problems)}, which are "
                "too few; ask for more."
            )
        warned = chance_warning(given, test)
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
    record = result_of(given, **warned, address=address, offset=offset, mode=mode, doses=records(table))
    record |= {
        "best": result.best,
        "success": success.measure_or_none(),
        "random_direction": random.measure_or_none(),
        "collateral": collateral.measure_or_none(),
    }
    write_result(out, "causal steer", reasoner.describe(), record)

    def print_text() -> None:
        print_table(table)
        print(f"dose {result.best:g}: success {figure(success)}, collateral {figure(collateral)}")
        print(f"random direction {figure(random)}")

    emit(record, as_json, print_text)


@app.command("swap")
@with_options
def swap(
    reader: Annotated[str, typer.Argument(help="The reasoner that reads.")],
    writer: Annotated[str, typer.Argument(help="The reasoner whose reasoning is read.")],
    options: BatchOptions = SWAP_DEFAULTS,
    latents: Annotated[
        bool, typer.Option("--latents", help="Pass latents through a ridge map instead of the text.")
    ] = False,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Let one reasoner answer after another's chain of thought, or with its latents.

    Controls: another problem's reasoning, and the question only.

    Example: cotlens causal swap chain-coconut chain-coconut-hard --latents --n 200
    """
    from interp import causal

    given = options.problem_set(load_options, reader)
    reading, writing = given.reasoner, load_options.load(writer)
    seed, batch_size = options.seed, options.batch_size
    with Bars() as bars, bars.stage(f"{reading.name} reads {writing.name}"):
        if latents:
            learn, tested = given.split(0.75)
            answers = causal.swap_latents(reading, writing, learn, tested, seed=seed, batch_size=batch_size)
        else:
            answers = causal.swap_text(reading, writing, given.problems, seed=seed, batch_size=batch_size)
    table = causal.swap_summary(answers)
    record = result_of(given, writer=writing.name, latents=latents, arms=records(table))
    write_result(out, "causal swap", reading.describe(), record)
    emit(record, as_json, lambda: print_table(table))


# After the battery, which most people look for: the help lists commands in this order.
app.command("edit")(edit_command)
app.command("faithfulness")(faithfulness)
app.command("attribute")(attribute)
app.command("graph")(graph)
app.command("follow")(follow)
app.command("heads")(heads)
app.command("task-vector")(task_vector)
app.command("lens-swap")(lens_swap)
app.command("monitor")(monitor)
