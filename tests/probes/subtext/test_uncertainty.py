"""The true posterior is the task's, and its entropy is read only where the latents hold it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import interp
from interp.errors import UsageError
from probes.subtext.uncertainty import Uncertainty, entropy, uncertainty


@pytest.fixture(scope="module")
def breadth() -> Uncertainty:
    reasoner = interp.load("graph-coconut-breadth")
    return uncertainty(reasoner, reasoner.think(reasoner.task.generate(160, seed=5, split="test"), batch_size=80))


def test_the_posterior_is_every_node_at_that_distance_alike() -> None:
    task = interp.task("graph")
    for problem in task.generate(30, seed=1, split="test"):
        here = {problem.meta["root"]}
        seen = set(here)
        for step in range(1, problem.n_steps + 1):
            here = {b for a, b in problem.meta["edges"] if a in here} - seen
            seen |= here
            told = task.posterior(problem, step)
            assert set(told) == here and sum(told.values()) == pytest.approx(1.0)
            assert problem.steps[step - 1].value in told and len(set(told.values())) == 1
        assert task.posterior(problem, 40) == {}


def test_entropy_is_in_bits() -> None:
    p = np.array([[0.5, 0.5, 0, 0], [0.25] * 4, [1, 0, 0, 0]])
    np.testing.assert_allclose(entropy(p), [1, 2, 0])


def test_a_model_taught_to_hold_the_frontier_holds_its_width(breadth: Uncertainty) -> None:
    r2 = breadth.readers.set_index("reader")["r2"]
    assert r2["latents"] > 0.6 and r2["words counted, difficulty and latents"] > r2["words counted, and difficulty"]
    for control in ("another problem's latents", "untrained twin", "question and text"):
        assert r2[control] < 0.15
    assert r2["place alone"] == 0.0
    assert breadth.over == "words counted, and difficulty" and breadth.lead.high > 0.05
    assert ("no sign" in breadth.verdict) == (breadth.lead.low <= 0)
    assert breadth.by_thought["latents"].iloc[0] > 0.8  # later thoughts want more problems than these
    decoded = breadth.decoded.set_index("decoder")
    assert (
        decoded.loc["unembedding", "correlation"]
        > 0.8
        > 0.3
        > decoded.loc["unembedding, another problem's", "correlation"]
    )
    assert decoded.loc["unembedding", "divergence_bits"] < 0.5
    assert list(breadth.by_thought["n"]) == breadth.places.groupby("thought")["n"].sum().tolist()


def test_uncertainty_as_a_command_and_what_it_refuses(cotlens: Callable) -> None:
    output = cotlens("subtext", "uncertainty", "graph-text", "--n", "120", "--json").json
    assert output["n"] == 120 and {row["reader"] for row in output["readers"]} > {"latents", "untrained twin"}
    ended = cotlens("subtext", "uncertainty", "chain-text", "--n", "30")
    assert ended.code == 2 and "knows the posterior after each step" in ended.error
    ended = cotlens("subtext", "uncertainty", "graph-text", "--n", "20")
    assert ended.code == 2 and "expected at least 100 thoughts" in ended.error


def test_a_posterior_of_one_width_says_nothing() -> None:
    reasoner = interp.load("graph-coconut")
    problems = interp.task("graph:dead_ends=no").generate(60, seed=1, split="test")
    with pytest.raises(UsageError, match="entropy varies between problems"):
        uncertainty(reasoner, reasoner.think(problems))
