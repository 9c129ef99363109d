"""The pages, drawn without a browser: deep links, empty states, every decoder, and controls beside every figure."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.describe import run_command
from dashboards.launch import ROOTS_VARIABLE
from dashboards.readings import is_guess, percent
from dashboards.runs import Run
from dashboards.views.cards import Read, question_html, thoughts_html
from dashboards.views.shared import as_text, cut

PAGES = ("overview", "traces", "explorer", "latents", "probes")
OF_RUNS = ("overview", "latents", "probes")
Open = Callable[..., AppTest]


@pytest.fixture
def own_run(demo_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(demo_run, tmp_path / "own"))


def html(at: AppTest) -> str:
    return "".join(element.proto.body for element in at.get("html"))


def said(at: AppTest) -> str:
    """All text of a page outside its tables and charts, without the backslashes that escape it."""
    kinds = ("title", "header", "markdown", "caption", "info", "warning", "error", "success")
    words = [element.value for kind in kinds for element in at.get(kind)]
    return re.sub(r"\\(.)", r"\1", "\n".join([*words, html(at)]).replace("\u2060", ""))


def plain(text: object) -> str:
    return re.sub(r"\\(.)", r"\1", str(text).replace("\u2060", ""))


def tables(at: AppTest) -> list[Any]:
    """The tables of a page: those that are sorted and those that are drawn whole."""
    whole = [table.value.map(plain).rename(columns=plain) for table in at.table]
    return [*[frame.value for frame in at.dataframe], *whole]


def settings(at: AppTest) -> dict[str, Any]:
    """What the URL says of a page beside the name of what it shows."""
    return {key: value for key, value in at.query_params.items() if key != "open"}


def codes(at: AppTest, language: str) -> list[str]:
    return [code.value for code in at.code if code.language == language]


def first_held_out(run: Path) -> int:
    return int(Run(run).thoughts("probe")["trace"].iloc[0])


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_no_settings(open_view: Open, page: str) -> None:
    at = open_view(page)
    assert not at.error and not at.warning
    assert at.title and "chain-coconut" in said(at)


@pytest.mark.parametrize("page", PAGES)
def test_python_to_copy_runs(open_view: Open, page: str) -> None:
    snippets = codes(open_view(page), "python")
    assert snippets
    for snippet in snippets:
        exec(snippet, {})


@pytest.mark.parametrize("page", PAGES)
def test_commands_to_copy_have_options_that_exist(open_view: Open, page: str, cotlens: Any) -> None:
    commands = [line for code in codes(open_view(page), "bash") for line in code.splitlines()]
    assert commands
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "cotlens"
        name = [word for word in words[:2] if word in ("demo", "dash", "report", "build", "probe", "sweep")]
        known = cotlens(*name, "--help").out
        for option in (word for word in words if word.startswith("--")):
            assert option in known, command


@pytest.mark.parametrize("page", PAGES)
def test_an_unknown_query_parameter_is_reported(open_view: Open, page: str) -> None:
    assert "no setting called colour" in said(open_view(page, colour="blue"))


@pytest.mark.parametrize("page", ("home", *PAGES))
def test_an_empty_folder_shows_the_command_that_fills_it(open_view: Open, page: str, tmp_path: Path) -> None:
    at = open_view(page, tmp_path)
    assert "There is nothing" in said(at) and at.title and not at.error
    assert codes(at, "bash")[0] == f"cotlens demo --out {tmp_path / 'demo-chain-coconut'}"


@pytest.mark.parametrize("page", OF_RUNS)
def test_an_unfinished_run_shows_the_command_that_resumes_it(open_view: Open, page: str, tmp_path: Path) -> None:
    asked = {"organism": "chain-text", "n_problems": 400, "seed": 3, "complete": False}
    (tmp_path / "run.json").write_text(json.dumps(asked), encoding="utf-8")
    at = open_view(page, tmp_path)
    assert "is not finished" in said(at)
    assert codes(at, "bash") == [f"cotlens demo --out {tmp_path} --organism chain-text --n 400 --seed 3"]


@pytest.mark.parametrize("page", OF_RUNS)
@pytest.mark.parametrize("content", ["not json", "[]", '{"complete": true}', '{"complete": true, "organism": 3}'])
def test_a_foreign_folder_gives_no_traceback(open_view: Open, page: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    at = open_view(page, tmp_path)
    assert len(at.error) == 1 and codes(at, "bash")


@pytest.mark.parametrize(
    ("page", "lost"),
    [
        ("overview", "readouts.parquet"),
        ("latents", "readouts.parquet"),
        ("latents", "interchange.parquet"),
        ("probes", "sweep/sweep.json"),
    ],
)
def test_a_lost_table_is_named(open_view: Open, own_run: Path, page: str, lost: str) -> None:
    (own_run / lost).unlink()
    at = open_view(page, own_run)
    assert len(at.error) == 1
    assert Path(lost).stem in said(at) and codes(at, "bash")


def test_of_several_runs_the_newest_is_shown_and_named_in_the_url(
    open_view: Open, demo_run: Path, tmp_path: Path
) -> None:
    for age, name in enumerate(("new", "old", "older")):
        copy = shutil.copytree(demo_run, tmp_path / name)
        when = (copy / "run.json").stat().st_mtime - age * 1000
        os.utime(copy / "run.json", (when, when))
    at = open_view("overview", tmp_path)
    assert at.selectbox(key="view_open").value == "new" and at.query_params["open"] == "new"
    at.selectbox(key="view_open").set_value("older").run()
    assert at.query_params["open"] == "older" and str(tmp_path / "older") in "".join(codes(at, "bash"))


def test_each_run_keeps_the_settings_of_its_page(open_view: Open, demo_run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(demo_run, tmp_path / name)
    at = open_view("latents", tmp_path, open="a", method="sae")
    at.selectbox(key="view_open").set_value("b").run()
    assert at.query_params == {"open": "b"}
    at.selectbox(key="view_open").set_value("a").run()
    assert at.query_params == {"open": "a", "method": "sae"}


def test_a_wrong_name_in_the_url_shows_the_nearest(open_view: Open, demo_run: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(demo_run, tmp_path / name)
    for wrong, shown in (("secnd", "second"), ("first/store", "first"), ("../../etc", None)):
        at = open_view("latents", tmp_path, open=wrong)
        assert f"open={wrong}, which is nothing this page can show" in said(at) and not at.error
        assert shown is None or at.selectbox(key="view_open").value == shown


def test_the_run_of_a_comparison_can_be_opened(open_view: Open, demo_run: Path) -> None:
    name = next(path.name for path in (demo_run / "comparisons").iterdir())
    whole = f"comparisons/{name}"
    for page in OF_RUNS:
        at = open_view(page, open=whole)
        assert not at.error and name in said(at)
    command = codes(open_view("overview", open=whole), "bash")[0].splitlines()[0]
    assert command == f"cotlens demo --out {demo_run} --organism chain-coconut --n 300 --seed 1"


def test_a_path_without_a_page_is_named(open_view: Open) -> None:
    assert "There is no page /latents/x" in said(open_view("latents", not_found="/latents/x"))


def test_a_run_made_again_is_read_again(open_view: Open, own_run: Path) -> None:
    at = open_view("overview", own_run)
    info = json.loads((own_run / "run.json").read_text(encoding="utf-8"))
    (own_run / "run.json").write_text(json.dumps({**info, "organism": "another-name"}), encoding="utf-8")
    assert "another-name" in said(at.run())


def test_no_page_loads_a_model(demo_run: Path) -> None:
    program = (
        "import sys\nfrom streamlit.testing.v1 import AppTest\n"
        "for page in ('home', 'overview', 'traces', 'latents', 'probes'):\n"
        "    at = AppTest.from_string(f'from dashboards.views import {page}; {page}.show()', default_timeout=60).run()\n"
        "    assert at.title and not at.error\n"
        "assert not {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)\n"
    )
    environment = {**os.environ, ROOTS_VARIABLE: json.dumps([str(demo_run)])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_home_shows_three_figures_each_beside_its_control(open_view: Open, demo_run: Path) -> None:
    at, info = open_view("overview"), Run(demo_run).info
    worst = min(step["probe_top1"] for step in info["steps"])
    wanted = [info["accuracy"], worst, info["interchange"]["follow_rate"]]
    assert [metric.value for metric in at.metric] == [f"{value:.3f}" for value in wanted]
    assert said(at).count("Beside it:") == 3
    for control in ("chance 0.10", "chain-direct", "question only", "another problem's thought", "same value"):
        assert control in said(at)


def test_home_lists_every_measure_with_its_verdict(open_view: Open, demo_run: Path) -> None:
    rows = Run(demo_run).info["measures"]
    frame = next(table for table in tables(open_view("overview")) if "measure" in table)
    assert list(frame["measure"]) == [row["id"] for row in rows]
    for verdict, row in zip(frame["met"], rows, strict=True):
        assert verdict.split(" ", 1)[1] == {True: "met", False: "not met", None: "not measured"}[row["met"]]


def test_home_gives_the_exact_command(open_view: Open, demo_run: Path) -> None:
    command = codes(open_view("overview"), "bash")[0].splitlines()[0]
    assert command == f"cotlens demo --out {demo_run} --organism chain-coconut --n 300 --seed 1"


def test_home_says_whether_the_stores_are_as_committed(open_view: Open, own_run: Path) -> None:
    at = open_view("overview", own_run)
    frame = next(table for table in tables(at) if "shards committed" in table)
    assert {"store", "twin"} <= set(frame["store"]) and set(frame["state"]) == {"✓ complete"}
    at.button[0].click().run()
    assert "as it was committed" in said(at)
    shard = next((own_run / "store" / "acts").rglob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    at.button[0].click().run()
    assert "differs from what was committed" in said(at)


def test_home_says_which_store_is_unfinished(open_view: Open, own_run: Path) -> None:
    manifest = own_run / "store" / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    frame = next(table for table in tables(open_view("overview", own_run)) if "shards committed" in table)
    assert frame.set_index("store").loc["store", "state"] == "✗ unfinished"


def test_latents_open_on_the_first_held_out_problem(open_view: Open, demo_run: Path) -> None:
    at, run = open_view("latents"), Run(demo_run)
    trace = first_held_out(demo_run)
    assert at.selectbox(key="view_problem").value == str(trace)
    assert run.traces[trace].problem.readable in html(at)
    assert html(at).count("class='cot-card") == run.traces[trace].problem.n_steps


def test_every_decoder_is_shown_with_baseline_and_confidence(open_view: Open, demo_run: Path) -> None:
    at, run = open_view("latents"), Run(demo_run)
    trace = first_held_out(demo_run)
    for method in run.methods:
        at.selectbox(key="view_method").set_value(method).run()
        assert not at.exception and not at.error
        n = run.traces[trace].problem.n_steps
        for words in ("confidence", "control: another problem's thought reads", "chance", "true value"):
            assert html(at).count(words) == n, (method, words)
        read = run.thoughts(method)
        texts = read[read["trace"] == trace].sort_values("step")["text"]
        assert re.findall(r"cot-said'>(\S+) <small>", html(at)) == list(texts)


def test_a_deep_link_restores_the_view(open_view: Open, demo_run: Path) -> None:
    run = Run(demo_run)
    trace = next(t for t in run.thoughts("pca")["trace"].unique()[3:] if run.traces[t].problem.n_steps == 3)
    at = open_view("latents", method="pca", steps="3", problem=str(trace), target="value_2", search="start")
    assert not at.warning
    assert at.selectbox(key="view_method").value == "pca"
    assert at.selectbox(key="view_problem").value == str(trace)
    assert at.selectbox(key="view_target").value == "value_2"
    assert at.text_input(key="view_search").value == "start"
    assert any("value_2" in code for code in codes(at, "python"))


@pytest.mark.parametrize(
    "wrong", [{"method": "proob"}, {"problem": "999999"}, {"steps": "77"}, {"failures": "maybe"}, {"target": "value_9"}]
)
def test_a_wrong_value_in_the_url_is_reported(open_view: Open, wrong: dict[str, str]) -> None:
    at = open_view("latents", **wrong)
    assert len(at.warning) == 1
    ((key, value),) = wrong.items()
    assert f"{key}={value}" in said(at)


def test_a_control_writes_the_url_and_its_default_clears_it(open_view: Open) -> None:
    at = open_view("latents")
    at.selectbox(key="view_method").set_value("sae").run()
    at.toggle(key="view_failures").set_value(True).run()
    at.text_input(key="view_search").set_value(" add ").run()
    assert settings(at) == {"method": "sae", "failures": "yes", "search": "add"}
    at.selectbox(key="view_method").set_value("probe").run()
    at.toggle(key="view_failures").set_value(False).run()
    at.text_input(key="view_search").set_value("").run()
    assert settings(at) == {}


def test_filters_select_problems_and_count_those_left_out(open_view: Open, demo_run: Path) -> None:
    run = Run(demo_run)
    read = run.thoughts("random_dictionary")
    failed = set(read.loc[~read["right"], "trace"])
    at = open_view("latents", method="random_dictionary", failures="yes")
    assert {int(t.split(":")[0]) for t in at.selectbox(key="view_problem").options} == failed
    assert f"{len(failed)} of {read['trace'].nunique()} held-out problems match" in said(at)
    assert f"Left out: the {300 - read['trace'].nunique()} problems" in said(at)
    question = run.traces[first_held_out(demo_run)].problem.question
    at = open_view("latents", search=question)
    assert len(at.selectbox(key="view_problem").options) == 1


def test_search_is_not_a_regular_expression(open_view: Open) -> None:
    at = open_view("latents", search="*7")
    assert not at.exception and "held-out problems match" in said(at)
    assert "None of the" in said(open_view("latents", search="(*["))


def test_a_button_clears_filters_that_match_nothing(open_view: Open) -> None:
    at = open_view("latents", search="no such words", method="sae")
    assert "None of the" in said(at)
    at.button[0].click().run()
    assert settings(at) == {"method": "sae"} and at.selectbox(key="view_problem").value


def test_next_and_previous_walk_through_the_kept_problems(open_view: Open) -> None:
    at = open_view("latents", steps="2")
    first = at.selectbox(key="view_problem").value
    buttons = {button.label: button for button in at.button}
    assert buttons["Previous"].disabled
    buttons["Next"].click().run()
    assert at.selectbox(key="view_problem").value != first and "problem" in at.query_params
    next(b for b in at.button if b.label == "Previous").click().run()
    assert at.selectbox(key="view_problem").value == first


def test_text_of_a_model_is_escaped(written_trace: Any, made_problem: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    trace = written_trace(made_problem(evil, [evil]))
    row = {"step": 1, "text": evil, "gold": evil, "right": False, "confidence": 0.5, "top_k": [evil, evil]}
    edit = {"followed": False, "donor_value": evil, "predicted": evil, "answer_after": evil, "changed": True}
    read = Read({**row, "other_problem": evil}, evil, {"top1": 0.5}, {"other value": edit, "same value": edit})
    drawn = question_html(trace) + thoughts_html([read], "probe")
    assert "<img" not in drawn and drawn.count("&lt;img") >= 10


def test_a_thought_without_edits_or_scores_is_drawn() -> None:
    row = {"step": 1, "text": "3", "gold": "4", "right": False, "confidence": float("1.2"), "top_k": ["3"]}
    drawn = thoughts_html([Read({**row, "other_problem": "1"}, "", {}, {})], "probe")
    assert "not edited" in drawn and "✗ misread" in drawn and "chance –" in drawn and "none kept" in drawn


@pytest.mark.parametrize(
    ("confidence", "score", "guess"),
    [
        (0.10, {"top1": 0.9, "ci_low": 0.8, "chance": 0.1, "other_problem": 0.1}, True),  # hardly likelier than a guess
        (0.19, {"top1": 0.9, "ci_low": 0.8, "chance": 0.1, "other_problem": 0.1}, True),
        (0.90, {"top1": 0.9, "ci_low": 0.8, "chance": 0.1, "other_problem": 0.1}, False),
        (0.90, {"top1": 0.2, "ci_low": 0.1, "chance": 0.15, "other_problem": 0.1}, True),  # read no better than chance
        (0.90, {"top1": 0.9, "ci_low": 0.8, "chance": 0.1, "other_problem": 0.85}, True),  # nor than a control
        (0.90, {}, False),
    ],
)
def test_a_guess_looks_like_a_guess(confidence: float, score: dict[str, float], guess: bool) -> None:
    assert is_guess(confidence, score) is guess
    row = {"step": 1, "text": "9", "gold": "9", "right": True, "confidence": confidence, "top_k": ["9"]}
    drawn = thoughts_html([Read({**row, "other_problem": "1"}, "", score, {})], "probe")
    assert ("class='cot-card cot-guess'" in drawn) is guess and ("· a guess" in drawn) is guess


def test_each_step_has_one_chance(open_view: Open, demo_run: Path) -> None:
    steps = Run(demo_run).info["steps"]
    figures = [json.loads(chart.proto.spec) for chart in open_view("overview").get("plotly_chart")]
    lines = figures[0]["layout"]["shapes"]
    assert [line["y0"] for line in lines] == [step["chance"] for step in steps]
    said_there = [text.partition("<br>")[2] for text in figures[0]["layout"]["xaxis"]["ticktext"]]
    assert said_there == [f"chance {step['chance']:.2f}" for step in steps]


def test_a_question_that_is_a_picture_keeps_its_lines(demo_run: Path) -> None:
    trace = Run(demo_run).traces[0]
    maze = replace(trace, problem=replace(trace.problem, readable="Find a way.\n.|. G\n  _ <"))
    assert (
        "<div class='cot-head'>Find a way.</div><pre class='cot-picture' tabindex='0'>.|. G\n  _ &lt;</pre>"
        in question_html(maze)
    )
    assert "<pre" not in question_html(trace)


def test_text_comes_before_charts(open_view: Open) -> None:
    for page in ("overview", "latents"):
        kinds = [element.type for element in open_view(page).main]
        assert "plotly_chart" not in kinds[: len(kinds) // 2]


def test_the_same_thoughts_are_shown_by_step(open_view: Open, demo_run: Path) -> None:
    table = next(t for t in tables(open_view("latents")) if "true value" in t)
    n = Run(demo_run).traces[first_held_out(demo_run)].problem.n_steps
    assert len(table) == n + 2 and {"linear probe", "SAE feature", "logit lens"} <= set(table.columns)


def test_traces_are_filtered_sorted_and_opened(open_view: Open, demo_run: Path) -> None:
    traces = Run(demo_run).traces
    at = open_view("traces", search=traces[5].problem.readable.upper(), trace="5")
    assert not at.warning and list(at.dataframe[0].value["trace"]) == [5]
    assert "Trace 5" in said(at) and traces[5].problem.readable in html(at)
    at = open_view("traces", steps="3", order="tokens")
    listed = at.dataframe[0].value
    assert set(listed["n_steps"]) == {3} and listed["tokens"].is_monotonic_decreasing
    at = open_view("traces", search="no such words")
    assert "No trace matches" in said(at)
    at.button[0].click().run()
    assert settings(at) == {} and len(at.dataframe[0].value) == len(traces)


def test_traces_are_filtered_by_entropy_script_and_what_the_probe_reads(open_view: Open, demo_run: Path) -> None:
    run = Run(demo_run)
    read = run.readouts[(run.readouts["method"] == "probe") & (run.readouts["split"] == "test")]
    all_right = read.groupby("trace")["right"].all()

    def listed(**filters: str) -> set[int]:
        at = open_view("traces", **filters)
        assert not at.error and not at.exception
        return set(at.dataframe[0].value["trace"]) if at.dataframe else set()

    assert listed(probe="right") == set(all_right.index[all_right])
    assert listed(probe="wrong") == set(all_right.index[~all_right])
    # This model says nothing while it thinks.
    assert listed(probe="unsaid") == set(read["trace"][read["right"].astype(bool)])
    assert listed(probe="seen") == {trace.id for trace in run.traces} - set(read["trace"])
    means = {trace.id: np.nanmean(trace.entropy) for trace in run.traces}
    least = float(np.median(list(means.values())))
    assert listed(entropy=f"{least}") == {number for number, mean in means.items() if mean >= float(f"{least}")}
    # The organism writes digits, which are of no script.
    assert "script=LATIN, which is no script of these traces" in said(open_view("traces", script="LATIN"))
    assert "expected an entropy in nats, got much" in said(open_view("traces", entropy="much"))


@pytest.mark.parametrize("wrong", [{"trace": "99999"}, {"answers": "maybe"}, {"steps": "77"}, {"order": "colour"}])
def test_traces_report_a_wrong_value_in_the_url(open_view: Open, wrong: dict[str, str]) -> None:
    assert len(open_view("traces", **wrong).warning) == 1


def test_a_wrong_number_of_tokens_is_named(open_view: Open) -> None:
    at = open_view("traces", tokens="many")
    assert "expected a number of tokens, got many" in said(at) and not at.exception


def test_probes_show_every_control_of_every_cell(open_view: Open, demo_run: Path) -> None:
    sweep = Run(demo_run).sweep
    at = open_view("probes", target="value_2")
    frame = at.dataframe[0].value
    cells = sweep.table()[sweep.table()["target"] == "value_2"]
    assert len(frame) == len(cells)
    for control in sweep.notes["controls"]:
        missing = control not in frame or frame[control].isna().any()
        assert missing == (control in sweep.notes["why_not"])
    margin = frame["accuracy"] - frame[[c for c in sweep.notes["controls"] if c in frame]].max(axis=1)
    assert (frame["margin"] - margin).abs().max() < 1e-12
    assert f"Shown: {len(cells)} of {len(sweep.table())} cells" in said(at)


def test_probes_say_why_a_control_is_missing(open_view: Open, demo_run: Path) -> None:
    why_not = Run(demo_run).sweep.notes["why_not"]
    assert why_not
    for reason in why_not.values():
        assert reason in said(open_view("probes"))


def test_probes_can_show_the_cells_of_every_target(open_view: Open, demo_run: Path) -> None:
    at = open_view("probes", all_targets="yes")
    assert len(at.dataframe[0].value) == len(Run(demo_run).sweep.table())
    assert "Left out" not in said(at)


def test_the_layer_curve_is_of_the_chosen_place(open_view: Open) -> None:
    at = open_view("probes", target="value_3", place="answer")
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert len(figures) == 2 and "value 3 at answer" in figures[1]["layout"]["title"]["text"]
    assert sum(str(trace.get("name", "")).startswith("control: ") for trace in figures[1]["data"]) >= 5


def test_the_curve_starts_where_the_run_reads_the_value(open_view: Open, demo_run: Path) -> None:
    places = {f"value_{step['step']}": step["position"] for step in Run(demo_run).info["steps"]}
    for target, place in places.items():
        assert open_view("probes", target=target).selectbox(key="view_place").value == place


@pytest.mark.parametrize("wrong", [{"target": "value_9"}, {"place": "nowhere"}, {"all_targets": "1"}])
def test_probes_report_a_wrong_value_in_the_url(open_view: Open, wrong: dict[str, str]) -> None:
    assert len(open_view("probes", **wrong).warning) == 1


def test_text_stays_text_in_markdown() -> None:
    joiner = "\u2060"
    assert as_text("![a](b) $x$ # 1. <b>") == r"\!\[a\]\(b\) \$x\$ \# 1\. \<b\>"
    assert as_text("http://a.b") == rf"http\:{joiner}//a\.b"
    assert as_text("WWW.a.b x@y.z") == rf"W{joiner}WW\.a\.b x@{joiner}y\.z"
    assert as_text(":red[c]") == rf"\:{joiner}red\[c\]"
    assert as_text("a: b -> c") == rf"a\: b \-{joiner}\> c"


def test_a_long_line_is_cut_and_says_so() -> None:
    assert cut("a b\n c", 10) == "a b c"
    assert cut("a" * 20, 10) == "a" * 9 + "…"


def test_confidence_is_never_rounded_up_to_certainty() -> None:
    assert [percent(x) for x in (0.0, 0.5, 0.99, 0.9999, 1.0)] == ["0 %", "50 %", "99 %", "over 99 %", "100 %"]


def test_the_command_quotes_what_a_shell_would_split() -> None:
    assert run_command(Path("my runs/a"), {"n_problems": 5}) == "cotlens demo --out 'my runs/a' --n 5"
