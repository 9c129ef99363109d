"""`cotlens think`: let a reasoner think about generated problems, or about the user's own questions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.endpoint_options import EndpointOptions
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, MaxAnswerTokens, MaxThoughtTokens, Model
from interp.commands.options import with_options
from interp.errors import PartialError, UsageError, checked_count, counted
from interp.runtime.console import AsJson, Bars, emit, new_app
from interp.runtime.files import refuse_existing

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.problems.questions.file import QuestionFile
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet
    from interp.transcripts.endpoint import Endpoint

app = new_app("Let a reasoner think about problems, and keep its traces.", single=True)
NO_ENDPOINT = EndpointOptions()
_SHOWN = 5
_N_PROBLEMS = 500  # of a task, where nothing says how many


@app.command()
@with_options
def think(
    model: Model,
    out: Annotated[
        Path, typer.Option(help="Parquet file to write. Finished batches are kept beside it until all are done.")
    ],
    task: Annotated[
        str | None,
        typer.Option(help="Problems to generate, such as chain:n=500,seed=7.", show_default="the reasoner's own task"),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="JSONL file with one question and its answer per line, in place of --task.")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(help="Number of problems.", show_default="what the task says, else 500; all lines of a file"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Number of problems in a batch.")] = 128,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the smallest set of tokens with at least this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    max_thought_tokens: MaxThoughtTokens = None,
    max_answer_tokens: MaxAnswerTokens = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Token or text at which an answer ends, besides the model's own. Repeatable."),
    ] = None,
    endpoint_options: EndpointOptions = NO_ENDPOINT,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Think about problems and write the traces. Run the same command again to resume after an interruption.

    Lines of a question file that cannot be used are named and left out; the exit code is then 3.

    Example: cotlens think chain-coconut --task chain:n=500 --out runs/traces.parquet
    """
    from interp.loading.guessing import ChanceCheck
    from interp.reasoners.resumable import think_to_file
    from interp.text.placement import step_placement

    server = endpoint_options.server()
    refuse_existing(out)
    if task is not None and questions is not None:
        raise UsageError("expected --task or --questions, got both; leave one out.")
    check_number(task or "", n)
    file = None if questions is None else _question_file(questions)
    from_file, left_out = (None, []) if file is None else (file.problems, list(map(str, file.broken)))
    thinker = load_options.load(model)
    changes: dict[str, Any] = {"max_thought_tokens": max_thought_tokens, "max_answer_tokens": max_answer_tokens}
    changes = {name: value for name, value in changes.items() if value is not None}
    if stop:
        changes["stops"] = (*thinker.config.stops, *stop)
    thinker = thinker.with_config(**changes) if changes else thinker
    positions, answer = thinker.network.max_positions, thinker.config.max_answer_tokens
    if thinker.thinks_in_text and positions is not None and answer >= positions:
        raise UsageError(
            f"expected max_answer_tokens below the {positions} positions of {thinker.name}, got {answer}, which leaves no "
            f"thought any room; choose fewer (--max-answer-tokens {positions // 4})."
        )
    problems = problems_of(task or thinker.task.spec, n or _N_PROBLEMS) if from_file is None else from_file
    if from_file is not None:
        refusals = {problem.id: thinker.vocabulary.refusal(problem) for problem in problems}
        left_out += [f"line {p.meta['line']}: {refusals[p.id]}" for p in problems if refusals[p.id]]
        problems = [problem for problem in problems if not refusals[problem.id]]
        if not problems:
            raise UsageError(
                f"expected a question that {thinker.name} can think about in {questions}, got none"
                f"{': ' + left_out[0] if left_out else '; the file is empty.'}"
            )
    if from_file is not None and n is not None and n < len(problems):
        print(f"note: the first {n} of {len(problems)} questions that can be used in {questions}", file=sys.stderr)
        problems = problems[:n]
    sampling: dict[str, Any] = {"seed": seed, "temperature": temperature, "top_p": top_p}
    written: dict[str, Any] = {}
    if server is not None:
        traces, written = _written_at(
            server, endpoint_options, thinker, problems, out, sampling, stop=tuple(stop or ()), batch_size=batch_size
        )
        left_out += written["refused"]
    else:
        with Bars() as bars, bars.stage(f"{thinker.name}: thinking") as report:
            traces = think_to_file(thinker, problems, out, batch_size=batch_size, progress=report, **sampling)
    result: dict[str, Any] = {
        "reasoner": thinker.name,
        "traces": len(traces),
        "accuracy": traces.accuracy,
        "out": str(out),
    }
    result |= {"endpoint": written} if written else {}
    if file is not None:
        result |= {"left_out": left_out, "notes": file.notes, "fields": file.fields}
        for note in [*file.notes, *(f"field {name}: {role}" for name, role in file.fields.items())]:
            print(f"note: {note}", file=sys.stderr)
    assumed = thinker.loaded.assumptions()
    if assumed:
        result["assumed"] = assumed
    if at_chance := ChanceCheck.warning_of(traces, thinker.loaded, own_questions=from_file is not None):
        result |= at_chance
        print(f"warning: {thinker.name}: {at_chance['warning']}", file=sys.stderr)
    cut_off = _cut_off(traces, thinker)
    if cut_off:
        result["cut_off"] = cut_off
    for part, (number, limit) in cut_off.items():
        print(
            f"note: {number} of {counted(len(traces), part)} did not end within {counted(limit, 'token')}; "
            f"--max-{part}-tokens sets the limit",
            file=sys.stderr,
        )
    placement = step_placement(traces)
    summary = [f"{counted(len(traces), 'trace')}, {traces.accuracy:.3f} right, in {out}"]
    if placement is not None:
        result["steps"] = placement.to_dict()
        summary.append(str(placement))
    emit(result, as_json, lambda: print("\n".join(summary)))
    if left_out:
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        reasons = "; ".join(reason.rstrip(".") for reason in left_out[:_SHOWN])
        lines = counted(len(left_out), "line" if server is None else "question")
        raise PartialError(
            f"{lines} of {questions or task or thinker.name} left out, the others are in {out}: {reasons}{more}. "
            "Put the corrected lines into a file of their own and run again with another --out."
        )


def _cut_off(traces: TraceSet, reasoner: Reasoner) -> dict[str, tuple[int, int]]:
    """Return how many thoughts and wrong answers came to the largest number of tokens, and that number, where any did."""
    limits = {"answer": reasoner.config.max_answer_tokens}
    if reasoner.thinks_in_text:
        limits["thought"] = reasoner.config.max_thought_tokens
    full = {
        part: sum(trace.channel.count(part) >= limit and not (part == "answer" and trace.correct) for trace in traces)
        for part, limit in limits.items()
    }
    return {part: (number, limits[part]) for part, number in full.items() if number}


def _written_at(
    server: Endpoint,
    options: EndpointOptions,
    reasoner: Reasoner,
    problems: list[Problem],
    out: Path,
    sampling: dict[str, Any],
    *,
    stop: tuple[str, ...],
    batch_size: int,
) -> tuple[TraceSet, dict[str, Any]]:
    """Let a server write, and return the traces and what is said about them."""
    from interp.transcripts.importing import summary
    from interp.transcripts.writing_elsewhere import ServerSampling, think_at_endpoint

    config = reasoner.config
    most = config.max_answer_tokens + (config.max_thought_tokens if reasoner.thinks_in_text else 0)
    with Bars() as bars, bars.stage(f"{server.host}: writing") as report:
        alignment = think_at_endpoint(
            reasoner,
            problems,
            out,
            server,
            sampling=ServerSampling(**sampling, max_tokens=most, stop=stop),
            concurrency=options.concurrency,
            other_model=options.other_model,
            batch_size=min(batch_size, 16),
            progress=report,
        )
    for name, value in alignment.assumptions.items():
        print(f"note: {name}: {value}", file=sys.stderr)
    return alignment.traces, summary(alignment)


def _question_file(path: Path) -> QuestionFile:
    """Return what a JSONL file of questions holds."""
    from interp.problems.questions import QuestionsTask
    from interp.problems.questions.file import read_question_file

    QuestionsTask(path)
    return read_question_file(path)


def check_number(spec: str, n: int | None) -> None:
    """Check that `--n` and a task do not name two numbers of problems.

    Raises:
        UsageError: They do, or `n` is no count.
    """
    from interp.problems import parse_spec

    if n is None:
        return
    checked_count("n", n)
    if parse_spec(spec)[1].get("n", str(n)) != str(n):
        raise UsageError(f"expected one number of problems, got --n {n} and {spec!r}; leave one out.")


def problems_of(spec: str, n: int = _N_PROBLEMS, seed: int = 0) -> list:
    """Return the problems of a spec such as `chain:n=500,seed=7,split=test,order=shuffled`.

    Args:
        spec: Name of a task, then its options, and `n`, `seed` and `split`.
        n: Number of problems, where the spec names none.
        seed: Seed of the problems, where the spec names none.

    Raises:
        UsageError: The task or an option is unknown, or `n` or `seed` is not a whole number.
    """
    from interp.problems import parse_spec
    from interp.problems import task as make_task

    name, options = parse_spec(spec)
    try:
        n, seed = int(options.pop("n", n)), int(options.pop("seed", seed))
    except ValueError:
        raise UsageError(f"expected whole numbers for n and seed of a task, got {spec!r}.") from None
    split = options.pop("split", "test")
    return make_task(name, **options).generate(n, seed=seed, split=split)  # type: ignore[arg-type]
