"""What the causal commands share: their options, the problems that are asked about, and how a result begins."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from interp.commands.models import Loading

TaskOption = Annotated[
    str | None, typer.Option("--task", help="as chain:n=300,seed=7; the reasoner's own task, n=200, by default")
]
Seed = Annotated[int, typer.Option(help="seed of donors, places and noise")]
Batch = Annotated[int, typer.Option(help="problems thought about at once")]
N_DEFAULT = 200


def asked(loading: Loading, model: str, task: str | None) -> tuple[Any, list]:
    """The reasoner, and the problems of `task`: 200 of its own where nothing else is said."""
    from interp.commands.think import problems_of

    reasoner = loading.load(model)
    return reasoner, problems_of(task or reasoner.task.spec, n=N_DEFAULT)


def said(reasoner: Any, problems: list, seed: int, **more: Any) -> dict[str, Any]:
    """A result that begins with what was asked: model, problems, seed, and what its intervals are."""
    about = {"task": problems[0].task, "n": len(problems), "split": problems[0].split}
    return {"reasoner": reasoner.name, "weights": reasoner.weights, **about, "seed": seed, "interval": "95 %", **more}


def records(table: Any) -> list[dict[str, Any]]:
    return table.to_dict("records")


def figure(each: dict[str, Any]) -> str:
    if each["value"] is None:
        return "not measured"
    return f"{each['value']:.3f} {interval(each['ci'])} (n = {each['n']})"


def interval(ci: Any) -> str:
    return f"[{ci[0]:.3f}, {ci[1]:.3f}]"
