"""Random commands with hostile and half-right values: one error line, a documented exit code, and no file lost.

The commands and their options are those of the real command tree. By default the same commands come in each run, for 30
seconds; with COTLENS_FUZZ_SECONDS others come each time, for so long.
"""

from __future__ import annotations

import json
import os
import pkgutil
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import interp
from cotlens.cli import COMMANDS
from interp.activations import layout
from interp.errors import Interrupted
from interp.traces import TraceSet

IS_RANDOM = "COTLENS_FUZZ_SECONDS" in os.environ
SECONDS = float(os.environ.get("COTLENS_FUZZ_SECONDS", 30))
LONGEST = 8  # seconds of one command; then it is interrupted as by Ctrl-C
SPARE_MEMORY = 6 << 30  # bytes that commands may map beyond what the test has
EXIT_CODES = {0, 1, 2, 3, 4, 5, 130}
HUGE = "1" + "0" * 20

NUMBERS = ["0", "-1", "1", "2", "3", "7", HUGE, f"-{HUGE}", str(2**31), str(2**63 - 1), "nan", "1.5", "", "four"]
REALS = ["nan", "inf", "-inf", "-1", "0", "1e308", "-1e308", "1e-320", "0.5", "1", "2", "", "x", "1,5"]
TEXTS = ["", " ", "\n", "é ☃", "a=b", "--json", "*", "x" * 300, "%s{}", "null", "0", "-1"]
PATHS = ["store", "noindex", "cut", "traces.parquet", "cut.parquet", "flipped.parquet", "empty", "file", "folder"]
PATHS += ["q.jsonl", "array.json", "bad.toml", "vector.npy", "run", "nowhere", "nowhere/x", "file/x", "/proc/x"]
PATHS += ["", ".", "x" * 300, "new", "deep/new", "memory://x", "bogus://x", "a\nb", "sae", "probe"]
MODELS = ["chain-coconut"] * 5 + ["chain-text", "nobody", "a/b", "store", "file", "", ".", "x" * 300]
TASKS = ["chain:n=6", "chain:n=1", "chain", "chain:n=0", f"chain:n={HUGE}", "chain:seed=-1,n=4", "chain:steps=9-2,n=3"]
TASKS += ["chain:n=3,values=31", "chain:n=nan", "subtext:n=3", "questions:path=q.jsonl", "questions:path=nowhere"]
TASKS += ["chain:order=", "chain:n=3,split=dev", "chain:n", ":", "maze:n=2,size=99", "os:path", "json:loads"]
ADDRESSES = [
    "ln_final.hook_out",
    "blocks.0.hook_out",
    "blocks.9.hook_out",
    "blocks.-1.hook_out",
    "blocks.0.hook_resid_post",
]
ADDRESSES += [
    "resid",
    "final",
    "blocks.*.attn.hook_pattern",
    "blocks.*.*",
    "*",
    "hook_embed",
    "blocks.0.attn.hook_z",
    "[",
    "",
]
PLACES = [
    "thought 1",
    "thought 0",
    "thought -1",
    "thought *",
    "question end",
    "answer",
    "begin",
    "thought",
    "::0",
    "-4:",
]
PLACES += ["5:2", ":", "[", "", "thought 99", "sentence 1"]
SETTINGS = [
    "samples=64",
    "d_sae=0",
    "k=99999",
    "learning_rate=1.0e+30",
    "learning_rate=.nan",
    "seed=-1",
    "batch_size=1",
]
SETTINGS += [
    f"samples={HUGE}",
    "architecture=x",
    "=",
    "a",
    "grid.target=[]",
    "grid=1",
    "splits=0",
    "splits=[]",
    "store=x",
]
SETTINGS += [
    "grid.place=[thought 1]",
    "zip.target=[a,b]",
    "workers=0",
    "controls=[x]",
    "d_sae=8",
    "x: [",
    "splits=[-1]",
]
# Values by the name of an option, where half-right ones have to be written for it.
BY_NAME: dict[str, list[str]] = {
    "model": MODELS,
    "reader": MODELS,
    "writer": MODELS,
    "organism": MODELS,
    "name": MODELS,
    "base": MODELS,
    "tokenizer": MODELS,
    "task": TASKS,
    "sites": ADDRESSES,
    "address": ADDRESSES,
    "first_address": ADDRESSES,
    "second_address": ADDRESSES,
    "place": PLACES,
    "positions": PLACES,
    "latents": PLACES,
    "layers": ["0", "0-1", "9-2", "", "0-", "-1", "²", HUGE, "0,0", "1;2", f"0-{HUGE}"],
    "channels": ["latent", "thought", "prompt", "answer", "special", "pad", "", "x"],
    "target": ["value_1", "step_value", "next_step", "answer", "value_0", "value_99", "hint:2", "hint:", "", "x", ":"],
    "dtype": ["float32", "float16", "bfloat16", "int8", "", "float64"],
    "model_dtype": ["float32", "bfloat16", "int8", "", "Tensor"],
    "device": ["cpu", "meta", "cuda:99", "cpu:7", "", "xla", "hpu", "mps", "vulkan", "cuda:-1", "privateuseone"],
    "engine": ["inline", "inline:a=1", "slrum", "", ":", "inline:", "process:x=1"],
    "controls": ["all", "none", "", ",", "majority", "majority,x"],
    "estimator": ["ridge", "logistic", "mass_mean", "", "x"],
    "method": ["probe", "lens", "", "x", "logit_lens", "tuned_lens"],
    "reasoner": [
        "{}",
        "{",
        "[]",
        "null",
        '{"kind": "text"}',
        '{"kind": 3}',
        '{"kind": "continuous", "thoughts": -1}',
        "file",
    ],
    "settings": SETTINGS,
    "to": ["saelens", "arrow", "csv", ""],
    "origin": ["vllm", "arrow", "x"],
    "arm": ["shuffled", "frozen", "", "x"],
    "edit": ["swap", "", "x"],
    "explainer": ["http://127.0.0.1:9/v1", "x", ""],
    "watch": ["probe", "sae:0", "sae:999999", f"sae:{HUGE}", "sae:²", "store", "", ":", "nowhere:1"],
    "port": ["0", "-1", "70000", "8501", HUGE],
    "other": ["a=store", "a=", "=store", "store", "a=nowhere"],
}


def tree() -> dict[tuple[str, ...], list[Any]]:
    """Return the parameters of every command that Typer makes, by its words."""
    commands: dict[tuple[str, ...], list[Any]] = {}
    for name, (where, _) in COMMANDS.items():
        app = pkgutil.resolve_name(where)
        if not isinstance(app, typer.Typer):
            continue  # the benches of a checkout
        command: Any = typer.main.get_command(app)
        for inner, one in getattr(command, "commands", {"": command}).items():
            commands[(name, inner) if inner else (name,)] = one.params
    return commands


def pool(parameter: Any) -> list[str]:
    """Return values for a parameter, by its name and its type."""
    annotation = parameter.type_descriptor.annotation
    inner = (get_args(annotation) or (annotation,))[0] if "list" in str(annotation) else annotation
    if parameter.name in BY_NAME:
        return BY_NAME[parameter.name] + TEXTS[:3]
    if inner is int:
        return NUMBERS
    if inner is float:
        return REALS
    # Folders and URLs of stores are texts.
    return PATHS if inner is Path or parameter.name in ("out", "store", "sae", "run") else TEXTS


@st.composite
def command_lines(draw: st.DrawFn, commands: dict[tuple[str, ...], list[Any]]) -> list[str]:
    words = draw(st.sampled_from(sorted(commands)))
    parameters = [p for p in commands[words] if p.name not in ("help", "as_json")]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    wanted = {"out", "store", "traces", "target", "place", "task", "n", "watch", "first_address"}
    line = list(words)
    for argument in arguments:
        if draw(st.integers(0, 9)):
            line.append(draw(st.sampled_from(pool(argument))))
    chosen = [p for p in options if p.name in wanted and draw(st.integers(0, 3))]
    chosen += draw(st.lists(st.sampled_from(options), max_size=3)) if options else []
    for option in chosen:
        name = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
        line.append(name)
        if not option.is_flag:
            line.append(draw(st.sampled_from(pool(option))))
    if draw(st.booleans()):
        line.append("--json")
    return [*line, "--print-url"] if words[0] == "dash" else line  # without it, the server would run


@pytest.fixture(scope="module")
def place(traces: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good, damaged and foreign files."""
    from interp.sae.settings import SAESettings
    from interp.sae.trained import train_into
    from probes.sweeps.single import train_probe

    root = tmp_path_factory.mktemp("place")
    traces.to_parquet(root / "traces.parquet")
    store = interp.capture(interp.load("chain-coconut"), traces, out=root / "store", sites="final", shard_size=60)
    for name in ("noindex", "cut"):
        shutil.copytree(root / "store", root / name)
    (root / "noindex" / layout.INDEX).unlink()
    shard = next((root / "cut").rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-9])
    content = (root / "traces.parquet").read_bytes()
    (root / "cut.parquet").write_bytes(content[: len(content) // 2])
    (root / "flipped.parquet").write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    (root / "empty").touch()
    (root / "file").write_text("a file", encoding="utf-8")
    (root / "folder").mkdir()
    (root / "folder" / "chapter.tex").write_text("years of work", encoding="utf-8")
    (root / "q.jsonl").write_text('{"question": "1 + 1", "answer": "2"}\n{"question": 3}\n[\n', encoding="utf-8")
    (root / "array.json").write_text('[{"question": "1 + 1", "answer": "2"}, ["a", "b"]]', encoding="utf-8")
    (root / "bad.toml").write_text("splits = ", encoding="utf-8")
    (root / "vector.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (root / "run").mkdir()
    (root / "run" / "run.json").write_text('{"organism": "chain-coconut", "complete": true}', encoding="utf-8")
    train_into(root / "sae", store, "ln_final.hook_out", SAESettings(d_sae=16, k=2, samples=600, batch_size=64))
    train_probe(
        store, root / "probe", target="value_1", place="thought 1", address="ln_final.hook_out", controls="none"
    )
    return root


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bound the memory of this process, keep it off the network, and end a command after some seconds."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + SPARE_MEMORY, limits[1]))

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, limits)


def restore(place: Path, before: dict[Path, bytes]) -> None:
    """Remove what a command wrote, and write again what it changed."""
    for path in sorted(place.rglob("*"), reverse=True):
        if path.is_file() and path not in before:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for path, content in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory by what Linux says of the process")
def test_no_command_line_is_a_defect(
    place: Path, cotlens: Callable, bounded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before, commands = contents(place), tree()
    failures: dict[str, list[str]] = {}
    codes: dict[int, int] = {}
    until = time.monotonic() + SECONDS

    def check(line: list[str]) -> str | None:
        """Run a command and return what is wrong with how it ended."""
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = cotlens(*line)
        except Interrupted:
            return None  # between two statements of the runner
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        codes[result.code] = codes.get(result.code, 0) + 1
        errors = [text for text in result.err.splitlines() if text.startswith("error")]
        if "unexpected" in result.err or "Traceback" in result.err + result.out:
            return errors[-1] if errors else result.err
        if result.code not in EXIT_CODES:
            return f"exit code {result.code}"
        if result.code and len(errors) != 1 and "Usage:" not in result.err:
            return f"{len(errors)} error lines: {result.err[-300:]}"
        if "--json" in line and result.code and errors:
            json.loads(result.out)
        after = contents(place)
        # To resume a damaged store is to write its damaged files again.
        repaired = {path for path in before if line[:2] == ["capture", "resume"] and set(path.parts) & set(line)}
        lost = [str(path) for path in before if path not in repaired and after.get(path) != before[path]]
        return f"changed or lost: {', '.join(lost)}" if lost else None

    @settings(
        max_examples=max(4000, int(SECONDS * 40)),
        derandomize=not IS_RANDOM,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines(commands))
    def run(line: list[str]) -> None:
        if time.monotonic() > until:
            return
        fault = check(line)
        restore(place, before)
        if fault is not None:
            failures.setdefault(fault[:70], [fault, *line])

    run()
    listed = "\n".join(f"{fault[:300]}\n    cotlens {line}" for fault, *line in failures.values())
    print(f"exit codes: {dict(sorted(codes.items()))}")
    assert not failures, f"{len(failures)} kinds of fault:\n{listed}"
    assert sum(codes.values()) > SECONDS / 5 and {2, 5} <= set(codes), codes
