"""The sections on Heima and pauses: how their figures are computed, on rows whose scores are known by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
from benchmarks.measures import table as measure_table
from benchmarks.papers import heima, pause
from benchmarks.papers.swapping import swap_table, swap_thoughts
from interp.causal.patching.donors import cyclic_donors
from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import Problem
from interp.traces import TraceSet


def thought(made: Callable, values: list[list[str]], right: list[bool], written: Callable) -> TraceSet:
    traces = [written(made(f"q {k}", each)) for k, each in enumerate(values)]
    return TraceSet([dataclasses.replace(t, correct=ok) for t, ok in zip(traces, right, strict=True)])


@pytest.fixture
def found() -> pd.DataFrame:
    """Two problems of three steps and one of two; the latent interpreter misses one last step, the question all."""
    rows = []
    for trace, n_steps in enumerate([3, 3, 2]):
        for step in range(1, n_steps + 1):
            gold = f"{trace} + {step} = 9 ;"
            output = {
                ("latent", "before"): "no" if (trace, step) == (1, 3) else gold,
                ("latent", "token"): gold,
                ("question", "before"): gold if step < 3 else "no",
                ("shuffled", "before"): "no",
            }
            for (mode, read_at), text in output.items():
                structure = f"{trace:016x}"
                rows.append((mode, read_at, trace, step, n_steps, structure, gold, text, heima.TOKENS))
    columns = ["mode", "read_at", "trace", "step", "n_steps", "structure", "gold", "text", "organism"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


def test_last_steps_are_those_of_the_longest_problems_in_the_order_of_traces(found: pd.DataFrame) -> None:
    part = heima.last_steps(found, "latent")
    assert part["trace"].tolist() == [0, 1] and part["step"].tolist() == [3, 3]
    assert part["right"].tolist() == [True, False]
    assert heima.last_steps(found, "latent", read_at="token")["right"].all()
    assert heima.last_steps(found, "question", longest=False)["right"].tolist() == [False, False, True]


def test_measures_are_over_last_steps_and_paired(found: pd.DataFrame, made_problem: Any, written_trace: Any) -> None:
    arms = {name: thought(made_problem, [["1", "2"]] * 4, [True] * 3 + [False], written_trace) for name in heima.ARMS}
    measures = heima._measures(arms, found)
    assert measures["papers.heima.answer_ratio"]["value"] == 1.0
    assert measures["papers.heima.text_exact"]["value"] == 0.5 and measures["papers.heima.text_exact"]["n"] == 2
    assert measures["papers.heima.text_exact_above_question_only"]["value"] == 0.5
    assert "last steps of all lengths 0.333" in measures["papers.heima.text_exact_above_question_only"]["note"]
    note = measures["papers.heima.text_exact"]["note"]
    assert "at the token 1.000; question-only 0.000, shuffled latents 0.000" in note and "step 3 of 3" in note
    assert set(measures) == {name for name in measure_table()["papers"] if name.startswith("papers.heima.")}


def test_the_ratio_is_over_the_text_reasoners_answers(made_problem: Any, written_trace: Any) -> None:
    ours = thought(made_problem, [["1"]] * 4, [True, True, True, False], written_trace)
    text = thought(made_problem, [["1"]] * 4, [True, False, True, False], written_trace)
    ratio = heima.answer_ratio(ours, text)
    assert ratio["value"] == pytest.approx(1.5) and ratio["peer"] == "text 0.500" and ratio["n"] == 4
    assert ratio["ci"][0] < 1.5 < ratio["ci"][1]


def test_the_texts_table_has_one_row_for_each_interpreter_and_step(found: pd.DataFrame) -> None:
    table = heima.texts_table(found)
    assert len(table) == 4 * (3 + 2) and table["n"].sum() == len(found)
    wanted = {"interpreter given": "latent", "read at": "before", "steps": 3, "step": 3}
    row = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])].iloc[0]
    assert row["exact match"] == 0.5 and row["ROUGE-L"] == 0.5


def test_the_answers_table_counts_thoughts_and_splits_by_steps(made_problem: Any, written_trace: Any) -> None:
    values = [["1", "2"], ["1", "2"], ["1", "2", "3"], ["1", "2", "3"]]
    table = heima.answers_table({heima.TOKENS: thought(made_problem, values, [True, True, True, False], written_trace)})
    row = table.iloc[0]
    assert (row["right"], row["2 steps"], row["3 steps"], row["positions thought"]) == (0.75, 1.0, 0.5, 2.5)


# --- swapping everything at a thought ---------------------------------------------------------------------


def test_donors_are_of_the_same_kind_and_another_structure() -> None:
    rng = np.random.default_rng(0)
    kinds, structures = rng.integers(0, 3, 60).tolist(), [f"s{k}" for k in rng.integers(0, 40, 60)]
    donors = cyclic_donors(structures, kinds)
    for k, donor in enumerate(donors):
        assert donor == -1 or (kinds[donor] == kinds[k] and structures[donor] != structures[k])
    assert (donors >= 0).sum() > 50 and (donors == cyclic_donors(structures, kinds)).all()
    assert cyclic_donors(["a", "b"], ["lonely", "other"]).tolist() == [-1, -1]


@pytest.fixture(scope="module")
def swapped(coconut: interp.Reasoner, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    problems = task("chain:steps=3").generate(60, seed=5, split="test")
    traces = coconut.think(problems)
    out = tmp_path_factory.mktemp("swapping") / "store"
    return swap_thoughts(coconut, interp.capture(coconut, traces, sites="resid_post", channels=["latent"], out=out))


def test_a_continuous_thoughts_position_computes_the_next_step(swapped: pd.DataFrame) -> None:
    """What Coconut computes at thought k is the value of step k + 1, which is fed on; the last one has its own."""
    shares = swap_table(swapped).set_index("swapped")
    assert list(shares.index) == ["1", "2", "3", "all"]
    assert (shares.loc[["1", "2"], "follows the next step's value"] > 0.9).all()
    assert (shares.loc[["3", "all"], "follows its step's value"] > 0.9).all()
    assert (shares["stays"] < 0.2).all() and shares["n"].sum() == len(swapped)


def test_edits_that_should_change_nothing_count_for_nothing(swapped: pd.DataFrame) -> None:
    assert swapped["own"].isna().equals(swapped["stayed"].isna())
    assert swapped["own"].isna().any(), "some donors have the same value"
    assert swapped.loc[swapped["thoughts"].isin(["3", "all"]), "next"].isna().all(), "there is no step after the last"


def test_swapping_without_every_blocks_output_is_refused(coconut: interp.Reasoner, tmp_path: Path) -> None:
    traces = coconut.think(task("chain:steps=3").generate(5, seed=5, split="test"))
    store = interp.capture(coconut, traces, sites="final", out=tmp_path / "s")
    with pytest.raises(UsageError, match=r"swapping needs every block's output, but .* holds 0; capture resid"):
        swap_thoughts(coconut, store)


# --- pauses -----------------------------------------------------------------------------------------------


GROUPS = np.array([f"{k:08x}aaaa" for k in range(400)])


def answers(share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(len(GROUPS)) < share


def test_a_planted_gain_is_found_at_its_number_of_pauses() -> None:
    right = {k: answers(0.9 if k == 5 else 0.3, k) for k in pause.COUNTS}
    best, gained, (low, high) = pause.gain(right, GROUPS)
    assert best == 5 and low < gained < high and low > 0.4
    assert "a gain" in pause._note("chain3-random-pauses", right, GROUPS, pause.ARMS)


def test_the_best_number_of_pauses_is_not_chosen_where_it_is_judged() -> None:
    """With chance alone, the best of eight numbers looks better than none on its own half, not on the other."""
    gains = [pause.gain({k: answers(0.5, 100 * draw + k) for k in pause.COUNTS}, GROUPS)[1] for draw in range(40)]
    assert abs(np.mean(gains)) < 0.02


def test_no_change_is_called_no_difference() -> None:
    right = dict.fromkeys(pause.COUNTS, answers(0.5, 0))
    best, gained, interval = pause.gain(right, GROUPS)
    assert best == 1 and gained == 0.0 and interval[0] <= 0 <= interval[1]
    assert "no difference" in pause._note("chain3-without-pauses", right, GROUPS, pause.ARMS)


def test_the_table_has_a_row_for_each_number_of_pauses() -> None:
    right = {name: {k: answers(0.5, k) for k in pause.COUNTS} for name in pause.ARMS}
    table = pause.accuracy_table(right, GROUPS, pause.ARMS)
    assert table["pauses"].tolist() == list(range(9))
    assert table["trained with no pauses"][3] == right["chain3-without-pauses"][3].mean()


def test_a_model_can_be_given_any_number_of_pauses() -> None:
    reasoner = interp.load("chain-pause-as-thought")
    problems: list[Problem] = reasoner.task.generate(4, seed=0, split="test")
    for count in (0, 3, 8):
        traces = pause.with_pauses(reasoner, count).think(problems)
        assert all(trace.tokens.count("<pause>") == count for trace in traces)
    assert reasoner.config.thoughts is None, "the reasoner itself is left as it was"
