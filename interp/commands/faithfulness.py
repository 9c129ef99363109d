"""`cotlens causal faithfulness`: does the answer hang on the visible reasoning?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.commands.models import AS_USUAL, Loading
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table


@with_options
def faithfulness(
    model: Annotated[str, typer.Argument(help="a reasoner that thinks in text: a shipped organism, folder or hub id")],
    task: Annotated[str | None, typer.Option(help="as chain:n=500,seed=7; the reasoner's own task by default")] = None,
    n: Annotated[int, typer.Option(help="held-out problems, where no --task is given")] = 200,
    seed: Annotated[int, typer.Option(help="of the problems, mistakes and paraphrases")] = 0,
    synonyms: Annotated[
        Path | None, typer.Option(help="JSON file, a list of lists of words that mean the same; the task's by default")
    ] = None,
    anchors: Annotated[
        int, typer.Option(help="also thought anchors, of so many of the problems, 20 continuations from each step")
    ] = 0,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Early answers, mistakes, filler, paraphrases and switches of script: which answers stay what they were."""
    from interp.causal.anchors import anchor_summary
    from interp.causal.anchors import anchors as measured
    from interp.causal.faithfulness import battery, early_answering, post_hoc
    from interp.commands.think import problems_of
    from interp.errors import UsageError
    from interp.text.languages import language_switches
    from interp.text.wording import Wording

    reasoner = loading.load(model)
    problems = problems_of(task) if task else reasoner.task.generate(n, seed=seed, split="test")
    with Bars() as bars:
        with bars.stage(f"thinking about {len(problems)} problems") as progress:
            traces = reasoner.think(problems, batch_size=256, progress=progress)
        wording = None
        if synonyms is not None:
            wording = Wording.read(synonyms)
        elif reasoner.config.task is not None and hasattr(reasoner.task, "synonyms"):
            wording = Wording.of_task(reasoner.task)
        if anchors > len(traces):
            raise UsageError(f"anchors of {anchors} problems were asked for, but there are {len(traces)}.")
        with bars.stage("interventions"):
            tests = battery(reasoner, traces, wording, seed)
        with bars.stage("answering early"):
            early = early_answering(reasoner, traces)
        moved = None
        if anchors:
            with bars.stage("resampling steps"):
                moved = anchor_summary(measured(reasoner, traces[:anchors], seed=seed))
    spans = language_switches(traces)
    switched = spans[spans["step"] > 1].groupby("trace")["switched"].any()
    switches = {"steps": float(spans["switched"].mean()), "traces": float(switched.mean()) if len(switched) else 0.0}

    def human() -> None:
        print_table(tests)
        print()
        print_table(early)
        if moved is not None:
            print()
            print_table(moved)
        print(f"\n{post_hoc(tests)}")
        print(f"script switched at {switches['steps']:.3f} of the steps, in {switches['traces']:.3f} of the traces")

    result = {
        "tests": tests.to_dict("records"),
        "says": post_hoc(tests),
        "early_answering": early.to_dict("records"),
        "anchors": moved.to_dict("records") if moved is not None else None,
        "switches": switches,
        "accuracy": traces.accuracy,
        "n": len(traces),
        "seed": seed,
    }
    emit(result, as_json, human)
