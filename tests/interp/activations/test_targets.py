"""Targets are labels from the problem and the trace, aligned with the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.activations.targets import labels, structures, value_targets
from interp.errors import UsageError
from interp.problems import Problem
from interp.traces import Trace


@pytest.fixture
def by_hand(
    tmp_path: Path,
    made_problem: Callable[..., Problem],
    written_trace: Callable[..., Trace],
    write_store: Callable[..., Store],
) -> Store:
    """Two traces: values 7, 2, 4, answered right; and values 5, 0, answered wrong."""
    one, two = written_trace(made_problem("a b", "724")), written_trace(made_problem("c", "50"))
    two = dataclasses.replace(two, answer="9", correct=False)
    return write_store(
        tmp_path / "s", [one, two], {"blocks.0.hook_out": lambda index: np.zeros((len(index), 2), np.float32)}
    )


def table(store: Store, target: str) -> dict[tuple[int, str], str | None]:
    result = labels(store, store.index, target)
    return {(t, p): x for t, p, x in zip(store.index["trace"], store.index["place"], result, strict=True)}


def test_the_rows_are_those_expected(by_hand: Store) -> None:
    assert by_hand.index["place"].tolist() == [
        *["question end", "begin", "thought 1", "thought 2", "thought 3", "end", "answer"],
        *["question end", "begin", "thought 1", "thought 2", "end", "answer"],
    ]


def test_step_value(by_hand: Store) -> None:
    result = table(by_hand, "step_value")
    assert [result[0, f"thought {k}"] for k in (1, 2, 3)] == ["7", "2", "4"]
    assert [result[1, f"thought {k}"] for k in (1, 2)] == ["5", "0"]
    assert {result[key] for key in result if not key[1].startswith("thought")} == {None}


def test_next_step(by_hand: Store) -> None:
    result = table(by_hand, "next_step")
    assert [result[0, f"thought {k}"] for k in (1, 2, 3)] == ["2", "4", None]
    assert result[0, "begin"] == "7" and result[1, "question end"] == "5"


def test_value_k_holds_at_every_position(by_hand: Store) -> None:
    assert set(table(by_hand, "value_2").values()) == {"2", "0"}
    third = table(by_hand, "value_3")
    assert {v for (t, _), v in third.items() if t == 0} == {"4"}
    assert {v for (t, _), v in third.items() if t == 1} == {None}


def test_answer_is_the_problems_and_correct_is_the_traces(by_hand: Store) -> None:
    assert {v for (t, _), v in table(by_hand, "answer").items() if t == 1} == {"0"}, "not the 9 that was answered"
    correct = table(by_hand, "correct")
    assert (correct[0, "answer"], correct[1, "answer"]) == ("True", "False")


def test_labels_follow_the_rows_that_are_asked(by_hand: Store) -> None:
    rows = by_hand.index.iloc[[9, 3, 2]]
    assert labels(by_hand, rows, "step_value").tolist() == ["5", "2", "7"]
    assert labels(by_hand, by_hand.index.iloc[:0], "answer").shape == (0,)


def test_labels_come_from_the_problems_of_the_store(store: Store) -> None:
    rows = store.rows(place="thought 2")
    expected = [store.traces[t].problem.steps[1].value for t in rows["trace"]]
    assert labels(store, rows, "step_value").tolist() == labels(store, rows, "value_2").tolist() == expected


@pytest.mark.parametrize(
    ("target", "hint"), [("step_valu", "step_value"), ("value_0", "value_"), ("value_10", "value_1")]
)
def test_an_unknown_target_is_refused_with_a_suggestion(store: Store, target: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"expected a known target, got '{target}'; did you mean '{hint}"):
        labels(store, store.index, target)


def test_value_targets_go_to_the_longest_problem(by_hand: Store, store: Store) -> None:
    assert value_targets(by_hand) == ["value_1", "value_2", "value_3"]
    assert value_targets(store) == [f"value_{k}" for k in range(1, 6)]


def test_problems_without_steps_have_no_value_targets(
    by_hand: Store, tmp_path: Path, write_store: Callable[..., Store]
) -> None:
    trace = dataclasses.replace(by_hand.traces[0], problem=dataclasses.replace(by_hand.traces[0].problem, steps=()))
    bare = write_store(tmp_path / "bare", [trace], {"blocks.0.hook_out": lambda index: np.zeros((len(index), 2))})
    with pytest.raises(UsageError, match="no gold steps"):
        value_targets(bare)


def test_structures_are_the_problems_own(store: Store) -> None:
    rows = store.index.sample(50, random_state=0)
    assert structures(store, rows).tolist() == [store.traces[t].problem.structure for t in rows["trace"]]
    assert isinstance(rows, pd.DataFrame)
