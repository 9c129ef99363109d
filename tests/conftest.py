"""Fixtures of all tests: one small organism, its traces and their store, hand-made stores, and the command line."""

from __future__ import annotations

import errno
import gc
import os

# Before torch loads: spinning threads slow a busy machine down, and the workers of pytest-xdist already use every core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import interp
from benchmarks.measures import report
from dashboards.serving.collecting import settle
from interp import activations
from interp.activations import Store
from interp.problems.base import Problem, Step, structure_hash
from interp.traces import Channel, Trace, TraceSet

N_PROBLEMS, PROBLEM_SEED = 120, 3


def pytest_sessionstart(session: pytest.Session) -> None:
    # `make test` says when it began, so that the linters count.
    session.config.stash[STARTED] = float(os.environ.get("TESTS_STARTED", time.time()))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what test modules import, some hundred thousand objects, out of garbage collections.

    Looking through them took a quarter of the time of collecting tests, and half a second after every drawing of a
    page, when Streamlit collects garbage.
    """
    gc.disable()
    result = yield
    settle()
    gc.enable()
    return result


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the time of `make test` beside its target (`benchmarks/measures.toml`)."""
    whole = config.args_source.name != "ARGS" and config.option.markexpr == "not slow"
    if whole and not config.option.collectonly:
        minutes = (time.time() - config.stash[STARTED]) / 60
        (row,) = (r for r in report("tests", {"tests.default_minutes": {"value": minutes}}) if r["value"] is not None)
        verdict = "met" if row["met"] else "missed"
        terminalreporter.write_line(f"{row['id']} {minutes:.1f} (target {row['op']} {row['target']}, {verdict})")


STARTED = pytest.StashKey[float]()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


_KEPT = os.environ.get("TESTS_KEEP", "")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("COTLENS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def coconut() -> interp.Reasoner:
    return interp.load("chain-coconut")


@pytest.fixture(scope="session")
def problems(coconut: interp.Reasoner) -> list[Problem]:
    return coconut.task.generate(N_PROBLEMS, seed=PROBLEM_SEED, split="test")


@pytest.fixture(scope="session")
def traces(coconut: interp.Reasoner, problems: list[Problem]) -> TraceSet:
    return coconut.think(problems)


@pytest.fixture(scope="session")
def store(coconut: interp.Reasoner, traces: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return interp.capture(coconut, traces, out=tmp_path_factory.mktemp("store") / "coconut", shard_size=50)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a folder once for all workers of pytest-xdist; tests must not write into it.

    Returns a function of a name and a maker. The first worker that asks calls the maker with the folder's path;
    the others wait for it. With TESTS_KEEP=FOLDER what was made stays there for later runs; remove it after a change
    of what makes it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = Path(_KEPT) if _KEPT else base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        out, done = shared / "made_once" / name, shared / "made_once" / f"{name}.done"
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{out}.lock"):
            if not done.exists():
                make(out)
                done.touch()
        return out

    return folder


@pytest.fixture(scope="session")
def demo_run(made_once: Callable[..., Path]) -> Path:
    """The folder of a finished demo of 300 problems; `demo_run.json` beside it holds what the command printed."""

    def make(out: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "cotlens.cli",
            "demo",
            "--n",
            "300",
            "--seed",
            "1",
            "--out",
            str(out),
            "--json",
        ]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        out.with_suffix(".json").write_text(printed, encoding="utf-8")

    return made_once("demo_run", make)


@pytest.fixture(scope="session")
def written_trace() -> Callable[..., Trace]:
    """Make a trace by hand: prompt, begin, one latent for each step, end, answer. No model is needed."""

    def make(problem: Problem, *, prompt: Sequence[int] | None = None, kind: str = "latent") -> Trace:
        prompt = [10 + len(word) for word in problem.question.split()] if prompt is None else list(prompt)
        n = problem.n_steps
        before, after = len(prompt) + 1, 2
        channel = [Channel.PROMPT] * len(prompt) + [Channel.SPECIAL]
        channel += [Channel(kind)] * n + [Channel.SPECIAL, Channel.ANSWER]
        ids = [*prompt, 1, *[5] * n, 2, 7]
        return Trace(
            id=0,
            problem=problem,
            reasoner="by hand",
            token_ids=ids,
            tokens=[f"t{i}" for i in ids],
            channel=[str(c) for c in channel],
            step=[0] * before + list(range(1, n + 1)) + [0] * after,
            thought=[0] * before + list(range(1, n + 1)) + [0] * after,
            entropy=[float("nan")] * len(ids),
            logprob=[float("nan")] * len(ids),
            text=problem.answer,
            answer=problem.answer,
            correct=True,
        )

    return make


@pytest.fixture(scope="session")
def made_problem() -> Callable[..., Problem]:
    """A problem with any step values, whatever the question says."""

    def make(question: str, values: Sequence[str]) -> Problem:
        return Problem(
            id=structure_hash(question),
            task="chain",
            question=question,
            answer=values[-1],
            steps=tuple(Step(text=v, value=v) for v in values),
            structure=structure_hash("made", question),
            split="test",
            readable=question,
            meta={},
        )

    return make


@pytest.fixture(scope="session")
def write_store() -> Callable[..., Store]:
    """Write a store of given activations: `acts(index)` or an array for each address name."""
    return activations.write_store


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, f"one line was expected on stdout: {self.out!r}"
        result = json.loads(self.out, parse_constant=_no_constant)
        assert isinstance(result, dict)
        return result

    @property
    def error(self) -> str:
        """The one error line on stderr."""
        lines = [line for line in self.err.splitlines() if line.lower().startswith("error")]
        assert len(lines) == 1 and lines[0].startswith("error: "), f"one error line was expected: {self.err!r}"
        assert "Traceback" not in self.out + self.err
        return lines[0].removeprefix("error: ")


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def cotlens(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run one command in this process and say how it ended."""
    from cotlens.cli import main

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        before = signal.getsignal(signal.SIGINT)
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGINT, before)
        assert isinstance(code, int)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def start() -> Any:
    """Start Python on a program of our own in another process; whatever still runs at the end is killed."""
    started: list[subprocess.Popen] = []

    def launch(program: str, *arguments: object, **options: Any) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            **options,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def full_after() -> Callable[[int, pytest.MonkeyPatch], None]:
    """Let the disk take so many writes and then be full, for as long as the patch lasts."""

    def fill(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        left, sync = writes, os.fsync

        def full(handle: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        monkeypatch.setattr(os, "fsync", full)

    return fill
