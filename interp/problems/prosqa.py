"""Task `prosqa`: the graphs of ProsQA (arXiv 2412.06769, appendix A) in English, and its files.

A file is a JSON array of objects, or one object to a line, with the fields `question`, `answer`, `steps`,
`edges`, `root`, `target` and `neg_target`, the last four in numbers that count the names of
`idx_to_symbol`:

    Every gerpus is a terpus. Sally is a gerpus. ... Is Sally a hilpus or sterpus?

The graph of a problem is what its sentences say; what its numbers say has to agree with it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from interp.errors import StoreError, UsageError, checked_count
from interp.problems.base import (
    Problem,
    Split,
    Verdict,
    checked_seed,
    checked_split,
    distinct,
    stream_rng,
)
from interp.problems.graph import GraphTask, digraph, implied_candidate, node_fact
from interp.problems.prosqa_records import KINDS, NAMES, edge_of, object_of, problem_of, sentence_of, shape_of
from interp.problems.reachability import NODE_FACTS
from interp.runtime.files import commit

_SHOWN = 5


class ProsQATask:
    """`prosqa`: graphs of 13 nodes in English, or the problems of a ProsQA file with `path=FILE`.

    Its graphs are those of task `graph` with one decoy for a candidate, so guessing is right half of the
    time. A step is a sentence of the question, its value the node that it reaches; a trace's text is the
    sentences of the path and then the answer, `Sally is a sterpus.`
    """

    name = "prosqa"
    facts = NODE_FACTS

    def __init__(self, path: str = "", hops: str = "3-4", nodes: int | str = 13, edges: int | str = 13) -> None:
        self.path = str(path)
        self.graph = GraphTask(hops=hops, nodes=nodes, edges=edges)
        self.values: tuple[str, ...] = (*NAMES, *KINDS)
        if self.graph.n_nodes > len(KINDS):
            raise UsageError(f"nodes of task prosqa must be at most {len(KINDS)}, but {nodes} came.")
        options = [
            ("path", self.path, ""),
            ("hops", str(hops), "3-4"),
            ("nodes", self.graph.n_nodes, 13),
            ("edges", self.graph.n_edges, 13),
        ]
        given = ",".join(f"{key}={value}" for key, value, default in options if value != default)
        self.spec = f"prosqa:{given}" if given else "prosqa"
        lengths = [problem.n_steps for problem in self._file()] if self.path else []
        self.min_steps = min(lengths, default=self.graph.min_steps)
        self.max_steps = max(lengths, default=self.graph.max_steps)

    def vocabulary(self) -> list[str]:
        nouns = [form for kind in KINDS for form in (kind, f"{kind}.", f"{kind}?")]
        return ["Every", "Is", "is", "a", "or", *NAMES, *nouns]

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """`n` distinct problems of one split, the same for the same seed; a larger `n` extends the list.

        Raises `UsageError` where a file has fewer in that split.
        """
        checked_count("n", n)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        if not self.path:
            return distinct(self.draws(rng, split), n)
        found = [problem for problem in self._file() if problem.split == split]
        if len(found) < n:
            raise UsageError(f"{n} problems were asked of {self.path}, but its {split} split has {len(found)}.")
        return rng.sample(found, len(found))[:n]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        if self.path:
            pool = [p for p in self._file() if p.split == split and n_steps in (None, p.n_steps)]
            if not pool:
                raise UsageError(f"{self.path} has no problem of {n_steps or 'any'} steps in its {split} split.")
            while True:
                yield rng.choice(pool)
        while True:
            shape = self.graph.shape(rng, n_steps or rng.randint(self.min_steps, self.max_steps))
            problem = problem_of(object_of(shape, rng), self.spec)
            if problem.split == split:
                yield problem

    def _file(self) -> list[Problem]:
        file = Path(self.path)
        stat = file.stat() if file.is_file() else None
        return _read_once(self.path, stat.st_mtime_ns, stat.st_size) if stat else read_prosqa(file)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`, the sentences of the path and then the answer.

        The last sentence is the answer. A step is right when it is an edge of the graph that starts at the
        node which the *written* sentence before it reached (the root at first).
        """
        sentences = [sentence.strip() for sentence in text.split(".") if sentence.strip()]
        written, answer = sentences[:-1], sentences[-1] if sentences else ""
        graph = digraph(problem)
        right: list[bool | None] = []
        before = graph.root
        for sentence in written[: problem.n_steps]:
            edge = edge_of(sentence)
            right.append(edge is not None and edge[0] == before and graph.has(*edge))
            before = edge[1] if edge else ""
        right.extend([None] * (problem.n_steps - len(right)))
        right.extend(False for _ in written[problem.n_steps :])
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        said = edge_of(answer)
        return Verdict(
            answer=said is not None and said == edge_of(problem.answer), steps=tuple(right), first_error=first
        )

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer if step `step` had reached node `value`; raises `UsageError` as task `graph` does."""
        return sentence_of(problem.meta["root"], implied_candidate(problem, step, value))

    def entities(self, problem: Problem) -> tuple[str, ...]:
        return digraph(problem).nodes

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        return node_fact(problem, name, entities, step)


def read_prosqa(path: Path | str) -> list[Problem]:
    """The problems of a ProsQA file.

    Raises `StoreError` where the file cannot be read, or a problem in it lacks a field or contradicts itself;
    the message says which problems (by line in a file of lines, else counted from 1) and why.
    """
    problems, wrong = [], []
    for place, raw in _objects(Path(path)):
        try:
            problems.append(problem_of(raw, "prosqa"))
        except ValueError as error:
            wrong.append(f"{place}: {error}")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise StoreError(f"{path} is not a ProsQA file throughout. {'; '.join(wrong[:_SHOWN])}{more}.")
    if not problems:
        raise StoreError(f"{path} holds no problems.")
    return problems


@functools.lru_cache(maxsize=8)
def _read_once(path: str, modified: int, size: int) -> list[Problem]:
    return read_prosqa(path)


def write_prosqa(problems: Sequence[Problem], path: Path | str) -> None:
    """Write problems of tasks `prosqa` or `graph` as a ProsQA file, a JSON array, whole or not at all.

    A problem of `graph` is told in English, with the first decoy among its candidates for `neg_target`; its
    other decoys stay in the graph. What was read comes out as it was. Raises `UsageError` on other tasks.
    """
    commit(Path(path), (json.dumps([record(problem) for problem in problems], indent=1) + "\n").encode())


def record(problem: Problem) -> dict[str, Any]:
    """One problem as the object that a ProsQA file holds."""
    if "record" in problem.meta:
        steps = [step.text for step in problem.steps]
        return {"question": problem.question, "answer": problem.answer, "steps": steps, **problem.meta["record"]}
    if problem.task.partition(":")[0] != "graph":
        raise UsageError(f"only problems of prosqa and graph make a ProsQA file, but one of {problem.task!r} came.")
    return object_of(shape_of(problem), Random(problem.id))


def _objects(path: Path) -> Iterator[tuple[str, Any]]:
    """The objects of a file with their places; a line that is no JSON is given as it stands."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"no ProsQA problems could be read from {path} ({error}).") from None
    if text.lstrip().startswith("["):
        try:
            yield from ((f"problem {k}", raw) for k, raw in enumerate(json.loads(text), 1))
        except json.JSONDecodeError as error:
            raise StoreError(f"{path} is not JSON ({error}).") from None
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                yield f"line {number}", f"it is not JSON ({error})"
