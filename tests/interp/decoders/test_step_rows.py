"""Rows at which steps are read: each lookup in a store is made once for a whole decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
from interp.activations import Store
from interp.activations.targets import structures
from interp.decoders import step_rows as module
from interp.decoders.base import STEP_TEXT, STEP_VALUE
from interp.decoders.step_rows import DecodeInputs, step_rows
from interp.errors import UsageError
from interp.statistics.splits import grouped_split
from interp.traces import TraceSet
from probes.sweeps.run import sweep


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count calls of the functions that look rows, labels, splits and offers up in a store."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable) -> Callable:
        def call(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*args, **options)

        return call

    for name in ("labels", "trace_parts", "make_task", "_readable", "step_positions", "_rows_and_values", "_texts"):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


def test_rows_labels_and_the_split_are_computed_once_for_all_methods(
    store: Store, coconut: interp.Reasoner, calls: Counter[str]
) -> None:
    methods = ["probe", "logit_lens", "nearest_text", "neighbours"]
    readouts = interp.decode(store, methods, reasoner=coconut)
    assert {"trace_parts", "make_task", "_readable", "step_positions"} <= set(calls)
    assert all(calls[name] == 1 for name in ("trace_parts", "make_task", "_readable", "step_positions"))
    offsets = 3  # 0 and -1 for all steps, and 1 for single steps
    assert all(calls[name] <= offsets for name in ("labels", "_rows_and_values", "_texts"))
    before = dict(calls)
    readouts.at_all_positions("probe", readouts.of("probe"))
    assert dict(calls) == before, "reading every position looks nothing up again"


def test_inputs_are_those_of_step_rows_with_structures_and_parts(store: Store) -> None:
    inputs = DecodeInputs(store, 3)
    for offset in (0, -1):
        of_offset = inputs.step_rows(offset)
        for output in (STEP_VALUE, STEP_TEXT):
            rows, gold = step_rows(store, offset, output)
            assert rows.equals(of_offset.rows)
            np.testing.assert_array_equal(gold, of_offset.gold(output))
        np.testing.assert_array_equal(of_offset.structures, structures(store, rows))
        split, expected = of_offset.split(), grouped_split(structures(store, rows), 3)
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(getattr(split, part), getattr(expected, part))
        assert inputs.step_rows(offset) is of_offset


def test_a_selection_that_cannot_be_split_is_refused(store: Store) -> None:
    rows = DecodeInputs(store, 0).step_rows(0)
    few = rows.select(rows.rows["trace"].to_numpy() == 0)
    with pytest.raises(UsageError, match=r"the .* part is empty"):
        few.split()


def test_without_a_begin_marker_the_questions_end_is_before_the_first_thought(
    write_store: Callable, written_trace: Callable, made_problem: Callable, tmp_path: Path
) -> None:
    """The first thought is known at the question's end alone: at offset 0 it holds nothing."""
    rng = np.random.default_rng(0)
    problems = [made_problem(f"{k} ?", rng.integers(0, 4, 2).astype(str).tolist()) for k in range(150)]
    traces = []
    for problem in problems:
        trace = written_trace(problem)
        begin = trace.channel.index("special")
        lists = {name: getattr(trace, name) for name in ("token_ids", "tokens", "channel", "step", "thought")}
        lists |= {name: getattr(trace, name) for name in ("entropy", "logprob")}
        traces.append(replace(trace, **{name: [*row[:begin], *row[begin + 1 :]] for name, row in lists.items()}))

    def acts(index: pd.DataFrame) -> np.ndarray:
        """Return one-hot values, each one position before its thought."""
        rows = np.zeros((len(index), 4), np.float32)
        for k, (trace, place) in enumerate(zip(index["trace"], index["place"], strict=True)):
            step = {"question end": 1, "thought 1": 2}.get(place)
            if step is not None:
                rows[k, int(problems[trace].steps[step - 1].value)] = 1.0
        return rows + 0.01 * rng.normal(size=rows.shape).astype(np.float32)

    without = write_store(tmp_path / "without", TraceSet(traces), {"ln_final.hook_out": acts})
    rows, gold = step_rows(without, -1)
    assert Counter(rows["place"]) == {"question end": 150, "thought 1": 150} and len(gold) == 300
    readouts = interp.decode(without, ["probe"])
    assert readouts.locations["probe"].offset == -1 and readouts.scores()["top1"].min() == 1.0
    swept = sweep(without, splits=1, controls="none").matched()
    assert swept["place"].tolist() == ["question end", "thought 1"] and swept["accuracy"].min() == 1.0
    marked = write_store(tmp_path / "marked", TraceSet(map(written_trace, problems)), {"ln_final.hook_out": acts})
    assert Counter(step_rows(marked, -1)[0]["place"]) == {"begin": 150, "thought 1": 150}
