"""The problems of a command: a task's, the user's own questions, or those of finished traces; one set of options for all."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from interp.commands.models import LoadOptions
from interp.errors import UsageError, counted

if TYPE_CHECKING:
    from interp.problems import Problem
    from interp.reasoners import Reasoner
    from interp.reasoners.options import ThinkOptions
    from interp.runtime.progress import Progress
    from interp.traces import Trace, TraceSet

_SHOWN = 5


class SplitUse(Enum):
    """What a command does with the splits of a user's file.

    Attributes:
        FIT: It tests the test lines, and fits on the others where it fits something.
        ALL: It tests all lines: it selects nothing, and what it fits is cross-fitted over problem structures.
        TEST: It cross-fits on the test lines and leaves the others out, for it selects something on the lines that it
            tests.
    """

    FIT = "fit"
    ALL = "all"
    TEST = "test"


@dataclass(frozen=True)
class ProblemOptions:
    """The problems of a command, their number and its seed; the fields are options."""

    task: Annotated[
        str | None,
        typer.Option(help="Task and its options, such as chain:n=300,seed=7.", show_default="the reasoner's own task"),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option(
            help="JSONL file with one question and its answer per line, in place of --task. Its `split` fields say what "
            "is fitted on and what is tested, where a command fits or selects something; otherwise every line is tested."
        ),
    ] = None
    traces: Annotated[
        Path | None, typer.Option(help="Parquet file of traces of this model, in place of thinking now.")
    ] = None
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Allow what another model made: --traces with the same tokens.")
    ] = False
    n: Annotated[
        int | None,
        typer.Option(help="Number of problems.", show_default="as many as the command needs of a task, all of a file"),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of what the command draws at random.")] = 0

    def problem_set(
        self,
        load_options: LoadOptions,
        model: str,
        *,
        n: int = 200,
        problem_seed: int = 0,
        split_use: SplitUse = SplitUse.FIT,
    ) -> ProblemSet:
        """Return the reasoner and its problems, and say on stderr which lines of a file are left out.

        Args:
            load_options: How the model is loaded.
            model: A shipped organism, a folder or a hub id.
            n: Number of a task's problems where neither `--n` nor the task says one.
            problem_seed: Seed of a task's problems where the task says none.
            split_use: What the command does with the splits of a file.

        Raises:
            UsageError: More than one source of problems, two numbers of problems, or no problem.
            StoreError: A file cannot be read.
        """
        from interp.commands.think import check_number, problems_of
        from interp.problems import parse_spec

        named = [option for option in ("task", "questions", "traces") if getattr(self, option) is not None]
        if len(named) > 1:
            raise UsageError(f"expected --{named[0]} or --{named[1]}, got both; leave one out.")
        check_number(self.task or "", self.n)
        reasoner = load_options.load(model)
        if self.traces is not None:
            return self._of_traces(reasoner, self.traces, split_use)
        if self.questions is not None:
            return self._of_file(reasoner, self.questions, self.n, split_use)
        spec = self.task or reasoner.task.spec
        name, options = parse_spec(spec)
        if name == "questions" and "split" not in options and "path" in options:
            of_spec = int(options["n"]) if options.get("n", "").isdigit() else None
            return self._of_file(reasoner, Path(options["path"]), of_spec if self.n is None else self.n, split_use)
        problems = problems_of(spec, self.n or n, problem_seed)
        return ProblemSet(reasoner, problems, self.seed, own_task=self.task is None)

    def _of_file(self, reasoner: Reasoner, path: Path, n: int | None, split_use: SplitUse) -> ProblemSet:
        """Return the questions of a file that the reasoner can read, in the order of the file."""
        from interp.problems.questions import QuestionsTask
        from interp.problems.questions.file import read_question_file

        QuestionsTask(path)  # checks the path
        file = read_question_file(path)
        left_out = list(map(str, file.broken))
        readable = []
        for problem in file.problems:
            refusal = reasoner.vocabulary.refusal(problem)
            if refusal:
                left_out.append(f"line {problem.meta['line']}: {refusal}")
            else:
                readable.append(problem)
        if not readable:
            why = f": {left_out[0]}" if left_out else "; the file is empty."
            raise UsageError(f"expected a question that {reasoner.name} can think about in {path}, got none{why}")
        _note_left_out(path, left_out)
        for note in file.notes[:_SHOWN]:
            _note(f"{path}: {note}")
        tested, fitted = _by_split(readable, path, split_use)
        tested = _some(tested, n, self.seed, path)
        return ProblemSet(reasoner, tested, self.seed, fitted=fitted, left_out=left_out, from_file=True)

    def _of_traces(self, reasoner: Reasoner, path: Path, split_use: SplitUse) -> ProblemSet:
        from interp.activations.identity import check_own
        from interp.traces import TraceSet

        traces = TraceSet.from_parquet(path)
        if not len(traces):
            raise UsageError(f"expected traces in {path}, got none; think first (`cotlens think`).")
        check_own(reasoner, traces, transfer=self.transfer)
        tested, fitted = _by_split(traces.problems, path, split_use)
        tested = _some(tested, self.n, self.seed, path)
        return ProblemSet(reasoner, tested, self.seed, fitted=fitted, given=traces, from_file=True)


@dataclass(frozen=True)
class ProblemSet:
    """A reasoner and the problems that a command tests it on.

    Attributes:
        reasoner: The reasoner.
        problems: The problems that are tested.
        seed: Seed of the command.
        fitted: Problems that only fitting may use, by split: `train` and `val` of a file with splits of its own.
        given: Finished traces of the problems, which are not thought about again.
        left_out: Why lines of a file are left out.
        own_task: Whether the problems are the reasoner's own task's, which has more of them to fit on.
        from_file: Whether the problems are in the order of a file, which may be sorted by anything.
    """

    reasoner: Reasoner
    problems: list[Problem]
    seed: int
    fitted: dict[str, list[Problem]] = field(default_factory=dict)
    given: TraceSet | None = None
    left_out: list[str] = field(default_factory=list)
    own_task: bool = False
    from_file: bool = False

    def think(
        self,
        problems: list[Problem] | None = None,
        *,
        progress: Progress | None = None,
        **options: Unpack[ThinkOptions],
    ) -> TraceSet:
        """Return the given traces of problems, or think about them now.

        Args:
            problems: Default: those that are tested.
            progress: Called with (problems done, problems in all).
            **options: See `ThinkOptions`.
        """
        from interp.traces import TraceSet

        problems = self.problems if problems is None else problems
        if self.given is not None:
            # A problem may have several traces.
            traces_of: dict[str, list[Trace]] = {}
            for trace in self.given:
                traces_of.setdefault(trace.problem.id, []).append(trace)
            counts = Counter(problem.id for problem in problems)
            if all(len(traces_of.get(problem, [])) >= count for problem, count in counts.items()):
                return TraceSet([traces_of[problem.id].pop(0) for problem in problems])
        return self.reasoner.think(problems, progress=progress, **options)

    def split(self, share: float, *, n_more: int = 0) -> tuple[list[Problem], list[Problem]]:
        """Return problems to fit on and problems to test, which share no structure.

        Args:
            share: Share of the problems to fit on, where neither the file nor the task says what to fit on.
            n_more: Number of problems of the reasoner's own task to fit on, beside those that are tested; 0 for none.
        """
        if self.fitted.get("train"):
            return self.fitted["train"], self.problems
        if self.own_task and n_more:
            return self.reasoner.task.generate(n_more, seed=self.seed, split="train"), self.problems
        problems = Random(self.seed).sample(self.problems, len(self.problems)) if self.from_file else self.problems
        first = problems[: int(len(problems) * share)]
        used = {problem.structure for problem in first}
        return first, [problem for problem in problems[len(first) :] if problem.structure not in used]


def _by_split(problems: list[Problem], path: Path, use: SplitUse) -> tuple[list[Problem], dict[str, list[Problem]]]:
    """Return the problems to test, and those to fit on where the file has splits of its own.

    Splits that are those of the structures' hashes are not the user's.
    """
    from interp.problems.questions.own_splits import has_own_splits

    tested = [problem for problem in problems if problem.split == "test"]
    if not has_own_splits(problems) or not tested or len(tested) == len(problems):
        return problems, {}
    fitted = {split: [problem for problem in problems if problem.split == split] for split in ("train", "val")}
    others = " and ".join(f"{len(part)} {split}" for split, part in fitted.items() if part)
    if use is SplitUse.ALL:
        _note(
            f"{path}: tested on all {counted(len(problems), 'line')}, each with what was fitted to other problem structures; this "
            "command selects nothing, so it does not need the file's splits"
        )
        return problems, {}
    if use is SplitUse.TEST:
        _note(
            f"{path}: tested on its {counted(len(tested), 'test line')}, with what was fitted to other test lines; the others "
            f"({others}) are not used"
        )
        return tested, {}
    _note(
        f"{path}: tested on its {counted(len(tested), 'test line')}; the others ({others}) are used only where something is fitted"
    )
    return tested, fitted


def _some(problems: list[Problem], n: int | None, seed: int, path: Path) -> list[Problem]:
    """Return `n` problems that follow from the seed, or all, in their order."""
    if n is None:
        return problems
    if n > len(problems):
        raise UsageError(f"expected at most {len(problems)} problems of {path}, got --n {n}; ask for fewer.")
    return [problems[k] for k in sorted(Random(seed).sample(range(len(problems)), n))]


def _note_left_out(path: Path, left_out: list[str]) -> None:
    if left_out:
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        lines = counted(len(left_out), "line")
        listed = "; ".join(reason.rstrip(".") for reason in left_out[:_SHOWN])
        _note(f"{lines} of {path} left out: {listed}{more}")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
