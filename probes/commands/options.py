"""Options that the commands of `cotlens subtext` share, and the traces that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.models import Loading
from interp.errors import UsageError
from interp.runtime.console import Bars

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

N = Annotated[int, typer.Option(help="Number of held-out problems to think about.")]
Seed = Annotated[int, typer.Option(help="Seed of the problems, of sampling and of the splits.")]
Temperature = Annotated[
    float, typer.Option(help="Sampling temperature; 0 is greedy. Choices of words must be sampled.")
]
Target = Annotated[
    list[str] | None,
    typer.Option(help="Label to test, such as hint:2 or answer. Repeatable; the task's facts by default."),
]
Synonyms = Annotated[
    Path | None,
    typer.Option(help="JSON file: a list of lists of words that mean the same. By default, the task's own."),
]


@dataclass(frozen=True)
class TraceOptions:
    """The traces that a command analyses; the fields are its options."""

    task: Annotated[
        str | None, typer.Option(help="Task, such as subtext:n=500,seed=7. By default, the reasoner's own task.")
    ] = None
    traces: Annotated[
        Path | None, typer.Option(help="Parquet file of traces of this model, read in place of thinking now.")
    ] = None
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Allow --traces that another model made, with the same tokens.")
    ] = False
    n: N = 1000
    seed: Seed = 0

    def load(self, bars: Bars, loading: Loading, model: str, *, temperature: float) -> tuple[Reasoner, TraceSet]:
        """Return the reasoner, and traces that are read from the file or thought now."""
        from interp.activations.identity import check_own
        from interp.commands.think import problems_of
        from interp.traces import TraceSet

        reasoner = loading.load(model)
        if self.traces is not None:
            if self.task is not None:
                raise UsageError("expected --traces or --task, got both; leave one out.")
            traces = TraceSet.from_parquet(self.traces)
            if not len(traces):
                raise UsageError(f"expected traces in {self.traces}, got none; think first (`cotlens think`).")
            check_own(reasoner, traces, transfer=self.transfer)
            return reasoner, traces
        problems: list[Any] = (
            problems_of(self.task) if self.task else reasoner.task.generate(self.n, seed=self.seed, split="test")
        )
        with bars.stage(f"thinking about {len(problems)} problems") as progress:
            return reasoner, reasoner.think(
                problems, batch_size=256, temperature=temperature, seed=self.seed, progress=progress
            )


@dataclass(frozen=True)
class SampledTraceOptions(TraceOptions):
    """`TraceOptions` with the temperature at which traces are sampled."""

    temperature: Temperature = 1.0
