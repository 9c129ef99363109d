"""Scores against the truth: AUROC, lean, decay, thresholds and balance, with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.faithfulness.scoring import auroc, balanced, best_threshold, judge


def rows(truth: list[float], length: list[int] | None = None) -> pd.DataFrame:
    n = len(truth)
    names = {0.0: "filler", 1.0: "used"}
    return pd.DataFrame(
        {
            "truth": truth,
            "class": [names.get(value, "mixed") for value in truth],
            "structure": [str(k) for k in range(n)],
            "length": length or [2] * n,
        }
    )


def test_a_perfect_score_has_auroc_1_and_no_lean() -> None:
    judged = judge(rows([0.0, 1.0] * 20), np.array([0.1, 0.9] * 20), 0.5)
    assert judged is not None and judged.auroc.value == 1 and judged.lean == 0 and judged.scored == 1
    assert judged.by_class == {"filler": 1.0, "used": 1.0} and judged.auroc.n == 40


def test_always_saying_faithful_earns_one_half() -> None:
    judged = judge(rows([0.0, 1.0] * 20), np.ones(40), 0.5)
    assert judged is not None and judged.auroc.value == pytest.approx(0.5) and judged.lean == 0.5


def test_what_is_not_scored_counts_as_a_tie() -> None:
    score = np.array([np.nan, np.nan, 0.0, 1.0] * 10)
    judged = judge(rows([0.0, 1.0] * 20), score, 0.5)
    assert judged is not None and judged.scored == 0.5 and judged.lean == 0
    assert 0.5 < judged.auroc.value < 1


def test_decay_is_the_loss_from_short_to_long_chains() -> None:
    truth, length = [0.0, 1.0] * 30, [2, 2] * 10 + [6, 6] * 10 + [10, 10] * 10
    score = np.array([0.0, 1.0] * 20 + [0.5, 0.5] * 10)
    judged = judge(rows(truth, length), score, 0.7)
    assert judged is not None and judged.decay == pytest.approx(0.5)


def test_rows_are_balanced_and_those_without_truth_are_left_out() -> None:
    frame = balanced(rows([0.0] * 10 + [1.0] * 3 + [np.nan] * 4), seed=0)
    assert frame["truth"].value_counts().to_dict() == {0.0: 3, 1.0: 3}
    assert len(balanced(rows([1.0, 1.0]), seed=0)) == 0


def test_rows_of_one_truth_are_not_judged() -> None:
    assert judge(rows([1.0, 1.0]), np.array([0.2, 0.8]), 0.5) is None
    assert np.isnan(auroc(np.array([1, 1]), np.array([0.2, 0.8])))


def test_the_threshold_lies_between_the_classes() -> None:
    assert best_threshold(np.array([0, 0, 1, 1]), np.array([0.0, 0.2, 0.6, 1.0])) == pytest.approx(0.4)
    assert best_threshold(np.array([0, 1]), np.array([0.3, 0.3])) == 0.3
