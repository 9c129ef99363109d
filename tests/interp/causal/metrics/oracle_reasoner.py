"""A reasoner without a network that uses the steps of task `reasons` exactly as its oracle says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.models.tokenizers import BEGIN, END, word_tokenizer
from interp.problems.base import Problem
from interp.problems.reasons import ReasonsTask
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import Channel, Trace, TraceSet


class OracleReasoner:
    """Writes gold steps, and answers from what is written or from the hint, as the cue says.

    A step whose value is not written (filler) leaves the value as it was.
    """

    name, kind, thinks_in_text = "oracle", "text", True

    def __init__(self) -> None:
        self.task = ReasonsTask(steps="2-4")
        self.tokenizer = word_tokenizer(self.task.vocabulary())
        self.config = ReasonerConfig(kind="text", task=self.task.spec, thoughts_per_step=2)
        self.vocabulary = Vocabulary(self.tokenizer, self.config, name=self.name, max_positions=None)

    def think(self, problems: Sequence[Problem], **options: Any) -> TraceSet:
        """Return traces of gold steps and the answers."""
        return self.think_given(problems, [[] for _ in problems], go_on=True)

    def think_given(
        self, problems: Sequence[Problem], thoughts: Sequence[Sequence[int]], *, go_on: bool = False, **options: Any
    ) -> TraceSet:
        """Return traces that begin with given thoughts."""
        return TraceSet([self._trace(k, *pair, go_on) for k, pair in enumerate(zip(problems, thoughts, strict=True))])

    def _trace(self, number: int, problem: Problem, thought: Sequence[int], go_on: bool) -> Trace:
        words = [self.tokenizer.convert_ids_to_tokens(int(token)) for token in thought]
        given = [words[k : k + 2] for k in range(0, len(words), 2)]
        meta, value, source, steps = problem.meta, problem.meta["start"], None, list(given)
        n_shown = problem.n_steps if go_on else len(given)
        for k in range(n_shown):
            is_given = k < len(given)
            if k >= len(meta["slots"]):
                step = given[k] if is_given else [problem.steps[k].text.split()[0], str(meta["hint"])]
                source = self.task.meaning(step[1])
            else:
                step, value = self._step(problem, k, value, given[k] if is_given else None)
            if not is_given:
                steps.append(step)
        last = {"used": str(value), "said": source or str(value)}.get(meta["style"], str(meta["hint"]))
        return self._written(number, problem, steps, last)

    def _step(self, problem: Problem, k: int, value: int, given: list[str] | None) -> tuple[list[str], int]:
        slot, operations = problem.meta["slots"][k], self.task._operations
        if given is None:
            ((*_, line), value_after) = self.task._run(value, [slot], {})
            text = line.word if line.value is None else str(line.value)
            if slot == "recall":
                text = str(problem.meta["start"])
            return [line.word, text], value_after
        if slot.startswith("="):
            return given, int(slot[1:])
        written = self.task.meaning(given[-1])
        return given, int(written) if slot in operations and written is not None else value

    def _written(self, number: int, problem: Problem, steps: list[list[str]], answer: str) -> Trace:
        question, thought = problem.question.split(), [word for step in steps for word in step]
        words = [*question, BEGIN, *thought, END, answer]
        n_before, zeros = len(question) + 1, [0] * len(words)
        channel = [Channel.PROMPT] * len(question) + [Channel.SPECIAL] + [Channel.THOUGHT] * len(thought)
        numbers = [*zeros[:n_before], *(j + 1 for j in range(len(thought))), 0, 0]
        return Trace(
            id=number,
            problem=problem,
            reasoner=self.name,
            token_ids=self.tokenizer.convert_tokens_to_ids(words),
            tokens=words,
            channel=[*map(str, channel), str(Channel.SPECIAL), str(Channel.ANSWER)],
            step=[min((n + 1) // 2, problem.n_steps) for n in numbers],
            thought=numbers,
            entropy=[0.0] * len(words),
            logprob=[0.0] * len(words),
            text=" ".join([*thought, answer]),
            answer=answer,
            correct=answer == problem.answer,
        )
