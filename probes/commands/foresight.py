"""`cotlens subtext foresight`, `compute` and `uncertainty`: slips before they are written, how much is thought, how unsure."""

from __future__ import annotations

from typing import Annotated

import typer

from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table
from probes.commands.options import N, Sampled, Seed, Temperature, TraceOptions


@with_options
def foresight_command(
    model: Model,
    asked: Sampled = Sampled(temperature=0.0),
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Is the next step about to be wrong? Latents beside the visible words, difficulty and the next word's entropy."""
    from probes.subtext.foresight import foresight

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=asked.temperature)
        with bars.stage("reading the moments before each step"):
            found = foresight(reasoner, thought, seed=asked.seed)

    def human() -> None:
        print_table(found.readers)
        print(
            "\nsaved: thought words not written if traces stop at the first alarm; lost: right traces stopped; thresholds "
            f"from other problems\n{found.says}"
        )

    about = {"n": len(thought), "accuracy": thought.accuracy, "seed": asked.seed, "temperature": asked.temperature}
    emit({"readers": found.readers.to_dict("records"), "lead": found.lead, "says": found.says, **about}, as_json, human)


@with_options
def compute_command(
    model: Model,
    task: Annotated[
        list[str] | None,
        typer.Option(help="also these, as chain:steps=6-8; repeatable; the reasoner's own task always comes first"),
    ] = None,
    n: N = 400,
    seed: Seed = 0,
    temperature: Temperature = 0.0,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Thoughts used against operations needed, on the own task and, with --task, out of distribution."""
    from interp.commands.think import problems_of
    from interp.reasoners.text import TextReasoner
    from probes.subtext.foresight import adaptive_compute, compute_summary

    with Bars() as bars:
        reasoner, own = TraceOptions(n=n, seed=seed).thought(bars, loading, model, temperature=temperature)
        sets = {f"{reasoner.task.spec} (own)": own}
        for spec in task or []:
            with bars.stage(f"thinking about {spec}") as progress:
                sets[spec] = reasoner.think(
                    problems_of(spec, n, seed), batch_size=256, temperature=temperature, seed=seed, progress=progress
                )
    table, summary = adaptive_compute(sets), compute_summary(sets, seed=seed)
    chosen = isinstance(reasoner, TextReasoner)
    note = (
        "how much it thinks is its own choice."
        if chosen
        else f"how much a {reasoner.kind} reasoner thinks is given to it with the problem, so nothing here is its choice."
    )

    def human() -> None:
        print_table(table)
        print()
        print_table(summary)
        print(f"\n{note}")

    result = {"by_operations": table.to_dict("records"), "sets": summary.to_dict("records"), "note": note}
    emit(result | {"chosen": chosen, "seed": seed, "temperature": temperature}, as_json, human)


@with_options
def uncertainty_command(
    model: Model,
    asked: TraceOptions = TraceOptions(n=500),
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Entropy of the true posterior that the latents hold and the words do not, on tasks that know it (graph)."""
    from probes.subtext.uncertainty import uncertainty

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=0.0)
        with bars.stage("reading how unsure it is"):
            found = uncertainty(reasoner, thought, seed=asked.seed)

    def human() -> None:
        print("share of the entropy's variance within places that is predicted on other structures")
        print_table(found.readers)
        print("\nposteriors decoded, beside the true ones (bits)")
        print_table(found.decoded)
        print("\nthe same shares, thought by thought")
        print_table(found.by_thought)
        print(f"\n{found.says}")

    tables = {name: getattr(found, name).to_dict("records") for name in ("readers", "decoded", "by_thought", "places")}
    about = {"n": len(thought), "accuracy": thought.accuracy, "seed": asked.seed}
    emit({**tables, "lead": found.lead, "says": found.says, **about}, as_json, human)
