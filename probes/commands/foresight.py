"""`cotlens subtext foresight`, `compute` and `uncertainty`: wrong steps foreseen, thoughts used, and uncertainty held."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.reasoners.needs import needs_text
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.results import ResultFile, write_result
from probes.commands.options import SampledTraceOptions, Temperature, TraceOptions


@with_options
def foresight_command(
    model: Model,
    options: SampledTraceOptions = SampledTraceOptions(temperature=0.0),
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Predict whether the next step is wrong: latents beside the visible words, difficulty and the next word's entropy.

    Example: cotlens subtext foresight igsm-retries
    """
    from probes.subtext.foresight import foresight

    with Bars() as bars:
        reasoner, traces = options.load(bars, load_options, model, temperature=options.temperature, needs=needs_text)
        with bars.stage("reading the state before each step"):
            result = foresight(reasoner, traces, seed=options.seed)

    def human() -> None:
        print_table(result.readers)
        print(
            "\nsaved: share of thought tokens not written if traces stop at the first alarm. lost: share of right traces "
            f"stopped. Thresholds are set on other problems.\n{result.verdict}"
        )

    lead = {"over": result.over, **result.lead.measure()}
    about = {"n": len(traces), "accuracy": traces.accuracy, "seed": options.seed, "temperature": options.temperature}
    record = {"readers": result.readers.to_dict("records"), "lead": lead, "says": result.verdict}
    write_result(out, "subtext foresight", reasoner.describe(), record | about)
    emit(record | about, as_json, human)


@with_options
def compute_command(
    model: Model,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Another task, such as chain:steps=6-8. Repeatable; the reasoner's own task, or the file, comes first."
        ),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="JSONL file of questions, in place of the reasoner's own task.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option(help="Parquet file of traces of this model, in place of its own task.")
    ] = None,
    n: Annotated[
        int | None, typer.Option(help="Number of problems.", show_default="400 of each task, all of a file")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the problems and of sampling.")] = 0,
    temperature: Temperature = 0.0,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Compare thoughts used with operations needed, on the reasoner's own task and, with --task, out of distribution.

    Example: cotlens subtext compute graph-text --task graph:hops=5,nodes=15,edges=15
    """
    from interp.commands.think import problems_of
    from probes.subtext.compute import adaptive_compute, compute_summary

    with Bars() as bars:
        options = TraceOptions(questions=questions, traces=traces, n=n, seed=seed)
        reasoner, first = options.load(bars, load_options, model, temperature=temperature, n=400)
        sets = {str(questions or traces or f"{reasoner.task.spec} (own)"): first}
        for spec in task or []:
            with bars.stage(f"thinking about {spec}") as progress:
                sets[spec] = reasoner.think(
                    problems_of(spec, n or 400, seed),
                    batch_size=256,
                    temperature=temperature,
                    seed=seed,
                    progress=progress,
                )
    table, summary = adaptive_compute(sets), compute_summary(sets, seed=seed)
    chosen = reasoner.thinks_in_text
    note = (
        "The reasoner chooses how much it thinks."
        if chosen
        else f"The problem sets how much a {reasoner.kind} reasoner thinks, so nothing here is its choice."
    )

    def human() -> None:
        print_table(table)
        print()
        print_table(summary)
        print(f"\n{note}")

    result: dict[str, Any] = {
        "by_operations": table.to_dict("records"),
        "sets": summary.to_dict("records"),
        "note": note,
    }
    result |= {"chosen": chosen, "seed": seed, "temperature": temperature}
    write_result(out, "subtext compute", reasoner.describe(), result)
    emit(result, as_json, human)


@with_options
def uncertainty_command(
    model: Model,
    options: TraceOptions = TraceOptions(),
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Measure the entropy of the true posterior that the latents hold and the words do not, on tasks that know it (graph).

    Example: cotlens subtext uncertainty graph-coconut-breadth
    """
    from probes.subtext.uncertainty import needs_posterior, uncertainty

    with Bars() as bars:
        reasoner, traces = options.load(
            bars, load_options, model, temperature=0.0, n=500, needs_of_task=needs_posterior
        )
        with bars.stage("reading the posterior"):
            result = uncertainty(reasoner, traces, seed=options.seed)

    def human() -> None:
        print("share of the entropy's variance within places that each reader predicts on other structures")
        print_table(result.readers)
        print("\ndecoded posteriors compared with the true ones (bits)")
        print_table(result.decoded)
        print("\nthe shares by thought")
        print_table(result.by_thought)
        print(f"\n{result.verdict}")

    tables = {name: getattr(result, name).to_dict("records") for name in ("readers", "decoded", "by_thought", "places")}
    share = result.lead
    lead = {"over": result.over, "r2": share.value, "ci_low": share.low, "ci_high": share.high, "n": share.n}
    about = {"n": len(traces), "accuracy": traces.accuracy, "seed": options.seed}
    record = {**tables, "lead": lead, "says": result.verdict, **about}
    write_result(out, "subtext uncertainty", reasoner.describe(), record)
    emit(record, as_json, human)
