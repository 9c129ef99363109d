"""What the causal commands share: their options, the problems that are asked about, and how a result begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from interp.commands.models import Loading
from interp.statistics.estimates import Estimate

N_DEFAULT = 200


@dataclass(frozen=True)
class ProblemOptions:
    """The problems that a command asks about, and the seed of what it draws; the fields are its options."""

    task: Annotated[
        str | None, typer.Option(help="as chain:n=300,seed=7; the reasoner's own task, n=200, by default")
    ] = None
    seed: Annotated[int, typer.Option(help="seed of donors, places and noise")] = 0

    def of(self, loading: Loading, model: str) -> tuple[Any, list]:
        """The reasoner, and the problems: 200 of its own task where nothing else is said."""
        from interp.commands.think import problems_of

        reasoner = loading.load(model)
        return reasoner, problems_of(self.task or reasoner.task.spec, n=N_DEFAULT)


@dataclass(frozen=True)
class Batched(ProblemOptions):
    """The same, where the command also says how many are thought about at once."""

    batch_size: Annotated[int, typer.Option(help="problems thought about at once")] = 256


def said(reasoner: Any, problems: list, seed: int, **more: Any) -> dict[str, Any]:
    """A result that begins with what was asked: model, problems, seed, and what its intervals are."""
    about = {"task": problems[0].task, "n": len(problems), "split": problems[0].split}
    return {"reasoner": reasoner.name, "weights": reasoner.weights, **about, "seed": seed, "interval": "95 %", **more}


def records(table: Any) -> list[dict[str, Any]]:
    return table.to_dict("records")


def measured(estimate: Estimate) -> dict[str, Any]:
    """Return value, ci and n for JSON; None where nothing was measured."""
    return estimate.measure() if estimate.n else {"value": None, "ci": None, "n": 0}


def figure(estimate: Estimate) -> str:
    """Return an estimate as text with its interval and sample size."""
    return f"{estimate} (n = {estimate.n})" if estimate.n else "not measured"


def interval(ci: Any) -> str:
    return f"[{ci[0]:.3f}, {ci[1]:.3f}]"
