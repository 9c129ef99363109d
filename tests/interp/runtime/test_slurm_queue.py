"""A job that neither the queue nor the accounting knows is given up, and its result is not waited for."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from interp.runtime import clusters
from interp.runtime.slurm_queue import Queue


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `squeue` that prints the file given back, or fails as that file says; asked with what, is beside it."""
    says = tmp_path / "says"
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n'
        f'case "$(cat {says})" in error*) cat {says} >&2; exit 1;; *) cat {says};; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return says


def test_a_job_that_left_the_queue_is_lost_after_a_while(squeue: Path) -> None:
    queue = Queue(["7_0", "7_1", "9"], every=0, grace=0)
    squeue.write_text("7_0\n7_1\n")
    assert not queue.lost("7_0") and not queue.lost("7_1")
    assert (squeue.parent / "asked").read_text().split()[-1] == "--jobs=7,9"
    squeue.write_text("7_0\n")
    assert queue.lost("7_1") and not queue.lost("7_0")
    patient = Queue(["7_1"], every=0, grace=60)
    assert not patient.lost("7_1")


@pytest.mark.parametrize(
    ("said", "lost"),
    [("error: Invalid job id specified", True), ("error: Unable to contact slurm controller", False)],
)
def test_a_queue_that_does_not_know_the_job_differs_from_one_that_does_not_answer(
    squeue: Path, said: str, lost: bool
) -> None:
    squeue.write_text(said)
    assert Queue(["7_0"], every=0, grace=0).lost("7_0") is lost


def test_without_squeue_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not Queue(["7_0"], every=0, grace=0).lost("7_0")


def test_a_lost_job_ends_and_the_others_are_waited_for(squeue: Path) -> None:
    squeue.write_text("7_1\n")
    looks = iter(range(100))
    lost = SimpleNamespace(job_id="7_0", done=lambda: False)
    slow = SimpleNamespace(job_id="7_1", done=lambda: next(looks) > 3)
    assert list(clusters._ended([lost, slow], Queue(["7_0", "7_1"], every=0, grace=0))) == [lost, slow]
    assert list(clusters._ended([slow], None)) == [slow]
