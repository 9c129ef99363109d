"""Options of `cotlens bench`: sizes, training seeds, and their old names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RESULT = {"measures": [], "missing": []}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list:
    """Calls of the benches, which measure nothing here."""
    import benchmarks.capture.contest
    import benchmarks.causal.figures
    import benchmarks.cli
    import benchmarks.decoders.figures
    import benchmarks.generate
    import benchmarks.papers.table
    import benchmarks.probes.figures
    import benchmarks.sae.figures
    import benchmarks.store.contest
    import benchmarks.subtext

    calls: list = []

    def bench(*arguments: object, **options: object) -> dict:
        calls.append((arguments, options))
        return RESULT

    for module in (
        benchmarks.capture.contest,
        benchmarks.causal.figures,
        benchmarks.decoders.figures,
        benchmarks.generate,
        benchmarks.papers.table,
        benchmarks.probes.figures,
        benchmarks.sae.figures,
        benchmarks.store.contest,
        benchmarks.subtext,
    ):
        monkeypatch.setattr(module, "bench", bench)
    return calls


@pytest.mark.parametrize(
    ("new", "old", "name"),
    [
        (["papers", "--size", "full"], ["papers", "--full"], "--size full"),
        (["subtext", "--size", "full"], ["subtext", "--full"], "--size full"),
        (["decoders", "--size", "quick"], ["decoders", "--quick"], "--size quick"),
        (["causal", "--size", "full"], ["causal", "--scale", "2"], "--size"),
        (
            ["papers", "--organisms", ".", "--training-seed", "1"],
            ["papers", "--organisms", ".", "--seed", "1"],
            "--training-seed",
        ),
    ],
)
def test_an_old_option_does_the_same_and_warns(
    cotlens: Callable, called: list, new: list, old: list, name: str
) -> None:
    first, second = cotlens("bench", *new, "--json"), cotlens("bench", *old, "--json")
    assert first.code == second.code == 0
    strip = lambda call: ([a for a in call[0] if isinstance(a, (str, bool, int, float, type(None)))], call[1])  # noqa: E731
    assert strip(called[0]) == strip(called[1])
    assert "warning" not in first.err
    assert f"is now {name}; the old name works until version 0.3" in second.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["papers", "--size", "quick"], "expected --size normal or full for this bench, got 'quick'"),
        (["decoders", "--size", "full"], "expected --size quick or normal for this bench, got 'full'"),
        (["causal", "--size", "huge"], "expected --size quick or normal or full for this bench, got 'huge'"),
        (["causal", "--scale", "0"], "expected a --scale between 0 and 10, got 0"),
        (["papers", "--training-seed", "1"], "expected --organisms FOLDER with --training-seed 1, got none"),
        (["decoders", "--organisms", "nowhere"], "expected a folder of organisms at nowhere, got none"),
    ],
)
def test_bad_options_are_one_line(cotlens: Callable, called: list, arguments: list, message: str) -> None:
    ended = cotlens("bench", *arguments)
    assert ended.code == 2 and message in ended.error and not called
    assert Path("nowhere").exists() is False


@pytest.mark.parametrize("bench", ["capture", "generate", "probes", "sae", "store"])
def test_parts_of_a_bench_can_be_chosen(cotlens: Callable, called: list, bench: str) -> None:
    assert cotlens("bench", bench, "--part", "scale", "--part", "growth", "--json").code == 0
    assert cotlens("bench", bench, "--json").code == 0
    assert [list(options["parts"]) for _, options in called] == [["scale", "growth"], []]
