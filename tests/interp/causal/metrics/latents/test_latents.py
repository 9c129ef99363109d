"""Metrics of faithfulness for latents, on organisms whose use of each thought is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

import interp
from interp.causal.metrics.base import Chains
from interp.causal.metrics.committing import commitment_by_probe
from interp.causal.metrics.hints import biased_context, cue_acknowledgement
from interp.causal.metrics.latents.chains import LatentChains, holders_of, with_thought
from interp.causal.metrics.latents.donors import thought_donors
from interp.causal.metrics.latents.edits import ablation, adding_mistakes, filler_tokens, forced_difference, paraphrase
from interp.causal.metrics.latents.registry import LATENT_METRICS, WITHOUT_MEANING
from interp.causal.metrics.latents.states import kv_interchange, path_patching, state_interchange
from interp.causal.metrics.registry import METRICS
from interp.causal.metrics.routes import route_around
from interp.errors import UsageError
from interp.traces import Channel


@lru_cache
def chains_of(name: str, n: int = 10) -> LatentChains:
    reasoner = interp.load(name)
    return LatentChains(reasoner, reasoner.think(reasoner.task.generate(n, seed=6, split="test")), seed=2)


@pytest.fixture(scope="module")
def coconut_chains() -> LatentChains:
    return chains_of("chain-coconut")


@pytest.fixture(scope="module")
def reasons() -> LatentChains:
    return chains_of("reasons-five-coconut", 24)


def built(chains: LatentChains) -> list[np.ndarray]:
    task, problems = chains.task, [trace.problem for trace in chains.traces]
    return [np.array([task.is_used(p, k + 1) for k in range(p.n_steps)]) for p in problems]  # type: ignore[attr-defined]


def styles(chains: LatentChains) -> np.ndarray:
    return np.array([trace.problem.meta["style"] for trace in chains.traces])


@pytest.mark.parametrize("metric", [adding_mistakes, state_interchange])
def test_another_value_changes_the_answer_where_the_thought_is_used_and_nowhere_else(reasons, metric) -> None:  # type: ignore[no-untyped-def]
    result = metric(reasons)
    pairs = [
        (score, used)
        for of, truth in zip(result.steps, built(reasons), strict=True)
        for score, used in zip(of, truth, strict=True)
    ]
    assert len(pairs) > 80
    assert np.mean([(score > 0) == used for score, used in pairs]) > 0.97


def test_the_same_value_keeps_every_answer_and_another_changes_it(coconut_chains: LatentChains) -> None:
    same, other = paraphrase(coconut_chains), state_interchange(coconut_chains)
    assert (same.chain == 1).all() and np.nanmin(np.concatenate(same.steps)) == 1
    assert np.concatenate(other.steps).min() == 1


def test_an_emptied_last_thought_changes_the_answer_and_an_emptied_pause_does_not(coconut_chains) -> None:  # type: ignore[no-untyped-def]
    pauses = chains_of("chain-pause-as-thought")
    for metric in (filler_tokens, ablation):
        assert np.mean([of[-1] for of in metric(coconut_chains).steps]) > 0.7
        assert np.concatenate(metric(pauses).steps).mean() < 0.2
    # Thoughts held after the emptied one: only the last is read by the answer.
    assert np.mean([of[0] for of in filler_tokens(coconut_chains).steps]) < 0.2
    assert np.mean([of[0] for of in ablation(coconut_chains).steps]) > 0.6


def test_an_answer_needs_its_own_thoughts(coconut_chains: LatentChains) -> None:
    assert forced_difference(coconut_chains).chain.mean() > 0.7


def test_keys_and_values_tell_of_the_last_thought_and_paths_of_the_one_that_the_answer_reads(coconut_chains) -> None:  # type: ignore[no-untyped-def]
    for metric in (kv_interchange, path_patching):
        steps = metric(coconut_chains).steps
        assert np.mean([of[-1] for of in steps]) > 0.9
    assert np.mean([of[0] for of in path_patching(coconut_chains).steps if len(of) > 2]) < 0.2


def test_a_hint_followed_in_silence_shows_in_the_question_and_in_the_words_of_the_lens(reasons: LatentChains) -> None:
    route, biased, cue = route_around(reasons).chain, biased_context(reasons).chain, cue_acknowledgement(reasons).chain
    silent, said, used = (styles(reasons) == style for style in ("silent", "said", "used"))
    assert np.nanmax(route[silent]) < 0.1 and np.nanmin(route[used]) > 0.5
    assert (biased[silent] == 0).all() and (biased[used] == 1).all() and (biased[said] == 1).all()
    assert np.isnan(cue[used]).all()  # no hint is followed there
    texts = reasons.thought_texts(reasons.traces)
    assert all("hint" in text.split() for text, style in zip(texts, styles(reasons), strict=True) if style == "said")


def test_questions_without_hints_leave_the_metrics_of_hints_without_a_score(coconut_chains: LatentChains) -> None:
    assert np.isnan(biased_context(coconut_chains).chain).all()


def test_a_text_of_latents_predicts_the_answer_that_was_given(coconut_chains: LatentChains) -> None:
    texts = [coconut_chains.text(t) for t in range(len(coconut_chains))]
    likeliest = coconut_chains.readings.distributions(texts).argmax(-1)
    assert likeliest.tolist() == [
        trace.token_ids[trace.channel.index(Channel.ANSWER)] for trace in coconut_chains.traces
    ]


def test_held_thoughts_give_the_same_answers(coconut_chains: LatentChains) -> None:
    numbers = list(range(len(coconut_chains)))
    held = coconut_chains.answers_holding(numbers, [trace.problem for trace in coconut_chains.traces])
    assert coconut_chains.same(numbers, held).all()


def test_donors_hold_another_value_and_are_of_other_problems(coconut_chains: LatentChains) -> None:
    donors = thought_donors(coconut_chains)
    assert donors is not None and len(donors.keys) == 2 * len(coconut_chains.keys)
    structures = {trace.problem.structure for trace in coconut_chains.traces}
    assert not structures & {trace.problem.structure for trace in coconut_chains.others}
    for (t, _), donor, target in zip(donors.keys, donors.traces, donors.targets, strict=True):
        own = coconut_chains.traces[t]
        moved = np.flatnonzero((own.latents != donor.latents).any(axis=1))  # type: ignore[union-attr]
        assert [own.thought.index(int(row) + 1) for row in moved] == target


def test_holders_that_are_right_come_first() -> None:
    traces = chains_of("chain-pause-as-thought").traces
    for of in holders_of(traces).values():
        right = [traces[number].correct for number in of]
        assert right == sorted(right, reverse=True)


def test_one_thought_is_exchanged_and_the_trace_stays() -> None:
    trace = chains_of("chain-coconut").traces[0]
    position = trace.thought.index(2)
    before = np.array(trace.latents)
    changed = with_thought(trace, position, np.zeros(before.shape[1], np.float32))
    assert (changed.latents[1] == 0).all() and (trace.latents == before).all()  # type: ignore[index]


def test_a_visible_thought_is_refused() -> None:
    reasoner = interp.load("chain-text")
    with pytest.raises(UsageError, match="expected latents of steps, got trace 0 without one"):
        LatentChains(reasoner, reasoner.think(reasoner.task.generate(2, seed=1)))


def test_a_probe_does_not_commit_a_chain_before_its_first_step() -> None:
    reasoner = interp.load("chain-text")
    chains = Chains(reasoner, reasoner.think(reasoner.task.generate(20, seed=3, split="test")), seed=1)
    result = commitment_by_probe(chains)
    # After the last step but one, the state that predicts the last value holds it already.
    assert 0.5 < result.chain.mean() <= 1 and result.passes == 1
    assert np.mean([of[0] for of in result.steps if len(of) > 2]) > 0.9


def test_every_metric_is_measured_of_latents_or_says_why_not() -> None:
    names = [metric.name for metric in LATENT_METRICS]
    assert set(names) | set(WITHOUT_MEANING) == {metric.name for metric in METRICS} | {"ablation"}
    assert not set(names) & set(WITHOUT_MEANING) and len(set(names)) == len(names)
