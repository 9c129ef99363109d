"""A command that cannot test a reasoner says so before the reasoner thinks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from interp.reasoners.base import Reasoner


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("causal faithfulness chain-coconut", "whose thoughts are written, got chain-coconut, which thinks silently"),
        ("causal faithfulness chain-direct", "that thinks before it answers, got chain-direct"),
        ("causal faithfulness self-reasoning", "that thinks in text, got self-reasoning"),
        ("causal ablate chain-direct", "that thinks before it answers, got chain-direct"),
        ("causal interchange chain-direct --used-map", "that thinks before it answers, got chain-direct"),
        ("causal swap chain-text chain-direct", "expected a writer of text, got chain-direct"),
        ("subtext commitment chain-direct", "that thinks before it answers, got chain-direct"),
        ("subtext foresight chain-coconut", "whose thoughts are written, got chain-coconut"),
        ("subtext measure chain-coconut", "whose thoughts are written, got chain-coconut"),
        ("subtext locate chain-coconut", "whose thoughts are written, got chain-coconut"),
        ("subtext discover chain-coconut", "whose thoughts are written, got chain-coconut"),
        ("subtext paraphrase chain-coconut", "whose thoughts are written, got chain-coconut"),
        ("subtext uncertainty chain-coconut", "a task that knows the posterior after each step, got chain"),
    ],
)
def test_a_reasoner_that_does_not_fit_is_refused_before_it_thinks(
    command: str, sentence: str, cotlens: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thinks(*_: object, **__: object) -> None:
        raise AssertionError("it thought about problems first")

    monkeypatch.setattr(Reasoner, "think", thinks)
    ended = cotlens(*command.split())
    assert ended.code == 2 and sentence in ended.error, ended.err


@pytest.mark.parametrize(
    "command",
    [
        "causal follow chain-coconut --n 20",
        "causal heads chain-text --n 4 --length 8",
        "subtext compute chain-text --n 20",
    ],
)
def test_the_result_of_a_test_is_kept(command: str, cotlens: Callable, tmp_path: Path) -> None:
    from interp.runtime.results import read_result

    out = tmp_path / "result.json"
    ended = cotlens(*command.split(), "--out", out)
    assert ended.code == 0, ended.err
    content = read_result(out)
    assert content["name"] == " ".join(command.split()[:2]) and content["result"]
    again = cotlens(*command.split(), "--out", out)
    assert again.code == 2 and "which exists already" in again.error
