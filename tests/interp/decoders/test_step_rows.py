"""Rows at which steps are read: each lookup in a store is made once for a whole decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import interp
from interp.activations import Store
from interp.activations.targets import structures
from interp.decoders import step_rows as module
from interp.decoders.base import STEP_TEXT, STEP_VALUE
from interp.decoders.step_rows import DecodeInputs, step_rows
from interp.errors import UsageError
from interp.statistics.splits import grouped_split


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count calls of the functions that look rows, labels, splits and offers up in a store."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable) -> Callable:
        def call(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*args, **options)

        return call

    for name in ("labels", "split_parts", "make_task", "_readable", "_last_thoughts", "_rows_and_values", "_texts"):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


def test_rows_labels_and_the_split_are_computed_once_for_all_methods(
    store: Store, coconut: interp.Reasoner, calls: Counter[str]
) -> None:
    methods = ["probe", "logit_lens", "nearest_text", "neighbours"]
    readouts = interp.decode(store, methods, reasoner=coconut)
    assert {"split_parts", "make_task", "_readable", "_last_thoughts"} <= set(calls)
    assert all(calls[name] == 1 for name in ("split_parts", "make_task", "_readable", "_last_thoughts"))
    offsets = 3  # 0 and -1 for all steps, and 1 for single steps
    assert all(calls[name] <= offsets for name in ("labels", "_rows_and_values", "_texts"))
    before = dict(calls)
    readouts.everywhere("probe", readouts.of("probe"))
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
