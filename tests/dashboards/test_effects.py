"""The pages of causal tests and of faithfulness: results of a run's model beside their controls, and commands for the rest."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.artifacts.finding import CAUSAL, TEXT, find_artifacts
from dashboards.runs import Run
from dashboards.views.causal import TESTS
from dashboards.views.effects.graph_figure import GraphView, grouped, kept_nodes
from dashboards.views.effects.one_trace import says, strip, unsaid
from interp.errors import StoreError, UsageError
from interp.runtime.results import read_result, write_result

Open = Callable[..., AppTest]
_CI = [0.8, 0.95]
RECORDS: dict[str, dict[str, Any]] = {
    "causal interchange": {
        "rates": [
            {"edit": edit, "step": step, "followed": followed, "followed_ci": _CI, "chance": 0.1}
            | {"changed": changed, "changed_ci": _CI, "n": 40}
            for edit, followed, changed in (
                ("other value", 0.9, 0.9),
                ("same value", 1.0, 0.0),
                ("wrong site", 0.1, 0.5),
            )
            for step in (0, 1)
        ],
        "verdict": "used",
        "claim": "answers take the step's value from the step's thought",
    },
    "causal layer map": {
        "cells": [
            {"address": f"blocks.{k}.hook_out", "label": f"layer {k}", "offset": 0, "followed": 0.5 + k / 4}
            | {"followed_ci": _CI, "chance": 0.1, "same_value_changed": 0.0, "same_value_ci": [0.0, 0.1], "n": 40}
            for k in (0, 1)
        ]
    },
    "causal used map": {
        "cells": [
            {"n_steps": 2, "step": s, "thought": t, "follow": float(s == t), "low": 0.9 * (s == t), "high": 1.0}
            | {"verdict": "used" if s == t else "unused", "n": 30}
            for s in (1, 2)
            for t in (1, 2)
        ]
    },
    "causal ablate": {
        "arms": [
            {"arm": arm, "accuracy": a, "ci": _CI, "lost": 1 - a, "lost_ci": _CI, "changed": 1 - a, "n": 40}
            for arm, a in (("own", 1.0), ("zero", 0.1))
        ],
        "content": {"verdict": "content", "claim": "answers need what the thoughts hold", "why": "they are lost"},
    },
    "causal steer": {
        "doses": [
            {"dose": d, "chosen": d == 2.0, "success": 0.4 * d, "success_ci": _CI, "random direction": 0.1}
            | {"random_ci": [0.0, 0.2], "changed where already there": 0.0, "already_ci": [0.0, 0.1], "malformed": 0.0}
            | {"n": 40, "n already": 20}
            for d in (1.0, 2.0)
        ],
        "best": 2.0,
    },
    "causal swap": {
        "reasoner": "chain-text",
        "writer": "chain-restated",
        "latents": False,
        "arms": [
            {"arm": arm, "correct": c, "correct_ci": _CI, "agrees": c, "agrees_ci": _CI, "n": 40}
            for arm, c in (("reads the text", 0.9), ("another problem", 0.1))
        ],
    },
    "causal faithfulness": {
        "tests": [
            {"test": test, "if_faithful": wanted, "share": s, "ci_low": s, "ci_high": s, "n": 40, "why_not": ""}
            for test, wanted, s in (("as written", "kept", 1.0), ("another problem's thought", "lost", 0.1))
        ],
        "says": "the answers depend on the text: another problem's text keeps 0.100 of the answers.",
        "left_out": [],
        "early_answering": [
            {"steps": 2, "shown": k, "share": k / 2, "ci_low": 0.0, "ci_high": 1.0, "n": 40, "accuracy": k / 2}
            for k in range(3)
        ],
        "anchors": None,
        "metrics": {
            "table": [
                {"metric": "biased context", "source": "x", "chain": 0.7, "ci_low": 0.6, "ci_high": 0.8, "n": 40}
                | {"why_not": ""}
            ],
            "says": ["few chains that follow a hint say so."],
            "hints": [
                {"outcome": outcome, "share": share, "ci_low": share, "ci_high": share, "n": 40}
                for outcome, share in (
                    ("followed and mentioned", 0.1),
                    ("followed, not mentioned", 0.3),
                    ("control: moved to another answer", 0.05),
                )
            ],
        },
    },
    "subtext commitment": {
        "steps": [
            {"steps": 2, "step": k, "forced": k / 2, "ci_low": 0.0, "ci_high": 1.0, "read": None}
            | {"read_from_question": None, "flip": 0.5, "n": 40}
            for k in range(3)
        ],
        "decided": [
            {
                "steps": 2,
                "decided_at": 1.5,
                "ci_low": 1.2,
                "ci_high": 1.8,
                "flip_there": 0.9,
                "flip_after": 0.8,
                "n": 40,
            }
        ],
        "says": "what comes after the decision is used.",
    },
    "subtext measure": {
        "table": [
            {
                "channel": "words",
                "target": "secret",
                "bits": 0.8,
                "shuffled": 0.01,
                "ci_low": 0.7,
                "ci_high": 0.9,
                "n": 40,
            }
        ],
        "total": {"words": {"bits": 0.8, "ci": [0.7, 0.9], "n": 40, "bound": "lower bound"}},
    },
    "subtext locate": {
        "places": [2],
        "knock_out": {
            name: {"bits": b, "ci": _CI, "n": 40} for name, b in (("as written", 0.8), ("carrying words neutral", 0.0))
        },
        "cells": [
            {"place": k, "target": "secret", "bits": 0.4 * (k == 2), "ci_low": 0.0, "ci_high": 0.5, "q": 0.5, "n": 40}
            | {"carrying": k == 2}
            for k in (1, 2)
        ],
    },
    "subtext paraphrase": {
        "table": [
            {"version": name, "bits": b, "ci_low": 0.0, "ci_high": 1.0, "n": 40, "verdict": verdict}
            | {"free_same_answer": 0.9, "free_same_answer_low": 0.8, "free_same_answer_high": 1.0}
            for name, b, verdict in (("as written", 0.8, "control"), ("random synonyms", 0.0, "not load-bearing"))
        ],
        "verdicts": {"as written": "control", "random synonyms": "not load-bearing"},
    },
    "subtext discover": {
        "words": [{"place": 1, "word": "so", "bits": 0.1, "q": 0.2, "n": 40}],
        "traces": [{"trace": k, "q": q} for k, q in enumerate((0.001, 0.5))],
        "total": {"value": 0.1, "ci": [0.0, 0.2], "n": 40, "p": 0.2},
        "verdict": "undecided",
    },
}
DRAWN = {test: TESTS[test].result for test in TESTS if TESTS[test].result}


@pytest.fixture
def measured(demo_run: Path, tmp_path: Path) -> Path:
    """A copy of the demo's run with a result of every kind in it."""
    run = Path(shutil.copytree(demo_run, tmp_path / "own"))
    made = Run(run)
    weights, problems = made.store.meta["reasoner"]["weights"], [trace.problem.id for trace in made.traces]
    for name, record in RECORDS.items():
        details: dict[str, Any] = {"problems": problems[:5], "decided_at": [1] * 5}
        details["anchors"] = [{"trace": 0, "step": 1, "moved": 0.6, "chance": 0.1}]
        details["hints"] = [
            {"trace": k, "structure": k, "hint": "3", "before": "1", "after": "3", "followed": True}
            | {"acknowledged": k == 0, "elsewhere": False, "text": f"so it is three, case {k}"}
            for k in range(3)
        ]
        model = {"name": "chain-coconut", "kind": "continuous", "weights": weights}
        write_result(run / "results" / f"{name.replace(' ', '-')}.json", name, model, record, details)
    return run


def said(at: AppTest) -> str:
    kinds = ("title", "header", "markdown", "caption", "info", "warning", "error")
    words = [element.value for kind in kinds for element in at.get(kind)]
    html = "".join(element.proto.body for element in at.get("html"))
    return re.sub(r"\\(.)", r"\1", "\n".join([*words, html]).replace("\u2060", ""))


def commands(at: AppTest) -> list[str]:
    return [code.value for code in at.code if code.language == "bash"]


@pytest.mark.parametrize("test", list(TESTS))
def test_a_run_without_results_shows_the_command_that_measures_them(
    open_view: Open, demo_run: Path, test: str, cotlens: Any
) -> None:
    at = open_view("causal", demo_run, test=test)
    assert not at.error and not at.warning
    (command, *_) = [code for code in commands(at) if code.startswith("cotlens causal")]
    _program, *words = shlex.split(command)
    known = cotlens(*words[:2], "--help").out
    assert all(word in known for word in words if word.startswith("--")), command


@pytest.mark.parametrize(("n", "across"), [(3, True), (21, False)])
def test_many_steps_are_rows_because_as_columns_they_leave_the_page(n: int, across: bool) -> None:
    rows = [
        {
            "step": k,
            "said": f"word {k}",
            "decoded": f"{k}",
            "confidence": 0.9,
            "guess": k == 2,
            "control": "",
            "split": "",
        }
        | {"gold": f"{k}"}
        for k in range(1, n + 1)
    ]
    html = strip(rows, [], [], 1)
    columns = re.findall(r"<th scope='col'>(.*?)</th>", html)
    assert len(columns) == (n if across else 3)
    assert html.count("<tr>") == (1 + 3 if across else 1 + n)
    (unsure,) = re.findall(r"<td class='cot-unsure'>(.*?)</td>", html)
    assert "2" in unsure and html.count("· <b>decided</b>") == 1


@pytest.mark.parametrize("test", list(DRAWN))
def test_every_result_is_drawn_with_its_control(open_view: Open, measured: Path, test: str) -> None:
    at = open_view("causal", measured, test=test)
    assert not at.error and not at.warning
    assert at.get("plotly_chart") and at.get("download_button")
    assert "ontrol" in said(at) or "chance" in said(at)


def test_the_study_s_own_interchange_is_drawn_without_a_file(open_view: Open, demo_run: Path) -> None:
    at = open_view("causal", demo_run)
    assert "of answers follow the donor's value" in said(at) and at.get("plotly_chart")


def test_the_page_opens_with_a_test_that_was_measured(open_view: Open, measured: Path) -> None:
    for file in (measured / "results").iterdir():
        if file.name != "causal-ablate.json":
            file.unlink()
    edits = pd.read_parquet(measured / "interchange.parquet")
    edits.iloc[:0].to_parquet(measured / "interchange.parquet")
    at = open_view("causal", measured)
    assert next(box.value for box in at.selectbox if box.label == "Test") == "ablation" and at.get("plotly_chart")


def test_a_control_that_beats_the_edit_is_the_headline(open_view: Open, measured: Path) -> None:
    path = measured / "results" / "causal-interchange.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for row in content["result"]["rates"]:
        row["followed"] = 0.95 if row["edit"] == "wrong site" else row["followed"]
    path.write_text(json.dumps(content), encoding="utf-8")
    at = open_view("causal", measured)
    assert len(at.warning) == 1 and "control is as good as the edit" in said(at)


def test_a_result_of_another_model_is_flagged_and_not_drawn(open_view: Open, measured: Path) -> None:
    path = measured / "results" / "causal-steer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"] |= {"weights": "0" * 64, "name": "another-model"}
    path.write_text(json.dumps(content), encoding="utf-8")
    at = open_view("causal", measured, test="steering")
    assert "Not drawn" in said(at) and "another-model" in said(at) and not at.get("plotly_chart")
    assert any(code.startswith("cotlens causal steer") for code in commands(at))


def test_a_damaged_result_says_so(open_view: Open, measured: Path) -> None:
    path = measured / "results" / "causal-steer.json"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    at = open_view("causal", measured, test="steering")
    assert not at.error and "cannot be read" in said(at)


@pytest.mark.parametrize("page", ["causal", "faithfulness"])
def test_results_stand_on_their_own(open_view: Open, measured: Path, page: str) -> None:
    kind = CAUSAL if page == "causal" else TEXT
    for artifact in find_artifacts([measured]).artifacts.values():
        if artifact.kind == kind:
            at = open_view(page, measured, open=artifact.name)
            assert not at.error and not at.warning, artifact.name
            assert at.get("plotly_chart") or artifact.path.name == "subtext-discover.json", artifact.name


@pytest.mark.parametrize("wrong", [{"test": "magic"}, {"show": "magic"}])
def test_a_wrong_value_in_the_url_is_reported(open_view: Open, demo_run: Path, wrong: dict[str, str]) -> None:
    at = open_view("causal" if "test" in wrong else "faithfulness", demo_run, **wrong)
    ((key, value),) = wrong.items()
    assert len(at.warning) == 1 and f"{key}={value}" in said(at)


@pytest.mark.parametrize("page", ["causal", "faithfulness"])
def test_an_empty_folder_shows_the_command_that_fills_it(open_view: Open, page: str, tmp_path: Path) -> None:
    at = open_view(page, tmp_path)
    assert "There is nothing" in said(at) and commands(at)[0].startswith("cotlens demo")


@pytest.mark.parametrize("page", ["causal", "faithfulness"])
def test_an_unfinished_run_shows_the_command_that_resumes_it(open_view: Open, page: str, tmp_path: Path) -> None:
    asked = {"organism": "chain-text", "n_problems": 400, "seed": 3, "complete": False}
    (tmp_path / "run.json").write_text(json.dumps(asked), encoding="utf-8")
    at = open_view(page, tmp_path)
    assert "is not finished" in said(at) and commands(at)


def test_what_is_decoded_stands_beside_what_is_said(open_view: Open, measured: Path) -> None:
    at = open_view("faithfulness", measured, trace="0")
    assert "decoded" in said(at) and "It says nothing while it thinks" in said(at)
    assert "moves 0.60" in said(at) and "chance 0.10" in said(at) and "<b>decided</b>" in said(at)


@pytest.mark.parametrize(
    ("text", "value", "is_said"),
    [
        ("Now it shows 1.", "1", True),
        ("so two", "two", True),
        ("0-2", "0-2", True),
        ("it shows 11.", "1", False),
        ("= (3);", "3", True),
        ("nothing", "1", False),
        ("+7", "+7", True),
        ("thus27+4=31;", "31", True),
        ("thus27+4=131;", "31", False),
    ],
)
def test_a_value_is_said_whatever_marks_stand_around_it(text: str, value: str, is_said: bool) -> None:
    assert says(text, value) == is_said


def test_hints_that_are_followed_and_not_mentioned_stand_beside_their_control(open_view: Open, measured: Path) -> None:
    at = open_view("faithfulness", measured, show="hints")
    assert not at.error and not at.warning
    text = said(at)
    assert "0.300" in text and "do not mention it" in text and "Control: 0.050" in text
    table = next(t.value for t in at.table if "acknowledged" in t.value)
    assert len(table) == 3
    only = open_view("faithfulness", measured, show="hints", unmentioned="yes")
    assert len(next(t.value for t in only.table if "acknowledged" in t.value)) == 2


def test_the_page_of_a_run_without_results_has_a_command_for_each(open_view: Open, demo_run: Path) -> None:
    for show, verbs in {
        "decided": {"commitment"},
        "bits": {"measure", "locate", "paraphrase", "discover"},
    }.items():
        at = open_view("faithfulness", demo_run, show=show)
        assert verbs <= {shlex.split(code)[2] for code in commands(at)}
    # The demo's model thinks in latents: a test of its text would fail.
    for show in ("edits", "hints"):
        at = open_view("faithfulness", demo_run, show=show)
        assert "writes nothing while it thinks" in said(at) and not commands(at)


def test_false_positives_are_counted_at_the_threshold(open_view: Open, measured: Path) -> None:
    name = next(
        n for n, item in find_artifacts([measured]).artifacts.items() if item.path.name == "subtext-measure.json"
    )
    low, high = (said(open_view("faithfulness", measured, open=name, threshold=t)) for t in ("0.01", "0.05"))
    assert "1 of 1 shuffled controls" in low and "0 of 1 shuffled controls" in high


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"file": "cotlens result", "schema_version": 99}', '{"file": "cotlens result"}', "[" * 9000],
)
def test_a_hostile_result_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(StoreError):
        read_result(tmp_path / "result.json")


def test_a_command_writes_its_result_with_model_and_command(cotlens: Any, tmp_path: Path) -> None:
    out = tmp_path / "r" / "ablate.json"
    words = ["causal", "ablate", "chain-coconut", "--n", "12", "--arm", "own", "--out", str(out)]
    assert cotlens(*words).code == 0
    content = read_result(out)
    assert content["name"] == "causal ablate" and shlex.split(content["command"]) == ["cotlens", *words]
    assert content["model"]["name"] == "chain-coconut" and len(content["model"]["weights"]) > 10
    again = cotlens(*words)
    assert again.code == UsageError.exit_code and "expected a new file" in again.err


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A small graph file as circuit-tracer writes it: a token, a feature, an error node and a logit."""
    kinds = {
        "E_5_0": "embedding",
        "0_3_1": "cross layer transcoder",
        "0_-1_1": "mlp reconstruction error",
        "2_7_1": "logit",
    }
    nodes = [
        {"node_id": name, "feature_type": kind, "ctx_idx": int(name.split("_")[2]), "layer": name.split("_")[0]}
        | ({"token_prob": 0.9, "clerp": 'Output "7"'} if kind == "logit" else {})
        for name, kind in kinds.items()
    ]
    ends = [("E_5_0", "0_3_1", 1.0), ("0_3_1", "2_7_1", 2.0), ("0_-1_1", "2_7_1", -0.5)]
    content = {
        "metadata": {"slug": "small", "scan": "chain-coconut", "prompt_tokens": ["4", "<b>?</b>"]},
        "qParams": {},
        "nodes": nodes,
        "links": [{"source": s, "target": t, "weight": w} for s, t, w in ends],
    }
    path = tmp_path / "graphs" / "small.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_graph_of_circuit_tracer_is_drawn_and_a_node_expanded(open_view: Open, graph: Path) -> None:
    at = open_view("causal", graph.parent)
    assert not at.error and not at.warning and "error nodes" in said(at)
    spec = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert {trace.get("name") for trace in spec["data"]} >= {"embedding", "feature", "error", "logit"}
    assert "<b>?" not in json.dumps(spec)
    at = open_view("causal", graph.parent, node="0_3_1", pins="E_5_0")
    assert "2 of 2 edges of this node" in said(at) and not at.warning
    at = open_view("causal", graph.parent, node="9_9_9")
    assert len(at.warning) == 1 and "no single node" in said(at)


def test_groups_add_up_edges_and_neighbours_are_kept(graph: Path) -> None:
    whole = GraphView.open(graph)
    merged = grouped(whole)
    assert "G_0_1" in set(merged.nodes["id"]) and len(merged.nodes) == len(whole.nodes)
    assert merged.edges["weight"].sum() == pytest.approx(whole.edges["weight"].sum())
    assert kept_nodes(whole, 1, "0_3_1", []) >= {"0_3_1", "E_5_0", "2_7_1"}


def test_a_broken_graph_is_refused_in_words(open_view: Open, graph: Path) -> None:
    content = json.loads(graph.read_text(encoding="utf-8"))
    content["nodes"] = content["nodes"][:2]
    graph.write_text(json.dumps(content), encoding="utf-8")
    at = open_view("causal", graph.parent)
    assert len(at.error) == 1 and "expected" in said(at)


def test_a_trace_that_writes_what_is_read_says_it(demo_run: Path) -> None:
    latent = Run(demo_run).traces[0]
    gold = [step.value for step in latent.problem.steps]
    spoken = replace(
        latent,
        tokens=[gold[k - 1] if k else token for token, k in zip(latent.tokens, latent.step, strict=True)],
        channel=["thought" if k else channel for channel, k in zip(latent.channel, latent.step, strict=True)],
    )
    silent_at_last = replace(spoken, channel=[*spoken.channel[:-3], *latent.channel[-3:]])
    rows = [
        {"method": "probe", "split": "test", "trace": trace, "step": k + 1, "gold": value, "right": True}
        for trace in range(3)
        for k, value in enumerate(gold)
    ]
    run = SimpleNamespace(traces=[latent, spoken, silent_at_last], readouts=pd.DataFrame(rows))
    assert unsaid(run) == [0, 2]
