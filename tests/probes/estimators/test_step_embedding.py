"""StepEmbeddingProbe retrieves planted texts, including texts without a training row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import UsageError
from probes import StepEmbeddingProbe
from probes.estimators.step_embedding import bag_of_tokens

WORDS = ["one", "two", "three", "four", "five"]
TEXTS = [f"{a} plus {b}" for a, b in itertools.combinations(WORDS, 2)]


@parametrize_with_checks([StepEmbeddingProbe()])
def test_scikit_learns_contract(estimator, check) -> None:
    check(estimator)


def latents(texts: list[str], noise: float, seed: int = 0) -> np.ndarray:
    """Return latents that are the sum of one direction for each word, with noise."""
    maps = np.random.default_rng(99).normal(size=(6, 20))
    number = {word: k for k, word in enumerate([*WORDS, "plus"])}
    rng = np.random.default_rng(seed)
    sums = np.array([sum(maps[number[word]] for word in text.split()) for text in texts])
    return sums + noise * rng.normal(size=sums.shape)


def drawn(n: int, texts: list[str], seed: int = 0) -> list[str]:
    return [str(t) for t in np.random.default_rng(seed).choice(texts, n)]


def test_the_nearest_candidate_is_the_planted_text() -> None:
    y, gold = drawn(300, TEXTS), drawn(200, TEXTS, seed=1)
    probe = StepEmbeddingProbe().fit(latents(y, 0.5), y)
    assert probe.score(latents(gold, 0.5, 1), gold) > 0.95
    assert list(probe.classes_) == sorted(TEXTS)


def test_texts_outside_training_are_retrieved_by_their_words() -> None:
    unseen = ["one plus three", "two plus five"]
    y = drawn(300, [t for t in TEXTS if t not in unseen])
    probe = StepEmbeddingProbe(candidates=TEXTS).fit(latents(y, 0.2), y)
    gold = drawn(100, unseen, seed=1)
    assert probe.score(latents(gold, 0.2, 1), gold) > 0.9
    p = probe.predict_proba(latents(gold, 0.2, 1))
    assert p.shape == (100, len(TEXTS))
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_candidates_are_ranked_by_cosine() -> None:
    y = drawn(200, TEXTS)
    x = latents(y, 1.0)
    probe = StepEmbeddingProbe().fit(x, y)
    texts, cosines = probe.top_k(x, 3)
    assert texts.shape == cosines.shape == (200, 3)
    assert (np.diff(cosines, axis=1) <= 0).all() and (texts[:, 0] == probe.predict(x)).all()
    predicted = probe.embed(x)
    one = predicted[5] @ probe.embeddings_.T
    one /= np.linalg.norm(predicted[5]) * np.linalg.norm(probe.embeddings_, axis=1)
    assert texts[5].tolist() == probe.classes_[np.argsort(-one)[:3]].tolist()
    np.testing.assert_allclose(cosines[5], np.sort(one)[::-1][:3])
    assert probe.top_k(x, 99)[0].shape == (200, len(TEXTS))


def test_the_map_is_ridge_regression_onto_the_embeddings() -> None:
    y = drawn(120, TEXTS)
    x = latents(y, 1.0)
    probe = StepEmbeddingProbe(strengths=(1e-2,)).fit(x, y)
    design = (x - x.mean(axis=0)) / x.std(axis=0)
    ridge = Ridge(alpha=probe.strength_).fit(design, bag_of_tokens(y))
    np.testing.assert_allclose(probe.embed(x), ridge.predict(design), atol=1e-8)


def test_embeddings_of_the_caller() -> None:
    """Candidates may come in any order; each keeps its own embedding."""
    y = drawn(200, TEXTS)
    x = latents(y, 0.5)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    table = bag_of_tokens(TEXTS) @ np.random.default_rng(1).normal(size=(6, 30))
    one = StepEmbeddingProbe(TEXTS, table).fit(x, y)
    other = StepEmbeddingProbe([TEXTS[k] for k in order], table[order]).fit(x, y)
    np.testing.assert_array_equal(one.decision_function(x), other.decision_function(x))
    np.testing.assert_array_equal(one.embeddings_[list(one.classes_).index(TEXTS[3])], table[3])
    assert one.score(latents(y, 0.5, 1), y) > 0.9


def test_without_signal_probabilities_are_not_confident() -> None:
    rng = np.random.default_rng(0)
    y = drawn(300, TEXTS)
    probe = StepEmbeddingProbe().fit(rng.normal(size=(300, 40)), y)
    assert probe.predict_proba(rng.normal(size=(200, 40))).max(axis=1).mean() < 0.3


def test_a_bag_is_the_mean_of_its_words() -> None:
    np.testing.assert_allclose(bag_of_tokens(["a b b", "c"]), [[1 / 3, 2 / 3, 0], [0, 0, 1]])
    vectors = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 3.0])}
    np.testing.assert_allclose(bag_of_tokens(["a b", "b"], vectors), [[0.5, 1.5], [0, 3]])
    with pytest.raises(UsageError, match="got none for 1 words, for example 'c'; add them"):
        bag_of_tokens(["a c"], vectors)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (StepEmbeddingProbe(TEXTS[:3]), r"among the candidates, got \d others, for example '.*'; add them"),
        (StepEmbeddingProbe(["a", "a"]), "expected two or more different candidates, got 2, 1 of them different"),
        (StepEmbeddingProbe(None, np.eye(10)), "expected candidates with the embeddings, got embeddings alone"),
        (StepEmbeddingProbe(TEXTS, np.eye(9)), r"expected embeddings of 10 candidates, got shape \(9, 9\)"),
        (StepEmbeddingProbe(TEXTS, np.full((10, 2), np.nan)), "finite rows in the embeddings, got NaN or inf in row 0"),
        (
            StepEmbeddingProbe(TEXTS, np.eye(10)[:, :9]),
            "expected embeddings that are not zero, got zero for '.*'; leave that text out",
        ),
    ],
)
def test_wrong_candidates_raise(probe: StepEmbeddingProbe, message: str) -> None:
    y = drawn(100, TEXTS)
    with pytest.raises(UsageError, match=message):
        probe.fit(latents(y, 1.0), y)
