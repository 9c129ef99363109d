"""`cotlens causal faithfulness`: test whether the answer depends on the visible reasoning."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.causal.options import BATCH_DEFAULTS, BatchOptions, records
from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import with_options
from interp.errors import counted
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.results import ResultFile, write_result

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet


@with_options
def faithfulness(
    model: Annotated[
        str, typer.Argument(help="A reasoner that thinks in text: a shipped organism, a folder or a hub id.")
    ],
    options: BatchOptions = BATCH_DEFAULTS,
    synonyms: Annotated[
        Path | None,
        typer.Option(help="JSON file: a list of lists of words that mean the same.", show_default="the task's own"),
    ] = None,
    anchors: Annotated[
        int, typer.Option(help="Measure thought anchors too, on this many problems, with 20 continuations per step.")
    ] = 0,
    metrics: Annotated[
        str,
        typer.Option(
            help="Run metrics of faithfulness too: all, or names with commas, such as 'adding mistakes,CC-SHAP'. "
            "`cotlens bench faithfulness` shows what each is worth. 'biased context,cue acknowledgement' put hints at "
            "other answers into the questions; the dashboard shows which were followed and not mentioned."
        ),
    ] = "",
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Answer early, insert mistakes, filler and paraphrases, and measure which answers stay the same.

    Where a question has no gold steps, the sentences of a thought are its steps.

    Example: cotlens causal faithfulness chain-text --n 200
    """
    from interp.causal.metrics.base import Chains
    from interp.causal.metrics.battery import metrics_named, run_battery
    from interp.causal.metrics.hints import hint_shares
    from interp.causal.visible_text.anchors import anchor_summary
    from interp.causal.visible_text.anchors import anchors as measure_anchors
    from interp.causal.visible_text.faithfulness import battery, early_answering, left_out, post_hoc
    from interp.causal.visible_text.forcing import own_answers
    from interp.errors import UsageError
    from interp.problems import task as make_task
    from interp.reasoners.needs import needs_only_text
    from interp.text.languages import language_switches
    from interp.text.wording import Wording

    chosen = metrics_named(metrics)
    given = options.problem_set(load_options, model, problem_seed=options.seed)
    reasoner, seed = given.reasoner, options.seed
    needs_only_text(reasoner)
    with Bars() as bars:
        with bars.stage(f"thinking about {counted(len(given.problems), 'problem')}") as progress:
            traces = given.think(batch_size=options.batch_size, progress=progress)
        traces, note = own_answers(reasoner, traces, batch_size=options.batch_size)
        if note:
            print(f"note: {note}", file=sys.stderr, flush=True)
        wording = None
        if synonyms is not None:
            wording = Wording.read(synonyms)
        else:
            with contextlib.suppress(UsageError):  # a task without synonyms
                wording = Wording.of_task(make_task(traces[0].problem.task))
        if anchors > len(traces):
            raise UsageError(
                f"expected at most {len(traces)} problems for anchors, got {anchors}; lower --anchors or raise --n."
            )
        with bars.stage("interventions") as progress:
            tests = battery(reasoner, traces, wording, seed, progress=progress)
        with bars.stage("early answering"):
            early = early_answering(reasoner, traces)
        anchor_table, details = None, {}
        if anchors:
            with bars.stage("thought anchors"):
                of_steps = measure_anchors(reasoner, traces[:anchors], seed=seed)
            anchor_table, details["anchors"] = anchor_summary(of_steps), records(of_steps)
        if out is not None:
            with bars.stage("single traces"):
                details |= _of_traces(reasoner, traces, seed)
        judged = None
        if chosen:
            with bars.stage("metrics") as progress:
                chains = Chains(reasoner, traces, seed=seed, batch_size=options.batch_size)
                judged = run_battery(chains, chosen, progress)
    hints = None
    if judged is not None and judged.hints is not None:
        hints, details["hints"] = hint_shares(judged.hints), records(judged.hints)
    spans = language_switches(traces)
    switched = spans[spans["step"] > 1].groupby("trace")["switched"].any()
    switches = {"steps": float(spans["switched"].mean()), "traces": float(switched.mean()) if len(switched) else 0.0}
    verdict, without_edit = post_hoc(tests), left_out(tests)

    def print_text() -> None:
        print_table(tests)
        print()
        print_table(early)
        if anchor_table is not None:
            print()
            print_table(anchor_table)
        if judged is not None:
            print()
            print_table(judged.table)
        print(f"\n{verdict}")
        for sentence in judged.verdicts if judged is not None else ():
            print(sentence)
        for sentence in without_edit:
            print(sentence)
        print(f"script switches: {switches['steps']:.3f} of steps, {switches['traces']:.3f} of traces")

    record = {
        "tests": records(tests),
        "says": verdict,
        "left_out": without_edit,
        "early_answering": records(early),
        "anchors": records(anchor_table) if anchor_table is not None else None,
        "metrics": None
        if judged is None
        else {"table": records(judged.table), "says": judged.verdicts, "hints": hints},
        "switches": switches,
        "accuracy": traces.accuracy,
        "n": len(traces),
        "imported": note or None,
        "seed": seed,
    }
    write_result(out, "causal faithfulness", reasoner.describe(), record, details)
    emit(record, as_json, print_text)


def _of_traces(reasoner: Reasoner, traces: TraceSet, seed: int) -> dict[str, Any]:
    """Return what a file keeps of single traces: their problems, and which answers a mistake in each step moves."""
    from interp.causal.visible_text.edits import mistakes
    from interp.errors import UsageError

    problems = [trace.problem.id for trace in traces]
    try:
        return {"problems": problems, "mistakes": records(mistakes(reasoner, traces, seed).table)}
    except UsageError as error:
        return {"problems": problems, "mistakes": [], "why_no_mistakes": str(error)}
