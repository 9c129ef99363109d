"""Forcing: give a reasoner a visible thought that it did not write, and record its answer.

A reasoner whose answer depends on its thought answers wrongly after the thought of another problem; one whose thought
does not matter answers the same. This is the causal check of whether a trace means anything (Lanham et al., arXiv
2307.13702, truncate and corrupt what was written; "Beyond Semantics", arXiv 2505.13775, trains on other problems'
traces).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interp.errors import UsageError
from interp.problems.answers import final_answer
from interp.problems.base import Problem
from interp.problems.equality import same_answer
from interp.reasoners.base import Reasoner
from interp.reasoners.needs import needs_only_text
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace, TraceSet

Thought = str | Sequence[int]


def force(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    thoughts: Sequence[Thought],
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> TraceSet:
    """Answer each problem greedily after a given thought.

    Args:
        reasoner: A reasoner that thinks in text.
        problems: The problems.
        thoughts: One for each problem: a text, or token ids as `thought_ids` returns them. Each is put between the
            reasoner's markers.
        batch_size: Problems that are answered at once.
        progress: Called with (problems done, problems in all).

    Returns:
        One trace for each problem.

    Raises:
        UsageError: The reasoner does not think in text, the tokenizer does not know a word, or a thought leaves no
            room for the answer.
    """
    _check(reasoner, problems, thoughts)
    ids = [_ids(reasoner, thought) for thought in thoughts]
    return reasoner.think_given(problems, ids, batch_size=batch_size, progress=progress)


def resume(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    prefixes: Sequence[Thought],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
) -> TraceSet:
    """Continue each given beginning of a thought in the reasoner's own words, and answer.

    Args:
        reasoner: A reasoner that thinks in text.
        problems: The problems.
        prefixes: One for each problem, as in `force`; they become part of the traces. An empty one is thinking as
            usual.
        temperature: 0 is greedy.
        seed: Seed of the sampling.
        batch_size: Problems that are thought about at once.

    Returns:
        One trace for each problem, in order.

    Raises:
        UsageError: As in `force`.
    """
    _check(reasoner, problems, prefixes)
    ids = [_ids(reasoner, prefix) for prefix in prefixes]
    # Where tokens are drawn, a draw depends on a trace's number among those with a beginning of its length.
    lengths = np.array([len(prefix) if temperature else 0 for prefix in ids])
    resumed: dict[int, Trace] = {}
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length).tolist()
        traces = reasoner.think_given(
            [problems[k] for k in rows],
            [ids[k] for k in rows],
            go_on=True,
            batch_size=batch_size,
            temperature=temperature,
            seed=seed,
        )
        resumed |= {k: replace(trace, id=k) for k, trace in zip(rows, traces, strict=True)}
    return TraceSet([resumed[k] for k in range(len(problems))])


def own_answers(reasoner: Reasoner, traces: TraceSet, *, batch_size: int = 64) -> tuple[TraceSet, str]:
    """Let a reasoner answer after the thoughts of imported traces, whose answers another program wrote.

    A test that compares answers before and after an edit needs both from one model.

    Args:
        reasoner: A reasoner that thinks in text.
        traces: Its traces. Those that it wrote itself stay as they are.
        batch_size: Problems that are answered at once.

    Returns:
        The traces, without imported ones that have no thought, and a sentence that says so; empty where none is imported.

    Raises:
        UsageError: As in `force`, or no trace has a thought.
    """
    imported = [trace for trace in traces if trace.written_by]
    if not imported:
        return traces, ""
    kept = [trace for trace in traces if not trace.written_by or Channel.THOUGHT in trace.channel]
    written = [trace for trace in kept if trace.written_by]
    if not kept:
        raise UsageError(f"expected imported traces with thoughts, got {len(imported)} without; import others.")
    ids = [thought_ids(trace, reasoner.tokenizer) for trace in written]
    answered = iter(force(reasoner, [t.problem for t in written], ids, batch_size=batch_size) if written else ())
    own = [trace if not trace.written_by else next(answered) for trace in kept]
    same = sum(
        same_answer(final_answer(new.answer).text, final_answer(old.answer).text)
        for new, old in zip(own, kept, strict=True)
        if old.written_by
    )
    note = (
        f"{reasoner.name} did not write {len(imported)} of {len(traces)} texts, so its own answers after them are compared; "
        f"{same} of {len(written)} say what the written answers say"
    )
    note += f"; {len(traces) - len(kept)} without a thought are left out" if len(kept) < len(traces) else ""
    numbered = [replace(trace, id=k) for k, trace in enumerate(own)]
    return TraceSet(numbered), note


def _check(reasoner: Reasoner, problems: Sequence[Problem], thoughts: Sequence[Thought]) -> None:
    needs_only_text(reasoner)
    if len(problems) != len(thoughts):
        raise UsageError(
            f"expected one thought for each problem, got {len(thoughts)} for {len(problems)}; give as many."
        )


def thought_ids(trace: Trace, tokenizer: Any = None) -> list[int]:
    """Return the token ids of a trace's visible thought.

    Args:
        trace: The trace.
        tokenizer: Its tokenizer; with it, a thought whose last letters share a token with the end marker is whole.

    Returns:
        Token ids at positions of the channel `thought`, without markers, and those of its last letters.
    """
    ids = [token for token, channel in zip(trace.token_ids, trace.channel, strict=True) if channel == Channel.THOUGHT]
    return ids if tokenizer is None else ids + ending_ids(trace, tokenizer)


def ending_ids(trace: Trace, tokenizer: Any) -> list[int]:
    """Return tokens for the last letters of a visible thought that share a token with the end marker; mostly none."""
    thought = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    last = thought[-1] if thought else max(k for k, channel in enumerate(trace.channel) if channel == Channel.PROMPT)
    if last + 1 >= len(trace) or trace.channel[last + 1] != Channel.SPECIAL:
        return []
    text = trace.text.removesuffix(trace.answer).rstrip()
    written = tokenizer.decode([trace.token_ids[k] for k in thought]).lstrip() if thought else ""
    ending = text[len(written) :]
    shared = tokenizer.decode([trace.token_ids[last + 1]])
    if not ending or not text.startswith(written) or not shared.lstrip().startswith(ending.lstrip()):
        return []
    return list(tokenizer(ending, add_special_tokens=False)["input_ids"])


def gold_thought(problem: Problem) -> str:
    """Return a problem's gold steps as the text of a thought.

    Args:
        problem: The problem.

    Returns:
        The texts of its steps, joined by spaces.
    """
    return " ".join(step.text for step in problem.steps)


def _ids(reasoner: Reasoner, thought: Thought) -> list[int]:
    if not isinstance(thought, str):
        return list(thought)
    ids = reasoner.tokenizer(thought, add_special_tokens=False)["input_ids"] if thought else []
    if reasoner.tokenizer.unk_token_id is not None and reasoner.tokenizer.unk_token_id in ids:
        raise UsageError(
            f"expected words that {reasoner.name} knows, got a thought with unknown ones, {thought[:60]!r}; use words of its vocabulary."
        )
    return list(ids)
