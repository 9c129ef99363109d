"""Foresight on traces whose mistakes are known, and thoughts compared with operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import interp
from interp.errors import UsageError
from interp.problems import task
from interp.traces import Channel, Trace, TraceSet
from probes.subtext.compute import adaptive_compute, compute_summary
from probes.subtext.foresight import auroc_lead, error_probabilities, foresight, moments, stop_at_alarms


@pytest.fixture(scope="module")
def slipping(written_trace: Callable[..., Trace]) -> list[Trace]:
    """Chains of three steps; every third trace writes a wrong second value."""

    def written(number: int, trace: Trace) -> Trace:
        values = [step.value for step in trace.problem.steps]
        if number % 3 == 0:
            values[1] = str((int(values[1]) + 1) % 10)
        return replace(trace, text=" ".join([*values, trace.problem.answer]))

    problems = task("chain:steps=3").generate(150, seed=4, split="test")
    return [written(k, written_trace(problem, kind="thought")) for k, problem in enumerate(problems)]


def test_moments_end_with_the_first_slip(slipping: list[Trace]) -> None:
    result = moments(slipping)
    of_first = [each for each in result if each.trace == 0]
    assert [(each.step, each.wrong) for each in of_first] == [(0, False), (1, True)]
    assert [(each.step, each.wrong) for each in result if each.trace == 1] == [(0, False), (1, False), (2, False)]
    trace = slipping[0]
    assert trace.channel[of_first[0].position] == Channel.PROMPT and trace.thought[of_first[1].position] == 1


def test_an_alarm_that_knows_stops_every_failure_and_no_success(slipping: list[Trace]) -> None:
    at = moments(slipping)
    wrong = np.array([each.wrong for each in at])
    groups = np.array([slipping[each.trace].problem.structure for each in at])
    chance = error_probabilities(np.where(wrong, 1.0, -1.0)[:, None], wrong, groups)
    assert chance[wrong].min() > 0.5 > chance[~wrong].max()
    result = stop_at_alarms(chance, at, slipping, groups)
    assert result["stopped_of_wrong"] == 1.0 and result["lost"] == 0.0
    assert result["saved"] == pytest.approx(2 / 9, abs=0.01)  # two of three thoughts, in a third of the traces


def test_an_alarm_that_knows_nothing_saves_next_to_nothing(slipping: list[Trace]) -> None:
    at = moments(slipping)
    groups = np.array([slipping[each.trace].problem.structure for each in at])
    result = stop_at_alarms(np.random.default_rng(0).random(len(at)), at, slipping, groups)
    assert result["saved"] < 0.05 and result["lost"] < 0.1 and result["stopped_of_wrong"] < 0.3


def test_too_few_slips_give_no_figure() -> None:
    reasoner = interp.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(20, seed=2, split="test"))
    with pytest.raises(UsageError, match=r"expected at least 20 wrong and 20 right steps, got 0 wrong of \d+"):
        foresight(reasoner, traces)


def test_a_silent_reasoner_has_no_slips_to_foresee(coconut: interp.Reasoner, traces: TraceSet) -> None:
    with pytest.raises(UsageError, match="expected traces whose steps are written, got none of chain-coconut"):
        foresight(coconut, traces[:1])


def test_thoughts_are_counted_against_operations() -> None:
    reasoner = interp.load("chain-text")
    table = adaptive_compute({"trained": reasoner.think(reasoner.task.generate(40, seed=2, split="test"))})
    assert (table["thoughts"] == table["needed"]).all() and (table["as_many_as_needed"] == 1.0).all()
    assert list(table["needed"]) == [2, 3, 4, 5] and table["n"].sum() == 40


def test_a_lead_is_the_difference_of_two_areas() -> None:
    rng = np.random.default_rng(0)
    wrong, groups = rng.random(300) < 0.3, rng.integers(0, 60, 300)
    good, poor = wrong + rng.normal(size=300), (wrong + 3 * rng.normal(size=300)).round(1)
    result = auroc_lead(wrong, good, poor, groups)
    assert result.value == pytest.approx(roc_auc_score(wrong, good) - roc_auc_score(wrong, poor))
    assert 0 < result.low < result.value < result.high
    assert auroc_lead(wrong, good, good, groups).interval == (0.0, 0.0)


@pytest.mark.slow
def test_slips_of_a_writer_at_a_high_temperature_have_every_reader_beside_them(cotlens: Callable) -> None:
    output = cotlens("subtext", "foresight", "chain-text", "--n", "150", "--temperature", "3", "--json").json
    rows = {row["reader"]: row for row in output["readers"]}
    assert {"latents", "question and text", "difficulty", "latents and difficulty", "untrained twin"} < set(rows)
    assert all(row["n"] == rows["latents"]["n"] and row["wrong"] >= 20 for row in rows.values())
    # What is drawn by chance is not foreseen.
    assert output["lead"]["ci"][0] < 0.1 and output["lead"]["over"] in rows and "AUROC" in output["says"]
    ended = cotlens("subtext", "foresight", "chain-text", "--n", "20")
    assert ended.code == 2 and "got 0 wrong of" in ended.error


def test_more_to_do_is_more_thought_beyond_what_the_length_of_the_question_says(cotlens: Callable) -> None:
    chain = interp.load("chain-text")
    traces = chain.think(chain.task.generate(60, seed=2, split="test"))
    (row,) = compute_summary({"own": traces}).to_dict("records")
    assert row["correlation"] == pytest.approx(1.0) and abs(row["shuffled"]) < 0.4
    assert np.isnan(row["beyond_length"]), "the length of a chain's question says how long it is"
    output = cotlens("subtext", "compute", "graph-text", "--n", "60", "--task", "graph:hops=2", "--json").json
    own, short = output["sets"]
    assert own["beyond_length"] > 0.9 and short["beyond_length"] is None and output["chosen"]
    silent = cotlens("subtext", "compute", "chain-coconut", "--n", "20")
    assert silent.code == 0 and "nothing here is its choice" in silent.out
