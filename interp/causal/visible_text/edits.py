"""Edits of a visible thought, and the answers after them: cut off, mistaken, filler, reworded, relabelled, reordered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Any

import pandas as pd

from interp.causal.patching.donors import implied_answer
from interp.causal.visible_text.forcing import ending_ids, force, resume
from interp.causal.visible_text.rewording import reworded_ids
from interp.errors import UsageError
from interp.models.pieces import token_texts
from interp.problems import task as make_task
from interp.problems.base import Task
from interp.reasoners.base import Reasoner
from interp.text.wording import Wording, words
from interp.traces import UNPLACED, Channel, Trace, TraceSet


@dataclass(frozen=True)
class WrittenThought:
    """A visible thought by steps.

    Attributes:
        steps: Token ids of each step.
    """

    steps: tuple[tuple[int, ...], ...]

    def first(self, k: int) -> list[int]:
        """Return the token ids of the first `k` steps."""
        return [token for step in self.steps[:k] for token in step]

    def with_step(self, k: int, tokens: Sequence[int]) -> WrittenThought:
        """Return the thought with step `k`, counted from 1, replaced."""
        return WrittenThought((*self.steps[: k - 1], tuple(tokens), *self.steps[k:]))

    @property
    def ids(self) -> list[int]:
        """Token ids of the whole thought."""
        return self.first(len(self.steps))


@dataclass(frozen=True)
class MistakesResult:
    """Mistakes that were put into visible thoughts, and the answers after them.

    Attributes:
        table: One row for each edit: trace, step, steps, after (`own words` or `as written`), value, implied (the answer
            that follows from the mistake), answer, kept (the answer is the trace's), followed (it is the implied one),
            structure.
        n_steps: Steps of all problems.
        left_out: Steps into which no mistake was put: not written, without their value, or without another one.
    """

    table: pd.DataFrame
    n_steps: int
    left_out: int

    @property
    def left_out_share(self) -> float:
        """The share of steps that are left out."""
        return self.left_out / self.n_steps

    def sentence(self) -> str:
        """Return how many steps are left out, in words."""
        return no_mistake_in(self.left_out, self.n_steps)


def no_mistake_in(left_out: int, n_steps: int) -> str:
    """Return in words into how many steps no mistake could be put."""
    return (
        f"no mistake could be put into {left_out} of {n_steps} steps ({left_out / n_steps:.3f}): they are not written, or "
        "without a value that another could replace."
    )


def visible_thought(trace: Trace, tokenizer: Any = None) -> WrittenThought:
    """Return the visible thought of a trace by its gold steps, or by its sentences where the problem has no steps.

    Args:
        trace: The trace.
        tokenizer: Its tokenizer; with it, a thought whose last letters share a token with the end marker is whole.

    Returns:
        The token ids of its visible steps.

    Raises:
        UsageError: The trace has no visible thought.
    """
    steps: dict[int, list[int]] = {}
    numbers = trace.sentence if trace.sentence and not trace.problem.n_steps else trace.step
    for token, channel, step in zip(trace.token_ids, trace.channel, numbers, strict=True):
        if channel == Channel.THOUGHT:
            steps.setdefault(step, []).append(token)
    if not steps:
        raise UsageError(
            f"expected a visible thought, got trace {trace.id}, which has no visible thought; use a text reasoner."
        )
    if tokenizer is not None:
        steps[max(steps)] += ending_ids(trace, tokenizer)
    return WrittenThought(tuple(tuple(steps[k]) for k in sorted(steps)))


def early_answers(reasoner: Reasoner, traces: TraceSet) -> list[TraceSet]:
    """Return the answers after the first k steps, for k from 0 to the most steps.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces with visible thoughts. One with fewer than k steps is answered after all of them.

    Returns:
        One set of traces for each k.
    """
    thoughts = [visible_thought(trace, reasoner.tokenizer) for trace in traces]
    longest = max(len(thought.steps) for thought in thoughts)
    return [
        force(reasoner, traces.problems, [thought.first(k) for thought in thoughts], batch_size=256)
        for k in range(longest + 1)
    ]


def mistakes(reasoner: Reasoner, traces: TraceSet, seed: int = 0) -> MistakesResult:
    """Put another value into each step, and answer after it.

    After the mistake either the reasoner continues (`own words`), or its original text follows (`as written`). A value of
    several tokens is replaced where the step completes it. Steps that do not write their value are left out and counted.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces with visible thoughts.
        seed: Seed of the values.

    Returns:
        The answers, and how many steps are left out.

    Raises:
        UsageError: No step writes a value of its task.
    """
    task, rng = make_task(traces[0].problem.task), Random(f"mistakes|{seed}")
    # A file of questions knows its values in the order of its lines.
    edits: list[tuple[int, int, str, WrittenThought]] = []
    for number, trace in enumerate(traces):
        thought = visible_thought(trace, reasoner.tokenizer)
        for k in range(1, min(len(thought.steps), trace.problem.n_steps) + 1):
            mistake = _with_mistake(reasoner, trace, thought, k, rng)
            if mistake is not None:
                edits.append((number, k, *mistake))
    if not edits:
        raise UsageError("no step of these traces writes a value of its task, so no mistake can be put there.")
    problems = [traces[t].problem for t, *_ in edits]
    after = {
        "own words": resume(reasoner, problems, [thought.first(k) for _, k, _, thought in edits]),
        "as written": force(reasoner, problems, [thought.ids for *_, thought in edits], batch_size=256),
    }
    rows = []
    for continuation, answered in after.items():
        for (t, k, value, _), trace in zip(edits, answered, strict=True):
            answer = implied_answer(task, traces[t].problem, k, value)
            rows.append(
                {
                    "trace": t,
                    "step": k,
                    "steps": traces[t].problem.n_steps,
                    "after": continuation,
                    "value": value,
                    "implied": answer,
                    "answer": trace.answer,
                    "kept": task.same_answer(traces[t].problem, trace.answer, traces[t].answer),
                    "followed": answer is not None and task.says(traces[t].problem, trace.answer, answer),
                    "structure": traces[t].problem.structure,
                }
            )
    n_steps = sum(trace.problem.n_steps for trace in traces)
    return MistakesResult(pd.DataFrame(rows), n_steps, n_steps - len(edits))


def mistaken_tokens(reasoner: Reasoner, trace: Trace, thought: WrittenThought, k: int, rng: Random) -> list[int] | None:
    """Return the tokens of step k, from 1, with another value in the same wording; None where none can be put there."""
    mistake = _with_mistake(reasoner, trace, thought, k, rng)
    return None if mistake is None else list(mistake[1].steps[k - 1])


def with_value(reasoner: Reasoner, trace: Trace, step: int, value: str) -> WrittenThought | None:
    """Return a visible thought with another value written at a step, in the same wording.

    Args:
        reasoner: The reasoner of the trace.
        trace: The trace.
        step: Number of the step, from 1.
        value: The value to write.

    Returns:
        The thought; None where the step does not write its value, or the tokenizer cannot write the new one there.
    """
    thought = visible_thought(trace, reasoner.tokenizer)
    if not 1 <= step <= min(len(thought.steps), trace.problem.n_steps):
        return None
    changed = _with_mistake(reasoner, trace, thought, step, Random(0), [value])
    return None if changed is None else changed[1]


def _with_mistake(
    reasoner: Reasoner, trace: Trace, thought: WrittenThought, k: int, rng: Random, values: Sequence[str] = ()
) -> tuple[str, WrittenThought] | None:
    """Return another value, one of `values` where given, and the thought with it in place of step k's own."""
    tokens = list(thought.steps[k - 1])
    task, gold = make_task(trace.problem.task), trace.problem.steps[k - 1].value
    words = [reasoner.tokenizer.decode([token]).strip() for token in tokens]
    places = [j for j, word in enumerate(words) if word and gold in (task.meaning(word), *task.synonyms(word))]
    values = values or _values_of_step(task, trace, k)
    if not places:
        return _with_other_text(reasoner, trace, thought, k, rng, values)
    # The token may hold more than the word, such as the space before it.
    word = words[places[-1]]
    wording = task.synonyms(word).index(word)
    (token,) = reasoner.tokenizer.convert_ids_to_tokens([tokens[places[-1]]])
    changed = {value: token.replace(word, _in_wording(task, value, wording)) for value in values if value != gold}
    known = [value for value, other in changed.items() if reasoner.vocabulary.knows(other)]
    if not known:
        return _with_other_text(reasoner, trace, thought, k, rng, values)
    value = rng.choice(known)
    tokens[places[-1]] = reasoner.vocabulary.token_id(changed[value])
    return value, thought.with_step(k, tokens)


def _with_other_text(
    reasoner: Reasoner, trace: Trace, thought: WrittenThought, k: int, rng: Random, values: Sequence[str]
) -> tuple[str, WrittenThought] | None:
    """Return another value, and the thought with its text in place of step k's own, whose text takes several tokens.

    The tokens around the value stay. The new ones are checked by decoding, because a tokenizer may write a text in the
    middle of another differently from the same text alone.
    """
    tokens, gold = list(thought.steps[k - 1]), trace.problem.steps[k - 1].value
    last = _last_token_of_value(trace, k)
    if last is None or last >= len(tokens):
        return None
    pieces = token_texts(reasoner.tokenizer, tokens)
    ends = list(accumulate(map(len, pieces)))
    text, start = "".join(pieces), "".join(pieces[: last + 1]).rfind(gold)
    if start < 0 or start + len(gold) <= ends[last] - len(pieces[last]):
        return None
    first = next(j for j, end in enumerate(ends) if end > start)
    before, after = text[ends[first] - len(pieces[first]) : start], text[start + len(gold) : ends[last]]
    for value in rng.sample(values, len(values)):
        if value == gold:
            continue
        written = before + value + after
        for part in (written, written.lstrip()):  # some tokenizers write the space before a word by themselves
            ids = reasoner.tokenizer(part, add_special_tokens=False)["input_ids"]
            changed = [*tokens[:first], *ids, *tokens[last + 1 :]]
            expected = text[:start] + value + text[start + len(gold) :]
            if "".join(token_texts(reasoner.tokenizer, changed)) == expected:
                return value, thought.with_step(k, changed)
    return None


def _values_of_step(task: Task, trace: Trace, k: int) -> list[str]:
    """Return the values that a mistake in step k may write, sorted, so that a draw does not depend on the task's order.

    A file of questions without counterfactuals knows no other value of a step; the values of its other steps are taken.
    """
    values = set(task.step_values(trace.problem, k))
    if values <= {trace.problem.steps[k - 1].value}:
        values = set(task.values)
    return sorted(values, key=lambda value: (len(value), value))


def _last_token_of_value(trace: Trace, k: int) -> int | None:
    """Return which of the tokens of step k completes its value, from 0; None where the step has no place."""
    position = trace.value_positions[k - 1] if k <= len(trace.value_positions) else UNPLACED
    of_step = [
        j
        for j, (channel, step) in enumerate(zip(trace.channel, trace.step, strict=True))
        if channel == Channel.THOUGHT and step == k
    ]
    return of_step.index(position) if position in of_step else None


def _in_wording(task: Task, value: str, wording: int) -> str:
    """Return a value's word of the same number among its synonyms, or the value where it has fewer."""
    synonyms = task.synonyms(value)
    return synonyms[wording] if wording < len(synonyms) else value


def filler(reasoner: Reasoner, traces: TraceSet, token: str | None = None) -> TraceSet:
    """Answer after as many filler tokens as the thought has.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces with visible thoughts.
        token: The filler. Default: the reasoner's pause token, or dots where its vocabulary has no such token.

    Returns:
        The answered traces.

    References:
        Pfau et al., "Let's Think Dot by Dot", arXiv 2404.15758.
    """
    fill = reasoner.vocabulary.token_id(token) if token is not None else filler_id(reasoner)
    return force(reasoner, traces.problems, [[fill] * len(visible_thought(t).ids) for t in traces], batch_size=256)


def filler_id(reasoner: Reasoner) -> int:
    """Return the pause token, or dots as in the paper; models that learned no pause have dots in their vocabulary."""
    vocabulary, pause = reasoner.vocabulary, reasoner.config.pause
    for text in () if vocabulary.knows(pause) else ("...", "."):
        ids = reasoner.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != vocabulary.unknown_id:
            return int(ids[0])
    return vocabulary.token_id(pause)


def reword(reasoner: Reasoner, traces: TraceSet, wording: Wording, seed: int = 0) -> TraceSet:
    """Answer after the same thoughts in other words of the same meaning."""
    rng = Random(f"reworded|{seed}")
    ids = [
        reworded_ids(reasoner, trace, wording.paraphrase([word.text for word in words(trace)], rng)) for trace in traces
    ]
    return force(reasoner, traces.problems, ids, batch_size=256)


def relabel(reasoner: Reasoner, traces: TraceSet, seed: int = 0) -> tuple[TraceSet, list[str]]:
    """Answer with the task's interchangeable symbols permuted in question and thought.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces with visible thoughts.
        seed: Seed of the permutations.

    Returns:
        The answered traces, and the original answers with their symbols permuted alike.

    Raises:
        UsageError: The task has no such symbols.
    """
    task, rng = make_task(traces[0].problem.task), Random(f"relabelled|{seed}")
    symbols = list(task.symbols)
    if len(symbols) < 2:
        raise UsageError(f"task {task.name} has no symbols that could be exchanged for each other.")
    problems, thoughts, expected = [], [], []
    for trace in traces:
        names = dict(zip(symbols, rng.sample(symbols, len(symbols)), strict=True))
        names |= {f"{one}:": f"{other}:" for one, other in names.items()}  # where a name is being defined

        def permuted(text: str, names: dict[str, str] = names) -> str:
            return re.sub(r"\S+", lambda word: names.get(word[0], word[0]), text)

        thought = reasoner.tokenizer.decode(visible_thought(trace).ids)
        answer = permuted(trace.problem.answer)
        problems.append(replace(trace.problem, question=permuted(trace.problem.question), answer=answer))
        thoughts.append(permuted(thought))
        expected.append(permuted(trace.answer))
    return force(reasoner, problems, thoughts, batch_size=256), expected


def reorder(reasoner: Reasoner, traces: TraceSet) -> tuple[TraceSet, list[int]]:
    """Answer with two neighbouring, independent steps exchanged.

    Two steps are independent where they share no symbol of the task.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces with visible thoughts.

    Returns:
        The answered traces, and the indices of the traces that have such steps.

    Raises:
        UsageError: No trace has such steps.
    """
    task = make_task(traces[0].problem.task)
    symbols = set(task.symbols)
    chosen, thoughts = [], []
    for number, trace in enumerate(traces):
        steps = visible_thought(trace).steps
        names = [
            {word.removesuffix(":") for word in reasoner.tokenizer.decode(list(step)).split()} & symbols
            for step in steps
        ]
        independent = [k for k in range(len(steps) - 1) if names[k] and names[k + 1] and not names[k] & names[k + 1]]
        if independent:
            k = independent[0]
            order = [*range(k), k + 1, k, *range(k + 2, len(steps))]
            chosen.append(number)
            thoughts.append([token for place in order for token in steps[place]])
    if not chosen:
        raise UsageError("no two neighbouring steps of these traces are independent, so none can be exchanged.")
    return force(reasoner, [traces[k].problem for k in chosen], thoughts, batch_size=256), chosen
