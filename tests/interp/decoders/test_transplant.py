"""Thoughts read by what other problems answer with them, without a label of the problem that is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import interp
from interp.activations.step_positions import step_positions
from interp.decoders.transplant import Transplant
from interp.errors import UsageError


def store_of(name: str, n: int) -> tuple[interp.Reasoner, Any]:
    reasoner = interp.load(name)
    traces = reasoner.think(reasoner.task.generate(n, seed=4, split="test"))
    return reasoner, interp.record(reasoner, traces, channels=["latent", "special"])


def read(name: str, n: int, **options: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Fit to the first half of the traces, read the second, and return the reading, gold values and steps."""
    reasoner, store = store_of(name, n)
    rows = step_positions(store).assign(read_step=lambda table: table["step"])
    first = rows["trace"] < n // 2
    decoder = Transplant(reasoner, **options).fit(store, store.addresses[0], rows[first], np.array([]))
    rest = rows[~first].reset_index(drop=True)
    gold = np.array(
        [store.traces[t].problem.steps[k - 1].value for t, k in zip(rest["trace"], rest["step"], strict=True)]
    )
    return decoder.decode(store, store.addresses[0], rest, top_k=3), gold, rest["step"].to_numpy()


def test_values_of_continuous_thoughts_are_read_from_what_other_problems_answer() -> None:
    ranking, gold, _ = read("chain-coconut", 60)
    assert (ranking.texts[:, 0] == gold).mean() > 0.95
    assert ranking.scores[:, 0].mean() > 0.95 and (ranking.scores.sum(axis=1) <= 1 + 1e-9).all()


def test_keys_and_values_alone_are_read_at_the_last_thought_and_less_at_earlier_ones() -> None:
    reasoner, store = store_of("chain-coconut", 60)
    rows = step_positions(store).assign(read_step=lambda table: table["step"])
    decoder = Transplant(reasoner, moved="cache").fit(store, store.addresses[0], rows, np.array([]))
    problems = [store.traces[t].problem for t in rows["trace"]]
    gold = np.array([problem.steps[k - 1].value for problem, k in zip(problems, rows["step"], strict=True)])
    right = decoder.decode(store, store.addresses[0], rows).texts[:, 0] == gold
    is_last = rows["step"].to_numpy() == [problem.n_steps for problem in problems]
    assert right[is_last].mean() > 0.9 and right[~is_last].mean() < 0.6


def test_a_pause_that_nothing_uses_is_read_by_no_more_than_chance() -> None:
    ranking, gold, _ = read("chain-pause-as-thought", 60)
    assert (ranking.texts[:, 0] == gold).mean() < 0.3


def test_a_problem_is_no_host_of_itself() -> None:
    reasoner, store = store_of("chain-coconut", 12)
    rows = step_positions(store).assign(read_step=lambda table: table["step"])
    one = rows[rows["trace"] == 0]
    decoder = Transplant(reasoner).fit(store, store.addresses[0], one, np.array([]))
    assert (decoder.decode(store, store.addresses[0], one).texts == "").all()


def test_what_cannot_be_moved_is_refused() -> None:
    reasoner, store = store_of("chain-coconut", 4)
    with pytest.raises(UsageError, match="expected a known part of a thought to move, got 'words'"):
        Transplant(reasoner, moved="words")
    with pytest.raises(UsageError, match="expected problems for a transplant"):
        Transplant(reasoner).fit(store, store.addresses[0], store.index.iloc[:0], np.array([]))
