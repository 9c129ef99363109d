"""Wrong input: the right exit code, one `error:` line that says what to do, and no file lost."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.activations import Store, layout
from interp.errors import StoreError
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def place(traces: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with traces, a store of them, a run of another seed, a foreign folder and a file."""
    root = tmp_path_factory.mktemp("place")
    traces[:20].to_parquet(root / "traces.parquet")
    reasoner = interp.load("chain-coconut")
    interp.capture(reasoner, traces[:20], out=root / "store", sites="final", shard_size=8)
    shutil.copytree(root / "store", root / "noindex")
    (root / "noindex" / layout.INDEX).unlink()
    first = traces[0]
    wide = replace(first, latents=np.zeros((len(first.latents), 64), np.float32))
    TraceSet([wide]).to_parquet(root / "wide.parquet")
    TraceSet([replace(first, token_ids=[99999, *first.token_ids[1:]])]).to_parquet(root / "words.parquet")
    (root / "thesis").mkdir()
    (root / "thesis" / "chapter.tex").write_text("years of work", encoding="utf-8")
    (root / "run").mkdir()
    asked = {"schema_version": 1, "organism": "chain-coconut", "n_problems": 300, "seed": 1, "task": "chain"}
    (root / "run" / "run.json").write_text(json.dumps({**asked, "complete": False}), encoding="utf-8")
    (root / "file").write_text("a file", encoding="utf-8")
    own = {"question": "Anna has 3 apples.", "answer": "3"}
    (root / "own.jsonl").write_text(json.dumps(own), encoding="utf-8")
    return root


def contents(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


THINK = ["think", "chain-coconut", "--out", "new.parquet", "--task"]
CAPTURE = ["capture", "run", "chain-coconut", "traces.parquet", "--out"]
OTHERS_TRACES = ["capture", "run", "chain-text", "traces.parquet", "--sites", "final"]

HUGE = "1" + "0" * 20
LARGEST = str(2**63 - 1)
TOO_LONG = "x" * 300

# What is asked, the exit code, and what the one error line has to say.
CASES: dict[str, tuple[list[str], int, list[str]]] = {
    "unknown command": (["demmo"], 2, ["expected a known command, got 'demmo'", "did you mean 'demo'"]),
    "unknown subcommand": (["capture", "rnu"], 2, ["'rnu'", "run"]),
    "unknown option": (["demo", "--organsim", "chain-text"], 2, ["--organsim", "--organism"]),
    "missing option": (["think", "chain-coconut"], 2, ["--out"]),
    "missing argument": (["capture", "validate"], 2, ["STORE"]),
    "one argument too many": (["doctor", "please"], 2, ["please"]),
    "wrong type of n": (["demo", "--n", "many", "--out", "new"], 2, ["--n", "integer"]),
    "wrong type of shard size": ([*CAPTURE, "new", "--shard-size", "1.5"], 2, ["--shard-size", "integer"]),
    "wrong type of a gate": (["probe", "sweep", "store", "--fail-under", "high"], 2, ["--fail-under", "number"]),
    "unknown organism of the demo": (
        ["demo", "--organism", "chain-coconat", "--out", "new"],
        2,
        ["expected a known organism, got 'chain-coconat'", "did you mean 'chain-coconut'"],
    ),
    "unknown organism to think": (["think", "nobody", "--out", "new"], 2, ["'nobody'", "cotlens organisms ls"]),
    "a misspelled organism to think": (["think", "chain-cocnut", "--out", "new"], 2, ["did you mean 'chain-coconut'?"]),
    "a hub id without its owner": (["think", "gpt2", "--out", "new"], 2, ["OWNER/NAME"]),
    "a folder without a model": (
        ["think", "thesis", "--out", "new"],
        5,
        ["expected a folder with config.json", "got one with chapter.tex"],
    ),
    "a file that is no model": (["think", "own.jsonl", "--out", "new"], 2, ["expected a model", "which is none"]),
    "a folder in place of traces": (
        [*OTHERS_TRACES[:3], "thesis", "--out", "new"],
        5,
        ["expected a trace file, got thesis, which is a folder", "`cotlens think` wrote"],
    ),
    "a store in place of a probe": (
        ["probe", "eval", "store", "--store", "store"],
        5,
        ["expected a saved probe, got store, which is an activation store", "`cotlens probe train`"],
    ),
    "a store in place of an SAE": (
        ["sae", "eval", "store", "--store", "store"],
        5,
        ["expected a sparse autoencoder, got store, which is an activation store", "`cotlens sae train`"],
    ),
    "traces in place of a lens": (
        ["lens", "show", "traces.parquet"],
        5,
        ["expected a Jacobian lens, got traces.parquet, which is a Parquet file", "`cotlens lens fit`"],
    ),
    "traces in place of a graph": (
        ["causal", "graph", "traces.parquet"],
        5,
        ["expected the attribution graph as JSON, got traces.parquet, which is a Parquet file"],
    ),
    "the folder of a store": (["capture", "validate", "."], 5, ["no activation store at . itself", "store. Name one"]),
    "traces in place of questions": (
        ["think", "chain-text", "--questions", "traces.parquet", "--out", "new"],
        5,
        ["expected a JSONL file", "got a Parquet file", "lines of JSON"],
    ),
    "questions that are not there": (
        ["think", "chain-text", "--questions", "nowhere.jsonl", "--out", "new"],
        5,
        ["expected a JSONL file at nowhere.jsonl", "got none; check the path"],
    ),
    "questions of another task than an organism's": (
        ["think", "chain-text", "--questions", "own.jsonl", "--out", "new"],
        2,
        ["chain-text does not know 'Anna'", "problems are taken where no others are given"],
    ),
    "a used map of a model that does not think": (
        ["causal", "interchange", "chain-direct", "--n", "20", "--used-map"],
        2,
        ["expected a reasoner that thinks before it answers"],
    ),
    "unknown organism to check": (["organisms", "check", "chain-tex"], 2, ["did you mean 'chain-text'"]),
    "unknown organism to train": (
        ["organisms", "train", "chain-tex", "--out", "new"],
        2,
        ["did you mean 'chain-text'"],
    ),
    "an organism without thoughts": (
        ["demo", "--organism", "chain-direct", "--out", "new"],
        2,
        ["chain-direct answers without thinking", "Choose another organism"],
    ),
    "unknown task": ([*THINK, "chian:n=5"], 2, ["expected a known task, got 'chian'", "did you mean 'chain'"]),
    "unknown option of a task": ([*THINK, "chain:n=5,ordr=mixed"], 2, ["'ordr'", "did you mean 'order'"]),
    "a task that is not name:key=value": ([*THINK, "chain:5"], 2, ["name:key=value", "'5'"]),
    "n of a task is a word": ([*THINK, "chain:n=five"], 2, ["n and seed", "whole numbers", "n=five"]),
    "n is 0": ([*THINK, "chain:n=0"], 2, ["n to be a whole number of at least 1", "got 0"]),
    "n is negative": ([*THINK, "chain:n=-5"], 2, ["n to be a whole number of at least 1", "got -5"]),
    "n of the demo is 0": (["demo", "--n", "0", "--out", "new"], 2, ["n to be", "at least", "got 0"]),
    "n of the demo is negative": (["demo", "--n", "-7", "--out", "new"], 2, ["n to be", "at least", "got -7"]),
    "n of the demo is too small": (["demo", "--n", "20", "--out", "new"], 2, ["expected n of at least", "got 20"]),
    "a negative seed": ([*THINK, "chain:n=5,seed=-1"], 2, ["seed to be a whole number of at least 0", "got -1"]),
    "a negative seed of the demo": (["demo", "--seed", "-1", "--out", "new"], 2, ["seed to be", "got -1"]),
    "a negative seed of training": (
        ["organisms", "train", "chain-text", "--training-seed", "-1", "--out", "new"],
        2,
        ["seed to be", "got -1"],
    ),
    "unknown split": ([*THINK, "chain:n=5,split=dev"], 2, ["expected a known split, got 'dev'", "train, val, test"]),
    "words that the model does not know": ([*THINK, "chain:n=5,values=31"], 2, ["chain-coconut does not know"]),
    "batch size 0": ([*THINK, "chain:n=5", "--batch-size", "0"], 2, ["batch_size to be", "got 0"]),
    "unknown address": (
        [*CAPTURE, "new", "--sites", "resid_pots"],
        2,
        ["expected a known address", "did you mean 'resid_post'"],
    ),
    "unknown dtype": ([*CAPTURE, "new", "--dtype", "int4"], 2, ["float32, float16 or bfloat16", "'int4'"]),
    "shard size 0": ([*CAPTURE, "new", "--shard-size", "0"], 2, ["shard_size to be", "got 0"]),
    "missing traces": (
        ["capture", "run", "chain-coconut", "nowhere", "--out", "new"],
        5,
        ["no traces at nowhere", "cotlens think"],
    ),
    "traces that are something else": (
        ["capture", "run", "chain-coconut", "thesis/chapter.tex", "--out", "new"],
        5,
        ["chapter.tex is not a readable trace file"],
    ),
    "a foreign folder": ([*CAPTURE, "thesis"], 5, ["thesis is not empty", "Choose another folder"]),
    "a store of another configuration": ([*CAPTURE, "store"], 5, ["another", "addresses", "Choose another folder"]),
    "a store of another model": (
        [*OTHERS_TRACES, "--out", "store", "--shard-size", "8", "--transfer"],
        5,
        ["reasoner", "made by chain-coconut", "Choose another folder"],
    ),
    "traces of another model": (
        [*OTHERS_TRACES, "--out", "new-store"],
        5,
        ["traces of chain-text", "of chain-coconut", "--transfer"],
    ),
    "a store below a file": ([*CAPTURE, "file/store"], 5, ["There is a file where a folder is needed", "--out"]),
    "a store where a file is": ([*CAPTURE, "file"], 5, ["There is a file where a folder is needed", "--out"]),
    "a store where nobody may write": ([*CAPTURE, "/proc/cotlens/store"], 5, ["/proc/cotlens", "Choose another --out"]),
    "traces below a file": ([*THINK[:3], "file/t.parquet", "--task", "chain:n=3"], 5, ["There is a file", "--out"]),
    "traces where nobody may write": (
        [*THINK[:3], "/proc/t.parquet", "--task", "chain:n=3"],
        5,
        ["/proc", "Choose another --out"],
    ),
    "traces that are there already": (
        [*THINK[:3], "traces.parquet", "--task", "chain:n=3"],
        2,
        ["exists already", "choose another --out"],
    ),
    "no store": (["capture", "validate", "nowhere"], 5, ["no activation store at nowhere", "cotlens capture run"]),
    "a folder that is no store": (["capture", "validate", "thesis"], 5, ["no activation store at thesis", "foreign"]),
    "a file that is no store": (["capture", "validate", "file"], 5, ["no activation store at file"]),
    "no store to sweep": (["probe", "sweep", "nowhere"], 5, ["no activation store at nowhere", "cotlens capture run"]),
    "unknown target": (
        ["probe", "sweep", "store", "--target", "step_valu", "--out", "new"],
        2,
        ["expected a known target", "did you mean 'step_value'"],
    ),
    "unknown place": (
        ["probe", "sweep", "store", "--place", "thougt 1", "--out", "new"],
        2,
        ["expected a known place", "did you mean 'thought 1'"],
    ),
    "unknown address of a store": (
        ["probe", "sweep", "store", "--address", "blocks.0.hook_out", "--out", "new"],
        2,
        ["expected a known address in this store", "ln_final.hook_out"],
    ),
    "unknown control": (
        ["probe", "sweep", "store", "--controls", "majorty", "--out", "new"],
        2,
        ["expected a known control", "did you mean 'majority'"],
    ),
    "too few traces to sweep": (["probe", "sweep", "store", "--out", "new"], 2, ["rows", "Capture more problems"]),
    "0 splits": (["probe", "sweep", "store", "--splits", "0", "--out", "new"], 2, ["splits to be", "got 0"]),
    "a run of another seed": (
        ["demo", "--n", "300", "--seed", "2", "--out", "run"],
        5,
        ["run holds another run", "seed=1", "Choose another --out"],
    ),
    "a run in a foreign folder": (["demo", "--n", "300", "--out", "thesis"], 5, ["thesis", "Choose another --out"]),
    "a run below a file": (
        ["demo", "--n", "300", "--out", "file/run"],
        5,
        ["There is a file where a folder is needed", "--out"],
    ),
    "a run where nobody may write": (
        ["demo", "--n", "300", "--out", "/proc/run"],
        5,
        ["/proc/run", "Choose another --out"],
    ),
    "training into a foreign folder": (
        ["organisms", "train", "chain-text", "--out", "thesis"],
        5,
        ["expected an empty folder at thesis", "choose another --out"],
    ),
    "too many problems": ([*THINK, f"chain:n={HUGE}"], 2, ["expected n to be at most 10000000", HUGE]),
    "a huge seed of a task": ([*THINK, f"chain:n=5,seed={HUGE}"], 2, ["expected seed to be at most", LARGEST]),
    "a huge seed of sampling": ([*THINK, "chain:n=5", "--seed", HUGE], 2, ["expected --seed", LARGEST, HUGE]),
    "a huge seed of training": (
        ["organisms", "train", "chain-text", "--training-seed", HUGE, "--out", "new"],
        2,
        ["expected --training-seed", LARGEST],
    ),
    "a temperature that is no number": ([*THINK, "chain:n=5", "--temperature", "nan"], 2, ["--temperature", "got nan"]),
    "a device without values": ([*THINK, "chain:n=5", "--device", "meta"], 2, ["device 'meta' cannot be used here"]),
    "training on a device without values": (
        ["organisms", "train", "chain-text", "--device", "meta", "--out", "new"],
        2,
        ["device 'meta' cannot be used here"],
    ),
    "a file name that is too long": (
        [*THINK[:3], TOO_LONG, "--task", "chain:n=3"],
        5,
        ["longer than the file system allows", "Choose a shorter one"],
    ),
    "a model name that is too long": (["think", TOO_LONG, "--out", "new"], 5, ["longer than the file system allows"]),
    "a store name that is too long": ([*CAPTURE, TOO_LONG], 5, ["longer than the file system allows"]),
    "attention patterns": (
        [*CAPTURE, "new", "--sites", "blocks.*.attn.hook_pattern"],
        2,
        ["expected sites with a vector for each position", "blocks.0.attn.hook_pattern", "leave it out"],
    ),
    "attention scores among others": (
        [*CAPTURE, "new", "--sites", "resid", "--sites", "blocks.1.attn.hook_attn_scores"],
        2,
        ["blocks.1.attn.hook_attn_scores", "attn.hook_z"],
    ),
    "a slice that does not move": ([*CAPTURE, "new", "--positions", "::0"], 2, ["step is not 0", "'::0'"]),
    "positions of a channel that is not recorded": (
        [*CAPTURE, "new", "--channels", "answer", "--positions", "thought *"],
        2,
        ["in the channels answer", "'thought *'", "channel latent", "--channels"],
    ),
    "an empty slice": ([*CAPTURE, "new", "--positions", "5:2"], 2, ["no position matches '5:2'"]),
    "layers in reverse": ([*CAPTURE, "new", "--layers", "9-2"], 2, ["'9-2'", "write 2-9"]),
    "layers without end": ([*CAPTURE, "new", "--layers", "0-99999999999"], 2, ["at most 100000"]),
    "no layers": ([*CAPTURE, "new", "--layers", ""], 2, ["expected numbers and ranges after --layers"]),
    "a digit that is no number": ([*CAPTURE, "new", "--layers", "²"], 2, ["after --layers", "'²'"]),
    "sites at other layers": (
        [*CAPTURE, "new", "--sites", "blocks.1.hook_out", "--layers", "0"],
        2,
        ["expected sites at layers [0]", "blocks.1.hook_out"],
    ),
    "traces of a wider model": (
        ["capture", "run", "chain-coconut", "wide.parquet", "--out", "new"],
        5,
        ["expected thoughts 128 wide", "64 wide", "load the model that made the traces"],
    ),
    "traces with other tokens": (
        ["capture", "run", "chain-coconut", "words.parquet", "--out", "new"],
        2,
        ["expected traces with tokens from 0 to", "got 99999", "the model that made them"],
    ),
    "a gate that is no number": (["probe", "sweep", "store", "--fail-under", "nan"], 2, ["--fail-under", "got nan"]),
    "a gate of decoders that is no number": (
        ["decode", "eval", "store", "--fail-under", "nan"],
        2,
        ["--fail-under", "got nan"],
    ),
    "a gate of bits that is no number": (
        ["subtext", "measure", "chain-text", "--fail-over", "nan"],
        2,
        ["--fail-over", "got nan"],
    ),
    "an infinite dose": (
        ["causal", "steer", "chain-coconut", "--dose", "inf"],
        2,
        ["expected --dose to be a finite number, got inf"],
    ),
    "an infinite margin": (
        ["causal", "ablate", "chain-coconut", "--margin", "inf"],
        2,
        ["--margin", "finite", "got inf"],
    ),
    "an infinite sparsity": (
        ["causal", "attribute", "chain-coconut", "--sparsity", "-inf"],
        2,
        ["--sparsity", "finite", "got -inf"],
    ),
    "splits without end": (
        ["probe", "sweep", "store", "--splits", "100000000", "--out", "new"],
        2,
        ["splits to be at most 1000"],
    ),
    "splits without end of decoders": (
        ["decode", "eval", "store", "--splits", "100000000"],
        2,
        ["splits to be at most 1000"],
    ),
    "a learning rate that blows up": (
        ["sae", "train", "store", "--set", "learning_rate=1.0e+30", "--out", "new"],
        2,
        ["setting learning_rate", "1e+30"],
    ),
    "a learning rate that is no number": (
        ["sae", "train", "store", "--set", "learning_rate=.nan", "--out", "new"],
        2,
        ["setting learning_rate", "nan"],
    ),
    "an SAE where nobody may write": (
        ["sae", "train", "store", "--out", "/proc/sae"],
        5,
        ["/proc/sae", "Choose another --out"],
    ),
    "a sweep without the index": (
        ["probe", "sweep", "noindex", "--out", "new"],
        5,
        ["index.parquet is missing", "Repair it: `cotlens capture resume"],
    ),
    "a report of no run": (["report", "build", "nowhere"], 5, ["no run at nowhere", "cotlens demo"]),
    "a report of an unfinished run": (["report", "build", "run"], 5, ["not finished", "cotlens demo"]),
    "a dashboard of no run": (["dash", "nowhere", "--print-url"], 5, ["nothing at nowhere", "cotlens demo"]),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["", "json"])
@pytest.mark.parametrize("case", list(CASES))
def test_bad_input(case: str, as_json: bool, place: Path, cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, code, said = CASES[case]
    monkeypatch.chdir(place)
    before = contents(place)
    result = cotlens(*arguments, *(["--json"] if as_json else []))
    assert result.code == code, result
    assert result.err.count("error:") == 1, result.err
    message = result.error
    for part in said:
        assert part.lower() in message.lower(), message
    assert len(message) < 1500, "the message is too long to be read"
    if as_json:
        assert result.json == {"schema_version": 1, "error": message, "exit_code": code}
    else:
        assert result.out == ""
    assert contents(place) == before, "something was written or lost"


@pytest.mark.parametrize(
    ("command", "there"),
    [
        (["decode", "eval", "store"], "evaluation.json"),
        (["sae", "eval", "nowhere", "--store", "store"], "measures.parquet"),
        (["sae", "features", "nowhere", "--store", "store"], "features.parquet"),
        (["sae", "share", "store", "store", "--first-address", "ln_final.hook_out"], "cfg.json"),
        (["causal", "attribute", "chain-text"], "chain-text-0.json"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_an_earlier_result_is_not_overwritten(
    command: list[str], there: str, place: Path, cotlens: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (tmp_path / there).write_text("earlier", encoding="utf-8")
    result = cotlens(*command, "--out", tmp_path)
    assert result.code == 2 and f"got {tmp_path / there}, which exists already; choose another --out" in result.error
    assert contents(tmp_path) == {there: hashlib.sha256(b"earlier").hexdigest()}


def test_two_mistakes_give_one_error_line(place: Path, cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = cotlens("demo", "--n", "many", "--organism", "nobody", "--nonsense")
    assert result.code == 2 and result.error


def test_an_unexpected_exception_is_reported_as_a_defect(
    cotlens: Callable, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("inner detail")

    monkeypatch.setattr(Store, "validate", broken)
    result = cotlens("capture", "validate", place / "store", "--json")
    assert result.code == 1
    assert "unexpected KeyError" in result.error and "COTLENS_DEBUG=1" in result.error
    monkeypatch.setenv("COTLENS_DEBUG", "1")
    with pytest.raises(KeyError):
        cotlens("capture", "validate", place / "store")


# --- full disk --------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_capturing(
    place: Path, cotlens: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: Callable
) -> None:
    command = ["capture", "run", "chain-coconut", place / "traces.parquet", "--out", tmp_path / "s", "--shard-size", 8]
    with monkeypatch.context() as patched:
        full_after(20, patched)
        result = cotlens(*command, "--json")
    assert result.code == 5
    assert "disk is full" in result.error and "run the same command again" in result.error
    assert result.json["exit_code"] == 5
    kept = contents(tmp_path / "s")
    assert Store(tmp_path / "s").committed == {0}
    assert cotlens(*command).code == 0
    assert Store(tmp_path / "s").complete
    after = contents(tmp_path / "s")
    assert {k: v for k, v in kept.items() if k.endswith("00000.safetensors")}.items() <= after.items()


def test_a_disk_that_is_full_while_thinking_leaves_no_partial_file(
    cotlens: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: Callable
) -> None:
    """A partial file would look like traces to the next command, and block this one."""
    command = ["think", "chain-coconut", "--task", "chain:n=4", "--out", tmp_path / "t.parquet"]
    with monkeypatch.context() as patched:
        full_after(0, patched)
        result = cotlens(*command)
    assert result.code == 5
    assert "disk is full" in result.error
    assert list(tmp_path.iterdir()) == []
    assert cotlens(*command).code == 0
    assert len(TraceSet.from_parquet(tmp_path / "t.parquet")) == 4


def test_a_disk_that_is_full_while_saving_a_sweep(
    cotlens: Callable, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: Callable
) -> None:
    options = ["--target", "value_1", "--place", "thought 1", "--splits", 1, "--controls", "none"]
    full_after(0, monkeypatch)
    result = cotlens("probe", "sweep", store.path, "--out", tmp_path / "sweep", *options)
    assert result.code == 5
    assert "disk is full" in result.error and not list(tmp_path.rglob("*.parquet"))


# --- Ctrl-C -----------------------------------------------------------------------------------------------

SLOW = """
import sys, time
from interp.activations import layout
plain = layout.commit
def commit(path, content):
    time.sleep(0.3)
    return plain(path, content)
layout.commit = commit
from cotlens.cli import main
main(sys.argv[1:])
"""
PLAIN = "import sys; from cotlens.cli import main; main(sys.argv[1:])"


def interrupt_when(condition: Callable[[], bool], process: subprocess.Popen) -> tuple[int, str, str]:
    until = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.slow
def test_ctrl_c_in_a_capture_keeps_what_is_committed_and_it_resumes(
    place: Path, start: Callable, cotlens: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    command = ["capture", "run", "chain-coconut", place / "traces.parquet", "--out", out, "--shard-size", 2, "--json"]
    manifest = out / layout.MANIFEST
    code, stdout, stderr = interrupt_when(
        lambda: manifest.exists() and manifest.read_bytes().count(b"\n") >= 2, start(SLOW, *command)
    )
    assert code == 130
    assert "Traceback" not in stdout + stderr
    assert stderr.count("error:") == 1 and "run the same command again" in stderr
    assert json.loads(stdout)["exit_code"] == 130
    assert not list(out.rglob("*.tmp"))
    committed = Store(out).committed
    assert 2 <= len(committed) < 10
    assert all(line.endswith("is not finished") for line in Store(out).validate())
    kept = contents(out)
    assert cotlens(*command).code == 0
    after = contents(out)
    assert Store(out).complete and Store(out).validate() == []
    shards = {k: v for k, v in kept.items() if k.endswith(".safetensors") and int(Path(k).stem) in committed}
    assert shards and shards.items() <= after.items()


@pytest.mark.slow
def test_ctrl_c_in_a_demo_ends_with_130_and_can_be_resumed(
    start: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboards.record import start_run

    out = tmp_path / "run"
    process = start(PLAIN, "demo", "--n", "300", "--out", out)
    first = process.stderr.readline()
    assert "thinking" in first
    code, stdout, stderr = interrupt_when(lambda: True, process)
    assert code == 130 and stdout == ""
    assert "Traceback" not in stderr and stderr.count("error:") == 1
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["complete"] is False
    asked = {"organism": "chain-coconut", "n_problems": 300, "seed": 7, "task": "chain"}
    start_run(out, asked)  # the same command may go on; another may not
    with pytest.raises(StoreError, match="holds another run"):
        start_run(out, {**asked, "seed": 8})


@pytest.mark.slow
def test_a_demo_that_is_interrupted_again_and_again_completes_when_it_is_run_again(
    start: Callable, cotlens: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for seconds in (0.2, 3.0, 9.0):
        process = start(PLAIN, "demo", "--n", "300", "--out", out)
        process.stderr.readline()
        time.sleep(seconds)
        code, _, stderr = interrupt_when(lambda: True, process)
        assert code == 130 and "Traceback" not in stderr
    result = cotlens("demo", "--n", "300", "--out", out, "--json")
    assert result.code == 0 and result.json["complete"] is True
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_ctrl_c_while_thinking_leaves_no_partial_file(start: Callable, tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    process = start(PLAIN, "think", "chain-coconut", "--task", "chain:n=20000", "--out", out)
    process.stderr.readline()
    code, stdout, stderr = interrupt_when(lambda: True, process)
    assert code == 130 and "Traceback" not in stdout + stderr and stderr.count("error:") == 1
    assert not out.exists(), "only finished batches may be left, for the same command to go on from"
    parts = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert all(p.name == "thinking.json" or len(TraceSet.from_parquet(p)) == 128 for p in parts)


def test_a_killed_demo_leaves_a_folder_that_is_not_a_finished_run(
    place: Path, cotlens: Callable, tmp_path: Path
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    result = cotlens("report", "build", tmp_path / "run")
    assert result.code == 5 and "not finished" in result.error
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_model_that_names_no_task_says_to_give_one(cotlens: Callable, tmp_path: Path) -> None:
    from interp.organisms.catalog import weights_folder

    folder = Path(shutil.copytree(weights_folder("chain-text"), tmp_path / "model"))
    config = json.loads((folder / "reasoner.json").read_text(encoding="utf-8"))
    (folder / "reasoner.json").write_text(json.dumps({**config, "task": None}), encoding="utf-8")
    result = cotlens("think", folder, "--out", tmp_path / "t.parquet")
    assert result.code == 2
    assert "expected a task in the reasoner.json" in result.error
    assert cotlens("think", folder, "--out", tmp_path / "t.parquet", "--task", "chain:n=3").code == 0


def test_ctrl_c_before_the_start_also_gives_130(start: Callable) -> None:
    """The first tenth of a second is imports; a hasty Ctrl-C there is no traceback either."""
    program = """
import os, signal, sys
class Hasty:
    def find_spec(self, name, path=None, target=None):
        if name == "interp.runtime.console":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Hasty())
from cotlens.cli import main
main(sys.argv[1:])
"""
    process = start(program, "organisms", "ls")
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    assert (process.returncode, out, err.count("error:")) == (130, "", 1)
