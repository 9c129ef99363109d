"""The wrong-in-silence suite is counted as pytest reports it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.models.silent import ROOT, SUITE, silent_errors


def test_failures_are_counted_and_named_and_skips_are_not(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_right(): pass\n"
        "def test_wrong(): assert False\n"
        "@pytest.mark.skip\n"
        "def test_left_out(): pass\n",
        encoding="utf-8",
    )
    result = silent_errors({"kind": [str(tmp_path / "test_some.py")]})
    measure = result.measures["models.silent_errors"]
    assert (measure["value"], measure["n"]) == (1, 2) and "test_wrong" in measure["note"]
    assert result.more["silent"] == [{"kind": "kind", "cases": 2, "failed": ["test_wrong"]}]


def test_a_suite_that_cannot_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="could not be run"):
        silent_errors({"kind": [str(tmp_path / "test_missing.py")]})


def test_every_kind_names_tests_that_are_there() -> None:
    assert all((ROOT / path).exists() for paths in SUITE.values() for path in paths)
