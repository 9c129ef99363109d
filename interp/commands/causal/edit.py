"""`cotlens causal edit`: exchange one thought of one problem for a chosen value, and see what the model thinks and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import OldName, with_options
from interp.runtime.console import AsJson, emit, print_table
from interp.runtime.results import ResultFile, write_result


@with_options
def edit(
    model: Model,
    traces: Annotated[Path, typer.Argument(help="Parquet file of traces of this model, which also give donors.")],
    trace: Annotated[int, typer.Option(help="Number of the trace in the file, from 0.", min=0)],
    change: Annotated[str, typer.Option(help="Step and the value that it gets, such as 3:7."), OldName("--edit")],
    address: Annotated[
        str | None,
        typer.Option(help="Where to edit, as for `causal interchange`. A text's words are replaced instead."),
    ] = None,
    offset: Annotated[int, typer.Option(help="Thoughts after the step's last one; negative is before it.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the donors, wrong places and noise.")] = 0,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Exchange one thought of one problem for a donor's that holds a chosen value, and answer again.

    Controls: a donor of the same value, the same donor at a wrong place, a random vector.

    Example: cotlens causal edit chain-coconut runs/traces.parquet --trace 0 --change 2:7
    """
    from interp import causal
    from interp.errors import UsageError
    from interp.traces import TraceSet

    step, colon, value = change.partition(":")
    if not colon or not step.isdecimal() or not value:
        raise UsageError(f"expected --change as STEP:VALUE, such as 3:7, got {change!r}.")
    every = TraceSet.from_parquet(traces)
    if trace >= len(every):
        raise UsageError(f"expected a trace from 0 to {len(every) - 1} of {traces}, got {trace}.")
    reasoner = load_options.load(model)
    reasoner.check_readable([every[trace]])
    if reasoner.thinks_in_text:
        if address is not None or offset:
            raise UsageError("expected no address for a thought that is text, got one; its words are replaced.")
        done = causal.edit_written_thought(reasoner, every, trace, int(step), value)
    else:
        done = causal.edit_thought(reasoner, every, trace, int(step), value, address=address, offset=offset, seed=seed)
    columns = ["edit", "donor_value", "predicted", "answer_before", "answer_after", "followed", "changed"]
    table = done.table[columns]
    record = {"reasoner": reasoner.name, "weights": reasoner.weights, "trace": trace, "step": done.step}
    record |= {"value": done.value, "predicted": done.predicted, "edits": table.to_dict("records"), "seed": seed}

    def print_text() -> None:
        print(f"{every[trace].problem.readable} It answers {every[trace].answer}.")
        print(f"If {done.value} at step {done.step} is used, the answer is {done.predicted}.\n")
        print_table(table)

    write_result(out, "causal edit", reasoner.describe(), record)
    emit(record, as_json, print_text)
