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


def test_a_file_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(WIDE)
    header, row = capsys.readouterr().out.splitlines()
    assert len(header) > 80 and all(name in header for name in WIDE) and row.split()[-1] == "7.000"


def test_intervals_have_as_many_decimals_as_scores(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(pd.DataFrame({"score": [0.99954], "ci": [[0.9967321, 1.0]], "layers": [[1, 2]], "none": [None]}))
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1)[1] == "[0.997, 1.000] [1, 2] None"
