"""Simulated writers whose choices among synonyms depend on hidden bits by a known rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from probes.subtext.choices import Choices

MEANINGS, OPTIONS = 5, 2


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def writer(
    n: int,
    seed: int,
    flips: Mapping[int, float] | None = None,
    *,
    places: int = 4,
    ripple: float = 0.1,
    follows: Collection[int] = (),
    greedy: bool = False,
) -> Choices:
    """Return the choices of a writer with two synonyms for each of five meanings.

    Args:
        n: Number of traces.
        seed: Seed of meanings, hidden bits and draws.
        flips: Place to the probability that the word is not the one of its hidden bit; elsewhere it is drawn at random.
        places: Words of each trace.
        ripple: Spread of the log-odds that a trained model has where it should choose at random.
        follows: Places whose word is the other one than the word before: a rule that the visible text shows.
        greedy: Whether the likeliest word is taken.
    """
    rng = np.random.default_rng([seed, 5])
    meaning = rng.integers(MEANINGS, size=(n, places))
    hidden = rng.integers(OPTIONS, size=(n, places))
    code, own = np.zeros((n, places), int), np.zeros((n, places, OPTIONS))
    for k in range(places):
        logits = rng.normal(scale=ripple / np.sqrt(2), size=(n, OPTIONS))
        decided = 1 - code[:, k - 1] if k + 1 in follows else hidden[:, k]
        flip = 1e-4 if k + 1 in follows else (flips or {}).get(k + 1)
        if flip is not None:
            sure = np.full((n, OPTIONS), np.log(flip))
            sure[np.arange(n), decided] = np.log1p(-flip)
            logits = logits + sure
        own[:, k] = log_softmax(logits)
        code[:, k] = own[:, k].argmax(1) if greedy else rng.random(n) >= np.exp(own[:, k, 0])
    words = np.array([[f"m{m}", f"M{m}"] for m in range(MEANINGS)])[meaning, code]
    rows = n * places
    return Choices(
        trace=np.repeat(np.arange(n), places),
        place=np.tile(np.arange(1, places + 1), n),
        position=np.zeros(rows, int),
        code=code.ravel(),
        meaning=np.char.add("m", meaning.astype(str)).ravel(),
        known=np.ones((rows, OPTIONS), bool),
        own=own.reshape(rows, OPTIONS),
        told_apart=np.ones(rows, bool),
        drawn=np.ones(rows, bool),
        before=[list(row[:k]) for row in words for k in range(places)],
    )
