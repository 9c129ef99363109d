"""Options and output that the causal commands share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.problem_options import ProblemOptions, ProblemSet
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from interp.traces import TraceSet


@dataclass(frozen=True)
class BatchOptions(ProblemOptions):
    """`ProblemOptions` with a batch size."""

    batch_size: Annotated[int, typer.Option(help="Number of problems in a batch.")] = 256


PROBLEM_DEFAULTS = ProblemOptions()
BATCH_DEFAULTS = BatchOptions()


def result_of(given: ProblemSet, **results: Any) -> dict[str, Any]:
    """Return the JSON result of a command: model, problems, seed and interval, then `results`."""
    problems, splits = given.problems, {problem.split for problem in given.problems}
    about = {"task": problems[0].task, "n": len(problems), "split": splits.pop() if len(splits) == 1 else "all"}
    return {
        "reasoner": given.reasoner.name,
        "weights": given.reasoner.weights,
        **about,
        **({"left_out": given.left_out} if given.left_out else {}),
        "seed": given.seed,
        "interval": "95 %",
        **results,
    }


def chance_warning(given: ProblemSet, traces: TraceSet) -> dict[str, Any]:
    """Print a warning where the answers of the unedited traces are at chance, and return it for the JSON result."""
    from interp.loading.guessing import ChanceCheck

    reasoner = given.reasoner
    at_chance = ChanceCheck.warning_of(traces, reasoner.loaded, own_questions=given.from_file)
    if at_chance is None:
        return {}
    print(f"warning: {reasoner.name}: {at_chance['warning']}", file=sys.stderr, flush=True)
    return dict(at_chance)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return table.to_dict("records")  # type: ignore[return-value]


def figure(estimate: Estimate) -> str:
    """Return an estimate as text with its interval and sample size."""
    return f"{estimate} (n = {estimate.n})" if estimate.n else "not measured"
