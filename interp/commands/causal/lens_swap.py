"""`cotlens causal lens-swap`: exchange values in the space of a Jacobian lens, and test whether the answer follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from interp.commands.causal.options import BATCH_DEFAULTS, BatchOptions, chance_warning, figure, records, result_of
from interp.commands.layers import layer_numbers
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.results import ResultFile, write_result


@with_options
def lens_swap(
    model: Model,
    lens: Annotated[Path, typer.Option(help="File of a Jacobian lens of this model (`cotlens lens fit`).")],
    options: BatchOptions = BATCH_DEFAULTS,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="Layers of the lens to edit in, such as 0,2,4 or 0-3.", show_default="chosen on other problems"
        ),
    ] = None,
    offset: Annotated[
        int | None,
        typer.Option(help="Positions after the step's last thought.", show_default="0 or -1, chosen on other problems"),
    ] = None,
    mode: Annotated[
        Literal["clamp", "swap"],
        typer.Option(
            help="clamp: hold the exchanged coordinates in every layer. swap: exchange them in each, again and again."
        ),
    ] = "clamp",
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Exchange the value of each step with another one in the space of a Jacobian lens.

    Controls: two other values, a random change of the same length, and the same edit at the question.

    Example: cotlens causal lens-swap chain-coconut --lens lens.pt
    """
    from interp import causal
    from interp.decoders.jacobian.lens import JacobianLens
    from interp.errors import UsageError
    from interp.reasoners.needs import needs_thoughts

    chosen = layer_numbers(layers)
    given = options.problem_set(load_options, model)
    needs_thoughts(given.reasoner)
    reasoner, seed, batch_size = given.reasoner, options.seed, options.batch_size
    opened = JacobianLens.load(lens, reasoner)
    with Bars() as bars, bars.stage(f"swaps in the lens of {reasoner.name}") as report:
        val, test = (given.think(part, batch_size=batch_size) for part in given.split(0.4, n_more=120))
        if not len(val) or not len(test):
            raise UsageError(
                f"expected problems to choose the place and to test, got {len(given.problems)}, which are too few; ask for "
                "more."
            )
        warned = chance_warning(given, test)
        offsets = (0, -1) if offset is None else (offset,)
        place = causal.best_place(
            reasoner, val, opened, layers=chosen, offsets=offsets, mode=mode, seed=seed, batch_size=batch_size
        )
        used = tuple(sorted(set(chosen))) if chosen else place.layers
        result = causal.swap_values(
            reasoner,
            test,
            opened,
            layers=used,
            offset=place.offset,
            mode=mode,
            seed=seed,
            batch_size=batch_size,
            progress=report,
        )
    table = result.summary()
    record = result_of(given, **warned, lens=str(lens), layers=list(used), offset=place.offset, mode=mode)
    record |= {"rates": records(table), "followed": result.rate("value").measure_or_none()}

    def print_text() -> None:
        print_table(table)
        print(
            f"{mode} in layers {', '.join(map(str, used))} at offset {place.offset:+d}: {figure(result.rate('value'))}"
        )

    write_result(out, "causal lens-swap", reasoner.describe(), record)
    emit(record, as_json, print_text)
