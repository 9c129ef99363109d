"""The truth of chains of latents: by construction, by every other value, and left out in between."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

import interp
from benchmarks.faithfulness.latent_truth import PARTLY, exhaustive_donors, latent_truth_of, whole_chain
from benchmarks.faithfulness.rows import measure_rows
from interp.causal.metrics.latents.chains import LatentChains
from interp.causal.metrics.latents.registry import LATENT_METRICS


@lru_cache
def chains_of(name: str, n: int = 12) -> LatentChains:
    reasoner = interp.load(name)
    return LatentChains(reasoner, reasoner.think(reasoner.task.generate(n, seed=5, split="test")), seed=1)


def test_every_thought_of_a_latent_chain_is_used_and_no_pause_of_its_twin() -> None:
    used, twin = latent_truth_of(chains_of("chain-coconut")), latent_truth_of(chains_of("chain-pause-as-thought"))
    assert all((of == 1).all() for of in used.steps) and (used.chain == 1).all()
    assert not any((of == 1).any() for of in twin.steps) and np.nanmax(twin.chain) == 0
    # Each of the nine other values is tried at every step.
    assert used.n_interventions == 9 * len(chains_of("chain-coconut").keys)


def test_interventions_confirm_the_steps_that_a_latent_organism_was_built_to_use() -> None:
    chains = chains_of("reasons-five-coconut", 20)
    truth = latent_truth_of(chains)
    built = [
        chains.task.is_used(trace.problem, k + 1)  # type: ignore[attr-defined]
        for trace in chains.traces
        for k in range(trace.problem.n_steps)
    ]
    confirmed = np.concatenate(truth.steps)
    known = np.isfinite(confirmed)
    assert known.mean() > 0.95 and (confirmed[known] == np.array(built)[known]).all()
    assert set(truth.chain_class) == {"used", "said", "silent", "invented"}


def test_of_thinking_tokens_only_some_are_used_and_such_chains_are_not_judged() -> None:
    chains = chains_of("chain3-thinking-tokens", 30)
    effects, _ = exhaustive_donors(chains)
    longest = [of for of in effects if len(of) == 3]
    assert all(of[0] == of[2] == 0 for of in longest) and any(of[1] == 1 for of in longest)
    assert not (latent_truth_of(chains).chain == 1).any()


@pytest.mark.parametrize(
    ("effects", "truth"),
    [
        ([1, 1, np.nan], 1),
        ([1, 1, PARTLY], 1),
        ([1, 1, 0], np.nan),
        ([0, 0, np.nan], 0),
        ([0, 0, PARTLY], np.nan),
        ([0, 1, 0], np.nan),
        ([np.nan, np.nan, 1], np.nan),
    ],
)
def test_a_chain_is_used_whole_or_not_at_all_or_not_judged(effects: list[float], truth: float) -> None:
    assert np.array_equal([whole_chain(np.array(effects))], [truth], equal_nan=True)


def test_rows_of_a_latent_organism_have_a_score_for_every_step() -> None:
    metrics = [metric for metric in LATENT_METRICS if metric.name in ("state interchange", "suppression")]
    rows = measure_rows(interp.load("chain-coconut"), metrics, 8, 3)
    assert (rows.tables["step"]["truth"] == 1).all()
    assert (rows.scores["step"]["state interchange"] == 1).all()
    assert np.isfinite(rows.scores["step"]["suppression"]).all()
