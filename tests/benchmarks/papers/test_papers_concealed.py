"""Detection of a concealed intent: thresholds, scores and controls, on data whose truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from benchmarks.papers.concealed import same_behaviour, traces_of
from benchmarks.papers.detection import Parts, auroc, bag_of_words, detect, threshold
from benchmarks.papers.lcm import accuracy, concepts_of, gold_steps, predict_steps, with_steps
from interp.problems.trigger import TriggerTask
from interp.problems.variables import VariablesTask
from interp.reasoners import Reasoner
from interp.traces import Trace, TraceSet

scores = arrays(float, st.integers(1, 400), elements=st.floats(-5, 5, width=16))


@given(scores, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_no_more_than_its_share_lies_above_a_threshold_and_a_lower_one_would_let_more_through(
    innocent: np.ndarray, share: float
) -> None:
    limit = threshold(innocent, share)
    assert (innocent > limit).mean() <= share
    lower = innocent[innocent < limit]
    if len(lower):
        assert (innocent > lower.max()).mean() > share


@given(arrays(float, 30, elements=st.floats(-3, 3, width=16)), arrays(bool, 30))
def test_auroc_is_scikit_learns(values: np.ndarray, positive: np.ndarray) -> None:
    if positive.all() or not positive.any():
        assert np.isnan(auroc(values, positive))
    else:
        assert auroc(values, positive) == pytest.approx(roc_auc_score(positive, values))


def planted(strength: float, n: int = 3000) -> tuple[dict[str, np.ndarray], np.ndarray, Parts]:
    """Rows at two sites; at `told` one direction is shifted by the label."""
    rng = np.random.default_rng(0)
    positive = rng.random(n) < 0.5
    told, other = rng.normal(size=(2, n, 12)).astype(np.float32)
    told[:, 3] += strength * positive
    part = rng.choice(3, size=n, p=[0.6, 0.2, 0.2])
    return {"other": other, "told": told}, positive, Parts(part == 0, part == 1, part == 2)


def test_a_planted_direction_is_found_at_its_site() -> None:
    features, positive, parts = planted(8.0)
    result = detect(features, positive, parts)
    assert result.address == "told" and result.recall > 0.95 and result.auroc > 0.99
    assert result.false_positives <= 0.01 and len(result.flagged) == parts.test.sum()
    assert result.flagged[positive[parts.test]].mean() == result.recall


def test_recall_at_few_false_positives_asks_for_more_than_auroc() -> None:
    features, positive, parts = planted(1.5)
    result = detect({"told": features["told"]}, positive, parts)
    assert result.auroc > 0.8 and result.recall < 0.4


def test_nothing_is_found_in_noise() -> None:
    features, positive, parts = planted(0.0)
    result = detect(features, positive, parts)
    assert result.recall < 0.05 and result.false_positives <= 0.01 and result.auroc == pytest.approx(0.5, abs=0.07)


def test_the_site_is_chosen_without_the_test_rows() -> None:
    features, positive, parts = planted(8.0)
    features = {"late": np.where(parts.test[:, None], 10.0 * positive[:, None], features["other"]), **features}
    assert detect(features, positive, parts).address == "told"


def test_a_bag_of_words_counts_words() -> None:
    assert bag_of_words(["b a b", "c", ""]).tolist() == [[1, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_single_words_of_the_question_cannot_find_the_trigger() -> None:
    problems = [problem for pair in TriggerTask().pairs(1200, seed=0) for problem in pair]
    words = bag_of_words([problem.question for problem in problems])
    positive = np.array([problem.meta["triggered"] for problem in problems])
    part = np.repeat(np.random.default_rng(0).choice(3, size=1200, p=[0.6, 0.2, 0.2]), 2)
    result = detect({"words": words}, positive, Parts(part == 0, part == 1, part == 2))
    assert result.recall < 0.06 and result.auroc == pytest.approx(0.5, abs=0.08)


@pytest.fixture
def pairs(written_trace: Callable[..., Trace]) -> list[Trace]:
    """Traces of two pairs, all answered right, with the text that a reasoner would have written."""
    made = []
    for pair in TriggerTask(steps="3").pairs(2, seed=1):
        for problem in pair:
            text = " ".join([*(step.text for step in problem.steps), problem.answer])
            made.append(dataclasses.replace(written_trace(problem), text=text, answer=problem.answer))
    return made


def test_pairs_are_alike_until_something_seen_differs(pairs: list[Trace]) -> None:
    assert same_behaviour(TraceSet(pairs)).tolist() == [True, True]
    wrong = dataclasses.replace(pairs[1], correct=False)
    slipped = dataclasses.replace(pairs[3], text="9 " + pairs[3].text[2:] + "x")
    odd = dataclasses.replace(pairs[3], text=pairs[3].text.replace(" ", " 5 ", 1))
    assert same_behaviour(TraceSet([pairs[0], wrong, *pairs[2:]])).tolist() == [False, True]
    assert same_behaviour(TraceSet([*pairs[:3], odd])).tolist() == [True, False]
    assert slipped.text != pairs[3].text
    kept = traces_of(TraceSet(pairs), np.repeat([False, True], 2))
    assert [t.problem for t in kept] == [t.problem for t in pairs[2:]]


def test_steps_and_their_accuracy() -> None:
    problems = VariablesTask(steps="2-3").generate(20, seed=0)
    steps = gold_steps(problems)
    assert steps["text"].tolist() == [step.text for problem in problems for step in problem.steps]
    right = (steps["step"] == 2).to_numpy()
    table = accuracy({"arm": right}, steps)
    row = table.iloc[0]
    assert row["step 2"] == 1.0 and row["step 1"] == row["step 3"] == 0.0
    assert row["all steps"] == pytest.approx(right.mean()) and row["n"] == len(steps)
    assert row["95 %"][0] < row["all steps"] < row["95 %"][1]


class Doubling:
    """Stands for a reasoner with a projection: replays its final states, which here are its thoughts' numbers."""

    class config:  # noqa: N801
        latent_scale = 0.5

    def __init__(self, reasoner: Reasoner) -> None:
        self.replay, self.projection = reasoner.replay, torch.nn.Identity()


def test_embeddings_go_into_traces_and_come_out_again(coconut: Reasoner, traces: TraceSet) -> None:
    some = traces[:10]
    steps = sum(trace.problem.n_steps for trace in some)
    given = torch.randn(steps, 128)
    stand_in = Doubling(coconut)
    changed = with_steps(some, given, stand_in)  # type: ignore[arg-type]
    assert torch.allclose(concepts_of(stand_in, changed), given, atol=1e-6)  # type: ignore[arg-type]
    assert [len(t.latents) for t in changed] == [t.problem.n_steps for t in some]


def test_what_is_predicted_at_a_thought_is_the_state_before_it(coconut: Reasoner, traces: TraceSet) -> None:
    """A continuous thought is that state times the scale, so on its own traces the model predicts its thoughts."""
    some = traces[:10]
    result = predict_steps(Doubling(coconut), some)  # type: ignore[arg-type]
    thoughts = np.concatenate([trace.latents for trace in some])
    np.testing.assert_allclose(result.numpy() * coconut.config.latent_scale, thoughts, atol=1e-4)


def test_interval_columns_survive_json() -> None:
    steps = pd.DataFrame({"problem": [0, 0], "step": [1, 2], "text": ["a", "b"], "structure": ["x", "x"]})
    low, high = accuracy({"arm": np.array([True, False])}, steps).iloc[0]["95 %"]
    assert isinstance(low, float) and isinstance(high, float)
