"""Labels from a user's own table: which trace, step, sentence or token each row labels, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from interp.activations.targets import label_names, trace_labels
from interp.errors import StoreError, UsageError
from interp.problems.base import Problem
from interp.text.label_tables import checked_labels, labels_bytes, read_labels, read_table, with_labels
from interp.traces import Trace, TraceSet

TOKENS = ["?", "<think>", "ĠSo", "Ġ4", ".", "ĊĊ", "Wait", ",", "Ġ5", ".", "</think>", "5"]
SENTENCES = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0]


@pytest.fixture
def traces(made_problem: Callable[..., Problem], written_trace: Callable[..., Trace]) -> TraceSet:
    """Two traces of two sentences."""
    out = []
    for number, question in enumerate(("what?", "which?")):
        problem = replace(made_problem(question, ["4", "5"]), id=f"p{number}")
        n = len(TOKENS)
        out.append(
            replace(
                written_trace(problem, kind="thought"),
                id=number,
                token_ids=list(range(n)),
                tokens=TOKENS,
                channel=["prompt", "special", *["thought"] * 8, "special", "answer"],
                sentence=SENTENCES,
                step=[0] * n,
                thought=[0, 0, *range(1, 9), 0, 0],
                entropy=[0.0] * n,
                logprob=[0.0] * n,
            )
        )
    return TraceSet(out)


def labelled(traces: TraceSet, rows: list[dict]) -> TraceSet:
    """Return traces with the labels of a table."""
    return with_labels(traces, checked_labels(pd.DataFrame(rows), traces))


def test_a_row_labels_a_trace_a_step_a_sentence_or_a_token(traces: TraceSet) -> None:
    whole = labelled(traces, [{"question": "which?", "style": "short", "grade": 2.0}])
    assert whole[0].labels == {} and whole[1].labels == {"style": "short", "grade": "2"}
    assert trace_labels(whole, "grade").tolist() == [None, "2"]
    steps = labelled(whole, [{"trace": 0, "step": 2, "carry": True}, {"trace": 0, "step": 1, "carry": False}])
    assert steps[0].labels == {"carry": ["False", "True"]} and steps[1].labels["style"] == "short"
    assert label_names(steps) == ["carry", "carry:1", "carry:2", "style", "grade"]
    doubts = [{"id": f"p{k}", "sentence": n, "text": text, "doubt": n - 1} for k in (0, 1) for n, text in SAID]
    sentences = labelled(steps, doubts)
    assert sentences[1].token_labels == {"doubt": [None if n == 0 else str(n - 1) for n in SENTENCES]}
    tokens = labelled(sentences, [{"trace": 1, "position": 8, "token": "5", "kind": "value"}])
    assert tokens[1].token_labels["kind"] == [None] * 8 + ["value"] + [None] * 3
    assert tokens[0].token_labels.keys() == {"doubt"} and tokens[1].token_labels["doubt"][8] == "1"


SAID = [(1, "So 4."), (2, "Wait, 5.")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"step": 1, "a": 1}], "expected one column that names the trace of each row .* got none"),
        ([{"trace": 0, "id": "p0", "a": 1}], "got trace and id; keep one"),
        ([{"trace": 0, "step": 1, "sentence": 1, "a": 1}], "at most one of the columns .* got step and sentence"),
        ([{"trace": 0}], r"expected rows and a column of labels, got 1 rows with the columns \['trace'\]"),
        ([{"trace": 2, "a": 1}], r"expected traces of the 2 traces, got 1 others, such as \['2'\]"),
        ([{"trace": 0, "sentence": 3, "a": 1}], r"expected a sentence of trace 0 in row 1 \(1 to 2\), got '3'"),
        ([{"trace": 1, "position": 12, "a": 1}], r"expected a position of trace 1 in row 1 \(0 to 11\), got '12'"),
        ([{"trace": 1, "step": "x", "a": 1}], r"expected a step of trace 1 in row 1 \(1 to 2\), got 'x'"),
        ([{"trace": 0, "position": 8, "token": "4", "a": 1}], "expected ' 5', the position 8 of trace 0, .* got '4'"),
        ([{"trace": 0, "sentence": 2, "text": "So 4.", "a": 1}], "the sentence 2 of trace 0, in row 1, got 'So 4.'"),
        ([{"trace": 0, "a": 1}, {"trace": 0, "a": 2}], "expected one label a for each trace, got two for trace 0"),
    ],
)
def test_what_does_not_fit_is_refused(traces: TraceSet, rows: list[dict], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        labelled(traces, rows)


def test_names_are_taken_once_and_a_question_must_say_which_trace(traces: TraceSet) -> None:
    again = labelled(traces, [{"trace": 0, "a": 1}])
    with pytest.raises(UsageError, match="expected new names of labels, got a, which these traces have already"):
        labelled(again, [{"trace": 1, "a": 1}])
    twice = TraceSet([*traces, traces[0]])
    with pytest.raises(UsageError, match="expected one trace with question 'what\\?', got 2; use the column trace"):
        labelled(twice, [{"question": "what?", "a": 1}])
    with pytest.raises(UsageError, match="got kind, which labels positions; probe it in a store"):
        trace_labels(labelled(traces, [{"trace": 0, "position": 0, "kind": "x"}]), "kind")


def test_tables_are_read_by_their_ending_and_labels_survive_a_file(traces: TraceSet, tmp_path: Path) -> None:
    frame = pd.DataFrame({"trace": [0, 1], "sentence": [1, 2], "kind": ["007", "NA"]})
    for ending, write in {
        "csv": lambda path: frame.to_csv(path, index=False),
        "tsv": lambda path: frame.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "json": lambda path: frame.to_json(path, orient="records"),
        "parquet": frame.to_parquet,
    }.items():
        path = tmp_path / f"labels.{ending}"
        write(path)
        labels = checked_labels(read_table(path), traces)
        assert labels["value"].tolist() == ["007", "NA"] and labels["number"].tolist() == [1, 2], ending
    with_labels(traces, labels).to_parquet(tmp_path / "t.parquet")
    kept = TraceSet.from_parquet(tmp_path / "t.parquet")
    assert kept[1].token_labels["kind"] == [None] * 5 + ["NA"] * 5 + [None] * 2 and kept[0].labels == {}
    (tmp_path / "kept").write_bytes(labels_bytes(labels))
    pd.testing.assert_frame_equal(read_labels(tmp_path / "kept"), labels)
    (tmp_path / "kept").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="remove it and import the labels again"):
        read_labels(tmp_path / "kept")
    with pytest.raises(UsageError, match=r"expected a table that ends in \.csv, \.tsv"):
        read_table(tmp_path / "labels.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        read_table(tmp_path / "missing.csv")
