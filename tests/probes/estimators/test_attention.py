"""AttentionProbe finds the position that matters, ignores masked positions, and is linear for one position."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import UsageError
from probes import AttentionProbe, LogisticProbe
from probes.estimators.attention import sequences_by_trace


@parametrize_with_checks([AttentionProbe(epochs=30)])
def test_scikit_learns_contract(estimator, check) -> None:
    check(estimator)


def planted_sequences(n: int, positions: int = 12, d: int = 8, classes: int = 3, seed: int = 0):
    """Return noise with a flag and the class at one position of each sequence, the labels, and those positions."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, positions, d))
    codes, marked = rng.integers(0, classes, n), rng.integers(0, positions, n)
    x[np.arange(n), marked, 0] += 5.0
    x[np.arange(n), marked, 1 + codes] += 4.0
    return x, np.array([f"class {c}" for c in codes]), marked


@pytest.fixture(scope="module")
def fitted() -> AttentionProbe:
    x, y, _ = planted_sequences(800)
    return AttentionProbe(learning_rate=0.05).fit(x, y)


def test_it_attends_to_the_marked_position_and_reads_the_class(fitted: AttentionProbe) -> None:
    x, y, marked = planted_sequences(800)
    new, gold, where = planted_sequences(400, seed=1)
    assert fitted.score(new, gold) > 0.93
    pooled = LogisticProbe().fit(x.mean(axis=1), y)
    assert pooled.score(new.mean(axis=1), gold) < fitted.score(new, gold) - 0.1, "the mean would have done"
    attention = fitted.attention(new)
    np.testing.assert_allclose(attention.sum(axis=1), 1)
    assert (attention.argmax(axis=1) == where).mean() > 0.9
    assert marked.min() == 0 and marked.max() == 11


def test_the_order_of_positions_does_not_matter(fitted: AttentionProbe) -> None:
    new = planted_sequences(50, seed=2)[0]
    turned = new[:, np.random.default_rng(0).permutation(12)]
    np.testing.assert_allclose(fitted.decision_function(turned), fitted.decision_function(new), atol=1e-9)


def test_masked_positions_are_not_read(fitted: AttentionProbe) -> None:
    new, _, marked = planted_sequences(60, seed=3)
    mask = np.ones((60, 12), dtype=bool)
    mask[np.arange(60), (marked + 1) % 12] = False
    poisoned = np.where(mask[:, :, None], new, np.nan)
    np.testing.assert_array_equal(fitted.predict_proba(poisoned, mask), fitted.predict_proba(new, mask))
    assert (fitted.attention(new, mask)[~mask] == 0).all()
    shorter = np.stack([row[keep] for row, keep in zip(new, mask, strict=True)])
    np.testing.assert_allclose(fitted.decision_function(shorter), fitted.decision_function(new, mask), atol=1e-9)


def test_masked_padding_does_not_change_the_fit() -> None:
    x, y, _ = planted_sequences(120, positions=4)
    padded = np.concatenate([x, np.full((120, 3, 8), 1e6)], axis=1)
    mask = np.arange(7) < np.full((120, 1), 4)
    probe = AttentionProbe(epochs=8, validation_fraction=0.0)
    plain = clone(probe).fit(x, y)
    np.testing.assert_allclose(clone(probe).fit(padded, y, mask=mask).query_, plain.query_, atol=1e-9)


def test_with_one_position_it_is_a_linear_probe() -> None:
    x, y, _ = planted_sequences(500, positions=1)
    flat, single = AttentionProbe().fit(x[:, 0], y), AttentionProbe().fit(x, y)
    np.testing.assert_array_equal(flat.readout_, single.readout_)
    assert (flat.query_ == 0).all() and (flat.attention(x) == 1).all()
    new, gold, _ = planted_sequences(500, positions=1, seed=4)
    assert flat.score(new[:, 0], gold) == pytest.approx(
        LogisticProbe().fit(x[:, 0], y).score(new[:, 0], gold), abs=0.02
    )


def test_weights_count_sequences() -> None:
    x, y, _ = planted_sequences(60, positions=3)
    weights = np.random.default_rng(0).integers(0, 3, 60)
    probe = AttentionProbe(epochs=10, batch_size=1000)
    weighted = clone(probe).fit(x, y, sample_weight=weights)
    repeated = clone(probe).fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.decision_function(x), repeated.decision_function(x), atol=1e-7)


def test_rows_of_an_index_become_one_sequence_for_each_trace() -> None:
    rows = pd.DataFrame({"trace": [7, 7, 2, 7, 9, 2], "position": [0, 1, 0, 4, 3, 8]})
    acts = np.arange(12, dtype=np.float32).reshape(6, 2)
    sequences, mask, traces = sequences_by_trace(acts, rows)
    assert traces.tolist() == [7, 2, 9] and mask.sum(axis=1).tolist() == [3, 2, 1]
    np.testing.assert_array_equal(sequences[0], acts[[0, 1, 3]])
    np.testing.assert_array_equal(sequences[1, :2], acts[[2, 5]])
    np.testing.assert_array_equal(sequences[2, 0], acts[4])
    assert (sequences[~mask] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, m: (x, m[:, :3]), "expected a mask of 30 x 12 booleans, got 30 x 3 of bool"),
        (lambda x, m: (x, m.astype(float)), "got 30 x 12 of float64"),
        (lambda x, m: (x, m & (np.arange(30) != 6)[:, None]), r"got none in sequence 6 \(1 such sequences\)"),
        (lambda x, m: (x[:, 0], m[:, 0]), "with a mask, got a matrix; leave the mask out"),
        (
            lambda x, m: (np.where(np.arange(30)[:, None, None] == 9, np.inf, x), m),
            "the probe's sequences, got NaN or inf in row 9",
        ),
    ],
)
def test_wrong_sequences_and_masks_raise(change, message: str) -> None:
    x, y, _ = planted_sequences(30)
    x, mask = change(x, np.ones((30, 12), dtype=bool))
    with pytest.raises(UsageError, match=message):
        AttentionProbe(epochs=1).fit(x, y, mask=mask)


def test_sequences_of_another_width_raise(fitted: AttentionProbe) -> None:
    with pytest.raises(ValueError, match="X has 5 features, but AttentionProbe is expecting 8 features"):
        fitted.predict(np.zeros((3, 12, 5)))
