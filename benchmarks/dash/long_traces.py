"""Stores of long traces with random activations: only how fast they are drawn is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from interp.activations import Store, write_store
from interp.problems.base import Problem, structure_hash
from interp.traces import Channel, Trace

LAYERS, WIDTH = 64, 16
_WORDS = (
    "so",
    "the",
    "next",
    "value",
    "is",
    "seven",
    "and",
    "then",
    "we",
    "add",
    "three",
    "to",
    "it",
    "which",
    "gives",
)
_SENTENCE = 18  # tokens


def long_trace(number: int, tokens: int) -> Trace:
    """Return a trace of that many tokens in sentences of 18."""
    rng = np.random.default_rng(number)
    ids = rng.integers(0, len(_WORDS), size=tokens).tolist()
    n = tokens - 2
    question = f"question {number}"
    problem = Problem(
        id=f"{number:08x}",
        task="counter",
        question=question,
        answer="7",
        steps=(),
        structure=structure_hash(question),
        split="test",
        readable=question,
        meta={},
    )
    return Trace(
        id=number,
        problem=problem,
        reasoner="by hand",
        token_ids=ids,
        tokens=[f"Ġ{_WORDS[k]}" for k in ids],
        channel=[Channel.PROMPT.value, *[Channel.THOUGHT.value] * n, Channel.ANSWER.value],
        step=[0] * tokens,
        thought=[0, *range(1, n + 1), 0],
        entropy=rng.exponential(0.5, size=tokens).tolist(),
        logprob=(-rng.exponential(0.5, size=tokens)).tolist(),
        text="",
        answer="7",
        correct=True,
        sentence=[0, *(1 + k // _SENTENCE for k in range(n)), 0],
    )


def long_store(folder: Path, tokens: int, traces: int) -> Store:
    """Write a store of traces of that many tokens, at 64 layers of width 16."""
    rng = np.random.default_rng(0)
    made = [long_trace(number, tokens) for number in range(traces)]
    acts = {
        f"blocks.{layer}.hook_out": lambda index: rng.standard_normal((len(index), WIDTH), dtype=np.float32)
        for layer in range(LAYERS)
    }
    return write_store(folder, made, acts, dtype="float16", channels=["prompt", "thought", "answer"], shard_size=4)
