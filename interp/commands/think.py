"""`cotlens think`: traces of a reasoner on generated problems, or on the user's own questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.errors import PartialError, UsageError
from interp.runtime.console import AsJson, Bars, emit, new_app

app = new_app("Let a reasoner think about problems and keep its traces.", single=True)
_SHOWN = 5


@app.command()
@with_options
def think(
    model: Model,
    out: Annotated[
        Path, typer.Option(help="Parquet file to write; finished batches wait beside it until all are there")
    ],
    task: Annotated[str | None, typer.Option(help="as chain:n=500,seed=7; the reasoner's own task by default")] = None,
    questions: Annotated[Path | None, typer.Option(help="JSONL file, a question and its answer to a line")] = None,
    batch_size: Annotated[int, typer.Option()] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy")] = 0.0,
    top_p: Annotated[float, typer.Option(help="sample from the likeliest tokens that hold this probability")] = 1.0,
    seed: Annotated[int, typer.Option(help="of the sampling")] = 0,
    max_thought_tokens: Annotated[int | None, typer.Option(help="budget of a thought; then it is closed")] = None,
    max_answer_tokens: Annotated[int | None, typer.Option(help="longest answer")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="token before which, or text after which, an answer ends")
    ] = None,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Think and write the traces. Cut off, it goes on after the last finished batch when it is run again.

    Of a question file, lines that cannot be used are named and the others thought about (exit code 3).
    """
    from interp.reasoners.resumable import think_to_file

    if out.exists():
        raise UsageError(f"{out} exists already; choose another --out, or remove it.")
    if task is not None and questions is not None:
        raise UsageError("give --task or --questions, not both.")
    found, left_out = _questions(questions) if questions is not None else (None, [])
    thinker = loading.load(model)
    changes: dict[str, Any] = {"max_thought_tokens": max_thought_tokens, "max_answer_tokens": max_answer_tokens}
    changes = {name: value for name, value in changes.items() if value is not None}
    if stop:
        changes["stops"] = (*thinker.config.stops, *stop)
    thinker = thinker.with_config(**changes) if changes else thinker
    problems = problems_of(task or thinker.task.spec) if found is None else found
    if found is not None:
        refused = {problem.id: thinker.refusal(problem) for problem in problems}
        left_out += [f"line {p.meta['line']}: {refused[p.id]}" for p in problems if refused[p.id]]
        problems = [problem for problem in problems if not refused[problem.id]]
        if not problems:
            raise UsageError(
                f"{questions} has no question that can be thought about; {left_out[0] if left_out else ''}"
            )
    with Bars() as bars, bars.stage(f"{thinker.name} thinks") as report:
        traces = think_to_file(
            thinker,
            problems,
            out,
            batch_size=batch_size,
            seed=seed,
            temperature=temperature,
            top_p=top_p,
            progress=report,
        )
    result = {"reasoner": thinker.name, "traces": len(traces), "accuracy": traces.accuracy, "out": str(out)}
    if found is not None:
        result["left_out"] = left_out
    emit(result, as_json, lambda: print(f"{len(traces)} traces, {traces.accuracy:.3f} right, in {out}"))
    if left_out:
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        said = "; ".join(each.rstrip(".") for each in left_out[:_SHOWN])
        lines = "1 line" if len(left_out) == 1 else f"{len(left_out)} lines"
        raise PartialError(
            f"{lines} of {questions} left out, the others are in {out}: {said}{more}. "
            "Mended lines can be thought about on their own: a file of just these, and another --out."
        )


def _questions(path: Path) -> tuple[list, list[str]]:
    """The problems of a JSONL file, and what is wrong with its other lines."""
    from interp.problems.questions import QuestionsTask, read_questions

    QuestionsTask(path)
    problems, broken = read_questions(path)
    return problems, [str(line) for line in broken]


def problems_of(spec: str, n: int = 500, seed: int = 0) -> list:
    """The problems that a spec such as `chain:n=500,seed=7,split=test,order=shuffled` asks for.

    `n` and `seed` hold where the spec says none.
    """
    from interp.problems import parse_spec
    from interp.problems import task as make_task

    name, options = parse_spec(spec)
    try:
        n, seed = int(options.pop("n", n)), int(options.pop("seed", seed))
    except ValueError:
        raise UsageError(f"n and seed of a task are whole numbers, but {spec!r} came.") from None
    split = options.pop("split", "test")
    return make_task(name, **options).generate(n, seed=seed, split=split)  # type: ignore[arg-type]
