"""Metrics of faithfulness on a reasoner whose use of every step is exact."""

from __future__ import annotations

import numpy as np
import pytest

from interp.causal.metrics.base import Chains, largest_of_steps, mean_of_steps, step_positions
from interp.causal.metrics.committing import committed_after
from interp.causal.metrics.edits import adding_mistakes, early_answering, filler_tokens, forced_difference, paraphrase
from interp.causal.metrics.hints import acknowledges, biased_context, cue_acknowledgement, simulatability
from interp.causal.metrics.registry import METRICS
from interp.causal.metrics.sampling import divergence
from interp.causal.metrics.shares import cosine
from interp.errors import UsageError
from interp.traces import TraceSet
from tests.interp.causal.metrics.oracle_reasoner import OracleReasoner


@pytest.fixture(scope="module")
def chains() -> Chains:
    reasoner = OracleReasoner()
    traces = reasoner.think(reasoner.task.generate(120, seed=4, split="test"))
    assert traces.accuracy == 1.0
    return Chains(reasoner, traces, seed=1)  # type: ignore[arg-type]


def styles(chains: Chains) -> np.ndarray:
    return np.array([trace.problem.meta["style"] for trace in chains.traces])


def used(chains: Chains) -> list[np.ndarray]:
    return [
        np.array([chains.task.is_used(trace.problem, k + 1) for k in range(trace.problem.n_steps)])  # type: ignore[attr-defined]
        for trace in chains.traces
    ]


def test_a_mistake_changes_the_answer_at_used_steps_and_at_no_others(chains: Chains) -> None:
    result = adding_mistakes(chains)
    for scores, truth in zip(result.steps, used(chains), strict=True):
        assert np.isfinite(scores).all() and (scores.astype(bool) == truth).all()
    assert (result.chain == mean_of_steps(result.steps)).all() and result.passes == np.mean(
        [len(of) for of in result.steps]
    )


def test_a_post_hoc_chain_is_answered_early_and_one_that_is_used_is_not(chains: Chains) -> None:
    result = early_answering(chains)
    post_hoc = np.isin(styles(chains), ("silent", "invented"))
    assert (result.chain[post_hoc] == 0).all() and (result.chain[styles(chains) == "used"] > 0).any()
    assert all((of == 0).all() for of, flag in zip(result.steps, post_hoc, strict=True) if flag)


def test_filler_and_another_problems_thought_leave_a_post_hoc_answer(chains: Chains) -> None:
    post_hoc = np.isin(styles(chains), ("silent", "invented"))
    for result in (filler_tokens(chains), forced_difference(chains)):
        assert (result.chain[post_hoc] == 0).all() and result.chain[styles(chains) == "used"].mean() > 0.5


def test_a_paraphrase_changes_nothing_because_no_word_matters(chains: Chains) -> None:
    result = paraphrase(chains)
    assert (result.chain == 1).all() and all((of == 1).all() for of in result.steps)


def test_hints_are_followed_and_acknowledged_as_the_style_says(chains: Chains) -> None:
    biased, acknowledged, simulated = (
        metric(chains).chain for metric in (biased_context, cue_acknowledgement, simulatability)
    )
    of = styles(chains)
    assert (biased[np.isin(of, ("used", "said"))] == 1).all() and (
        biased[np.isin(of, ("silent", "invented"))] == 0
    ).all()
    assert np.isnan(acknowledged[of == "used"]).all() and (acknowledged[of == "said"] == 1).all()
    assert (acknowledged[of == "invented"] == 0).all()
    # A reader of the chain is fooled by an invented source, which names the right value.
    assert (simulated[of == "invented"] == 1).all() and simulated[of == "silent"].mean() < 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The hint says B.", True),
        ("As the professor says, B.", True),
        ("So hinting is B.", False),
        ("so 3 book 4", False),
    ],
)
def test_an_acknowledgement_is_whole_words(text: str, said: bool) -> None:
    assert acknowledges(text) is said


def test_a_chain_is_committed_from_where_the_answer_stays() -> None:
    assert committed_after(np.array([0, 1, 0, 1, 1])) == 3
    assert committed_after(np.array([1, 1, 1])) == 0
    assert committed_after(np.array([0, 0, 0])) == 2


def test_divergence_and_cosine_have_their_known_values() -> None:
    one, other = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    assert divergence(one, one) == 0 and divergence(one, other) == pytest.approx(0.5 * np.log(4 / 3))
    assert cosine(np.array([1.0, 0]), np.array([2.0, 0])) == 1 and cosine(np.zeros(2), np.ones(2)) == 0


def test_scores_of_steps_are_gathered_without_those_that_are_missing() -> None:
    steps = [np.array([0.0, np.nan, 1.0]), np.array([np.nan])]
    assert mean_of_steps(steps)[0] == 0.5 and largest_of_steps(steps)[0] == 1
    assert np.isnan(mean_of_steps(steps)[1]) and np.isnan(largest_of_steps(steps)[1])


def test_a_trace_without_a_visible_thought_is_refused(chains: Chains) -> None:
    reasoner = chains.reasoner
    bare = reasoner.think_given(chains.traces.problems[:1], [[]])
    with pytest.raises(UsageError, match="expected a visible thought, got trace 0"):
        Chains(reasoner, TraceSet(list(bare)))
    assert len(step_positions(chains.traces[0])) == chains.traces[0].problem.n_steps


def test_every_metric_names_its_source_and_at_least_ten_are_published() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert sum(metric.published for metric in METRICS) >= 10
    assert all(metric.measure.__doc__ for metric in METRICS)
