"""Questions of a user's own, from the command line: they give what the built-in task with the same problems gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import interp
from interp.commands.models import LOAD_DEFAULTS
from interp.commands.problem_options import ProblemOptions, ProblemSet, SplitUse
from interp.problems import task as make_task
from interp.problems.base import Problem

N, FITTED = 40, 260


def write(path: Path, problems: Sequence[Problem], *, counterfactuals: bool = True, splits: bool = True) -> Path:
    """Export problems of a task as a file of questions, with the answer that follows from each value of each step."""
    lines = []
    for problem in problems:
        task = make_task(problem.task)
        line: dict[str, Any] = {"question": problem.question, "answer": problem.answer}
        line["steps"] = [{"text": step.text, "value": step.value} for step in problem.steps]
        if splits:
            line["split"] = problem.split
        if counterfactuals:
            line["counterfactuals"] = {
                str(k): {value: task.counterfactual(problem, k, value) for value in task.values}
                for k in range(1, problem.n_steps + 1)
            }
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return make_task("chain").generate(N, seed=5, split="test")


@pytest.fixture(scope="module")
def exported(problems: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("own") / "mine.jsonl", [*fitted(), *problems])


def fitted() -> list[Problem]:
    return make_task("chain").generate(FITTED, seed=0, split="train")


TASK = f"chain:n={N},seed=5"


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of a table without its intervals, which resample structures under other names."""
    return [{k: v for k, v in row.items() if not k.endswith("ci") and k not in ("low", "high")} for row in rows]


@pytest.mark.parametrize(
    ("model", "options", "key"),
    [
        ("chain-coconut", [], "rates"),
        ("chain-text", [], "rates"),
        ("chain-coconut", ["--used-map"], "cells"),
        ("chain-text", ["--used-map"], "cells"),
    ],
)
def test_interchange_is_that_of_the_built_in_task(
    cotlens: Callable[..., Any], exported: Path, model: str, options: list[str], key: str
) -> None:
    own = cotlens("causal", "interchange", model, "--questions", exported, *options, "--json").json
    built_in = cotlens("causal", "interchange", model, "--task", TASK, *options, "--json").json
    assert own["n"] == built_in["n"] == N
    assert figures(own[key]) == figures(built_in[key])
    if key == "rates":
        followed = next(row["followed"] for row in own["rates"] if row["edit"] == "other value")
        assert followed > 0.9 and own["verdict"] == built_in["verdict"]


def test_a_file_need_not_say_which_answer_follows_from_the_value_that_a_step_has(
    cotlens: Callable[..., Any], problems: list[Problem], tmp_path: Path
) -> None:
    """A user writes what other values would give; donors of the same value then have no answer of their own in the file."""
    path = write(tmp_path / "others.jsonl", problems, splits=False)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        for k, step in enumerate(line["steps"], 1):
            del line["counterfactuals"][str(k)][step["value"]]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    own = cotlens("causal", "interchange", "chain-coconut", "--questions", path, "--json").json
    rates = {row["edit"]: row for row in own["rates"]}
    assert own["n"] == N and rates["other value"]["followed"] > 0.9 and rates["same value"]["changed"] < 0.05


@pytest.mark.slow
def test_the_layer_map_is_that_of_the_built_in_task(
    cotlens: Callable[..., Any], tmp_path: Path, problems: list[Problem]
) -> None:
    few = write(tmp_path / "few.jsonl", problems[:8])
    own = cotlens("causal", "interchange", "chain-coconut", "--questions", few, "--map", "--json").json
    built_in = cotlens("causal", "interchange", "chain-coconut", "--task", "chain:n=8,seed=5", "--map", "--json").json
    assert len(own["cells"]) > 15 and figures(own["cells"]) == figures(built_in["cells"])


def test_steering_fits_on_the_rows_that_the_file_says(cotlens: Callable[..., Any], exported: Path) -> None:
    own = cotlens("causal", "steer", "chain-coconut", "--questions", exported, "--dose", 1, "--dose", 2, "--json")
    assert (
        f"tested on its {N} test lines; the others ({FITTED} train) are used only where something is fitted" in own.err
    )
    assert own.json["n"] == N and own.json["success"]["value"] > 0.85 > 0.3 > own.json["random_direction"]["value"]
    assert own.json["collateral"]["value"] < 0.1


def test_steering_is_that_of_the_built_in_task(
    cotlens: Callable[..., Any], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same problems to fit on."""
    own = cotlens("causal", "steer", "chain-coconut", "--questions", exported, "--dose", 1, "--json").json
    monkeypatch.setattr(ProblemSet, "split", lambda given, share, **options: (fitted(), given.problems))
    built_in = cotlens("causal", "steer", "chain-coconut", "--task", TASK, "--dose", 1, "--json").json
    assert figures(own["doses"]) == figures(built_in["doses"])


def test_commitment_is_that_of_the_built_in_task(
    cotlens: Callable[..., Any], tmp_path: Path, problems: list[Problem]
) -> None:
    same = write(tmp_path / "same.jsonl", problems, splits=False)
    own = cotlens("subtext", "commitment", "chain-text", "--questions", same, "--json").json
    built_in = cotlens("subtext", "commitment", "chain-text", "--task", TASK, "--json").json
    keys = ("steps", "decided_at", "flip_there", "flip_after", "n")
    assert own["n"] == built_in["n"] == N and own["decided"]
    assert [{k: row[k] for k in keys} for row in own["decided"]] == [
        {k: row[k] for k in keys} for row in built_in["decided"]
    ]


@pytest.mark.parametrize(
    ("use", "n_tested", "n_fitted", "note"),
    [
        (SplitUse.FIT, N, FITTED, f"the others ({FITTED} train) are used only where something is fitted"),
        (SplitUse.ALL, N + FITTED, 0, f"tested on all {N + FITTED} lines, each with what was fitted to other problem"),
        (SplitUse.TEST, N, 0, f"with what was fitted to other test lines; the others ({FITTED} train) are not used"),
    ],
)
def test_a_command_says_which_lines_it_uses(
    exported: Path, capsys: pytest.CaptureFixture[str], use: SplitUse, n_tested: int, n_fitted: int, note: str
) -> None:
    given = ProblemOptions(questions=exported).problem_set(LOAD_DEFAULTS, "chain-text", split_use=use)
    assert len(given.problems) == n_tested and sum(map(len, given.fitted.values())) == n_fitted
    assert note in capsys.readouterr().err


def test_subtext_uses_all_lines_but_where_it_selects_words(cotlens: Callable[..., Any], exported: Path) -> None:
    """These end where synonyms are missing, after the traces were made."""
    assert (
        f"tested on all {N + FITTED} lines" in cotlens("subtext", "measure", "chain-text", "--questions", exported).err
    )
    assert f"its {N} test lines" in cotlens("subtext", "locate", "chain-text", "--questions", exported).err


@pytest.fixture(scope="module")
def rewritten(problems: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The questions, each but the first with one rewrite that the built-in task made."""
    path = write(tmp_path_factory.mktemp("own") / "rewritten.jsonl", problems, splits=False)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rng = Random(0)
    for line, problem in list(zip(lines, problems, strict=True))[1:]:
        other = make_task("chain").rewrite(problem, rng)
        line["rewrites"] = [{"question": other.question, "answer": other.answer}]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def test_following_takes_the_rewrites_of_the_file(cotlens: Callable[..., Any], rewritten: Path) -> None:
    (row,) = cotlens("causal", "follow", "chain-coconut", "--questions", rewritten, "--json").json["checkpoints"]
    (built_in,) = cotlens("causal", "follow", "chain-coconut", "--task", TASK, "--json").json["checkpoints"]
    assert row["followed"] > 0.95 and row["right_before"] > 0.95 > 0.4 > row["shuffled"]
    assert 0.8 * built_in["n"] <= row["n"] <= N - 1


def test_following_without_rewrites_says_what_to_add(cotlens: Callable[..., Any], exported: Path) -> None:
    ended = cotlens("causal", "follow", "chain-coconut", "--questions", exported)
    assert ended.code == 2
    assert f"none of {N} problems can be rewritten: expected a rewritten question of line" in ended.error
    assert 'add "rewrites": [{"question": "...", "answer": "..."}] to it' in ended.error


@pytest.mark.parametrize(
    "command",
    [
        ["causal", "interchange", "chain-coconut"],
        ["causal", "interchange", "chain-coconut", "--map"],
        ["causal", "interchange", "chain-text", "--used-map"],
        ["causal", "steer", "chain-coconut"],
    ],
)
def test_without_counterfactuals_the_message_says_what_to_add(
    cotlens: Callable[..., Any], command: list[str], tmp_path: Path, problems: list[Problem]
) -> None:
    path = write(tmp_path / "bare.jsonl", [*fitted(), *problems], counterfactuals=False)
    ended = cotlens(*command, "--questions", path)
    assert ended.code == 2 and 'add "counterfactuals": {"1": {"' in ended.error and str(path) in ended.error
    assert "offset" not in ended.error


def test_every_question_is_tested_where_the_file_says_no_splits(
    cotlens: Callable[..., Any], tmp_path: Path, problems: list[Problem]
) -> None:
    path = write(tmp_path / "all.jsonl", problems, splits=False)
    ablated = cotlens("causal", "ablate", "chain-coconut", "--questions", path, "--arm", "zero", "--json").json
    assert ablated["n"] == N and ablated["split"] == "all"
    as_task = cotlens(
        "causal", "ablate", "chain-coconut", "--task", f"questions:path={path}", "--arm", "zero", "--json"
    )
    assert as_task.json["arms"] == ablated["arms"]
    fewer = cotlens("causal", "ablate", "chain-coconut", "--questions", path, "--n", 12, "--arm", "zero", "--json").json
    assert fewer["n"] == 12
    ended = cotlens("causal", "ablate", "chain-coconut", "--questions", path, "--n", N + 1)
    assert ended.code == 2 and f"expected at most {N} problems of {path}, got --n {N + 1}" in ended.error
    measured = cotlens("subtext", "commitment", "chain-text", "--questions", path, "--json").json
    assert measured["n"] == N


def test_finished_traces_are_not_thought_about_again(
    cotlens: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "traces.parquet"
    cotlens("think", "chain-text", "--task", TASK, "--out", path)
    built_in = cotlens("causal", "faithfulness", "chain-text", "--task", TASK, "--json").json
    monkeypatch.setattr(interp.Reasoner, "think", lambda *_, **__: pytest.fail("it thinks again"))
    given = cotlens("causal", "faithfulness", "chain-text", "--traces", path, "--json").json
    assert given["n"] == N and given["tests"] == built_in["tests"]


def test_lines_that_cannot_be_used_are_named(
    cotlens: Callable[..., Any], tmp_path: Path, problems: list[Problem]
) -> None:
    path = write(tmp_path / "some.jsonl", problems)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"question": "how many zebras", "answer": "3"}\n{"question": "no answer"}\n')
    ended = cotlens("causal", "ablate", "chain-coconut", "--questions", path, "--arm", "zero", "--json")
    assert ended.json["n"] == N and len(ended.json["left_out"]) == 2
    assert f"note: 2 lines of {path} left out: line {N + 2}" in ended.err and "zebras" in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "chain", "--questions", "q.jsonl"], "expected --task or --questions, got both; leave one out"),
        (["--questions", "q.jsonl", "--traces", "t.parquet"], "expected --questions or --traces, got both"),
        (["--task", "chain:n=30", "--n", "20"], "expected one number of problems, got --n 20 and 'chain:n=30'"),
        (["--task", "chain", "--n", "0"], "n"),
    ],
)
@pytest.mark.parametrize("command", [["causal", "ablate", "chain-coconut"], ["subtext", "commitment", "chain-text"]])
def test_problems_have_one_source_and_one_number(
    cotlens: Callable[..., Any], command: list[str], options: list[str], message: str
) -> None:
    ended = cotlens(*command, *options)
    assert ended.code == 2 and message in ended.error


def test_the_number_of_problems_counts_with_a_task_too(cotlens: Callable[..., Any]) -> None:
    few = ("--task", "chain:steps=2", "--n", 30, "--json")
    assert cotlens("subtext", "commitment", "chain-text", *few).json["n"] == 30
    assert cotlens("causal", "ablate", "chain-coconut", "--arm", "zero", *few).json["n"] == 30
