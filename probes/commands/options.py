"""Options that the commands of `cotlens subtext` share, and the traces that they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp.commands.models import LoadOptions
from interp.commands.problem_options import ProblemOptions, SplitUse
from interp.errors import StoreError, UsageError, counted
from interp.runtime.console import Bars

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.text.wording import Wording
    from interp.traces import TraceSet

Temperature = Annotated[
    float, typer.Option(help="Sampling temperature; 0 takes the likeliest token. Choices of words must be sampled.")
]
Target = Annotated[
    list[str] | None,
    typer.Option(help="Label to test, such as hint:2 or answer. Repeatable.", show_default="the task's facts"),
]
Synonyms = Annotated[
    Path | None,
    typer.Option(help="JSON file: a list of lists of words that mean the same.", show_default="the task's own"),
]


@dataclass(frozen=True)
class WordingOptions:
    """Which words mean the same; the fields are options."""

    synonyms: Synonyms = None

    def wording(self, task: str) -> Wording:
        """Return the file's synonyms, else those of a task.

        Args:
            task: Spec of the task.

        Raises:
            UsageError: There is no file, and the task has no synonyms.
        """
        from interp.problems import task as make_task
        from interp.text.wording import Wording

        if self.synonyms is not None:
            return Wording.read(self.synonyms)
        return Wording.of_task(make_task(task))

    def wording_or_none(self, task: str) -> Wording | None:
        """Return `wording`, or None where there is no file and the task has no synonyms."""
        try:
            return self.wording(task)
        except (UsageError, StoreError):
            if self.synonyms is not None:
                raise
            return None


@dataclass(frozen=True)
class WordOptions(WordingOptions):
    """Which labels are tested in the choice of which words; the fields are options."""

    target: Target = None


@dataclass(frozen=True)
class TraceOptions(ProblemOptions):
    """The traces that a command analyses; the fields are its options."""

    def load(
        self,
        bars: Bars,
        load_options: LoadOptions,
        model: str,
        *,
        temperature: float,
        n: int = 1000,
        split_use: SplitUse = SplitUse.ALL,
        words: WordingOptions | None = None,
        needs: Callable[[Reasoner], None] | None = None,
        needs_of_task: Callable[[str], None] | None = None,
    ) -> tuple[Reasoner, TraceSet]:
        """Return the reasoner, and traces that are read from the file or thought now.

        Args:
            bars: Show the progress.
            load_options: How the model is loaded.
            model: A shipped organism, a folder or a hub id.
            temperature: At which traces are sampled.
            n: Number of a task's problems where the options say none.
            split_use: What the command does with the splits of a file.
            words: Synonyms that the command needs; where there are none, that is said before the model thinks.
            needs: Check of what the command needs of the reasoner, before it thinks.
            needs_of_task: Check of what it needs of the task, by its spec.

        Raises:
            UsageError: Synonyms are needed, and there are none, or the reasoner or the task lacks what the command needs.
        """
        given = self.problem_set(load_options, model, n=n, problem_seed=self.seed, split_use=split_use)
        if needs is not None:
            needs(given.reasoner)
        if needs_of_task is not None:
            needs_of_task(given.problems[0].task)
        if words is not None:
            words.wording(given.problems[0].task)
        with bars.stage(f"thinking about {counted(len(given.problems), 'problem')}") as progress:
            return given.reasoner, given.think(
                batch_size=256, temperature=temperature, seed=self.seed, progress=progress
            )


@dataclass(frozen=True)
class SampledTraceOptions(TraceOptions):
    """`TraceOptions` with the temperature at which traces are sampled."""

    temperature: Temperature = 1.0
