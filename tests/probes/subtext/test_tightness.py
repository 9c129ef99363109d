"""Estimates that more traces would raise are named lower bounds, and intervals hold the planted bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from probes.subtext.joint import joint_gain
from probes.subtext.readers import Features
from probes.subtext.text_features import token_columns
from probes.subtext.tightness import TIGHT_BITS, Costs, Tightness, tightness

N = 500
GROUPS = np.arange(N)


def _on_a_curve(missing: float, exponent: float, truth: float = 5.0) -> Tightness:
    """Return the tightness where a reader of `share` of the traces misses missing / share ** exponent bits."""
    noise, open_bits = np.random.default_rng(0).normal(size=N), np.full(N, truth)
    curve: Callable[[float], Costs] = lambda share: (open_bits, missing / share**exponent - noise)  # noqa: E731
    return tightness(curve(1.0), curve, GROUPS)


@pytest.mark.parametrize(("missing", "exponent"), [(2.2, 1.2), (1.0, 1.0), (0.2, 2.0)])
def test_a_rising_curve_gives_a_lower_bound_and_the_sample_that_is_tight(missing: float, exponent: float) -> None:
    bound = _on_a_curve(missing, exponent)
    assert bound.lower_bound and bound.bound == "lower bound"
    assert bound.bits.low < 5 - missing < bound.bits.high and bound.bits.high == pytest.approx(5.0, abs=0.01)
    assert bound.n == pytest.approx(N * (missing / TIGHT_BITS) ** (1 / exponent), rel=0.02)


def test_a_flat_curve_is_tight_and_keeps_its_interval() -> None:
    bound = _on_a_curve(0.001, 1.0)
    assert not bound.lower_bound and bound.n is None and bound.bound == "tight"
    assert bound.bits.high - bound.bits.low == pytest.approx(4 / np.sqrt(N), rel=0.15)


def test_a_side_without_the_features_that_costs_too_much_widens_the_interval_downward() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=N)
    curve: Callable[[float], Costs] = lambda share: (1.0 + 0.1 / share + noise, 0 * noise)  # noqa: E731
    bound = tightness(curve(1.0), curve, GROUPS)
    assert bound.bits.value == pytest.approx(1.1, abs=0.01) and not bound.lower_bound
    assert bound.bits.low == pytest.approx(1.0, abs=0.01) and bound.bits.high == pytest.approx(1.1, abs=0.01)


def _words(n: int, seed: int, bits: int, labels: int) -> tuple[np.ndarray, Features, Features]:
    """Return labels, the meanings of two words, and the choice at `bits` words, each of which is a bit of the label."""
    rng = np.random.default_rng([seed, 9])
    label = rng.integers(labels, size=n)
    meaning = [[f"m{value}" for value in row] for row in rng.integers(4, size=(n, 2))]
    choice = [[str((value >> k) & 1 if k < bits else rng.integers(2)) for k in range(3)] for value in label]
    return label.astype(str).astype(object), token_columns(meaning), token_columns(choice)


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
