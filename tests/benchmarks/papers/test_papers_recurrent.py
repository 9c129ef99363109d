"""The section on recurrence: where accuracy peaks, and how donors are paired with recipients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.papers.recurrent import Depths, _donors, peak, share_at_hops


def test_the_peak_is_the_fewest_iterations_that_are_as_good_as_the_best() -> None:
    assert peak([0.1, 0.12, 0.98, 1.0, 0.3], 300) == 4
    assert peak([0.1, 0.99, 0.992, 0.991], 300) == 2, "what noise can explain is no later peak"
    assert peak([1.0, 1.0, 1.0], 50) == 1
    assert peak([0.1, 0.2, 0.3], 1000) == 3


def test_the_share_counts_peaks_beside_the_steps_needed() -> None:
    peaks = {2: 2, 3: 4, 4: 3, 5: 8}
    assert share_at_hops(peaks) == 0.75
    assert share_at_hops(peaks, within=0) == 0.25


def test_depths_know_accuracy_and_peak_by_steps() -> None:
    right = np.zeros((4, 100), bool)
    right[2:] = True
    result = Depths({3: right}, {3: []})
    assert result.accuracy(3) == [0.0, 0.0, 1.0, 1.0] and result.peak(3) == 3


@given(st.lists(st.integers(2, 5), min_size=8, max_size=40).filter(lambda x: min(map(x.count, set(x))) > 1))
def test_donors_are_other_problems_of_as_many_steps(n_steps: list[int]) -> None:
    donors = _donors(n_steps)
    assert sorted(donors) == list(range(len(n_steps))), "everyone gives once"
    assert all(a != b and n_steps[a] == n_steps[b] for a, b in enumerate(donors))


@pytest.mark.parametrize("accuracies", [[0.5], [0.2, 0.9, 0.4]])
def test_a_peak_is_one_of_the_iterations_measured(accuracies: list[float]) -> None:
    assert 1 <= peak(accuracies, 10) <= len(accuracies)
