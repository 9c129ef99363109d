"""A file of options: its values are defaults, what it says is checked, and what is taken from it is said."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from interp.activations import Store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(folder: Path, text: str) -> None:
    (folder / "cotlens.toml").write_text(text, encoding="utf-8")


def test_the_command_line_wins_over_variables_and_these_over_the_file(
    cotlens: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(here, '[think]\nn = 3\nbatch-size = 2\ntask = "chain"\n')
    command = ("think", "chain-direct", "--json", "--out")
    taken = cotlens(*command, "file.parquet")
    assert taken.json["traces"] == 3
    assert "note: cotlens.toml sets n = 3, batch-size = 2, task = 'chain'" in taken.err
    monkeypatch.setenv("COTLENS_THINK_N", "2")
    assert cotlens(*command, "variable.parquet").json["traces"] == 2
    assert cotlens(*command, "line.parquet", "--n", 1).json["traces"] == 1


def test_another_file_is_named_by_a_variable_and_none_by_an_empty_one(
    cotlens: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(here, "[think]\nn = 3\n")
    (here / "other.toml").write_text("[think]\nn = 4\n", encoding="utf-8")
    command = ("think", "chain-direct", "--json", "--out")
    monkeypatch.setenv("COTLENS_OPTIONS", "other.toml")
    assert cotlens(*command, "other.parquet").json["traces"] == 4
    monkeypatch.setenv("COTLENS_OPTIONS", "")
    assert cotlens(*command, "none.parquet").json["traces"] == 500
    monkeypatch.setenv("COTLENS_OPTIONS", "nowhere.toml")
    missing = cotlens(*command, "missing.parquet")
    assert missing.code == 2 and "COTLENS_OPTIONS names, got nowhere.toml, which does not exist" in missing.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[thnk]\nn = 1", "expected a known command in cotlens.toml, got 'thnk'; did you mean 'think'?"),
        ("[think]\nbatchsize = 1", "expected a known option in [think] of cotlens.toml, got 'batchsize'; did you mean"),
        ("[probe.swep]\nsplits = 1", "expected a known command in [probe] of cotlens.toml, got 'swep'"),
        ("think = 3", "expected [think] of cotlens.toml to be a section with options, got 3"),
        ("[think.n]\nx = 1", "expected n in [think] of cotlens.toml to be a value or a list, got a section"),
        ("[think\nn = 1", "cotlens.toml is not readable as TOML"),
        ("[think]\nn = 'many'", "Invalid value for '--n'"),
    ],
)
def test_what_the_file_cannot_mean_is_refused_in_one_line(
    cotlens: Callable, here: Path, text: str, message: str
) -> None:
    _write(here, text)
    ended = cotlens("think", "chain-direct", "--out", "t.parquet")
    assert ended.code == 2 and message in ended.err and not (here / "t.parquet").exists()
    assert len([line for line in ended.err.splitlines() if line.startswith("error")]) == 1


def test_a_subcommand_takes_its_own_section_and_its_own_configuration_replaces_it(
    cotlens: Callable, here: Path, store: Store
) -> None:
    _write(
        here, '[probe.sweep]\ntarget = ["value_1"]\nplace = ["thought 1"]\nsplits = 2\n[probe.train]\nplace = "begin"\n'
    )
    command = ("probe", "sweep", store.path, "--dry-run", "--json")
    from_file = cotlens(*command)
    assert "sets target = ['value_1'], place = ['thought 1'], splits = 2" in from_file.err
    assert from_file.json["cells"] == len(store.addresses)
    replaced = cotlens(*command, "--set", "splits=2")
    assert replaced.json["cells"] > from_file.json["cells"]
    assert "note: cotlens.toml is not read, because --set is given" in replaced.err


def test_init_writes_a_file_that_changes_nothing_and_names_every_option(cotlens: Callable, here: Path) -> None:
    assert cotlens("config", "init").code == 0
    text = (here / "cotlens.toml").read_text(encoding="utf-8")
    sections = tomllib.loads(text)
    assert sections["think"] == {} and sections["probe"]["sweep"] == {}
    assert cotlens("config", "show", "--json").json["options"] == []
    rows = cotlens("config", "env", "--json").json["variables"]
    names = {row["option"].removeprefix("--") for row in rows if row["command"] == "think"} - {"json"}
    think = text.split("[think]")[1].split("\n[")[0]
    assert all(f"\n# {name} =" in think for name in names)
    again = cotlens("config", "init")
    assert again.code == 2 and "expected a new file for --out, got cotlens.toml, which exists" in again.err


def test_every_default_that_init_writes_is_valid(cotlens: Callable, here: Path) -> None:
    """Taking the # away from a line with a value gives TOML that the commands take."""
    cotlens("config", "init")
    path = here / "cotlens.toml"
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("[")]
    assert len(kept) > 40
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.removeprefix("# ").partition(" = ")
        is_setting = line.startswith("# ") and equals and " " not in name and value
        lines.append(f"{name} = {value}" if is_setting else line)
    path.write_text("\n".join(lines), encoding="utf-8")
    assert len(cotlens("config", "show", "--json").json["options"]) > 150


def test_show_names_the_winner_first(cotlens: Callable, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(here, "[think]\nn = 3\n")
    monkeypatch.setenv("COTLENS_THINK_N", "2")
    first, second = cotlens("config", "show", "think", "--json").json["options"]
    assert (first["value"], first["set by"]) == ("2", "COTLENS_THINK_N")
    assert (second["value"], second["set by"]) == ("3", "cotlens.toml, which the variable overrides")


def test_the_schema_has_the_type_of_each_option(cotlens: Callable) -> None:
    sections = json.loads(cotlens("config", "schema").out)["properties"]
    think, sweep = sections["think"]["properties"], sections["probe"]["properties"]["sweep"]["properties"]
    assert (think["batch-size"]["type"], think["batch-size"]["default"]) == ("integer", 128)
    assert sweep["target"]["type"] == "array" and sweep["target"]["items"] == {"type": "string"}
    assert sections["think"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("words", "expected"),
    [("cotlens pro", "probe"), ("cotlens probe sw", "sweep"), ("cotlens probe sweep --tar", "--target")],
)
def test_a_shell_completes_commands_and_options(
    cotlens: Callable, monkeypatch: pytest.MonkeyPatch, words: str, expected: str
) -> None:
    monkeypatch.setenv("_COTLENS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert cotlens().out.split() == [expected]


def test_completion_prints_what_a_shell_reads(cotlens: Callable) -> None:
    assert "complete -o default -F _cotlens_completion cotlens" in cotlens("config", "completion", "bash").out
    assert cotlens("config", "completion", "bsh").code == 2
