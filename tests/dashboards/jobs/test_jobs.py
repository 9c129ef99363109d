"""Jobs: only commands of this toolkit, only paths below the folders, and processes that can be ended."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.jobs.forms import KINDS, fields_of, words_of
from dashboards.jobs.log import JobProgress, progress_of, tail
from dashboards.jobs.process import Job, cancel_job, jobs_of, read_job, resume_job, start_job
from dashboards.jobs.worker import run_job
from interp.errors import StoreError, UsageError
from interp.runtime.console import Bars

WAIT_S = 60.0


def wait(folder: Path, *states: str) -> Job:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        job = read_job(folder)
        if job.state in states:
            return job
        time.sleep(0.05)
    raise AssertionError(f"{job.state}: {tail(folder / 'log.txt')}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_has_the_options_of_its_command(kind: str, cotlens: Callable) -> None:
    shown = cotlens(*KINDS[kind].words, "--help").out
    for field in fields_of(kind):
        assert (field.option or field.name) in shown.lower()
    options = {word.strip(",") for word in shown.split() if word.startswith("--")} - {
        "--help",
        "--json",
        "--allow-pickle",
    }
    offered = {field.option for field in fields_of(kind)}
    # A switch with two names is offered as one of them.
    assert all(option in offered or f"--no-{option[2:]}" in offered for option in options if option[2:].isalpha())


@pytest.mark.parametrize(
    "values",
    [
        {"model": "/etc/passwd"},
        {"model": "~/x"},
        {"model": "x", "task": "questions:path=/etc/passwd"},
        {"model": "x", "task": "questions:path=../secret"},
        {"model": "x", "questions": "../secret"},
        {"model": "x", "reasoner": "link/config.json"},
        {"model": "x", "out": "s3://bucket/x"},
        {"model": "x", "base": "https://example.org/x"},
        {"model": "x", "out": "link/run"},
    ],
)
def test_paths_outside_the_folders_are_refused(values: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="expected a path below"):
        words_of("study", values, root, [root])


@given(text=st.text(min_size=1, max_size=30))
def test_a_model_name_is_one_argument_or_refused(text: str) -> None:
    folder = Path("/nowhere")
    try:
        words = words_of("study", {"model": text, "out": "x"}, folder, [folder])
    except UsageError:
        return
    assert words[-1] == text.strip() and words.count(text.strip()) >= 1
    assert words[:3] == ["study", "--out", "/nowhere/x"]
    assert len(words) == (5 if text.strip().startswith("-") else 4)


def test_wrong_values_are_refused_as_the_command_does(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="integer"):
        words_of("study", {"model": "x", "n": "ten"}, tmp_path, [tmp_path])
    with pytest.raises(UsageError, match="MODEL"):
        words_of("study", {}, tmp_path, [tmp_path])
    with pytest.raises(UsageError, match="expected a known job"):
        words_of("shell", {}, tmp_path, [tmp_path])


def test_a_worker_runs_nothing_but_these_commands(tmp_path: Path) -> None:
    for words in (["config", "env"], ["sae", "eval", "x"], [], ["rm"]):
        (tmp_path / "job.json").write_text(json.dumps({"words": words, "cwd": str(tmp_path)}), encoding="utf-8")
        with pytest.raises(StoreError, match="expected a command that jobs run"):
            run_job(tmp_path)


def test_a_job_ends_with_its_code_and_runs_again(tmp_path: Path) -> None:
    job = start_job(tmp_path, "sae", ["sae", "train", "--out", str(tmp_path / "sae"), str(tmp_path / "nothing")])
    ended = wait(job.folder, "failed (exit code 5)")
    log = tail(ended.folder / "log.txt")
    assert log.startswith("$ cotlens sae train") and "error: " in log
    resume_job(ended)
    wait(job.folder, "failed (exit code 5)")
    assert tail(job.folder / "log.txt").count("$ cotlens sae train") == 2
    assert [found.name for found in jobs_of(tmp_path)] == [job.name]


def test_a_job_can_be_cancelled_and_one_that_is_gone_is_not_running(tmp_path: Path) -> None:
    words = ["study", "chain-coconut", "--n", "2000", "--out"]
    first, second = (start_job(tmp_path, "study", [*words, str(tmp_path / name)]) for name in ("a", "b"))
    assert first.name != second.name
    cancel_job(wait(second.folder, "running"), force=True)
    cancel_job(wait(first.folder, "running"))
    assert wait(first.folder, "cancelled").pid
    assert not wait(second.folder, "stopped").is_running
    cancel_job(read_job(second.folder))  # a process number may be another program's now


@pytest.mark.parametrize(("code", "state"), [(1, "cancelled"), (0, "finished")])
def test_an_interrupt_while_python_starts_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, state: str
) -> None:
    class Command:
        def __init__(self, *_: object, **__: object) -> None: ...

        def wait(self) -> int:
            signal.raise_signal(signal.SIGINT)
            return code

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("dashboards.jobs.process._launch", lambda folder: None)
    job = start_job(tmp_path, "study", ["study", "chain-coconut"])
    monkeypatch.setattr(subprocess, "Popen", Command)
    try:
        run_job(job.folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_job(job.folder).state == state


def test_escapes_and_control_characters_are_left_out_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"\x1b]0;title\x07\x1b[2J\x1b[1;31mred\x1b[0m\x07\r\n\xffx\xe2\x80\xaey\nlast\n")
    assert tail(log) == "red\n\ufffdxy\nlast"
    assert tail(log, lines=1) == "last" and tail(tmp_path / "none") == ""


def test_progress_is_read_from_what_bars_write(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([100.0, 105.0, 110.0, 120.0, 121.0])
    monkeypatch.setattr("interp.runtime.console.time.monotonic", lambda: next(times, 122.0))
    with Bars() as bars, bars.stage("training: an SAE") as report:
        for done in (1, 2, 5):
            report(done, 10)
    printed = capsys.readouterr().err
    assert printed.splitlines()[0] == "training: an SAE"
    progress = progress_of(printed)
    assert progress is not None and (progress.stage, progress.total) == ("training: an SAE", 10)
    assert progress.note.startswith("about ") and progress.note.endswith(" left")
    written = progress_of("m: thinking: 3 of 10 after 12 s, 2412 tokens, at most 90 s left\n")
    assert written == JobProgress("m: thinking", 3, 10, "2412 tokens, at most 90 s left")
    assert progress_of("m: thinking: 0 of 10 after 3 s\n") == JobProgress("m: thinking", 0, 10)
    assert progress_of(printed + "evaluating\n") is None and progress_of("") is None
