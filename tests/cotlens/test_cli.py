"""The command line: instant help, one JSON object, and results on stdout alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cotlens import __version__
from cotlens.cli import COMMANDS, STANDS_IN
from interp import Reasoner, capture
from interp.activations import Store
from interp.traces import TraceSet

GROUPS = ["organisms ls", "organisms train", "organisms check", "capture run", "capture validate", "capture ls"]
GROUPS += ["probe sweep", "report build"]


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


@pytest.fixture
def traces_file(traces: TraceSet, tmp_path: Path) -> Path:
    traces[:20].to_parquet(tmp_path / "traces.parquet")
    return tmp_path / "traces.parquet"


# --- help -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help_is_instant(arguments: list[str]) -> None:
    """Help takes less than twice the processor time of importing Typer."""

    def spent() -> float:
        return sum(os.times()[2:4])  # by the processes that have ended

    best = dict.fromkeys(("typer", "ours"), float("inf"))
    for _ in range(5):
        for who, command in (("typer", ("-c", "import typer")), ("ours", ("-m", "cotlens.cli", *arguments))):
            before = spent()
            ended = run(*command)
            best[who] = min(best[who], spent() - before)
            assert ended.returncode == 0 and ended.stderr == ""
            assert who == "typer" or "usage" in ended.stdout.lower()
    assert best["ours"] < 2 * best["typer"], best


HEAVY = ("torch", "transformers", "transformer_lens", "sae_lens", "pandas", "numpy", "sklearn", "plotly", "streamlit")


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS])
def test_help_imports_nothing_heavy(command: str) -> None:
    program = (
        "import sys\nfrom cotlens.cli import main\n"
        "try: main(sys.argv[1:])\n"
        f"finally: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    ended = run("-c", program, *command.split(), "--help")
    assert ended.returncode == 0
    assert ended.stderr.strip() == "[]"
    assert len(ended.stdout) > 100


def test_the_installed_script_is_the_same_command() -> None:
    ended = subprocess.run([Path(sys.executable).parent / "cotlens", "--version"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, f"cotlens {__version__}\n")


def test_help_names_every_command_in_80_columns(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in (["--help"], ["-h"], ["help"]):
        result = cotlens(*arguments)
        assert result.code == 0 and all(f"  {name} " in result.out for name in COMMANDS)
        assert max(map(len, result.out.splitlines())) <= 80
    assert cotlens().code == 2


@pytest.mark.parametrize("group", sorted({g.split()[0] for g in GROUPS}))
def test_a_group_alone_shows_its_help(cotlens: Callable, group: str) -> None:
    result = cotlens(group)
    assert result.code in (0, 2)
    assert "Commands" in result.out + result.err


@pytest.mark.parametrize(("asked", "group"), STANDS_IN.items())
def test_a_subcommand_asked_for_in_the_wrong_group_is_run_and_said(
    cotlens: Callable, asked: tuple[str, str], group: str
) -> None:
    result, other = cotlens(*asked, "--help"), cotlens(group, asked[1], "--help")
    assert (result.code, result.out) == (0, other.out)
    assert f"`{' '.join(asked)}` is `cotlens {group} {asked[1]}`" in result.err


# --- one JSON object --------------------------------------------------------------------------------------


def test_organisms_ls(cotlens: Callable) -> None:
    result = cotlens("organisms", "ls", "--json")
    assert result.code == 0 and result.json["schema_version"] == 1
    assert {"name", "kind", "task", "accuracy", "summary", "weaknesses"} <= set(result.json["organisms"][0])
    human = cotlens("organisms", "ls")
    assert all(row["name"] in human.out for row in result.json["organisms"])


@pytest.mark.parametrize("columns", [80, 100])
def test_organisms_ls_fits_the_terminal_and_ascii(columns: int) -> None:
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    ended = run("-m", "cotlens.cli", "organisms", "ls", env=environment)
    assert ended.returncode == 0 and ended.stdout.isascii() and max(map(len, ended.stdout.splitlines())) <= columns


def test_a_terminal_that_lacks_a_character_gets_ascii() -> None:
    program = "from interp.runtime.terminal import print_anywhere\nprint_anywhere()\nprint('a – b → é 語')"
    ended = run("-c", program, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stdout) == (0, "a - b -> e ?\n")


def test_organisms_check(cotlens: Callable) -> None:
    result = cotlens("organisms", "check", "chain-coconut", "--json")
    assert result.code == 0 and result.json["schema_version"] == 1 and result.json["ok"] is True
    assert [row["name"] for row in result.json["organisms"]] == ["chain-coconut"]


def test_organisms_check_fails_with_4_and_still_prints_one_object(
    cotlens: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.organisms import catalog
    from interp.organisms.training import build

    wrong = {**catalog.card("chain-coconut"), "weights": "0" * 16}
    wrong["exam"] = {**wrong["exam"], "n": 100}
    monkeypatch.setattr(build, "card", lambda name: wrong)
    result = cotlens("organisms", "check", "chain-coconut", "--json")
    assert result.code == 4
    assert "chain-coconut" in result.error
    assert result.json["ok"] is False and result.json["organisms"][0]["weights_match"] is False


def test_think(cotlens: Callable, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "t.parquet"
    result = cotlens("think", "chain-coconut", "--task", "chain:n=12,seed=4,steps=3", "--out", out, "--json")
    assert result.code == 0
    assert result.json == {
        "schema_version": 1,
        "reasoner": "chain-coconut",
        "traces": 12,
        "accuracy": TraceSet.from_parquet(out).accuracy,
        "out": str(out),
    }
    assert {t.problem.n_steps for t in TraceSet.from_parquet(out)} == {3}


def test_think_is_repeatable(cotlens: Callable, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert cotlens("think", "chain-text", "--task", "chain:n=6", "--out", tmp_path / name).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_capture_run_validate_and_ls(cotlens: Callable, traces_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    ran = cotlens(
        "capture",
        "run",
        "chain-coconut",
        traces_file,
        "--out",
        out,
        "--sites",
        "final",
        "--sites",
        "mlp_out",
        "--shard-size",
        8,
        "--json",
    )
    assert ran.code == 0 and ran.json["schema_version"] == 1
    assert ran.json["traces"] == 20 and ran.json["shards"] == "3 of 3"
    assert ran.json["addresses"] == [*(f"blocks.{k}.mlp.hook_out" for k in range(3)), "ln_final.hook_out"]
    assert ran.json["positions"] == len(Store(out).index)

    whole = cotlens("capture", "validate", out, "--json")
    assert whole.code == 0 and whole.json == {"schema_version": 1, "store": str(out), "ok": True, "wrong": []}

    listed = cotlens("capture", "ls", tmp_path / "runs", "--json")
    assert listed.code == 0 and [s["path"] for s in listed.json["stores"]] == [str(out)]
    assert str(out) in cotlens("capture", "ls", tmp_path / "runs").out


def test_capture_ls_of_nothing(cotlens: Callable, tmp_path: Path) -> None:
    assert cotlens("capture", "ls", tmp_path, "--json").json["stores"] == []
    assert "no stores below" in cotlens("capture", "ls", tmp_path).out


def test_capture_ls_skips_a_damaged_store(cotlens: Callable, traces_file: Path, tmp_path: Path) -> None:
    """One bad folder must not hide the good ones."""
    for name in ("bad", "good"):
        out = tmp_path / "runs" / name
        assert cotlens("capture", "run", "chain-coconut", traces_file, "--out", out, "--sites", "final").code == 0
    (tmp_path / "runs" / "bad" / "meta.json").write_text("{", encoding="utf-8")
    result = cotlens("capture", "ls", tmp_path / "runs", "--json")
    assert result.code == 0
    assert str(tmp_path / "runs" / "good") in [s["path"] for s in result.json["stores"]]


def test_capture_validate_of_a_damaged_store_is_one_object_and_5(
    cotlens: Callable, traces_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    assert cotlens("capture", "run", "chain-coconut", traces_file, "--out", out, "--sites", "final").code == 0
    next((out / "acts").rglob("*.safetensors")).write_bytes(b"")
    human = cotlens("capture", "validate", out)
    assert human.code == 5 and "ln_final.hook_out differs" in human.out
    assert f"run `cotlens capture resume {out}` to repair it" in human.error
    result = cotlens("capture", "validate", out, "--json")
    assert result.code == 5
    assert result.json["ok"] is False and len(result.json["wrong"]) == 1


def test_probe_sweep(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    options = [
        "--target",
        "value_1",
        "--place",
        "thought 1",
        "--place",
        "begin",
        "--splits",
        1,
        "--controls",
        "majority,position_only",
    ]
    result = cotlens("probe", "sweep", store.path, "--out", tmp_path / "sweep", *options, "--json")
    assert result.code == 0 and result.json["schema_version"] == 1
    table = pd.read_parquet(tmp_path / "sweep" / "sweep.parquet")
    assert result.json["cells"] == len(table) == 2 * len(store.addresses)
    (best,) = result.json["best"]
    assert best["target"] == "value_1" and best["accuracy"] == table["accuracy"].max()
    assert best["layer"] is None or isinstance(best["layer"], (int, float))
    assert set(result.json["notes"]["controls"]) == {"majority", "position_only"}


def test_the_default_output_of_a_sweep_is_named_after_its_store(
    cotlens: Callable, traces: TraceSet, coconut: Reasoner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores beside each other must not share a folder: the second sweep would overwrite the first."""
    options = ["--target", "value_1", "--place", "thought 1", "--splits", 1, "--controls", "none"]
    for name in ("one", "two"):
        capture(coconut, traces[: 80 if name == "one" else 100], out=tmp_path / name, sites="final")
        assert cotlens("probe", "sweep", tmp_path / name, *options, "--json").json["out"] == f"{tmp_path / name}-sweep"
    stores = [
        json.loads((tmp_path / f"{name}-sweep" / "sweep.json").read_text(encoding="utf-8"))["store"]
        for name in ("one", "two")
    ]
    assert [Path(store).name for store in stores] == ["one", "two"]
    monkeypatch.chdir(tmp_path / "one")
    assert cotlens("probe", "sweep", ".", *options, "--json").json["out"] == f"{tmp_path / 'one'}-sweep"


def test_probe_sweep_without_controls_and_with_a_gate(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    options = [
        "--target",
        "value_1",
        "--place",
        "thought 1",
        "--splits",
        1,
        "--controls",
        "none",
        "--address",
        "blocks.0.hook_in",
    ]
    passed = cotlens("probe", "sweep", store.path, "--out", tmp_path / "a", *options, "--fail-under", 0.5)
    assert passed.code == 0 and "value_1" in passed.out
    failed = cotlens("probe", "sweep", store.path, "--out", tmp_path / "b", *options, "--fail-under", 1.01, "--json")
    assert failed.code == 4
    assert "of at least 1.01" in failed.error
    assert failed.json["best"][0]["target"] == "value_1", "what was measured is kept and printed"
    assert (tmp_path / "b" / "sweep.parquet").exists()


def test_options_come_from_the_environment_progress_goes_to_stderr_and_the_result_to_stdout(tmp_path: Path) -> None:
    environment = {**os.environ, "COTLENS_THINK_TASK": "chain:n=4"}
    ended = run("-m", "cotlens.cli", "think", "chain-coconut", "--out", str(tmp_path / "t"), env=environment)
    assert ended.returncode == 0
    assert ended.stdout == f"4 traces, 1.000 right, in {tmp_path / 't'}\n"
    assert ended.stderr == "chain-coconut: thinking\n"


@pytest.mark.parametrize("arguments", [("--help",), ("organisms", "ls", "--json")])
def test_a_closed_pipe_gives_no_traceback(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "cotlens.cli", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    assert ended.returncode == 1


def test_the_demo_prints_one_object_and_leaves_a_run(demo_run: Path) -> None:
    printed = demo_run.with_suffix(".json").read_text(encoding="utf-8")
    assert printed.endswith("\n") and printed.count("\n") == 1
    result = json.loads(printed)
    assert result["schema_version"] == 1 and result["complete"] is True
    assert result["accuracy"] > 0.95
    assert {row["id"] for row in result["measures"]} >= {"demo.accuracy", "demo.interchange_follow"}
    assert json.loads((demo_run / "run.json").read_text(encoding="utf-8"))["measures"] == result["measures"]
