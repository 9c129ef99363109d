"""What the commands of `cotlens subtext` share: their options, and the traces that they ask about."""

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

N = Annotated[int, typer.Option(help="held-out problems to think about")]
Seed = Annotated[int, typer.Option(help="of the problems, of sampling and of the splits")]
Temperature = Annotated[float, typer.Option(help="1 samples, as choices of words must be; 0 is greedy")]
Target = Annotated[list[str] | None, typer.Option(help="repeatable, as hint:2 or answer; the task's facts by default")]
Synonyms = Annotated[
    Path | None, typer.Option(help="JSON file, a list of lists of words that mean the same; the task's own by default")
]


@dataclass(frozen=True)
class TraceOptions:
    """The traces that a command asks about; the fields are its options."""

    task: Annotated[str | None, typer.Option(help="as subtext:n=500,seed=7; the reasoner's own task by default")] = None
    traces: Annotated[
        Path | None, typer.Option(help="Parquet file of traces of this model, instead of thinking now")
    ] = None
    n: N = 1000
    seed: Seed = 0

    def thought(self, bars: Bars, loading: Loading, model: str, *, temperature: float) -> tuple[Reasoner, TraceSet]:
        """The reasoner, and traces that it thinks now or that are read from the file."""
        from interp.commands.think import problems_of
        from interp.traces import TraceSet

        reasoner = loading.load(model)
        if self.traces is not None:
            if self.task is not None:
                raise UsageError("give --traces, or --task to think about now, not both.")
            found = TraceSet.from_parquet(self.traces)
            if not len(found):
                raise UsageError(f"{self.traces} holds no traces.")
            return reasoner, found
        problems: list[Any] = (
            problems_of(self.task) if self.task else reasoner.task.generate(self.n, seed=self.seed, split="test")
        )
        with bars.stage(f"thinking about {len(problems)} problems") as progress:
            return reasoner, reasoner.think(
                problems, batch_size=256, temperature=temperature, seed=self.seed, progress=progress
            )


@dataclass(frozen=True)
class Sampled(TraceOptions):
    """The same, where the command also says how they are sampled."""

    temperature: Temperature = 1.0
