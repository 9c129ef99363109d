"""Pooling of positions, with values known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import UsageError
from probes.trajectories.areas import area, auroc, bands
from probes.trajectories.fit import alarm_threshold, row_weights
from probes.trajectories.places import score_places
from probes.trajectories.pooling import POOLINGS, Spans, first_above, peaks, pool, running

# Two traces: 1 5 0 0 and 2 2.
TRACES = np.array([7, 7, 7, 7, 9, 9])
SCORES = np.array([1.0, 5, 0, 0, 2, 2])[:, None]


def test_spans_of_rows() -> None:
    spans = Spans.of(TRACES)
    assert spans.starts.tolist() == [0, 4] and spans.lengths.tolist() == [4, 2]
    assert spans.of_row.tolist() == [0, 0, 0, 0, 1, 1] and spans.offsets.tolist() == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize(
    ("pooling", "expected"), [("max", [5, 2]), ("mean", [1.5, 2]), ("last", [0, 2]), ("rolling max", [3, 2])]
)
def test_poolings_by_hand(pooling: str, expected: list[float]) -> None:
    assert pool(SCORES, Spans.of(TRACES), pooling, 2)[:, 0].tolist() == expected


def test_running_scores_end_in_the_pooled_ones() -> None:
    spans = Spans.of(TRACES)
    assert running(SCORES, spans, "mean", 2)[:, 0].tolist() == [1, 3, 2, 1.5, 2, 2]
    assert running(SCORES, spans, "rolling max", 2)[:, 0].tolist() == [1, 3, 2.5, 0, 2, 2]
    # A window longer than a trace is the mean of the whole trace.
    assert pool(SCORES, spans, "rolling max", 10)[:, 0].tolist() == [1.5, 2]


def test_the_place_of_the_highest_score_and_of_the_first_firing() -> None:
    spans = Spans.of(TRACES)
    assert peaks(SCORES, spans)[:, 0].tolist() == [1, 4]
    assert first_above(SCORES, spans, 0.5)[:, 0].tolist() == [0, 4]
    assert first_above(SCORES, spans, 2.0)[:, 0].tolist() == [1, -1]


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(UsageError, match="rolling max"):
        pool(SCORES, Spans.of(TRACES), "median", 2)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 99))
def test_poolings_agree_with_plain_loops(lengths: list[int], window: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(sum(lengths), 2))
    spans = Spans.of(np.repeat(np.arange(len(lengths)), lengths))
    for k, (b, n) in enumerate(zip(spans.starts, spans.lengths, strict=True)):
        part = scores[b : b + n]
        width = min(window, n)
        means = [part[i : i + width].mean(axis=0) for i in range(n - width + 1)]
        by_hand = {
            "max": part.max(axis=0),
            "mean": part.mean(axis=0),
            "last": part[-1],
            "rolling max": np.max(means, 0),
        }
        for name in POOLINGS:
            np.testing.assert_allclose(pool(scores, spans, name, window)[k], by_hand[name], atol=1e-12)


def test_a_trace_counts_once_whatever_its_length() -> None:
    weights = row_weights(Spans.of(TRACES))
    assert weights[:4].sum() == pytest.approx(weights[4:].sum()) and weights.mean() == pytest.approx(1)


def test_the_threshold_lets_the_wanted_share_of_quiet_traces_through() -> None:
    scores, positive = np.arange(40.0)[:, None], np.zeros((40, 1), bool)
    threshold, _ = alarm_threshold(scores, positive, 0.05)
    assert (scores > threshold).sum() == 2
    assert (scores > alarm_threshold(scores, positive, 0.01)[0]).sum() == 0


def test_auroc_counts_pairs_of_one_stratum_only() -> None:
    scores = np.array([1.0, 2, 11, 12, 10, 20])
    positive = np.array([False, True, False, True, True, False])
    groups, lengths = np.arange(6), np.array([1, 1, 2, 2, 3, 3])
    # By hand: of 9 pairs, 2 beats 1, 12 beats 1 and 11, 10 beats 1.
    assert auroc(scores, positive, groups).value == pytest.approx(4 / 9) == pytest.approx(area(scores, positive))
    # Of equal length: 2 over 1 and 12 over 11 are in order, 10 over 20 is not.
    assert auroc(scores, positive, groups, strata=lengths).value == pytest.approx(2 / 3)
    assert auroc(scores, positive, groups, strata=np.arange(6)).n == 0


def test_bands_are_lengths_where_these_are_few() -> None:
    assert bands(np.array([3, 5, 3])).tolist() == [0, 1, 0]
    assert len(set(bands(np.arange(100)).tolist())) == 8


def test_places_beside_uniform_ones_by_hand() -> None:
    n, length = 60, 5
    spans = Spans.of(np.repeat(np.arange(n), length))
    where = np.random.default_rng(0).integers(0, length, n)
    truth = np.zeros(n * length, bool)
    truth[spans.starts + where] = True
    score = score_places(spans.starts + where, np.arange(n), truth, spans, np.arange(n))
    assert (
        score.right.value == 1
        and score.uniform == pytest.approx(0.2)
        and score.other_trace == pytest.approx(0.2, abs=0.1)
    )
    assert score.verdict == "it fires where the truth is set" and score.offset == 0
    blind = score_places(spans.starts + 2, np.arange(n), truth, spans, np.arange(n))
    assert "not shown" in blind.verdict
    assert (
        "no verdict over 10"
        in score_places((spans.starts + where)[:10], np.arange(10), truth, spans, np.arange(n)).verdict
    )


def test_a_place_that_another_problem_tells_as_well_is_no_finding() -> None:
    n, length = 60, 5
    spans = Spans.of(np.repeat(np.arange(n), length))
    truth = np.tile(np.arange(length) == 3, n)
    score = score_places(spans.starts + 3, np.arange(n), truth, spans, np.arange(n))
    assert score.right.value == 1 and score.other_trace == 1 and "no more often" in score.verdict
