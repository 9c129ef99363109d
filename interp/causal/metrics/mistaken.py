"""A step with a mistake in it: another value of its task, or in free text another number."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

from interp.causal.visible_text.edits import mistaken_tokens, visible_thought
from interp.models.pieces import token_texts

if TYPE_CHECKING:
    from interp.causal.metrics.base import Chains

_NUMBER = re.compile(r"\d+")


def mistaken_step(chains: Chains, t: int, k: int, rng: Random) -> list[int] | None:
    """Return the tokens of step `k`, from 0, of trace `t` with a mistake, or None where none can be put there.

    A step of a task gets another of the values that it may have. A sentence gets another number in place of its last
    one.

    Args:
        chains: The chains.
        t: Number of the trace.
        k: Number of the step.
        rng: Source of randomness.
    """
    trace = chains.traces[t]
    if k < trace.problem.n_steps:
        return mistaken_tokens(chains.reasoner, trace, visible_thought(trace), k + 1, rng)
    if trace.problem.n_steps:
        return None
    tokenizer, ids = chains.reasoner.tokenizer, chains.step_ids(t)[k]
    text = "".join(token_texts(tokenizer, ids))
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    last = numbers[-1]
    other = str(int(last[0]) + rng.choice((1, 2, 3, 7, 10)))
    changed = text[: last.start()] + other + text[last.end() :]
    return list(tokenizer(changed, add_special_tokens=False)["input_ids"])
