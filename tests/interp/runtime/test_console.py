"""Tables of commands: broken into blocks of columns on a terminal, whole lines in a file."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from interp.runtime.console import print_table

WIDE = pd.DataFrame([{f"a column with a long name {k}": float(k) for k in range(8)}])


def test_a_wide_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and all(any(name in line for line in lines) for name in WIDE)


SWEEP = pd.DataFrame(
    {
        "target": ["value_1", "value_2"],
        "place": ["thought 1", "thought 2"],
        "address": ["blocks.1.hook_out", "ln_final.hook_out"],
        "estimator": ["ridge", "ridge"],
        **{
            name: [0.912, 0.5]
            for name in ("accuracy", "ci_low", "ci_high", "shuffled", "random_init", "structure", "q")
        },
        "a control with a long name": [0.1, 0.2],
        "n": [400, 401],
    }
)


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_each_block_of_a_wide_table_names_its_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(SWEEP)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= columns and "\\" not in printed
    blocks = [block.splitlines() for block in printed.split("\n\n")]
    assert len(blocks) > 1 and all(len(block) == 3 for block in blocks)
    for header, first, second in blocks:
        assert header.split()[0] == "target" and first.split()[0] == "value_1" and second.split()[0] == "value_2"
    if columns >= 80:
        assert all("thought 2" in block[2] for block in blocks), "more of what names a row, where it has room"
    assert all(sum(f" {name}" in block[0] for block in blocks) >= 1 for name in SWEEP.columns[1:])


def test_a_table_that_fits_and_one_of_a_long_cell_are_one_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(SWEEP[["target", "accuracy"]])
    print_table(pd.DataFrame({"text": ["a" * 200]}))
    print_table(pd.DataFrame({"target": []}))
    assert "\n\n" not in capsys.readouterr().out


def test_a_file_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(WIDE)
    header, row = capsys.readouterr().out.splitlines()
    assert len(header) > 80 and all(name in header for name in WIDE) and row.split()[-1] == "7.000"


def test_intervals_have_as_many_decimals_as_scores(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(pd.DataFrame({"score": [0.99954], "ci": [[0.9967321, 1.0]], "layers": [[1, 2]], "none": [None]}))
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1)[1] == "[0.997, 1.000] [1, 2] None"
