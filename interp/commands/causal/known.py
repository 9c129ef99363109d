"""`cotlens causal heads` and `cotlens causal task-vector`: known results that any tool has to find again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.causal.options import records
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.results import ResultFile, write_result

_SHOWN_HEADS = 15


@with_options
def heads(
    model: Model,
    n: Annotated[int, typer.Option(help="Sequences: half of them choose the heads, the others are reported.")] = 20,
    length: Annotated[int, typer.Option(help="Random tokens of a sequence before they are repeated.")] = 50,
    threshold: Annotated[
        float, typer.Option(help="Attention to the token after the same token, above its control, of a chosen head.")
    ] = 0.4,
    seed: Annotated[int, typer.Option(help="Seed of the tokens and of the control heads.")] = 0,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Find induction heads on repeated random tokens, and ablate them beside as many other heads.

    Example: cotlens causal heads smollm2
    """
    from interp import causal

    reasoner = load_options.load(model, note=False)
    with Bars() as bars, bars.stage("induction heads") as report:
        result = causal.induction_heads(reasoner, n, length=length, threshold=threshold, seed=seed, progress=report)
    chosen = int(result.heads["chosen"].sum())
    record = {"model": reasoner.name, "weights": reasoner.weights, "n": n, "length": length, "threshold": threshold}
    record |= {"seed": seed, "interval": "95 %", "n_chosen": chosen, "n_heads": len(result.heads)}
    record |= {"heads": records(result.heads), "ablations": records(result.ablations)}

    def print_text() -> None:
        print_table(result.heads.head(max(chosen, _SHOWN_HEADS)))
        print(f"\n{chosen} of {len(result.heads)} heads are chosen. Loss in nats a token:")
        print_table(result.ablations)
        if not chosen:
            print("no head is an induction head by this threshold, so none is ablated")

    write_result(out, "causal heads", reasoner.describe(), record)
    emit(record, as_json, print_text)


@with_options
def task_vector(
    model: Model,
    pairs: Annotated[
        Path | None,
        typer.Option(help='Tasks of your own, as JSON: {"capital": [["France", "Paris"], ...]}. Four are built in.'),
    ] = None,
    shots: Annotated[int, typer.Option(help="Worked examples of a prompt.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the examples.")] = 0,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Put the state after worked examples into a query without examples, and test whether the task is done.

    Example: cotlens causal task-vector smollm2
    """
    from interp import causal

    tasks = causal.WORD_PAIRS if pairs is None else causal.read_pairs(pairs)
    reasoner = load_options.load(model, note=False)
    with Bars() as bars, bars.stage("task vectors") as report:
        table = causal.task_vectors(reasoner, tasks, shots=shots, seed=seed, progress=report)
    record: dict[str, Any] = {"model": reasoner.name, "weights": reasoner.weights}
    record |= {"shots": shots, "seed": seed, "interval": "95 %"}

    def print_text() -> None:
        print_table(causal.conditions_table(table))
        print("\nshares of queries answered rightly; the layer is chosen on other queries")

    record |= {"tasks": records(table)}
    write_result(out, "causal task-vector", reasoner.describe(), record)
    emit(record, as_json, print_text)
