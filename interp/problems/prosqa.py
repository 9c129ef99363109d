"""Task `prosqa`: the graphs of ProsQA (arXiv 2412.06769, appendix A) in English, and its files.

    Every gerpus is a terpus. Sally is a gerpus. ... Is Sally a hilpus or sterpus?

A file is a JSON array of objects, or one object a line, with the fields `question`, `answer`, `steps`, `edges`,
`root`, `target` and `neg_target`. The last four hold numbers that index the names of `idx_to_symbol`. A problem's
graph is read from its sentences; its numbers must agree with them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from interp.errors import StoreError, UsageError, checked_count
from interp.problems.base import MAX_PROBLEMS, Problem, Split, Task, Verdict, checked_seed, checked_split, stream_rng
from interp.problems.graph import GraphTask, digraph, implied_candidate, node_fact
from interp.problems.options import checked_at_most, spec_of
from interp.problems.prosqa_records import NAMES, NOUNS, edge_of, problem_of, record_of, sentence_of, shape_of
from interp.problems.reachability import NODE_FACTS
from interp.runtime.files import commit

_MAX_LISTED = 5


class ProsQATask(Task):
    """Task `prosqa`: graphs in English, drawn here or read from a ProsQA file.

    The graphs are those of task `graph` with one decoy among two candidates, so a guess is right half of the time. A
    step is a sentence of the question; its value is the node that it reaches. A trace's text is the sentences of the
    path and then the answer, `Sally is a sterpus.`

    Args:
        path: A ProsQA file; by default problems are drawn.
        hops: Range of the path's length, such as "3-4".
        nodes: Number of nodes.
        edges: Number of edges.
    """

    name = "prosqa"
    facts = NODE_FACTS

    def __init__(self, path: str = "", hops: str = "3-4", nodes: int | str = 13, edges: int | str = 13) -> None:
        self.path = str(path)
        self.graph = GraphTask(hops=hops, nodes=nodes, edges=edges)
        self.values = (*NAMES, *NOUNS)
        checked_at_most("nodes of task prosqa", self.graph.n_nodes, len(NOUNS))
        options = [
            ("path", self.path, ""),
            ("hops", str(hops), "3-4"),
            ("nodes", self.graph.n_nodes, 13),
            ("edges", self.graph.n_edges, 13),
        ]
        self.spec = spec_of("prosqa", options)
        lengths = [problem.n_steps for problem in self._file_problems()] if self.path else []
        self.min_steps = min(lengths, default=self.graph.min_steps)
        self.max_steps = max(lengths, default=self.graph.max_steps)

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        nouns = [form for noun in NOUNS for form in (noun, f"{noun}.", f"{noun}?")]
        return ["Every", "Is", "is", "a", "or", *NAMES, *nouns]

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """Return `n` distinct problems of one split, the same for the same seed; a larger `n` extends the list.

        Raises:
            UsageError: The file has fewer problems in that split.
        """
        if not self.path:
            return super().generate(n, seed, split)
        checked_count("n", n, at_most=MAX_PROBLEMS)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        problems = [problem for problem in self._file_problems() if problem.split == split]
        if len(problems) < n:
            raise UsageError(
                f"expected {n} problems in the {split} split of {self.path}, got {len(problems)}; ask for fewer."
            )
        return rng.sample(problems, len(problems))[:n]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        if self.path:
            pool = [p for p in self._file_problems() if p.split == split and n_steps in (None, p.n_steps)]
            if not pool:
                raise UsageError(
                    f"expected problems of {n_steps or 'any'} steps in the {split} split of {self.path}, got none; "
                    "ask for another split or number of steps."
                )
            while True:
                yield rng.choice(pool)
        while True:
            shape = self.graph.shape(rng, n_steps or rng.randint(self.min_steps, self.max_steps))
            problem = problem_of(record_of(shape, rng), self.spec)
            if problem.split == split:
                yield problem

    def _file_problems(self) -> list[Problem]:
        file = Path(self.path)
        stat = file.stat() if file.is_file() else None
        return _read_once(self.path, stat.st_mtime_ns, stat.st_size) if stat else read_prosqa(file)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: the sentences of the path and then the answer.

        A step is right when it is an edge of the graph that starts at the node that the *written* sentence before it
        reached, at first the root.
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
        right.extend(False for _ in written[problem.n_steps :])
        claim = edge_of(answer)
        return Verdict.of_steps(claim is not None and claim == edge_of(problem.answer), right, problem.n_steps)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if `step` (from 1) had reached node `value`; raises as task `graph` does."""
        return sentence_of(problem.meta["root"], implied_candidate(problem, step, value))

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the nodes, the root first."""
        return digraph(problem).nodes

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return `distance`, `reachable`, `frontier` or `path` of a node; see `Digraph.fact`."""
        return node_fact(problem, name, entities, step)


def read_prosqa(path: Path | str) -> list[Problem]:
    """Return the problems of a ProsQA file.

    Raises:
        StoreError: The file cannot be read, or a problem lacks a field or contradicts itself. The message names the
            problems (by line in a file of lines, else counted from 1) and says why.
    """
    problems, errors = [], []
    for location, raw in _records(Path(path)):
        try:
            problems.append(problem_of(raw, "prosqa"))
        except ValueError as error:
            errors.append(f"{location}: {error}")
    if errors:
        more = f"; and {len(errors) - _MAX_LISTED} more" if len(errors) > _MAX_LISTED else ""
        raise StoreError(
            f"expected only ProsQA problems in {path}, got {'; '.join(errors[:_MAX_LISTED])}{more}. "
            "Correct or remove these problems."
        )
    if not problems:
        raise StoreError(f"expected ProsQA problems in {path}, got none; give another file.")
    return problems


@functools.lru_cache(maxsize=8)
def _read_once(path: str, modified: int, size: int) -> list[Problem]:
    return read_prosqa(path)


def write_prosqa(problems: Sequence[Problem], path: Path | str) -> None:
    """Write problems of the tasks `prosqa` or `graph` as a ProsQA file, a JSON array.

    A problem of `graph` is written in English, with the first decoy among its candidates as `neg_target`; its other
    decoys stay in the graph. A problem that was read is written as it was.

    Raises:
        UsageError: A problem belongs to another task.
    """
    commit(Path(path), (json.dumps([prosqa_record(problem) for problem in problems], indent=1) + "\n").encode())


def prosqa_record(problem: Problem) -> dict[str, Any]:
    """Return one problem as the object that a ProsQA file holds."""
    if "record" in problem.meta:
        steps = [step.text for step in problem.steps]
        return {"question": problem.question, "answer": problem.answer, "steps": steps, **problem.meta["record"]}
    if problem.task.partition(":")[0] != "graph":
        raise UsageError(
            f"expected problems of prosqa or graph for a ProsQA file, got one of {problem.task!r}; leave it out."
        )
    return record_of(shape_of(problem), Random(problem.id))


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a file with their locations; for a line that is not JSON, what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"expected a readable ProsQA file at {path}, got an error: {error}.") from None
    if text.lstrip().startswith("["):
        try:
            yield from ((f"problem {k}", raw) for k, raw in enumerate(json.loads(text), 1))
        except json.JSONDecodeError as error:
            raise StoreError(f"expected JSON in {path}, got an error: {error}.") from None
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                yield f"line {number}", f"it is not JSON ({error})"
