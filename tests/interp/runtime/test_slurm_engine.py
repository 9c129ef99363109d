"""A SLURM job that left the queue without a result counts as ended, and nothing waits for it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from interp.runtime.slurm_engine import JobQueue, ended_jobs


@pytest.fixture
def squeue_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a stand-in for `squeue` prints, or fails with; its arguments are written to `arguments` beside it."""
    output = tmp_path / "output"
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n'
        f'case "$(cat {output})" in error*) cat {output} >&2; exit 1;; *) cat {output};; esac\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return output


def test_a_job_that_left_the_queue_is_lost_after_the_grace_time(squeue_output: Path) -> None:
    queue = JobQueue(["7_0", "7_1", "9"], poll_seconds=0, grace_seconds=0)
    squeue_output.write_text("7_0\n7_1\n", encoding="utf-8")
    assert not queue.is_lost("7_0") and not queue.is_lost("7_1")
    assert (squeue_output.parent / "arguments").read_text(encoding="utf-8").split()[-1] == "--jobs=7,9"
    squeue_output.write_text("7_0\n", encoding="utf-8")
    assert queue.is_lost("7_1") and not queue.is_lost("7_0")
    patient = JobQueue(["7_1"], poll_seconds=0, grace_seconds=60)
    assert not patient.is_lost("7_1")


@pytest.mark.parametrize(
    ("output", "lost"),
    [("error: Invalid job id specified", True), ("error: Unable to contact slurm controller", False)],
)
def test_an_unknown_job_is_lost_but_a_silent_queue_says_nothing(squeue_output: Path, output: str, lost: bool) -> None:
    squeue_output.write_text(output, encoding="utf-8")
    assert JobQueue(["7_0"], poll_seconds=0, grace_seconds=0).is_lost("7_0") is lost


def test_no_job_is_lost_without_squeue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not JobQueue(["7_0"], poll_seconds=0, grace_seconds=0).is_lost("7_0")


def test_a_lost_job_ends_before_one_that_still_runs(squeue_output: Path) -> None:
    squeue_output.write_text("7_1\n", encoding="utf-8")
    polls = iter(range(100))
    lost = SimpleNamespace(job_id="7_0", done=lambda: False)
    slow = SimpleNamespace(job_id="7_1", done=lambda: next(polls) > 3)
    assert list(ended_jobs([lost, slow], JobQueue(["7_0", "7_1"], poll_seconds=0, grace_seconds=0))) == [lost, slow]
    assert list(ended_jobs([slow], None)) == [slow]
