"""The page of jobs: a form that is the command's own, and jobs that can be watched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.artifacts.finding import find_artifacts
from dashboards.jobs import process
from dashboards.jobs.forms import KINDS
from dashboards.jobs.models import known_models

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of jobs that would have been launched."""
    folders: list[Path] = []
    monkeypatch.setattr(process, "_launch", folders.append)
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_shows_the_command(open_view: Open, kind: str, tmp_path: Path) -> None:
    at = open_view("jobs", tmp_path, job=kind, model="chain-coconut")
    assert not at.error and not at.exception
    labels = {widget.label for widget in [*at.text_input, *at.selectbox, *at.toggle]}
    assert "--out" in labels


def test_start_runs_the_command_that_is_shown(open_view: Open, launched: list[Path], demo_run: Path) -> None:
    at = open_view("jobs", demo_run, job="study", model="chain-coconut", n="20", no_twin="yes", twin="yes", out="mine")
    shown = at.code[0].value
    assert shown == f"cotlens study --out {demo_run / 'mine'} --n 20 --no-twin chain-coconut"


def test_models_are_offered_and_any_other_can_be_written(open_view: Open, said: Said, demo_run: Path) -> None:
    at = open_view("jobs", demo_run, job="study")
    box = next(box for box in at.selectbox if box.label == "MODEL")
    assert "chain-coconut (model of demo_run)" in box.options and "chain-text (shipped organism)" in box.options
    assert not [option for option in box.options if option.startswith("chain-without-curriculum")]  # it has no weights
    box.set_value("chain-text").run()
    assert at.query_params["model"] == "chain-text" and at.code[0].value.endswith(" chain-text")
    at = open_view("jobs", demo_run, job="study", model="owner/another-model")
    assert at.code[0].value.endswith(" owner/another-model")
    assert next(box.value for box in at.selectbox if box.label == "MODEL") == "owner/another-model"


def test_models_are_those_of_runs_stores_and_traces_that_jobs_may_read(demo_run: Path, tmp_path: Path) -> None:
    for part in ("store", "traces.parquet"):
        (shutil.copytree if part == "store" else shutil.copy)(demo_run / part, tmp_path / part)
    meta = json.loads((tmp_path / "store" / "meta.json").read_text(encoding="utf-8"))
    for source, offered in ((str(tmp_path / "my-model"), True), ("/elsewhere/model", False), ("a\x1b[2J", False)):
        (tmp_path / "store" / "meta.json").write_text(
            json.dumps(meta | {"origin": {"source": source}}), encoding="utf-8"
        )
        models = known_models(find_artifacts([tmp_path]).artifacts.values(), [tmp_path])
        assert (source in models) == offered
        assert models["chain-coconut"] == "model of traces.parquet"
    (tmp_path / "store" / "meta.json").write_text("damaged", encoding="utf-8")
    assert "chain-text" in known_models(find_artifacts([tmp_path]).artifacts.values(), [tmp_path])


def test_a_started_job_is_listed(open_view: Open, launched: list[Path], tmp_path: Path, said: Said) -> None:
    at = open_view("jobs", tmp_path, job="study", model="chain-coconut")
    next(button for button in at.button if button.label == "Start").click().run()
    assert [path.parent for path in launched] == [tmp_path / "jobs"]
    kept = json.loads((launched[0] / "job.json").read_text(encoding="utf-8"))
    assert kept["words"] == ["study", "--out", str(tmp_path / "study-1"), "chain-coconut"]
    assert at.query_params["name"] == launched[0].name and launched[0].name in said(at)


def test_what_is_missing_or_outside_is_said(open_view: Open, said: Said, tmp_path: Path) -> None:
    assert "expected a value for MODEL" in said(open_view("jobs", tmp_path, job="study"))
    at = open_view("jobs", tmp_path, job="study", model="/etc")
    assert "expected a path below" in said(at)
    assert next(button for button in at.button if button.label == "Start").disabled
    assert "job=cook, which is no job here" in said(open_view("jobs", tmp_path, job="cook"))


def test_the_log_is_shown_as_text(open_view: Open, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "1-study"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(
        json.dumps({"kind": "study", "words": ["study", "x"], "cwd": "/"}), encoding="utf-8"
    )
    (folder / "end.json").write_text(json.dumps({"code": 1}), encoding="utf-8")
    (folder / "log.txt").write_text("\x1b[31m<img src=x>\x1b[0m `**bold**`\n", encoding="utf-8")
    at = open_view("jobs", tmp_path)
    assert at.code[-1].value == "<img src=x> `**bold**`"
    assert any(button.label == "Run it again" for button in at.button)


@pytest.mark.parametrize("content", ["", "[]", '{"words": 3}', '{"words": [1]}', "[" * 100_000])
def test_a_damaged_job_hides_no_other(open_view: Open, tmp_path: Path, content: str) -> None:
    (tmp_path / "jobs" / "bad").mkdir(parents=True)
    (tmp_path / "jobs" / "bad" / "job.json").write_text(content, encoding="utf-8")
    at: Any = open_view("jobs", tmp_path)
    assert not at.error and not at.exception


def test_over_single_files_there_is_nowhere_to_write(open_view: Open, said: Said, demo_run: Path) -> None:
    assert "Jobs write into a folder" in said(open_view("jobs", demo_run / "traces.parquet"))
