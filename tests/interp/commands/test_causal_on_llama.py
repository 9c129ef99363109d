"""Every causal command on a model of Llama's kind: a verdict, or one line that says what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.causal.following import follow_rewrites
from interp.problems.questions.file import read_question_file
from tests.interp.conftest import SUMS

Run = Callable[..., Any]


def questions(path: Path, *, steps_of_rewrites: bool = True, counterfactuals: bool = True) -> Path:
    """Write questions of a user's own, with steps, an oracle and rewrites."""
    lines = []
    for a, b in SUMS:
        other = next(c for c in (0, 1, 2, 4) if c != b)
        rewrite: dict[str, Any] = {"question": f"What is {a} plus {other}?", "answer": str(a + other)}
        line: dict[str, Any] = {"question": f"What is {a} plus {b}?", "answer": str(a + b), "values": [str(a + b)]}
        line["rewrites"] = [rewrite | ({"values": [str(a + other)]} if steps_of_rewrites else {})]
        if counterfactuals:
            line["counterfactuals"] = {"1": {str(value): str(value) for value in range(9)}}
        lines.append(line)
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return questions(tmp_path_factory.mktemp("sums") / "sums.jsonl")


@pytest.fixture
def run(cotlens: Run, taught_llama: Path, sums: Path) -> Run:
    def with_model(*command: object, on: Path = sums) -> Any:
        return cotlens(*command[:2], taught_llama, *command[2:], "--questions", on, "--json")

    return with_model


def digits(texts: Any) -> list[str]:
    """Return the first digit of each text; empty where there is none."""
    return ["".join(re.findall(r"\d", str(text))[:1]) for text in texts]


def test_answers_in_sentences_are_compared_with_the_oracles(taught_llama: Path, sums: Path) -> None:
    """The model answers "The answer is 4.", and the oracle says "4"."""
    reasoner = interp.load(taught_llama)
    traces = reasoner.think(read_question_file(sums).problems)
    assert traces[0].answer.strip() == "The answer is 0." and traces.accuracy > 0.8
    edits = interp.interchange(reasoner, traces, address="everything").table()
    known = edits["predicted"].notna()
    assert edits["followed"].tolist() == [
        after == implied and ok
        for after, implied, ok in zip(digits(edits["answer_after"]), edits["predicted"], known, strict=True)
    ]
    before, after = digits(edits["answer_before"]), digits(edits["answer_after"])
    assert edits["changed"].tolist() == [one != other for one, other in zip(before, after, strict=True)]
    followed = edits.groupby("edit")["followed"].mean()
    assert followed["other value"] > 0.4 > 0.25 > followed["wrong site"]
    rewrites = follow_rewrites(reasoner, traces.problems)
    assert rewrites["followed"].mean() > 0.8 and not rewrites["kept"].any()


def test_what_is_missing_is_said(run: Run, tmp_path: Path) -> None:
    for command, message in (
        (("subtext", "measure"), "defines no synonyms; give a file of synonyms"),
        (("subtext", "uncertainty"), "expected a task that knows the posterior"),
    ):
        ended = run(*command)
        assert ended.code == 2 and message in ended.error
    plain = questions(tmp_path / "plain.jsonl", counterfactuals=False)
    for command in (("causal", "interchange"), ("causal", "interchange", "--used-map")):
        ended = run(*command, on=plain)
        assert ended.code == 2 and 'add "counterfactuals"' in ended.error
    bare = questions(tmp_path / "bare.jsonl", steps_of_rewrites=False)
    ended = run("causal", "interchange", "--donors", "rewrites", on=bare)
    assert ended.code == 2 and "expected donors whose steps have values, got rewrites without" in ended.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (("causal", "interchange", "--address", "cache"), ("rates", "verdict")),
        (("causal", "interchange", "--address", "blocks.0.hook_out", "--donors", "rewrites"), ("rates", "verdict")),
        (("causal", "interchange", "--read"), ("rates", "verdict")),
        (("causal", "interchange", "--map"), ("cells",)),
        (("causal", "interchange", "--used-map"), ("cells",)),
        (("causal", "steer", "--dose", 1), ("doses", "success", "random_direction", "collateral")),
        (("causal", "steer", "--dose", 1, "--address", "blocks.0.hook_out"), ("doses", "success")),
        (("causal", "ablate"), ("arms", "content")),
        (("causal", "follow"), ("checkpoints",)),
        (("causal", "faithfulness"), ("tests",)),
        (("causal", "attribute", "--neurons", 40, "--prompts", 2), ("paths", "graphs")),
        (("subtext", "commitment"), ("steps", "decided")),
        (("subtext", "compute"), ("by_operations",)),
    ],
    ids=lambda command: " ".join(map(str, command[:4])),
)
def test_every_tool_gives_figures(run: Run, command: tuple[str, ...], keys: tuple[str, ...]) -> None:
    record = run(*command).json
    assert all(record[key] for key in keys)


@pytest.mark.slow
def test_ablation_faithfulness_and_commitment_on_sentences(run: Run) -> None:
    arms = {row["arm"]: row for row in run("causal", "ablate").json["arms"]}
    assert arms["own"]["changed"] == 0 and arms["other problem"]["changed"] > 0.6
    tests = {row["test"]: row for row in run("causal", "faithfulness").json["tests"]}
    assert tests["as written"]["share"] == 1 and max(tests[t]["share"] for t in ("filler", "no thought")) < 0.5
    forced = {row["step"]: row["forced"] for row in run("subtext", "commitment").json["steps"]}
    assert forced[0] < 0.5 and forced[1] == 1
