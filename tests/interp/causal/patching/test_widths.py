"""A written value of several tokens is exchanged whole, for one of as many tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd

from interp.causal.patching.widths import ValueWidths, whole_values
from interp.problems.base import Step
from interp.traces import Trace

LETTERS = SimpleNamespace(decode=lambda ids, **_: "".join(map(chr, ids)))


def written(trace: Trace, text: str, *values: tuple[str, int]) -> Trace:
    """Return a trace whose thought is a text of one letter a token, with values that are complete at these letters."""
    problem = replace(trace.problem, steps=tuple(Step("", value) for value, _ in values))
    return replace(
        trace,
        problem=problem,
        token_ids=[0, *map(ord, text)],
        thought=[0, *range(1, len(text) + 1)],
        value_positions=[end for _, end in values],
    )


def test_the_width_of_a_value_is_the_fewest_tokens_that_write_it(written_trace: Callable[..., Trace]) -> None:
    from interp.problems import task

    made = written_trace(task("chain").generate(1, seed=0, split="test")[0], kind="thought")
    trace = written(made, "+3>15;+2>7;1,250", ("15", 5), ("7", 10), ("1250", 16), ("9", -1))
    widths = ValueWidths([trace], LETTERS)
    assert [widths.of(0, step) for step in (1, 2, 3, 4, 5)] == [2, 1, 5, 1, 1]
    row = {"run": 0, "trace": 0, "edit": "other value", "at_step": 1, "target": 5, "source": 9}
    others = [{"run": 1, "edit": "wrong site"}, {"run": 2, "at_step": 2, "target": 10}, {"run": 3, "target": 4}]
    plan = pd.DataFrame([row, *({**row, **other} for other in [*others, {"run": 4, "target": 8}])])
    wide = whole_values(plan, widths)
    assert wide[["run", "target", "source"]].values.tolist() == [
        *([0, 5, 9], [0, 4, 8]),
        *([1, 5, 9], [2, 10, 9]),
        *([3, 4, 9], [3, 3, 8]),  # the positions that write the value
        [4, 8, 9],
    ]
