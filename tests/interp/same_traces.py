"""Traces that have to be the same whichever way they were computed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from interp.traces import Trace


def assert_same_traces(ours: Iterable[Trace], theirs: Iterable[Trace], *, atol: float) -> None:
    """Check that traces of the same problems agree: tokens and what they are exactly, figures to `atol`."""
    for one, other in zip(ours, theirs, strict=True):
        assert (one.problem.id, one.token_ids, one.answer) == (other.problem.id, other.token_ids, other.answer)
        assert (one.channel, one.step, one.thought) == (other.channel, other.step, other.thought)
        np.testing.assert_allclose(one.entropy, other.entropy, atol=atol)
        np.testing.assert_allclose(one.logprob, other.logprob, atol=atol)
        assert (one.latents is None) == (other.latents is None)
        if one.latents is not None:
            np.testing.assert_allclose(one.latents, other.latents, atol=atol)
