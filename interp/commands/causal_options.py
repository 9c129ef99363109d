"""Options and output that the causal commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.models import Loading
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from interp.problems import Problem
    from interp.reasoners import Reasoner

N_DEFAULT = 200


@dataclass(frozen=True)
class ProblemOptions:
    """The problems of a command and its seed; the fields are options."""

    task: Annotated[
        str | None,
        typer.Option(help="Task and its options, such as chain:n=300,seed=7. Default: the reasoner's own task, n=200."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of donors, places and noise.")] = 0

    def load(self, loading: Loading, model: str) -> tuple[Reasoner, list[Problem]]:
        """Return the reasoner and the problems."""
        from interp.commands.think import problems_of

        reasoner = loading.load(model)
        return reasoner, problems_of(self.task or reasoner.task.spec, n=N_DEFAULT)


@dataclass(frozen=True)
class BatchOptions(ProblemOptions):
    """`ProblemOptions` with a batch size."""

    batch_size: Annotated[int, typer.Option(help="Number of problems in a batch.")] = 256


PROBLEM_DEFAULTS = ProblemOptions()
BATCH_DEFAULTS = BatchOptions()


def result_of(reasoner: Reasoner, problems: list[Problem], seed: int, **results: Any) -> dict[str, Any]:
    """Return the JSON result of a command: model, problems, seed and interval, then `results`."""
    about = {"task": problems[0].task, "n": len(problems), "split": problems[0].split}
    return {
        "reasoner": reasoner.name,
        "weights": reasoner.weights,
        **about,
        "seed": seed,
        "interval": "95 %",
        **results,
    }


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return table.to_dict("records")  # type: ignore[return-value]


def measured(estimate: Estimate) -> dict[str, Any]:
    """Return value, ci and n for JSON; None where nothing was measured."""
    return estimate.measure() if estimate.n else {"value": None, "ci": None, "n": 0}


def figure(estimate: Estimate) -> str:
    """Return an estimate as text with its interval and sample size."""
    return f"{estimate} (n = {estimate.n})" if estimate.n else "not measured"
