"""Draws of the next token against the definition: a softmax at a temperature, cut to the nucleus, and its quantiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.reasoners.rollouts.sampling import Sampler, draw

ROWS, VOCABULARY = 3, 7


def nucleus(logits: np.ndarray, temperature: float, top_p: float) -> np.ndarray:
    """Probabilities of one row's tokens: the likeliest are kept until they hold `top_p`."""
    p = np.exp((logits - logits.max()) / temperature)
    p /= p.sum()
    kept, total = np.zeros_like(p), 0.0
    for token in np.argsort(-p):
        if total >= top_p:
            break
        kept[token], total = p[token], total + p[token]
    return kept / kept.sum()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_p=st.sampled_from([1e-6, 0.3, 0.7, 0.95, 1.0]),
)
def test_a_draw_is_a_quantile_of_the_nucleus(seed: int, temperature: float, top_p: float) -> None:
    rng = np.random.default_rng(seed)
    logits, uniform = rng.normal(size=(ROWS, VOCABULARY)) * 2, rng.random(ROWS)
    drawn = draw(torch.from_numpy(logits).float(), temperature, top_p, uniform.tolist()).tolist()
    for row, token, point in zip(logits.astype(np.float32).astype(float), drawn, uniform, strict=True):
        ends = np.cumsum(nucleus(row, temperature, top_p))
        before = ends[token - 1] if token else 0.0
        assert before - 1e-9 <= point <= ends[token] + 1e-9 and ends[token] > before


@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_logits_that_are_not_finite_draw_some_token(top_p: float) -> None:
    """They are refused a few tokens later, and until then the model must find the token's embedding."""
    logits = torch.full((2, VOCABULARY), float("nan"))
    assert all(0 <= token < VOCABULARY for token in draw(logits, 1.0, top_p, [0.0, 0.9]).tolist())


def test_no_temperature_takes_the_likeliest_token_of_each_row() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 9.0, 10.0], [3.0, 1.0, 2.0]])
    assert Sampler().choose(logits, [0, 1, 2], [4, 4, 4]).tolist() == [1, 2, 0]


@pytest.mark.parametrize("top_p", [0.5, 1.0])
@pytest.mark.parametrize("temperature", [1e-320, 1e-30])
def test_a_temperature_near_0_takes_the_likeliest_token(temperature: float, top_p: float) -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 9.0, 10.0], [3.0, 1.0, 2.0], [-9.0, -8.0, -7.0]])
    for point in (0.0, 0.5, 0.999):
        assert draw(logits, temperature, top_p, [point] * 4).tolist() == [1, 2, 0, 2]


def test_a_draw_depends_on_seed_trace_and_position_alone() -> None:
    logits = torch.zeros(4, 1000)
    sampler = Sampler(seed=3, temperature=1.0)
    traces, positions = [5, 5, 6, 9], [2, 3, 2, 2]
    together = sampler.choose(logits, traces, positions).tolist()
    alone = [
        int(sampler.choose(logits[:1], [trace], [position])) for trace, position in zip(traces, positions, strict=True)
    ]
    assert together == alone and len(set(together)) == 4
    assert Sampler(seed=4, temperature=1.0).choose(logits, traces, positions).tolist() != together


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "expected temperature to be 0 .greedy. or more, got -0.1"),
        ({"temperature": float("inf")}, "expected temperature to be 0 .greedy. or more, got inf"),
        ({"temperature": float("nan")}, "expected temperature to be 0 .greedy. or more, got nan"),
        ({"top_p": 0.0}, "expected top_p to be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.001}, "expected top_p to be above 0 and at most 1, got 1.001"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampler(**options)
