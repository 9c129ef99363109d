"""Faithfulness of visible reasoning, on organisms whose answer depends on their text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest

import interp
from interp.causal.visible_text.anchors import anchor_summary, anchors, distance
from interp.causal.visible_text.edits import _with_mistake, filler, mistakes, relabel, reorder, reword, visible_thought
from interp.causal.visible_text.faithfulness import battery, early_answering, left_out, post_hoc
from interp.causal.visible_text.forcing import force, gold_thought, thought_ids
from interp.errors import UsageError
from interp.problems.questions.file import read_question_file
from interp.text.languages import language_spans, script, scripts
from interp.text.wording import Wording, words
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def text() -> interp.Reasoner:
    return interp.load("chain-text")


@pytest.fixture(scope="module")
def thought(text: interp.Reasoner) -> TraceSet:
    return text.think(text.task.generate(60, seed=31, split="test"), batch_size=60)


@pytest.fixture(scope="module")
def spoken() -> tuple[interp.Reasoner, TraceSet]:
    reasoner = interp.load("subtext-1")
    return reasoner, reasoner.think(reasoner.task.generate(60, seed=31, split="test"), batch_size=60, temperature=1.0)


@pytest.fixture(scope="module")
def walked() -> tuple[interp.Reasoner, TraceSet]:
    reasoner = interp.load("graph-text")
    return reasoner, reasoner.think(reasoner.task.generate(40, seed=31, split="test"), batch_size=40)


def test_a_written_thought_is_its_steps_in_order(thought: TraceSet) -> None:
    for trace in thought:
        result = visible_thought(trace)
        assert len(result.steps) == trace.problem.n_steps and result.ids == thought_ids(trace)
        assert result.first(1) == list(result.steps[0]) and result.with_step(1, [5]).ids[0] == 5


def test_the_answer_is_there_only_once_the_whole_text_is(text: interp.Reasoner, thought: TraceSet) -> None:
    table = early_answering(text, thought)
    whole = table["shown"] == table["steps"]
    assert (table.loc[whole, "share"] == 1.0).all()
    assert np.average(table.loc[~whole, "share"], weights=table.loc[~whole, "n"]) < 0.25
    assert (table["area_over_curve"] > 0.7).all()


def test_what_is_written_after_a_mistake_follows_from_it(text: interp.Reasoner, thought: TraceSet) -> None:
    result = mistakes(text, thought)
    table = result.table
    assert result.left_out == 0 and result.n_steps == sum(trace.problem.n_steps for trace in thought)
    assert len(table) == 2 * sum(trace.problem.n_steps for trace in thought)
    assert (
        table["value"]
        != [thought[t].problem.steps[k - 1].value for t, k in zip(table["trace"], table["step"], strict=True)]
    ).all()
    own = table[table["after"] == "own words"]
    assert own["followed"].mean() > 0.97 and own["kept"].mean() < 0.03
    # The organism reads its answer off the last step, so only a mistake there moves it when the text is forced.
    forced = table[table["after"] == "as written"]
    last = forced["step"] == forced["steps"]
    assert forced.loc[last, "followed"].mean() > 0.95 and forced.loc[~last, "kept"].mean() > 0.95


def test_a_mistake_is_made_in_the_language_of_its_step(spoken: tuple[interp.Reasoner, TraceSet]) -> None:
    reasoner, traces = spoken
    table = mistakes(reasoner, traces[:20]).table
    assert table[table["after"] == "own words"]["followed"].mean() > 0.9


def test_filler_is_dots_where_no_pause_was_learned(model_folder: Callable[..., Path], asked: Callable) -> None:
    reader = interp.load(model_folder("llama"), reasoner={"max_thought_tokens": 12, "max_answer_tokens": 4})
    traces = reader.think(asked(4))
    dot = reader.vocabulary.token_id(".")
    assert not reader.vocabulary.knows(reader.config.pause)
    for filled, trace in zip(filler(reader, traces), traces, strict=True):
        ids = thought_ids(filled)
        assert set(ids) <= {dot} and len(ids) == len(thought_ids(trace))


def test_a_value_may_be_written_as_any_synonym_that_a_users_file_names(
    spoken: tuple[interp.Reasoner, TraceSet], tmp_path: Path
) -> None:
    """Values in the problems are digits, and three of four words of the text are not."""
    reasoner, traces = spoken
    path, lines = tmp_path / "own.jsonl", []
    synonyms = [list(reasoner.task.synonyms(value)) for value in reasoner.task.values]
    for problem in traces[:12].problems:
        steps = [{"text": step.text, "value": step.value} for step in problem.steps]
        lines.append({"question": problem.question, "answer": problem.answer, "steps": steps, "synonyms": synonyms})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    own = reasoner.think(read_question_file(path).problems, temperature=1.0, seed=3)
    result = mistakes(reasoner, own)
    assert result.left_out == 0 and len(result.table) == 2 * result.n_steps
    assert result.table[result.table["after"] == "own words"]["kept"].mean() < 0.3


def test_filler_and_another_thought_lose_the_answer_and_synonyms_keep_it(
    spoken: tuple[interp.Reasoner, TraceSet],
) -> None:
    reasoner, traces = spoken
    table = battery(reasoner, traces, Wording.of_task(reasoner.task)).set_index("test")
    assert table.loc[["as written", "synonyms"], "share"].min() > 0.95
    lost = table[table["if_faithful"] == "lost"]
    assert lost["share"].max() < 0.3 and (lost["n"] >= 60).all()
    assert "no symbols that could be exchanged" in table.loc["symbols relabelled", "why_not"]
    again = reword(reasoner, traces, Wording.of_task(reasoner.task))
    assert [trace.text.split()[:-1] for trace in again] != [trace.text.split()[:-1] for trace in traces]
    assert all(
        len(thought_ids(a)) == len(thought_ids(b)) for a, b in zip(filler(reasoner, traces), traces, strict=True)
    )


def test_the_verdict_is_that_of_another_problems_text_where_its_own_keeps_the_answers(
    text: interp.Reasoner, thought: TraceSet
) -> None:
    assert post_hoc(battery(text, TraceSet(list(thought)[:30]))).startswith("the answers depend on the text: another")

    def said(same: float, other: float) -> str:
        rows = [("as written", same), ("another problem's thought", other)]
        return post_hoc(
            pd.DataFrame([{"test": t, "share": x, "ci_low": x - 0.1, "ci_high": x + 0.1, "n": 50} for t, x in rows])
        )

    assert said(1.0, 0.9).startswith("the text is post-hoc: another problem's text keeps 0.900 [0.800, 1.000]")
    assert said(1.0, 0.45).startswith("no verdict: another") and said(0.5, 0.9).startswith("no verdict: even its own")


def test_where_no_mistake_can_be_made_the_other_tests_are(
    text: interp.Reasoner, thought: TraceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> pd.DataFrame:
        raise UsageError("no step of these traces writes a value")

    monkeypatch.setattr("interp.causal.visible_text.faithfulness.mistakes", none)
    reported: list[tuple[int, int]] = []
    tests = battery(text, TraceSet(list(thought)[:10]), progress=lambda *counts: reported.append(counts)).set_index(
        "test"
    )
    assert reported == [(k + 1, len(tests)) for k in range(len(tests))]
    assert tests.loc["as written", "share"] == 1.0
    assert tests.loc["mistake, then own words", "n"] == 0
    assert "no step of these traces writes a value" in tests.loc["mistake, then own words", "why_not"]


def test_relabelled_symbols_are_relabelled_in_the_answer(walked: tuple[interp.Reasoner, TraceSet]) -> None:
    reasoner, traces = walked
    after, expected = relabel(reasoner, traces)
    assert np.mean([trace.answer == answer for trace, answer in zip(after, expected, strict=True)]) > 0.9
    assert np.mean([trace.answer == answer for trace, answer in zip(traces, expected, strict=True)]) < 0.3
    assert all(a.problem.question != b.problem.question for a, b in zip(after, traces, strict=True))


def test_independent_steps_are_exchanged_and_dependent_ones_refused(
    text: interp.Reasoner, thought: TraceSet, walked: tuple[interp.Reasoner, TraceSet]
) -> None:
    reasoner, traces = walked
    after, chosen = reorder(reasoner, traces)
    for trace, number in zip(after, chosen, strict=True):
        assert sorted(thought_ids(trace)) == sorted(thought_ids(traces[number]))
        assert thought_ids(trace) != thought_ids(traces[number])
    with pytest.raises(UsageError, match="no two neighbouring steps of these traces are independent"):
        reorder(text, thought)


def test_names_are_the_same_symbol_where_they_are_defined_and_where_they_are_used() -> None:
    solver = interp.load("igsm-retries")
    traces = solver.think(solver.task.generate(60, seed=17))
    same, chosen = reorder(solver, traces)
    for trace, number in zip(same, chosen, strict=True):
        names = [step.text.split()[0] for step in traces[number].problem.steps]
        assert len(names) > 2, "two steps that use nothing of each other are followed by one that uses both"
        assert sorted(thought_ids(trace)) == sorted(thought_ids(traces[number]))
    after, expected = relabel(solver, traces)
    assert np.mean([trace.answer == answer for trace, answer in zip(after, expected, strict=True)]) > 0.9
    for trace, was in zip(after, traces, strict=True):
        words, before = trace.problem.question.split(), was.problem.question.split()
        assert words != before and [w.endswith(":") for w in words] == [w.endswith(":") for w in before]


def test_silent_traces_have_nothing_to_test(coconut: interp.Reasoner, traces: TraceSet) -> None:
    with pytest.raises(UsageError, match="has no visible thought"):
        early_answering(coconut, traces)


def test_distance_is_total_variation() -> None:
    assert distance(np.array(["a", "a"]), np.array(["b", "b"])) == 1.0
    assert distance(np.array(["a", "b"]), np.array(["b", "a"])) == 0.0
    assert distance(np.array(["a", "a", "b", "b"]), np.array(["a", "b", "c", "c"])) == pytest.approx(0.5)


def test_a_settled_step_moves_nothing_and_an_open_one_moves_the_answers(
    text: interp.Reasoner, thought: TraceSet
) -> None:
    # Nearly greedy, the question settles the answer. Where every token is drawn at random, the last step does: the
    # answer after it is a copy, more or less.
    cold = anchors(text, thought[:3], samples=4, temperature=0.01)
    assert cold["moved"].max() == 0.0 and (cold["agreement"] == 1.0).all()
    short = [trace for trace in thought if trace.problem.n_steps == 2][:4]
    hot = anchor_summary(anchors(text, TraceSet(short), samples=16, temperature=2.5)).set_index("step")
    assert hot.loc[2, "agreement"] > hot.loc[1, "agreement"] and hot.loc[2, "n"] == 4
    with pytest.raises(UsageError, match="samples to be a whole number of at least 4"):
        anchors(text, thought[:1], samples=2)


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("a", "LATIN"),
        ("ü", "LATIN"),
        ("я", "CYRILLIC"),
        ("汉", "HAN"),
        ("あ", "HIRAGANA"),
        ("한", "HANGUL"),
        ("7", "DIGIT"),
        ("!", None),
    ],
)
def test_scripts_of_characters(character: str, expected: str | None) -> None:
    assert script(character) == expected


def test_switches_of_language_and_script(spoken: tuple[interp.Reasoner, TraceSet]) -> None:
    from interp.problems.subtext import SPELLINGS

    assert scripts("ab 汉 7") == {"LATIN": 2, "HAN": 1, "DIGIT": 1}
    names = dict(zip(("digits", "English", "German", "Spanish"), SPELLINGS, strict=True))
    for trace in spoken[1][:20]:
        result = language_spans(trace, names)
        output = [next(name for name, listed in names.items() if word in listed) for word in trace.text.split()[:-1]]
        assert list(result["main"]) == output
        assert list(result["switched"]) == [False, *(a != b for a, b in itertools.pairwise(output))]


# --- tokens that are no words -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sums(
    model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[interp.Reasoner, TraceSet]:
    """Thoughts of a byte-level model, put into its mouth, whose values take several tokens each."""
    path = tmp_path_factory.mktemp("sums") / "q.jsonl"
    lines = []
    for a in range(10, 90, 7):
        steps = [
            {"text": f"{a} and 5 gives {a + 5};", "value": str(a + 5)},
            {"text": f"so {a + 7} é.", "value": str(a + 7)},
        ]
        lines.append({"question": f"What is {a} plus 7?", "answer": str(a + 7), "steps": steps})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    options = {"kind": "text", "begin": "<think>", "end": "</think>", "max_answer_tokens": 4, "max_thought_tokens": 30}
    reasoner = interp.load(model_folder("gpt2"), reasoner=options)
    problems = read_question_file(path).problems
    return reasoner, force(reasoner, problems, [" " + gold_thought(problem) for problem in problems])


def test_a_value_of_several_tokens_is_replaced_where_it_is_complete(sums: tuple[interp.Reasoner, TraceSet]) -> None:
    reasoner, traces = sums
    values = {step.value for trace in traces for step in trace.problem.steps}
    for trace in traces:
        thought = visible_thought(trace, reasoner.tokenizer)
        for k, gold in enumerate(trace.problem.steps, 1):
            value, changed = _with_mistake(reasoner, trace, thought, k, Random(0)) or ("", thought)
            assert value in values - {gold.value}
            text, before = reasoner.tokenizer.decode(changed.ids), reasoner.tokenizer.decode(thought.ids)
            place = before.index(gold.value, before.index("gives" if k == 1 else "so"))
            assert text == before[:place] + value + before[place + len(gold.value) :]
            assert changed.steps[2 - k] == thought.steps[2 - k]
    table = mistakes(reasoner, traces).table
    assert len(table) == 2 * 2 * len(traces) and set(table["value"]) <= values


def test_steps_into_which_no_mistake_fits_are_counted(sums: tuple[interp.Reasoner, TraceSet]) -> None:
    """Of two problems of two steps each, one never writes its second step and one writes another value in its first."""
    reasoner, traces = sums
    first, second, *others = traces
    unwritten = (replace(second.problem.steps[0], value="999"), second.problem.steps[1])
    problems = [first.problem, replace(second.problem, steps=unwritten)]
    thoughts = [" " + first.problem.steps[0].text, " " + gold_thought(second.problem)]
    few = TraceSet([*force(reasoner, problems, thoughts), *others])
    result = mistakes(reasoner, few)
    assert (result.n_steps, result.left_out) == (2 * len(traces), 2)
    assert len(result.table) == 2 * (result.n_steps - 2)
    table = battery(reasoner, few).set_index("test")
    for test in ("mistake, then own words", "mistake, then as written"):
        assert table.loc[test, "n"] == 2 * len(traces) - 2 and table.loc[test, "left_out"] == 2
        assert table.loc[test, "left_out_share"] == pytest.approx(2 / (2 * len(traces)))
    assert table.loc["as written", "left_out"] == 0
    (sentence,) = left_out(table.reset_index())
    assert sentence.startswith(f"no mistake could be put into 2 of {2 * len(traces)} steps (0.0")


def test_words_outside_ascii_are_read_and_replaced(sums: tuple[interp.Reasoner, TraceSet]) -> None:
    reasoner, traces = sums
    assert [word.text for word in words(traces[0])] == ["10", "and", "5", "gives", "15", ";", "so", "17", "é", "."]
    changed = reword(reasoner, traces, Wording([["é", "дом"], ["gives", "makes"]]))
    for before, after in zip(traces, changed, strict=True):
        old, new = (reasoner.tokenizer.decode(thought_ids(trace)).split() for trace in (before, after))
        assert {new[-1]} <= {"é.", "дом."} and new[3] in ("gives", "makes")
        assert [*new[:3], *new[4:-1]] == [*old[:3], *old[4:-1]]
    assert {reasoner.tokenizer.decode(thought_ids(trace)).split()[-1] for trace in changed} == {"é.", "дом."}
