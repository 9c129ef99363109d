"""`cotlens bench generate`: thinking on a real model beside transformers' own generation."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import interleaved, ratio
from benchmarks.parts import PartResult, check_parts, run_parts
from benchmarks.smollm2 import MODEL, bare_model
from interp.problems.base import Problem, structure_hash
from interp.runtime.console import Bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

_PEER = {"peer": "transformers generate, the same file, sdpa", "peer_version": version("transformers")}
BATCH, NEW = 16, 32
N_SPREAD, LONGEST = 64, 200  # 64 questions whose answers end by themselves, at 200 tokens at the latest
N_PREFIX, N_SHARED, N_OWN = 32, 400, 40
_THINGS = ["apples", "rivers", "trains", "violins", "bridges", "clouds", "horses", "lamps", "wells", "gardens"]
_WORDS = [
    "the",
    "river",
    "ran",
    "past",
    "old",
    "stone",
    "houses",
    "and",
    "over",
    "green",
    "fields",
    "until",
    "it",
    "met",
    "the",
    "wide",
    "sea",
    "again",
]


def bench(repetitions: int, bars: Bars, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Take the measures of the group `generate` on SmolLM2-135M, in float32.

    Args:
        repetitions: Rounds.
        bars: Progress bars.
        parts: Which to take: `equal`, `spread`, `prefix` or `capture`; all by default.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown, or the model is not on this machine. The message says how to get it.
    """
    import interp

    stages: dict[str, tuple[str, str, Callable[[Reasoner, int], dict[str, Any]]]] = {
        "equal": ("generate.equal_over_hf", "answers of one length", _equal),
        "spread": ("generate.spread_over_hf", "answers of very different lengths", _spread),
        "prefix": ("generate.prefix_gain", "a shared beginning", _prefix_gain),
        "capture": ("generate.capture_once", "capture while thinking", _capture_once),
    }
    check_parts(parts, stages)
    torch.set_grad_enabled(False)
    reasoner = interp.load(MODEL, dtype="float32")

    def take(name: str) -> PartResult:
        measure, stage, run = stages[name]
        with bars.stage(stage):
            taken = run(reasoner, repetitions)
        taken["note"] += f"; {MODEL}, float32, {torch.get_num_threads()} threads"
        return PartResult({measure: taken})

    return run_parts("generate", {name: partial(take, name) for name in stages}, parts)


def _equal(reasoner: Reasoner, repetitions: int) -> dict[str, Any]:
    fixed = reasoner.with_config(eos="", stops=(), max_answer_tokens=NEW)
    problems = [_problem(f"Tell me about {_THINGS[k % 10]} and {_THINGS[k // 10 + 3]}.") for k in range(BATCH)]
    theirs = partial(_generate, reasoner, problems, BATCH, min_new_tokens=NEW, max_new_tokens=NEW, eos_token_id=None)
    contest = _contest(lambda: fixed.think(problems, batch_size=BATCH), theirs, repetitions)
    return (
        ratio(contest.seconds, "ours", "transformers")
        | _PEER
        | {"note": f"{BATCH} questions, {NEW} new tokens each; the same text in {contest.same} of {BATCH}"}
    )


def _spread(reasoner: Reasoner, repetitions: int) -> dict[str, Any]:
    ending = reasoner.with_config(max_answer_tokens=LONGEST)
    forms = ["Answer in one word: are there {} in a city?", "Say hello to {}.", "Name one kind of {}.", "Explain {}."]
    problems = [
        _problem(form.format(f"{one} and {other}"))
        for (one, other), form in zip(itertools.permutations(_THINGS, 2), itertools.cycle(forms), strict=False)
    ][:N_SPREAD]
    theirs = partial(_generate, reasoner, problems, BATCH, max_new_tokens=LONGEST)
    contest = _contest(lambda: ending.think(problems, batch_size=BATCH), theirs, repetitions)
    lengths = sorted(trace.channel.count("answer") for trace in contest.traces)
    return (
        ratio(contest.seconds, "transformers", "ours")
        | _PEER
        | {
            "note": f"tokens per second over generate in batches of {BATCH} in their order; {N_SPREAD} questions, answers of "
            f"{lengths[0]} to {lengths[-1]} tokens (quartiles {lengths[N_SPREAD // 4]}, {lengths[N_SPREAD // 2]}, "
            f"{lengths[3 * N_SPREAD // 4]}), greedy; the same text in {contest.same} of {N_SPREAD}"
        }
    )


def _prefix_gain(reasoner: Reasoner, repetitions: int) -> dict[str, Any]:
    from interp.activations.recording import record

    short = reasoner.with_config(eos="", stops=(), max_answer_tokens=4)
    shared = " ".join(itertools.islice(itertools.cycle(_WORDS), N_SHARED - 4))
    problems = [
        _problem(f"{shared} {k} {' '.join(itertools.islice(itertools.cycle(_WORDS[k % 7 :]), N_OWN - 12))}")
        for k in range(N_PREFIX)
    ]
    prompts = [short.vocabulary.prompt_ids(problem) for problem in problems]
    n_shared = sum(len(set(column)) == 1 for column in zip(*prompts, strict=False))
    own = sorted(len(prompt) - n_shared for prompt in prompts)

    def run() -> None:
        record(short, short.think(problems, batch_size=BATCH), sites="resid")

    def without() -> None:
        with _nothing_shared():
            run()

    seconds = interleaved({"ours": run, "without": without}, repetitions)
    return ratio(seconds, "without", "ours") | {
        "peer": "the same without a shared beginning",
        "peer_version": None,
        "note": f"think (4 tokens) and record all layers, {N_PREFIX} questions, about {n_shared} shared and {own[0]} to "
        f"{own[-1]} own tokens, batches of {BATCH}",
    }


def _capture_once(reasoner: Reasoner, repetitions: int) -> dict[str, Any]:
    from interp.activations.loop import think_and_record
    from interp.activations.recording import record

    fixed = reasoner.with_config(eos="", stops=(), max_answer_tokens=NEW)
    problems = [_problem(f"Tell me about {_THINGS[k % 10]} and {_THINGS[k // 10 + 3]}.") for k in range(BATCH)]

    def twice() -> None:
        record(fixed, fixed.think(problems, batch_size=BATCH), sites="resid", channels=["prompt", "special", "answer"])

    def once() -> None:
        think_and_record(fixed, problems, sites="resid", batch_size=BATCH)

    seconds = interleaved({"once": once, "twice": twice}, repetitions)
    return ratio(seconds, "twice", "once") | {
        "peer": "think, then record by a replay",
        "peer_version": None,
        "note": f"{BATCH} questions, {NEW} new tokens each, the residual stream of all layers at every position",
    }


@dataclass(frozen=True)
class _Contest:
    """Both contestants side by side.

    Attributes:
        seconds: Contestant to its seconds in each round.
        traces: What our last round gave.
        same: Number of traces whose answer is what transformers wrote.
    """

    seconds: dict[str, list[float]]
    traces: TraceSet
    same: int


def _contest(ours: Callable[[], TraceSet], theirs: Callable[[], list[list[int]]], repetitions: int) -> _Contest:
    """Time both in turns, and compare what they wrote."""
    traces: list[TraceSet] = []
    written: list[list[list[int]]] = []
    seconds = interleaved(
        {"ours": lambda: traces.append(ours()), "transformers": lambda: written.append(theirs())}, repetitions
    )
    return _Contest(seconds, traces[-1], _same(traces[-1], written[-1]))


def _problem(question: str) -> Problem:
    return Problem(
        id=question[-60:],
        task="questions:path=bench",
        question=question,
        answer="-",
        steps=(),
        structure=structure_hash("bench", question),
        split="test",
        readable=question,
    )


def _generate(reasoner: Reasoner, problems: Sequence[Problem], batch_size: int, **options: Any) -> list[list[int]]:
    """Return what transformers' own model and loop write after the same prompts, left-padded, in batches."""
    model = bare_model()
    prompts = [reasoner.vocabulary.prompt_ids(problem) for problem in problems]
    pad, stops = reasoner.vocabulary.pad_id, list(reasoner.vocabulary.stops.ids)
    options = {"eos_token_id": stops} | options
    written = []
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        width = max(map(len, batch))
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in batch])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch])
        out = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=pad, **options)
        for row in out[:, width:].tolist():
            ending = next((k for k, token in enumerate(row) if token in (options["eos_token_id"] or ())), len(row))
            written.append(row[:ending])
    return written


def _same(traces: TraceSet, written: Sequence[Sequence[int]]) -> int:
    """Return in how many traces the answer is what transformers wrote."""
    return sum(
        [t for t, channel in zip(trace.token_ids, trace.channel, strict=True) if channel == "answer"] == list(row)
        for trace, row in zip(traces, written, strict=True)
    )


@contextmanager
def _nothing_shared() -> Iterator[None]:
    from interp.reasoners.rollouts import prefix

    before, prefix.MIN_SHARED = prefix.MIN_SHARED, 10**9
    try:
        yield
    finally:
        prefix.MIN_SHARED = before
