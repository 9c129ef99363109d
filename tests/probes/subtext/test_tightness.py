"""Estimates that more traces would raise are named lower bounds, and intervals hold the planted bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from interp.statistics.estimates import Estimate
from probes.subtext.entropy import class_costs_in_truth, label_entropy
from probes.subtext.information import information_gain, summary
from probes.subtext.joint import joint_gain
from probes.subtext.power import _noise_for
from probes.subtext.readers import Features
from probes.subtext.text_features import token_columns
from probes.subtext.tightness import TIGHT_BITS, Costs, Tightness, tightness

N = 500
GROUPS = np.arange(N)


def _entropy(bits: float) -> Estimate:
    return Estimate(bits, bits, bits, N)


def _on_a_curve(missing: float, exponent: float, truth: float = 5.0, floor: float = 0.0) -> Tightness:
    """Return the tightness where a reader of `share` of the traces misses missing / share ** exponent bits."""
    noise, open_bits = np.random.default_rng(0).normal(size=N), np.full(N, truth + floor)
    noise -= noise.mean()

    def curve(share: float) -> Costs:
        with_ = floor + missing / share**exponent - noise
        return Costs(open_bits, with_, with_, open_bits)

    return tightness(curve(1.0), curve, GROUPS, _entropy(truth + floor))


@pytest.mark.parametrize(("missing", "exponent"), [(2.2, 1.2), (1.0, 1.0), (0.2, 2.0)])
def test_a_rising_curve_gives_a_lower_bound_and_the_sample_that_is_tight(missing: float, exponent: float) -> None:
    """One bit of the label is in nothing that can be read."""
    bound = _on_a_curve(missing, exponent, floor=1.0)
    assert bound.lower_bound and bound.bound == "lower bound"
    assert bound.bits.low < 5 - missing < bound.bits.high and bound.bits.high == pytest.approx(6.0, abs=0.01)
    assert bound.n == pytest.approx(N * (missing / TIGHT_BITS) ** (1 / exponent), rel=0.02)


def test_the_sample_that_is_tight_is_where_a_simulated_reader_is() -> None:
    """Five words that decide one of 32 classes, among 20 others: of 5 bits, readers of 500 traces miss less than .05."""
    noise, open_bits = np.random.default_rng(0).normal(size=N), np.full(N, 5.0)
    words_read = {1.0: 0.286, 0.5: 1.657, 0.25: 3.528}  # of 300 traces, and of shares of them

    def curve(share: float) -> Costs:
        with_ = words_read[share] - noise + noise.mean()
        return Costs(open_bits, with_, with_, open_bits)

    bound = tightness(curve(1.0), curve, GROUPS, _entropy(5.0))
    assert bound.n == pytest.approx(N * 440 / 300, rel=0.15)


def test_a_flat_curve_is_tight_and_keeps_its_interval() -> None:
    bound = _on_a_curve(0.001, 1.0)
    assert not bound.lower_bound and bound.n is None and bound.bound == "tight"
    assert bound.bits.high == 5.0 and 5.0 - bound.bits.low == pytest.approx(2 / np.sqrt(N), rel=0.15)


def test_the_interval_goes_up_to_what_is_gained_on_fitted_rows() -> None:
    """With half of the traces the reader used nothing, so the curve says nothing of what is still missing."""
    noise, open_bits = np.random.default_rng(0).normal(scale=0.01, size=N), np.full(N, 1.0)
    noise -= noise.mean()

    def curve(share: float) -> Costs:
        with_ = (0.8 if share == 1.0 else 0.82) + noise
        return Costs(open_bits, with_, with_ - 0.08, open_bits)

    bound = tightness(curve(1.0), curve, GROUPS, _entropy(1.0))
    assert not bound.lower_bound and bound.bits.value == pytest.approx(0.2)
    assert 0.275 < bound.bits.high < 0.29 and bound.bits.low < 0.2


def test_what_the_side_without_the_features_pays_for_learning_is_no_information() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=N)
    curve: Callable[[float], Costs] = lambda share: Costs(1.0 + 0.1 / share + noise, 0 * noise, 0 * noise, 1.0 + noise)  # noqa: E731
    bound = tightness(curve(1.0), curve, GROUPS, _entropy(1.0))
    assert bound.bits.value == pytest.approx(1.0, abs=0.01) and not bound.lower_bound
    assert bound.bits.low == pytest.approx(1.0, abs=0.01) and bound.bits.high == pytest.approx(1.0, abs=0.01)


def test_what_is_known_without_the_features_cannot_fall_below_nothing() -> None:
    """The text predicts all but .09 bit, and .7 with a quarter of the traces: the bits are not -.6 at least."""
    noise, known = np.random.default_rng(0).normal(scale=0.01, size=N), {1.0: 0.09, 0.5: 0.3, 0.25: 0.7}

    def curve(share: float) -> Costs:
        with_ = known[share] - noise
        return Costs(known[share] + noise, with_, with_, known[share] + noise)

    bound = tightness(curve(1.0), curve, GROUPS, _entropy(1.0))
    assert -0.1 < bound.bits.low <= 0 <= bound.bits.high < 0.1


def _words(n: int, seed: int, bits: int, labels: int) -> tuple[np.ndarray, Features, Features]:
    """Return labels, the meanings of two words, and the choice at `bits` words, each of which is a bit of the label."""
    rng = np.random.default_rng([seed, 9])
    label = rng.integers(labels, size=n)
    meaning = [[f"m{value}" for value in row] for row in rng.integers(4, size=(n, 2))]
    choice = [[str((value >> k) & 1 if k < bits else rng.integers(2)) for k in range(3)] for value in label]
    return label.astype(str).astype(object), token_columns(meaning), token_columns(choice)


def _one_word(n: int, seed: int, bits: float, classes: int) -> tuple[np.ndarray, Features, Features]:
    """Return labels of so many classes, two words that mean nothing, and one word with `bits` about the label."""
    rng = np.random.default_rng([seed, 9])
    label = rng.integers(classes, size=n)
    noise = 1.0 if bits == 0 else _noise_for(np.full(classes, 1 / classes), bits) or 0.0
    word = np.where(rng.random(n) < noise, rng.integers(classes, size=n), label)
    meaning = [[f"m{value}" for value in row] for row in rng.integers(4, size=(n, 2))]
    return label.astype(str).astype(object), token_columns(meaning), token_columns([[f"c{value}"] for value in word])


@pytest.mark.parametrize(
    ("bits", "classes", "draws"), [(0.0, 2, 8), (0.5, 2, 8), (1.0, 2, 8), (3.0, 8, 3), (5.0, 32, 1)]
)
def test_intervals_hold_the_bits_of_one_word_and_never_exceed_what_there_is(
    bits: float, classes: int, draws: int
) -> None:
    """At 200 traces the side without the words pays up to .17 bit for learning the shares of 32 classes."""
    held = 0
    for seed in range(draws):
        y, given, beyond = _one_word(200, seed, bits, classes)
        joint = joint_gain({"y": y}, [given], beyond, np.arange(200), seed=seed)
        held += joint.bits.low <= bits <= joint.bits.high
        entropy = label_entropy(np.unique(y, return_inverse=True)[1], np.arange(200)).value
        assert joint.bits.value <= min(entropy, np.log2(classes)) + 1e-9
        assert joint.bits.low <= joint.bits.value <= joint.bits.high <= np.log2(classes) + 1e-9
    assert held >= draws - 1


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "classes", "draws"), [(0.5, 2, 40), (0.5, 4, 20)])
def test_intervals_hold_half_a_bit_in_nine_draws_of_ten(bits: float, classes: int, draws: int) -> None:
    """Readers of 120 rows miss .035 bit of half a bit in two classes, and .15 in four."""
    held = 0
    for seed in range(draws):
        y, given, beyond = _one_word(200, seed, bits, classes)
        joint = joint_gain({"y": y}, [given], beyond, np.arange(200), seed=seed)
        held += joint.bits.low <= bits <= joint.bits.high
    assert held >= 0.9 * draws


@pytest.mark.parametrize("with_bound", [True, False])
def test_one_word_that_decides_a_label_of_32_classes_gives_5_bits_and_no_more(with_bound: bool) -> None:
    y, given, beyond = _one_word(500, 0, 5.0, 32)
    bits = joint_gain({"y": y}, [given], beyond, np.arange(500), with_bound=with_bound).bits
    assert 4.9 < bits.value <= 5.0 and bits.low <= 5.0 <= bits.high <= 5.0 + 1e-9
    table = summary(information_gain({"y": y}, [given], beyond, np.arange(500)), np.arange(500))
    assert table["bits"][0] <= table["entropy"][0] <= 5.0 and table["ci_high"][0] <= 5.0 + 1e-9


@pytest.mark.parametrize("bits", [0, 1, 2])
def test_intervals_hold_the_planted_bits(bits: int) -> None:
    held = []
    for seed in range(3):
        y, given, beyond = _words(200, seed, bits, max(2**bits, 2))
        joint = joint_gain({"y": y}, [given], beyond, np.arange(200), seed=seed)
        held.append(joint.bits.low <= bits <= joint.bits.high)
    assert sum(held) >= 2


def test_five_bits_in_one_word_of_a_small_sample_are_named_a_lower_bound() -> None:
    """About two traces have each of the 32 words."""
    rng = np.random.default_rng(3)
    label = rng.integers(32, size=90)
    beyond = np.eye(32, dtype=np.float32)[label]
    joint = joint_gain({"y": label.astype(str).astype(object)}, [beyond[:, :0]], beyond, np.arange(90))
    assert joint.bits.value < 4.5 and joint.lower_bound and joint.bits.high >= 5
    assert joint.n_tight is not None and joint.n_tight > 90 and joint.to_dict()["bound"] == "lower bound"


def test_targets_that_too_few_traces_have_together_are_left_out_by_name() -> None:
    y, given, beyond = _words(120, 0, 1, 2)
    rare = np.full(120, None, dtype=object)
    rare[:20] = y[:20]
    joint = joint_gain({"y": y, "rare": rare}, [given], beyond, np.arange(120))
    assert joint.left_out == ("rare",) and joint.bits.n == 120 and joint.bits.value > 0.8
    nothing = joint_gain({"rare": rare}, [given], beyond, np.arange(120))
    assert np.isnan(nothing.bits.value) and nothing.left_out == ("rare",)


@pytest.mark.parametrize(("classes", "zipf"), [(2, False), (32, False), (32, True), (200, False)])
@pytest.mark.parametrize("n", [200, 500])
def test_the_entropy_of_a_label_is_that_of_its_probabilities(classes: int, zipf: bool, n: int) -> None:
    """The plug-in entropy of 200 classes in 200 rows is .8 bit too low."""
    p = 1 / np.arange(1, classes + 1) if zipf else np.ones(classes)
    p /= p.sum()
    truth, estimates = float(-(p * np.log2(p)).sum()), []
    for seed in range(60):
        codes = np.unique(np.random.default_rng(seed).choice(classes, size=n, p=p), return_inverse=True)[1]
        estimates.append(label_entropy(codes, np.arange(n), seed=seed))
    assert np.mean([bits.value for bits in estimates]) == pytest.approx(truth, abs=0.05)
    assert np.mean([truth <= bits.high + 1e-9 for bits in estimates]) >= 0.9


def test_rows_of_one_group_count_once_for_the_entropy() -> None:
    label, groups = np.repeat(np.random.default_rng(0).integers(8, size=40), 5), np.repeat(np.arange(40), 5)
    once = class_costs_in_truth(label[::5], np.arange(40)).mean()
    assert class_costs_in_truth(label, groups).mean() == pytest.approx(once)
    assert class_costs_in_truth(label, np.arange(200)).mean() < once - 0.05
