"""Environment variables: one for each option, listed, and old names with a warning."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest


def test_no_two_options_share_a_variable(cotlens: Callable) -> None:
    rows = cotlens("config", "env", "--json").json["variables"]
    counts = Counter(row["variable"] for row in rows)
    assert len(rows) > 300 and max(counts.values()) == 1
    outs = {row["variable"] for row in rows if row["option"] == "--out" and row["command"].endswith(" run")}
    assert {"COTLENS_CAPTURE_RUN_OUT", "COTLENS_DECODE_RUN_OUT"} <= outs


def test_one_command_is_listed_by_its_name(cotlens: Callable) -> None:
    rows = cotlens("config", "env", "causal", "steer", "--json").json["variables"]
    assert {row["command"] for row in rows} == {"causal steer"}
    assert {"variable": "COTLENS_CAUSAL_STEER_N", "command": "causal steer", "option": "--n"} in rows
    failed = cotlens("config", "env", "causal", "ster")
    assert failed.code == 2 and "did you mean 'steer'?" in failed.err


def test_every_listed_variable_is_read(cotlens: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COTLENS_ORGANISMS_LS_AS_JSON", "1")
    monkeypatch.setenv("COTLENS_THINK_TASK", "chain:n=2")
    monkeypatch.setenv("COTLENS_THINK_OUT", str(tmp_path / "traces.parquet"))
    assert "organisms" in json.loads(cotlens("organisms", "ls").out)
    assert cotlens("think", "chain-direct", "--json").json["traces"] == 2
    assert (tmp_path / "traces.parquet").exists()


def test_a_variable_of_one_command_is_not_that_of_another(
    cotlens: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COTLENS_STUDY_TASK", "chain:n=2")
    monkeypatch.setenv("COTLENS_THINK_TASK", "chain:n=3")
    assert cotlens("think", "chain-direct", "--out", tmp_path / "t", "--json").json["traces"] == 3


def test_an_old_variable_works_with_a_warning(
    cotlens: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COTLENS_TASK", "chain:n=2")
    thought = cotlens("think", "chain-direct", "--out", tmp_path / "t", "--json")
    assert thought.json["traces"] == 2
    assert "warning: COTLENS_TASK is now COTLENS_THINK_TASK; the old name works until version 0.3" in thought.err
    assert "COTLENS_THINK_TASK" not in os.environ  # which other processes would get
    monkeypatch.setenv("COTLENS_THINK_TASK", "chain:n=3")
    again = cotlens("think", "chain-direct", "--out", tmp_path / "again", "--json")
    assert again.json["traces"] == 3 and "warning" not in again.err


def test_the_help_shows_no_variables(cotlens: Callable) -> None:
    assert "env var" not in cotlens("causal", "interchange", "--help").out
