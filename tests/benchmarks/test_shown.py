"""How measures are printed for people."""

import pytest

from benchmarks.cli import print_measures
from benchmarks.shown import cell, other_seeds

ROW = {
    "id": "papers.a",
    "says": "what it is",
    "value": 0.437,
    "ci": [0.4, 0.5],
    "op": ">=",
    "target": 0.15,
    "met": True,
    "peer": None,
    "peer_version": None,
    "note": "over random init. " * 20,
    "other_seeds": {"1": 0.0082, "2": 0.2},
}


def test_a_training_seed_that_misses_the_target_is_marked() -> None:
    assert other_seeds(ROW) == "0.008 (short), 0.2"
    assert other_seeds({"op": "<=", "target": 0.5, "other_seeds": {"1": 0.5}}) == "0.5"
    assert other_seeds({"op": "<=", "target": 0.5}) == ""


def test_small_numbers_are_not_rounded_away() -> None:
    assert [cell(x) for x in (7.96e-05, -0.0003, 0.00918, 0.0, 781.0, None)] == [
        "8.0e-05",
        "-3.0e-04",
        "0.009",
        "0",
        "781",
        "–",
    ]


def test_a_terminal_gets_a_table_and_then_notes_and_peers(capsys: pytest.CaptureFixture) -> None:
    other = {"id": "papers.b", "value": None, "ci": None, "met": None, "peer": "nnsight", "peer_version": "0.7"}
    print_measures({"measures": [ROW, ROW | other | {"other_seeds": {}, "note": ""}]})
    output = capsys.readouterr().out
    assert "0.437 [0.4, 0.5] >= 0.15" in output and "0.008 (short), 0.2" in output and "not measured" in output
    assert "papers.a\n  over random init." in output and "papers.b\n  beside nnsight 0.7" in output
    assert max(map(len, output.splitlines())) <= 120
    print_measures({"measures": [ROW | {"other_seeds": {}}]})
    assert "other seeds" not in capsys.readouterr().out
