"""While a batch is being thought, its rows, tokens and the time left are reported."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import interp
from interp.reasoners.resumable import think_to_file
from interp.reasoners.rollouts import reporting
from interp.reasoners.rollouts.rollout import Rollout
from interp.runtime import console
from interp.runtime.progress import Written, duration
from tests.interp.reasoners.rollouts.test_queue import TEXT

N = 11


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.reports: list[Written] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))

    def written(self, written: Written) -> None:
        self.reports.append(written)


@pytest.fixture
def every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report after every pass, however quick."""
    monkeypatch.setattr(reporting, "_EVERY", 0.0)


def _load(model_folder: Callable[..., Path], **config: object) -> interp.Reasoner:
    return interp.load(model_folder("llama"), reasoner={**TEXT, **config})


def _n_written(traces: interp.TraceSet) -> int:
    return sum(channel not in ("prompt", "special") for trace in traces for channel in trace.channel)


@pytest.mark.parametrize("kind", ["text", "direct", "pause"])
@pytest.mark.parametrize("batch_size", [2, 4, 64])
def test_rows_and_tokens_are_reported_as_they_come(
    model_folder: Callable, asked: Callable, every_pass: None, kind: str, batch_size: int
) -> None:
    watcher = Watcher()
    reasoner = _load(model_folder, kind=kind, **({"thoughts": 3, "pause": "a"} if kind == "pause" else {}))
    traces = reasoner.think(asked(N), batch_size=batch_size, temperature=1.0, progress=watcher)
    reports = watcher.reports
    assert len(reports) >= 8 and watcher.calls[-1] == (N, N)
    for before, after in itertools.pairwise(reports):
        assert before.done <= after.done <= N and before.n_tokens <= after.n_tokens and after.total == N
    assert any(report.n_tokens and not report.done for report in reports), "before the first answer ends"
    assert reports[-1].n_tokens == _n_written(traces)
    if kind != "pause":
        assert len({report.done for report in reports}) >= 3, "rows count when they end, not with their batch"


def test_the_last_rows_have_a_bound_and_the_first_batch_of_many_no_time_left(
    model_folder: Callable, asked: Callable, every_pass: None
) -> None:
    watcher = Watcher()
    _load(model_folder).think(asked(N), batch_size=2, progress=watcher)
    assert watcher.reports[0].seconds_left is None
    known = [report for report in watcher.reports if report.seconds_left is not None]
    assert not known[0].is_bound and all(report.done >= 2 for report in known)
    assert known[-1].is_bound and known[-1].done >= N - 2
    watcher = Watcher()
    _load(model_folder).think(asked(N), batch_size=64, progress=watcher)
    assert all(report.is_bound for report in watcher.reports)


class _RolloutWithoutModel(Rollout):
    replaced, room = [], torch.tensor([1000])  # type: ignore[assignment]


def test_the_bound_is_the_limit_of_tokens_at_the_pace_so_far(model_folder: Callable, asked: Callable) -> None:
    seconds = iter(range(0, 10_000, 2))
    watcher = Watcher()
    options = {"most_tokens": 36, "most_answer_tokens": 12, "clock": lambda: float(next(seconds))}
    report = reporting.WritingReport(watcher, 1, **options)
    row = reporting.Row()
    rollout = object.__new__(_RolloutWithoutModel)
    rollout.rows, rollout.resting = [row], [False]
    row.extend([1, 2], reporting.Channel.PROMPT, [0, 0], [0, 0])
    report(rollout)
    assert watcher.reports == [], "reading the prompt says nothing about the pace"
    for k in range(3):
        row.append(k, reporting.Channel.THOUGHT, 1, k)
        report(rollout)
    assert watcher.reports[-1] == Written(0, 1, 3, (36 - 3) * 2.0, is_bound=True)
    row.append(9, reporting.Channel.ANSWER, 0, 0)
    report(rollout)
    assert watcher.reports[-1].seconds_left == (12 - 1) * 2.0, "after the thought only the answer is left"


def test_a_plain_function_is_called_when_traces_are_kept(
    model_folder: Callable, asked: Callable, every_pass: None, tmp_path: Path
) -> None:
    calls: list[int] = []
    reasoner, watcher = _load(model_folder), Watcher()
    think_to_file(reasoner, asked(N), tmp_path / "a.parquet", batch_size=2, progress=lambda done, _: calls.append(done))
    assert calls == [8, N]
    think_to_file(reasoner, asked(N), tmp_path / "b.parquet", batch_size=2, progress=watcher)
    assert [done for done, _ in watcher.calls] == calls and len(watcher.reports) > 10
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_log_says_within_seconds_that_something_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with console.Bars() as bars, bars.stage("m: thinking") as report:
        for k in range(1, 3000):
            now[0] += 0.2
            report.written(Written(k // 400, 10, 15 * k, 600.0 - k * 0.2, is_bound=True))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "m: thinking"
    assert lines[1] == "m: thinking: 0 of 10 after 3 s, 225 tokens, at most 10 min left"
    assert lines[2].startswith("m: thinking: 0 of 10 after 13 s, ")
    assert len(lines) < 50, "a long stage prints less often"


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_the_bar_shows_the_note_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bars = console.Bars()
    with bars.stage("SmolLM2-135M: thinking") as report:
        report.written(Written(3, 10, 12_412, 90.0, is_bound=True))
        with bars._progress.console.capture() as shown:
            bars._progress.console.print(bars._progress.get_renderable())
    lines = shown.get().splitlines()
    assert len(lines) == 1 and "3/10" in lines[0] and "SmolLM2-135M: thinking" in lines[0]
    assert "12,412 tokens, at most 90 s left" in lines[0] if columns >= 80 else "12,412" in lines[0]


def test_durations_in_words() -> None:
    assert [duration(s) for s in (0.4, 119, 300, 9000)] == ["0 s", "119 s", "5 min", "2.5 h"]
