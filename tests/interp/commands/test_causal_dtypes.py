"""The causal commands in half precision: the same verdicts as in float32, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HALF = ("bfloat16", pytest.param("float16", marks=pytest.mark.slow))


@pytest.mark.slow  # half precision is slow on a CPU
@pytest.mark.parametrize("dtype", HALF)
def test_interchange_ablation_and_steering_hold_in_half_precision(cotlens: Callable[..., Any], dtype: str) -> None:
    shared = ("chain-coconut", "--task", "chain:n=40", "--model-dtype", dtype, "--json")
    swapped = cotlens("causal", "interchange", *shared, "--edit", "other value", "--edit", "random vector").json
    followed = {row["edit"]: row["followed"] for row in swapped["rates"] if row["step"] == 0}
    assert followed["other value"] > 0.9 > 0.4 > followed["random vector"]
    arms = {row["arm"]: row for row in cotlens("causal", "ablate", *shared).json["arms"]}
    assert arms["own"]["changed"] < 0.1 < 0.5 < min(row["changed"] for arm, row in arms.items() if arm != "own")
    steered = cotlens("causal", "steer", *[part.replace("n=40", "n=300") for part in shared], "--dose", 1).json
    assert steered["success"]["value"] > 0.8 > 0.4 > steered["random_direction"]["value"]


@pytest.mark.slow  # half precision is slow on a CPU
@pytest.mark.parametrize("dtype", HALF)
def test_following_and_swapping_hold_in_half_precision(cotlens: Callable[..., Any], dtype: str) -> None:
    shared = ("--task", "chain:n=60", "--model-dtype", dtype, "--json")
    (row,) = cotlens("causal", "follow", "chain-coconut", *shared).json["checkpoints"]
    assert row["followed"] > 0.9 > 0.4 > row["shuffled"]
    text = cotlens("causal", "swap", "chain-text", "chain-text", *shared).json["arms"]
    assert {arm["arm"]: arm["correct"] for arm in text}["whole"] > 0.9
    latents = cotlens("causal", "swap", "chain-coconut", "chain-coconut", "--latents", *shared).json["arms"]
    assert {arm["arm"]: arm["correct"] for arm in latents}["own"] > 0.9


@pytest.mark.parametrize("dtype", HALF)
def test_attribution_graphs_hold_in_half_precision(cotlens: Callable[..., Any], dtype: str) -> None:
    small = ("--features", 64, "--updates", 60, "--prompts", 2)
    shared = ("chain-coconut", "--task", "chain:n=40", *small, "--json")
    half = cotlens("causal", "attribute", *shared, "--model-dtype", dtype).json
    full = cotlens("causal", "attribute", *shared).json
    assert len(half["graphs"]) == 2
    assert abs(half["silenced_agreement"] - full["silenced_agreement"]) < 0.1
    for one, other in zip(half["transcoders"], full["transcoders"], strict=True):
        assert one["explained"] == pytest.approx(other["explained"], abs=0.1)


def test_attribution_graphs_over_neurons_train_nothing(cotlens: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "graphs"
    made = cotlens(
        "causal",
        "attribute",
        "chain-text",
        "--task",
        "chain:n=8",
        "--neurons",
        40,
        "--prompts",
        1,
        "--out",
        out,
        "--json",
    ).json
    assert made["features"] == "neuron" and "transcoders" not in made
    assert len(made["files"]) == 1 and Path(made["files"][0]).exists()
    shares = {row["test"]: row["confirmed"] for row in made["paths"]}
    assert shares["path"] > shares["random"]
