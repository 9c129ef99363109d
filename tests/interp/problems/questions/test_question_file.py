"""What a user's question file may say beyond question and answer, and what becomes of it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cotlens
import interp
from interp.activations.targets import label_names, labels, trace_labels
from interp.causal.patching.donors import alternatives, donors_for, gold_values, pairs
from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import Problem
from interp.problems.questions import QuestionsTask
from interp.problems.questions.file import QuestionFile, read_question_file
from interp.text.wording import Wording
from interp.traces import Trace, TraceSet

SUM = {"question": "2 + 3 + 4?", "answer": 9, "steps": ["2 + 3 = 5", "5 + 4 = 9"]}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., QuestionFile]:
    def lines(*rows: dict[str, Any], name: str = "mine.jsonl") -> QuestionFile:
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        return read_question_file(path)

    return lines


def questions_task(file: QuestionFile) -> QuestionsTask:
    made = task(file.problems[0].task)
    assert isinstance(made, QuestionsTask)
    return made


@pytest.mark.parametrize(
    "given",
    [{"1": {"6": 10, "1,000": "1,004"}, "2": {"0": "0"}}, [{"6": 10, "1,000": "1,004"}, {"0": 0}]],
    ids=["by step", "a list"],
)
def test_counterfactual_answers_come_from_the_file(read: Callable[..., QuestionFile], given: Any) -> None:
    file = read({**SUM, "counterfactuals": given})
    made, problem = questions_task(file), file.problems[0]
    assert not file.broken
    assert [made.counterfactual(problem, 1, value) for value in ("6", "1000", "1,000", "5")] == [
        "10", "1004", "1004", "9",
    ]  # fmt: skip
    assert made.counterfactual(problem, 2, "0") == "0"
    assert made.step_values(problem, 1) == ("5", "6", "1000") and made.step_values(problem, 2) == ("9", "0")
    assert made.values == ("5", "9", "6", "1000", "0")


def test_a_missing_counterfactual_says_what_to_add_to_the_file(read: Callable[..., QuestionFile]) -> None:
    file = read(SUM, {**SUM, "question": "other", "counterfactuals": [{"6": 10}, None]})
    made = questions_task(file)
    with pytest.raises(UsageError) as refused:
        made.counterfactual(file.problems[0], 2, "7")
    assert str(refused.value) == (
        f"expected the answer that follows where step 2 reaches '7', got none in line 1 of {made.path}; "
        'add "counterfactuals": {"2": {"7": "ANSWER"}} to it.'
    )
    with pytest.raises(UsageError, match=r"step 1 reaches '8', got answers for 6 in line 2"):
        made.counterfactual(file.problems[1], 1, "8")
    with pytest.raises(UsageError, match=r"expected a step between 1 and 2, got 3"):
        made.counterfactual(file.problems[1], 3, "8")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([{"6": 10}], "it has 2 steps but counterfactuals for 1"),
        ({"3": {"6": 10}}, "its counterfactuals name step '3', but it has 2 steps"),
        ({"first": {"6": 10}}, "its counterfactuals name step 'first', but it has 2 steps"),
        ({"1": 10}, r'expected its counterfactuals of step 1 to be like {"VALUE": "ANSWER"}, got 10'),
        ({"1": {"6": [1]}}, r"expected its counterfactual answer of step 1 to be a text or a number, got \[1\]"),
        ("6", r'expected its counterfactuals to be like {"1": {"VALUE": "ANSWER"}}, got "6"'),
        (
            {"1": {"5": 10}},
            "its step 1 reaches '5' and its answer is '9', but its counterfactuals say that '10' follows",
        ),
    ],
)
def test_counterfactuals_that_cannot_be_meant_are_named(
    read: Callable[..., QuestionFile], given: Any, why: str
) -> None:
    file = read({**SUM, "counterfactuals": given}, {**SUM, "question": "fine"})
    assert [p.question for p in file.problems] == ["fine"]
    assert re.match(f"line 1: {why}", str(file.broken[0]))


def test_questions_with_counterfactuals_give_the_pairs_of_the_task_they_come_from(
    traces: TraceSet, tmp_path: Path
) -> None:
    chain = task("chain")
    rows = []
    for trace in traces:
        given = [
            {value: chain.counterfactual(trace.problem, k, value) for value in chain.values}
            for k in range(1, trace.problem.n_steps + 1)
        ]
        steps = [dataclasses.asdict(step) for step in trace.problem.steps]
        row = {"question": trace.problem.question, "answer": trace.problem.answer, "steps": steps}
        rows.append(json.dumps({**row, "counterfactuals": given}))
    path = tmp_path / "chains.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    asked = read_question_file(path).problems
    own = TraceSet([dataclasses.replace(t, problem=p) for t, p in zip(traces, asked, strict=True)])
    path.unlink()  # Stores outlive the file.

    def table(of: TraceSet) -> pd.DataFrame:
        donors = donors_for(None, of, seed=0)  # type: ignore[arg-type]
        return pairs(of, donors, gold_values(of), seed=0).drop(columns="structure")

    pd.testing.assert_frame_equal(table(own), table(traces))
    for k in range(5):
        for step in range(1, traces[k].problem.n_steps + 1):
            assert alternatives(task(asked[k].task), asked[k], step) == alternatives(chain, traces[k].problem, step)


def test_labels_of_any_name_become_targets(
    read: Callable[..., QuestionFile], written_trace: Callable[..., Trace]
) -> None:
    file = read(
        {**SUM, "topic": "sums", "hard": True, "level": 2.0, "hint": ["a", None], "source": {"page": 3}},
        {**SUM, "question": "q2", "topic": "more", "hard": False, "hint": ["b", "c"], "correct": "no"},
        {**SUM, "question": "q3", "topic": None, "level": 1, "secrets": {"key": "blue"}, "labels": {"lang": "de"}},
    )
    assert file.fields == {
        "topic": "label of each trace",
        "hard": "label of each trace",
        "level": "label of each trace",
        "hint": "label of each step",
        "source": "kept, not a label: line 1 has neither one value nor a list of values",
        "correct": "label of each trace",
        "secrets.key": "label of each trace",
        "lang": "label of each trace",
    }
    assert file.problems[0].meta["fields"] == {"source": {"page": 3}}
    made = [dataclasses.replace(written_trace(problem), id=k) for k, problem in enumerate(file.problems)]

    def of(target: str) -> list[str | None]:
        return trace_labels(made, target).tolist()

    assert of("topic") == ["sums", "more", None] and of("hard") == ["True", "False", None]
    assert of("level") == ["2", None, "1"], "a table writes whole numbers as floats where a row lacks one"
    assert of("hint") == [None] * 3, "a label of steps is not known before the first step"
    assert of("hint:1") == ["a", "b", None] and of("hint:2") == [None, "c", None]
    assert of("secrets.key") == [None, None, "blue"] and of("lang") == [None, None, "de"]
    assert of("correct") == ["True"] * 3 and of("label:correct") == [None, "no", None]
    assert label_names(made) == [
        "topic", "hard", "level", "hint", "hint:1", "hint:2", "label:correct", "secrets.key", "lang",
    ]  # fmt: skip
    rows = pd.DataFrame({"trace": [0, 1, 1, 1], "step": [1, 1, 2, 0]})
    assert labels(SimpleNamespace(traces=made), rows, "hint").tolist() == ["a", "b", "c", None]
    with pytest.raises(
        UsageError, match=r"expected a known target, got 'topics'; did you mean 'topic'\?.*secrets\.key"
    ):
        of("topics")
    with pytest.raises(UsageError, match="expected a known target, got 'hint:3'"):
        of("hint:3")


def test_a_field_means_the_same_on_every_line(read: Callable[..., QuestionFile]) -> None:
    file = read(
        {**SUM, "tags": ["a", "b"], "mixed": 1, "nested": [[1], [2]], "empty": None},
        {**SUM, "question": "q2", "tags": ["a", "b", "c"], "mixed": [1, 2]},
    )
    assert file.fields == {
        "tags": "kept, not a label: line 2 has 3 entries and 2 steps",
        "mixed": "kept, not a label: line 1 has one value, line 2 one for each step",
        "nested": "kept, not a label: line 1 has neither one value nor a list of values",
        "empty": "kept, not a label: it is empty on every line",
    }
    assert file.problems[0].labels == {} and file.problems[1].meta["fields"] == {
        "tags": ["a", "b", "c"],
        "mixed": [1, 2],
    }


def test_the_files_own_split_counts_and_near_equal_questions_stay_together(read: Callable[..., QuestionFile]) -> None:
    file = read(
        *({"question": f"q{k}", "answer": k, "split": name} for k, name in enumerate(["train", "Validation", "test"])),
        {"question": "What is 5!?", "answer": 120, "split": "train"},
        {"question": "what is 5?", "answer": 5, "split": "test"},
        {"question": "q9", "answer": 9, "split": "holdout"},
    )
    assert [p.split for p in file.problems] == ["train", "val", "test", "train", "train"]
    assert file.notes == [
        "line 5 is taken into the train split and not test: line 4 asks almost the same; give both one split"
    ]
    assert str(file.broken[0]) == 'line 6: expected its split to be train, val or test, got "holdout"'
    made = questions_task(file)
    with pytest.warns(UserWarning, match="line 5 is taken into the train split"):
        assert [p.question for p in made.generate(1, seed=0, split="val")] == ["q1"]
    with pytest.warns(UserWarning, match="line 5 is taken into the train split"):
        assert len(cotlens.questions(made.path)) == 5


def test_donors_are_other_lines_or_written_out(read: Callable[..., QuestionFile]) -> None:
    own = {"question": "1 + 1 + 1?", "answer": 3, "values": [2, 3]}
    file = read(
        {**SUM, "donors": ["b7", 3, "third one", own, "nowhere", 4]},
        {"question": "second", "answer": 1, "values": [0, 1], "id": "b7"},
        {"question": "third one", "answer": 2, "values": [1, 2], "split": "train"},
        {"question": "short", "answer": 2, "values": [2]},
    )
    made = questions_task(file)
    donors = made.donors(file.problems[0])
    assert [d.question for d in donors] == ["second", "third one", "third one", "1 + 1 + 1?"]
    assert [s.value for s in donors[3].steps] == ["2", "3"] and donors[3].answer == "3"
    assert (donors[1].structure, donors[1].split) == (file.problems[2].structure, "train")
    assert made.donors(file.problems[1]) == ()
    assert file.notes == [
        'line 1: its donor "nowhere" is no line that can be used; name a line\'s number, id or question',
        "line 1: its donor 'short' has 1 steps, and it has 2",
    ]


def test_an_id_counts_before_the_number_of_a_line_and_names_one_line(read: Callable[..., QuestionFile]) -> None:
    """Ids that count from 0 are not the numbers of lines, which count from 1."""
    rows = [{"question": f"question {k}", "answer": k, "values": [0, k], "id": k} for k in range(4)]
    file = read({**rows[0], "donors": [1, 3, 4]}, *rows[1:], {**rows[1], "question": "twice", "id": 2, "donors": [2]})
    made = questions_task(file)
    assert [d.question for d in made.donors(file.problems[0])] == ["question 1", "question 3", "question 3"]
    assert made.donors(file.problems[4]) == ()
    assert file.notes == ["line 5: its donor 2 is the id of several lines; give each its own"]


def test_rewrites_are_other_lines_or_written_out(read: Callable[..., QuestionFile]) -> None:
    other = {"question": "2 + 3 + 5?", "answer": 10}
    file = read(
        {**SUM, "rewrites": [other, 2, "2 + 3 + 4?", {"question": "no answer"}, "nowhere"]},
        {"question": "short", "answer": 2, "values": [2]},
    )
    made, problem = questions_task(file), file.problems[0]
    drawn = {made.rewrite(problem, Random(k)).question: made.rewrite(problem, Random(k)).answer for k in range(20)}
    assert drawn == {"2 + 3 + 5?": "10", "short": "2"}
    values = {tuple(step.value for step in made.rewrite(problem, Random(k)).steps) for k in range(20)}
    assert values == {("", ""), ("2",)}, "it has as many steps where it names none, of unknown values"
    assert file.notes == [
        "line 1: its rewrite is the question itself; change something in it",
        "line 1: its rewrite: it has no 'answer'",
        'line 1: its rewrite "nowhere" is no line that can be used; name a line\'s number, id or question',
    ]
    with pytest.raises(UsageError) as refused:
        made.rewrite(file.problems[1], Random(0))
    assert str(refused.value) == (
        f'expected a rewritten question of line 2 of {made.path}, got none; add "rewrites": [{{"question": "...", '
        '"answer": "..."}] to it, or name other lines there.'
    )


def test_named_donors_are_thought_about_and_serve_their_problem_alone(
    coconut: interp.Reasoner, problems: list[Problem], tmp_path: Path
) -> None:
    pair = [p for p in problems if p.n_steps == 3][:4]
    rows = [{"question": p.question, "answer": p.answer, "values": [s.value for s in p.steps]} for p in pair]
    rows[0]["donors"] = [3, pair[3].question]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    donors = donors_for(coconut, coconut.think(read_question_file(path).problems))
    assert donors.source == "named" and [t.problem.question for t in donors.traces][4:] == [
        pair[2].question, pair[3].question,
    ]  # fmt: skip
    of = {k: np.flatnonzero(donors.eligible(k, donors.traces[k].problem)).tolist() for k in (0, 1)}
    assert of == {0: [4, 5], 1: [0, 2, 3]}


def test_synonyms_of_the_file_are_those_of_the_task(read: Callable[..., QuestionFile]) -> None:
    file = read(
        {**SUM, "question": "so it is big", "synonyms": [["so", "thus"], ["big", "large"]]},
        {**SUM, "question": "huge", "synonyms": [["large", "huge"]]},
        {**SUM, "question": "bad", "synonyms": [["one"]]},
    )
    made = questions_task(file)
    assert set(made.synonyms("large")) == {"big", "large", "huge"} and made.synonyms("left") == ("left",)
    assert set(Wording.of_task(made).options("thus")) == {"so", "thus"}
    assert "expected its synonyms to be lists of at least two words" in str(file.broken[0])


def test_everything_survives_json_and_older_problems_open(read: Callable[..., QuestionFile]) -> None:
    file = read({**SUM, "topic": "x", "hint": ["a", "b"], "counterfactuals": {"1": {"6": 10}}, "more": {"a": 1}})
    again = Problem.from_json(file.problems[0].to_json())
    assert again == file.problems[0] and again.labels == {"topic": "x", "hint": ["a", "b"]}
    assert questions_task(file).counterfactual(again, 1, "6") == "10"
    older = dataclasses.replace(again, meta={"line": 1})
    assert older.labels == {} and questions_task(file).donors(older) == ()


def test_only_equal_questions_are_the_same(read: Callable[..., QuestionFile]) -> None:
    asked = [
        "What is 5!?",
        "What is 5?",
        "What is 7 * 3?",
        "What is 7 $ 3?",
        "How long is [0, 1)?",
        "How long is (0, 1]?",
    ]
    asked += ["What is CO?", "What is Co?", "what is co?", "x = -1?", "x = 1?"]
    file = read(*({"question": question, "answer": 1} for question in [*asked, "What  is\n5? "]))
    assert [p.question for p in file.problems] == asked
    assert [str(line) for line in file.broken] == ["line 12: the same question as line 2"]
    assert len({p.id for p in file.problems}) == len(asked)
    of = {p.question: p.split for p in file.problems}
    assert of["What is 5!?"] == of["What is 5?"] and of["What is CO?"] == of["What is Co?"] == of["what is co?"]


def test_think_says_what_became_of_each_field(cotlens: Callable, traces: TraceSet, tmp_path: Path) -> None:
    rows: Sequence[dict[str, Any]] = [
        {"question": t.problem.question, "answer": t.problem.answer, "topic": "even" if t.id % 2 else "odd", "x": {}}
        for t in traces[:4]
    ]
    path, out = tmp_path / "q.jsonl", tmp_path / "t.parquet"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    result = cotlens("think", "chain-coconut", "--questions", path, "--out", out, "--json")
    assert result.code == 0 and result.json["notes"] == []
    assert result.json["fields"]["topic"] == "label of each trace"
    assert "note: field x: kept, not a label: line 1 has neither" in result.err
    assert trace_labels(TraceSet.from_parquet(out), "topic").tolist() == ["odd", "even", "odd", "even"]
