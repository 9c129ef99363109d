"""What `cotlens study` does: load a model and its problems, study it, and say what was left out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.describe import slug
from dashboards.record import open_run, write_run
from dashboards.study import Study, default_problems, run_record, run_stages, study_options
from interp.commands.models import LoadOptions
from interp.errors import PartialError, UsageError, counted
from interp.problems import Problem
from interp.reasoners import Reasoner
from interp.runtime.console import Bars

if TYPE_CHECKING:
    from interp.traces import TraceSet

_SHOWN = 5
_NOTHING_LEFT_OUT: dict[str, Any] = {"left_out": [], "notes": [], "fields": {}}


@dataclass(frozen=True)
class StudyOptions:
    """The options of `cotlens study`.

    Attributes:
        model: A shipped organism, a folder or a hub id.
        questions: A JSONL file of questions.
        task: A task spec, in place of questions.
        traces: A Parquet file of traces of the model, in place of both.
        n: Number of problems.
        seed: Seed of generated problems.
        batch_size: Problems that are thought about at once.
        max_thought_tokens: Longest thought; the model's own by default.
        max_answer_tokens: Longest answer; the model's own by default.
        dictionaries: Whether to train a sparse autoencoder.
        twin: Whether to capture an untrained twin.
        load_options: How the model is loaded.
    """

    model: str
    questions: Path | None
    task: str | None
    traces: Path | None
    n: int | None
    seed: int
    batch_size: int
    max_thought_tokens: int | None
    max_answer_tokens: int | None
    dictionaries: bool
    twin: bool
    load_options: LoadOptions

    def default_folder(self) -> Path:
        """Return the folder that is named after the model and its problems."""
        model = Path(self.model).resolve().name if Path(self.model).is_dir() else self.model
        file = self.questions or self.traces
        return Path("runs") / f"study-{slug(model, file.stem if file else self.task)}"

    def changed(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name; the command to copy has them."""
        defaults: dict[str, Any] = {"batch_size": 128, "dictionaries": True, "twin": True}
        names = ("batch_size", "max_thought_tokens", "max_answer_tokens", "dictionaries", "twin")
        values = {name: getattr(self, name) for name in names}
        values |= {field.name: getattr(self.load_options, field.name) for field in fields(self.load_options)}
        return {
            name: value for name, value in values.items() if value != defaults.get(name, False) and value is not None
        }

    def raise_for(self, result: dict[str, Any], folder: Path) -> None:
        """Raise `PartialError` where lines of the file were left out, or a stage failed unexpectedly."""
        defects = [entry for entry in result["skipped"] if entry["is_defect"]]
        if defects:
            names = ", ".join(entry["stage"] for entry in defects)
            raise PartialError(f"{names} failed ({defects[0]['why']}); everything else is in {folder}.")
        left_out = result["left_out"]
        if left_out:
            shown = "; ".join(reason.rstrip(".") for reason in left_out[:_SHOWN])
            more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
            raise PartialError(
                f"{counted(len(left_out), 'line')} of {self.questions} left out, the study of the others is in {folder}: "
                f"{shown}{more}. Correct them and run again with another --out."
            )


def run_study(options: StudyOptions, out: Path, bars: Bars, *, started: float | None = None) -> dict[str, Any]:
    """Study a model and write a report.

    Args:
        options: The model, its problems and how it is loaded.
        out: Folder of the run. An unfinished run of the same options is resumed.
        bars: Where progress is shown.
        started: When the clock began, as `time.monotonic` counts; now by default.

    Returns:
        The content of `run.json`.

    Raises:
        UsageError: The model cannot be loaded, or there are no problems that it can think about.
        StoreError: `out` holds another run, or something else.
    """
    from dashboards.report import build_report

    started = time.monotonic() if started is None else started
    named = [option for option in ("task", "questions", "traces") if getattr(options, option) is not None]
    if len(named) > 1:
        raise UsageError(f"expected --{named[0]} or --{named[1]}, got both; leave one out.")
    reasoner = options.load_options.load(options.model)
    limits = {name: getattr(options, name) for name in ("max_thought_tokens", "max_answer_tokens")}
    limits = {name: value for name, value in limits.items() if value is not None}
    if limits:
        reasoner = reasoner.with_config(**limits)
    given = _given_traces(options, reasoner)
    problems, file = _problems(options, reasoner) if given is None else (given.problems, _NOTHING_LEFT_OUT)
    about = study_options(reasoner, problems)
    about |= {"questions": None if options.questions is None else str(options.questions), "n": options.n}
    about |= {} if options.traces is None else {"traces": str(options.traces)}
    about |= {"seed": options.seed, "options": options.changed()}
    with open_run(out, about):
        studied: Study = run_stages(
            reasoner,
            problems,
            out,
            bars,
            dictionaries=options.dictionaries,
            twin=options.twin,
            batch_size=options.batch_size,
            given=given,
        )
        if studied.warning:
            print(f"warning: {reasoner.name}: {studied.warning}", file=sys.stderr, flush=True)
        result = run_record(studied, about, out) | file
        result["seconds"] = round(time.monotonic() - started, 1)
        write_run(out, result)
        with bars.stage("writing the report"):
            build_report(out)
    return result


def _given_traces(options: StudyOptions, reasoner: Reasoner) -> TraceSet | None:
    """Return the traces of the option `--traces`, the first `n` where that many are asked for; None without the option."""
    from interp.activations.identity import check_own
    from interp.traces import TraceSet

    if options.traces is None:
        return None
    traces = TraceSet.from_parquet(options.traces)
    check_own(reasoner, traces)
    if not len(traces):
        raise UsageError(f"expected traces in {options.traces}, got none; think first (`cotlens think`).")
    return traces[: options.n]


def _problems(options: StudyOptions, reasoner: Reasoner) -> tuple[list[Problem], dict[str, Any]]:
    """Return the problems to think about, and what the question file says of itself: `left_out`, `notes`, `fields`."""
    from interp.commands.think import problems_of

    if options.questions is None:
        if options.task is None:
            problems = default_problems(reasoner, options.n, options.seed)
        else:
            problems = problems_of(options.task, n=1000 if options.n is None else options.n, seed=options.seed)
        return problems, _NOTHING_LEFT_OUT
    from interp.problems.questions import QuestionsTask
    from interp.problems.questions.file import read_question_file

    QuestionsTask(options.questions)  # a path that no task spec can hold is refused here
    file = read_question_file(options.questions)
    for note in [*file.notes, *(f"field {name}: {role}" for name, role in file.fields.items())]:
        print(f"note: {note}", file=sys.stderr, flush=True)
    left_out = [str(line) for line in file.broken]
    refusals = {problem.id: reasoner.vocabulary.refusal(problem) for problem in file.problems}
    left_out += [f"line {p.meta['line']}: {refusals[p.id]}" for p in file.problems if refusals[p.id]]
    problems = [problem for problem in file.problems if not refusals[problem.id]]
    if not problems:
        raise UsageError(
            f"expected a question that {reasoner.name} can think about in {options.questions}, got none"
            f"{': ' + left_out[0] if left_out else '; the file is empty.'}"
        )
    return problems[: options.n], {"left_out": left_out, "notes": file.notes, "fields": file.fields}
