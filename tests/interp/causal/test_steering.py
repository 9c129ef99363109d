"""Steering of written values: all tokens of a value are pushed, towards a value of as many tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from interp import causal
from interp.causal import directions, steering
from interp.errors import UsageError
from interp.models.address import Address
from interp.problems.base import Problem
from interp.problems.questions.task import QuestionsTask
from interp.reasoners.interventions import Intervention
from interp.traces import Trace, TraceSet

VALUES = ["3", "7", *map("".join, product("246", "135"))]


class DigitReader:
    """A reasoner without a network: the state of a position is its character, and the answer reads a value's characters.

    So an answer follows a pushed value only where every character of it was pushed.
    """

    name, thinks_in_text = "digits", True
    tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join(map(chr, ids)))

    def states(self, trace: Trace) -> torch.Tensor:
        """Return the states of a trace: its characters one-hot, and a direction of their own that all share."""
        states = torch.nn.functional.one_hot(torch.tensor(trace.token_ids), 128).float()
        states[:, 0] = torch.linspace(0, 1, len(states))
        return states

    def think(self, problems: Sequence[Problem], *, interventions: Sequence[Intervention], **_: Any) -> TraceSet:
        """Return the traces of problems after edits."""
        traces = [write(problem) for problem in problems]
        states = [self.states(trace) for trace in traces]
        for intervention in interventions:
            where = intervention.rows
            acts = torch.stack([states[slot][position] for slot, position in where.tolist()])
            for (slot, position), edited in zip(
                where.tolist(), intervention.edit(acts, np.arange(len(where))), strict=True
            ):
                states[slot][position] = edited
        return TraceSet([self._answered(*pair) for pair in zip(traces, states, strict=True)])

    def _answered(self, trace: Trace, states: torch.Tensor) -> Trace:
        end = trace.value_positions[0]
        width = len(trace.problem.steps[0].value)
        read = "".join(chr(int(states[k, 1:].argmax()) + 1) for k in range(end - width + 1, end + 1))
        return replace(trace, answer=read, text=read)


def write(problem: Problem) -> Trace:
    """Return a trace whose thought is the value of the only step, one character a token."""
    value = problem.steps[0].value
    ids = [ord("?"), *map(ord, f"={value};")]
    return Trace(
        id=0,
        problem=problem,
        reasoner="digits",
        token_ids=ids,
        tokens=list(map(chr, ids)),
        channel=["prompt", *["thought"] * (len(ids) - 1)],
        step=[0] * len(ids),
        thought=list(range(len(ids))),
        entropy=[float("nan")] * len(ids),
        logprob=[float("nan")] * len(ids),
        text=value,
        answer=value,
        correct=True,
        value_positions=[1 + len(value)],
    )


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TraceSet:
    """Four traces of each value, and states without a network in place of replays."""
    reader = DigitReader()

    def contents(_: Any, given: Sequence[Trace], __: Any, rows: np.ndarray) -> torch.Tensor:
        return torch.stack([reader.states(given[k])[position] for k, position in np.asarray(rows).tolist()])

    for module in (directions, steering):
        monkeypatch.setattr(module, "addresses_of", lambda *_: [Address("blocks.0.hook_in")])
    monkeypatch.setattr(directions, "contents", contents)
    monkeypatch.setattr(steering, "position_parts", lambda *given: torch.zeros(len(given[-1]), 1))
    lines = [
        {
            "question": f"which value stands at {value} {n}?",
            "answer": value,
            "values": [value],
            "counterfactuals": {"1": {other: other for other in VALUES if other != value}},
        }
        for value in VALUES
        for n in range(4)
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return TraceSet([write(problem) for problem in QuestionsTask(file).problems])


@pytest.mark.parametrize("mode", ["set", "add"])
def test_every_token_of_a_written_value_is_pushed(traces: TraceSet, mode: Any) -> None:
    fitted = causal.Directions.fit(DigitReader(), traces)  # type: ignore[arg-type]
    assert fitted.values == {1: ["3", "7"], 2: sorted(VALUES[2:])}
    assert set(fitted.means) == {(1, 1, 1, 0), (1, 1, 2, 0), (1, 1, 2, 1)}
    done = causal.steer(DigitReader(), traces, traces, fitted, doses=[2.0], mode=mode)  # type: ignore[arg-type]
    assert done.rate("steer", "followed").value == 1 and done.rate("already there", "changed").value == 0
    steered = done.table().query("edit == 'steer'")
    assert (steered["target"].str.len() == steered["value"].str.len()).all()
    assert done.rate("random direction", "followed").value < 0.2


def test_values_of_one_length_each_have_no_directions(traces: TraceSet) -> None:
    alone = TraceSet([trace for trace in traces if trace.answer in ("3", "21")])
    with pytest.raises(UsageError, match="at least two values at offset 0 of digits, got 2, and no two that stand"):
        causal.Directions.fit(DigitReader(), alone)  # type: ignore[arg-type]
