"""The online code compresses labels that follow from the rows, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

from interp.errors import UsageError
from probes import RidgeProbe
from probes.sweeps.description_length import online_code, online_codes


def planted(n: int, classes: int, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    centres = np.linalg.qr(rng.normal(size=(16, 16)))[0][:classes]
    return signal * centres[codes] + rng.normal(size=(n, 16)), np.array([f"class {c}" for c in codes])


def test_blocks_double_and_add_up() -> None:
    x, y = planted(1000, 4, 3.0)
    length = online_code(x, y, RidgeProbe)
    assert length.blocks["stop"].tolist() == [32, 64, 128, 256, 512, 1000]
    assert length.blocks["start"].tolist() == [0, 32, 64, 128, 256, 512]
    assert length.blocks["bits"].sum() == pytest.approx(length.bits) and length.n == 1000
    assert length.uniform_bits == 2000 and length.compression == pytest.approx(2000 / length.bits)
    assert length.bits_per_label == pytest.approx(length.bits / 1000)
    assert length.blocks["bits"][0] == pytest.approx(64), "the first labels are coded uniformly"


def test_the_length_equals_its_definition() -> None:
    x, y = planted(300, 3, 2.0)
    length = online_code(x, y, GaussianNB, first=20, seed=4)
    order = np.argsort(np.random.default_rng(4).permutation(300))
    x, y = x[order], np.unique(y, return_inverse=True)[1][order]
    bits = 20 * np.log2(3)
    for low, high in ((20, 40), (40, 80), (80, 160), (160, 300)):
        p = GaussianNB().fit(x[:low], y[:low]).predict_proba(x[low:high])
        mixed = (1 - 1 / (low + 1)) * p + 1 / (low + 1) / 3
        bits -= np.log2(mixed[np.arange(high - low), y[low:high]]).sum()
    assert length.bits == pytest.approx(bits)


def test_a_signal_is_compressed_and_noise_is_not() -> None:
    strong, weak, none = (online_code(*planted(1000, 4, signal), RidgeProbe).compression for signal in (8.0, 2.0, 0.0))
    assert strong > 4 and 1.15 < weak < strong
    assert 0.9 < none < 1.02
    x, y = planted(1000, 4, 8.0)
    shuffled = y[np.random.default_rng(1).permutation(1000)]
    assert online_code(x, shuffled, RidgeProbe).compression < 1.02


def test_a_classifier_of_class_frequencies_reaches_their_entropy() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.1).astype(int)
    length = online_code(np.zeros((4000, 1)), y, lambda: DummyClassifier(strategy="prior"))
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert length.blocks["bits_per_label"].iloc[-1] == pytest.approx(entropy, abs=0.04)


def test_a_class_that_first_occurs_late_can_be_coded() -> None:
    """Its first label costs about log2 of the number of labels so far, not infinity."""
    x, y = planted(200, 2, 4.0)
    y[np.argsort(np.random.default_rng(0).permutation(200))[199]] = "never before"
    length = online_code(x, y, RidgeProbe)
    assert np.isfinite(length.bits)
    with_one = length.blocks["bits"].iloc[-1]
    assert with_one > np.log2(3 * 129)


def test_one_class_in_the_first_block_is_allowed() -> None:
    y = np.array(["a"] * 60 + ["b"] * 4)
    order = np.argsort(np.random.default_rng(0).permutation(64))
    placed = np.empty(64, dtype=y.dtype)
    placed[order] = y
    length = online_code(np.arange(64.0)[:, None], placed, RidgeProbe, first=8)
    assert np.isfinite(length.bits) and length.blocks["bits"][1] < 8


def test_no_block_shares_a_group_with_earlier_blocks() -> None:
    seen: list[set[int]] = []

    class Spy(DummyClassifier):
        def fit(self, rows: np.ndarray, labels: np.ndarray) -> Spy:
            seen.append(set(rows[:, 0].astype(int)))
            return super().fit(rows, labels)

        def predict_proba(self, rows: np.ndarray) -> np.ndarray:
            assert not seen[-1] & set(rows[:, 0].astype(int))
            return super().predict_proba(rows)

    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 400)
    length = online_code(groups[:, None].astype(float), rng.integers(0, 2, 400), Spy, groups=groups)
    assert len(seen) == len(length.blocks) - 1 > 2
    assert (length.blocks["stop"].iloc[:-1] >= 2 * length.blocks["start"].iloc[:-1]).all()


def test_the_seed_decides_the_order() -> None:
    x, y = planted(300, 3, 2.0)
    one, same, other = (online_code(x, y, RidgeProbe, seed=seed).bits for seed in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 300}, "more rows than the first block of 300, got 300; use more rows, or a smaller `first`"),
        ({"first": 0}, "first to be a whole number of at least 1, got 0"),
        ({"y": np.zeros(300)}, "labels of at least two classes, got only '0.0'"),
        ({"y": np.zeros(299)}, "each of 300 rows, got 299 labels"),
        ({"groups": np.zeros(3)}, "got 300 labels and 3 groups; give one for each row"),
        ({"seed": -1}, "seed to be a whole number of at least 0, got -1"),
    ],
)
def test_wrong_arguments_raise(arguments: dict, message: str) -> None:
    x, y = planted(300, 3, 1.0)
    with pytest.raises(UsageError, match=message):
        online_code(**{"X": x, "y": y, "make": RidgeProbe, **arguments})


def test_a_row_that_is_not_finite_is_named() -> None:
    x, y = planted(300, 3, 1.0)
    x[41, 2] = np.inf
    with pytest.raises(UsageError, match="finite rows in X, got NaN or inf in row 41"):
        online_code(x, y, RidgeProbe)


@pytest.mark.parametrize("estimator", ["ridge", "logistic", "lda"])
def test_many_labellings_are_coded_together(estimator: str) -> None:
    x, y = planted(600, 4, 6.0)
    shuffled, groups = y[np.random.default_rng(1).permutation(600)], np.repeat(np.arange(300), 2)
    length = online_codes(estimator, x, {"true": y, "shuffled": shuffled}, groups=groups)
    assert length["true"].compression > 2.5 and length["shuffled"].compression < 1.1
    assert length["true"].blocks["stop"].tolist() == [32, 64, 128, 256, 512, 600]
    single = online_codes(estimator, x, {"true": y}, groups=groups)["true"]
    assert single.bits == pytest.approx(length["true"].bits, rel=0.02), "other labellings change nothing"
    one = online_code(x, y, RidgeProbe, groups=groups)
    assert length["true"].bits == pytest.approx(one.bits, rel=0.4), (
        "near the length of a probe fitted to all labels so far"
    )


def test_a_labelling_with_one_class_so_far_can_be_coded() -> None:
    x, y = planted(300, 2, 6.0)
    rare = np.where(np.arange(300) == 299, "b", "a")
    length = online_codes("ridge", x, {"y": y, "rare": rare}, groups=np.arange(300))
    assert np.isfinite(length["rare"].bits) and length["rare"].compression > 3
