"""A beginning that all prompts share is read once: traces, activations and edits are those of reading it every time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

import interp
from interp.activations.loop import think_and_record
from interp.causal.visible_text.forcing import force
from interp.errors import StoreError
from interp.models.address import Address
from interp.problems.base import Problem
from interp.reasoners import Intervention
from interp.reasoners.interventions import add
from interp.reasoners.monitor import Monitor
from interp.reasoners.rollouts import prefix
from tests.interp.same_traces import assert_same_traces

SHARING = ["gpt2", "llama", "qwen3", "gemma2", "mistral", "gpt_oss", "gpt_neo", "mpt", "bloom", "qwen3_moe"]
ALONE = ["mamba", "longrope"]
EXAMPLES = "First add 3 and 5, which gives 8. Then take 2 away: 6 is left!\n"  # longer than any window here
TEXT = {"kind": "text", "begin": "<think>", "end": "</think>", "eos": "", "max_thought_tokens": 5}
N = 4
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def load(model_folder: Callable) -> Callable[..., interp.Reasoner]:
    """Load a small model of an architecture with another `reasoner.json`; asked for twice, it is the same."""
    return functools.cache(
        lambda name, **config: interp.load(model_folder(name), reasoner={**TEXT, "max_answer_tokens": 4, **config})
    )


@pytest.fixture(scope="module")
def problems(asked: Callable[..., list[Problem]]) -> list[Problem]:
    return [replace(problem, question=EXAMPLES + problem.question) for problem in asked(N)]


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run a part of a test with prefixes shared or not, and count the prefixes that were read."""

    @contextmanager
    def with_sharing(shared: bool):
        read: list[int] = []
        original = prefix.read_prefix

        def counted(network, ids, **options):
            result = original(network, ids, **options)
            read.extend([] if result is None else [result.n])
            return result

        with monkeypatch.context() as patch:
            patch.setattr(prefix, "MIN_SHARED", 16 if shared else 10**9)
            for module in ("rollouts.thinker", "replayer"):
                patch.setattr(f"interp.reasoners.{module}.read_prefix", counted)
            yield read

    return with_sharing


def both(reading: Callable, run: Callable) -> list:
    """Return what `run` gives with its prefix shared, and without."""
    results = []
    for shared in (True, False):
        with reading(shared) as read:
            results.append(run())
        assert len(read) == shared
    return results


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("name", SHARING)
def test_thinking_after_a_shared_beginning(
    name: str, padding_side: str, load: Callable, problems: list[Problem], reading: Callable
) -> None:
    reasoner = load(name)
    for size in (N, 3, 1):
        ours, theirs = both(
            reading, lambda size=size: reasoner.think(problems, batch_size=size, padding_side=padding_side)
        )
        assert_same_traces(ours, theirs, atol=TOLERANCE)


@pytest.mark.parametrize("name", ALONE)
def test_models_that_keep_more_than_positions_read_it_every_time(
    name: str, load: Callable, problems: list[Problem], reading: Callable
) -> None:
    with reading(True) as read, pytest.warns(UserWarning, match="one problem at a time"):
        load(name).think(problems)
    assert not read


@pytest.mark.parametrize("name", SHARING)
def test_replay_shows_hooks_whole_traces(name: str, load: Callable, problems: list[Problem], reading: Callable) -> None:
    reasoner = load(name)
    traces = reasoner.think(problems, batch_size=1)
    edit = add(np.random.default_rng(1).normal(size=32).astype("f4"))
    lengths = [len(trace) for trace in traces]
    edited = Intervention(Address("blocks.0.hook_out"), np.array([[0, lengths[0] - 6], [2, lengths[2] - 9]]), edit)

    def replay(names, interventions=()) -> dict:
        seen: dict = {}

        def keep(name: str) -> Callable:
            def hook(acts, batch) -> None:
                for b, k in enumerate(batch.traces.tolist()):
                    seen[name, k] = acts[b][batch.real[b]].clone()

            return hook

        reasoner.replay(traces, hooks={n: keep(n) for n in names}, batch_size=3, interventions=interventions)
        return seen

    for names in (["blocks.0.hook_in"], ["blocks.0.hook_out", "blocks.1.hook_in"], ["ln_final.hook_out"]):
        for interventions in ((), (edited,)):
            if name == "mpt" and interventions:  # its wrapped copy cannot go on after a copied beginning
                with reading(True) as read:
                    ours = replay(names, interventions)
                assert not read
                continue
            ours, theirs = both(reading, lambda n=names, i=interventions: replay(n, i))
            assert ours.keys() == theirs.keys() and len(ours) == N * len(names)
            for (at, k), states in theirs.items():
                assert states.shape == (lengths[k], 32)
                torch.testing.assert_close(ours[at, k], states, atol=1e-4, rtol=1e-4)


def test_attention_patterns_are_over_pairs_and_read_whole(
    load: Callable, problems: list[Problem], reading: Callable
) -> None:
    reasoner = load("llama")
    traces = reasoner.think(problems)
    seen = []
    with reading(True):
        reasoner.replay(
            traces, hooks={"blocks.0.attn.hook_pattern": lambda acts, batch: seen.append(tuple(acts.shape))}
        )
    width = max(map(len, traces))
    assert seen == [(N, 4, width, width)]


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_activations_of_the_loop_are_those_of_whole_prompts(
    name: str, load: Callable, problems: list[Problem], reading: Callable
) -> None:
    reasoner = load(name)

    def record():
        return think_and_record(reasoner, problems, batch_size=3)[1]

    ours, theirs = both(reading, record)
    for address, rows in theirs.items():
        for one, other in zip(ours[address], rows, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_edits_and_monitors_after_a_shared_beginning(
    name: str, load: Callable, problems: list[Problem], reading: Callable
) -> None:
    reasoner = load(name)
    direction = np.random.default_rng(0).normal(size=32).astype("f4")
    at = [len(trace) - 6 for trace in reasoner.think(problems)]
    edited = Intervention(Address("blocks.0.hook_out"), np.array(list(enumerate(at))), add(3 * direction))
    monitor = Monitor.along(Address("blocks.0.hook_out"), direction, 0.0, name="m", text=" wait", times=2)
    for options in ({"interventions": [edited]}, {"monitors": [monitor]}):
        ours, theirs = both(reading, lambda options=options: reasoner.think(problems, batch_size=3, **options))
        assert_same_traces(ours, theirs, atol=TOLERANCE)
    ours, theirs = both(reading, lambda: force(reasoner, problems, ["So the answer." * (k + 1) for k in range(N)]))
    assert_same_traces(ours, theirs, atol=TOLERANCE)


def test_an_edit_inside_the_beginning_ends_what_is_shared(
    load: Callable, problems: list[Problem], reading: Callable
) -> None:
    reasoner = load("llama")
    edit = add(np.random.default_rng(1).normal(size=32).astype("f4"))

    def think(position: int):
        edited = Intervention(Address("blocks.0.hook_out"), np.array([[1, position]]), edit)
        return reasoner.think(problems, interventions=[edited])

    ours, theirs = both(reading, lambda: think(20))
    assert_same_traces(ours, theirs, atol=TOLERANCE)
    with reading(True) as read:
        think(20)
        think(3)
    assert read == [20], "an edit at position 3 leaves less than pays"


def test_continuous_thoughts_after_a_shared_beginning(
    load: Callable, problems: list[Problem], reading: Callable
) -> None:
    config = {"kind": "continuous", "latent": "<pad>", "thoughts_per_step": 2, "begin": None, "end": None}
    reasoner = load("llama", **config)
    ours, theirs = both(reading, lambda: reasoner.think(problems, batch_size=3))
    assert_same_traces(ours, theirs, atol=TOLERANCE)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.latents, other.latents, atol=1e-4)


def test_a_question_that_all_the_others_begin_with(load: Callable, problems: list[Problem], reading: Callable) -> None:
    """At least one token of each prompt is left, from whose state the thought goes on."""
    shortest = replace(problems[0], question=EXAMPLES.strip())
    longer = replace(problems[0], question=EXAMPLES.strip() + " How many?", id="longer")
    reasoner = load("llama", begin=None)
    ours, theirs = both(reading, lambda: reasoner.think([shortest, longer]))
    assert_same_traces(ours, theirs, atol=TOLERANCE)


def test_numbers_that_are_not_finite_in_the_beginning_are_refused(
    load: Callable, problems: list[Problem], reading: Callable, model_folder: Callable
) -> None:
    reasoner = interp.load(model_folder("llama"), reasoner={**TEXT, "max_answer_tokens": 4})
    token = reasoner.tokenizer(EXAMPLES)["input_ids"][9]
    with torch.no_grad():
        reasoner.embed.weight[token] = float("nan")
    with reading(True), pytest.raises(StoreError, match="not finite"):
        reasoner.think(problems)


def test_going_on_shares_what_thinking_from_the_start_shares(
    load: Callable, problems: list[Problem], reading: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last questions alone would share more, and give other rounding."""
    monkeypatch.setattr("interp.reasoners.rollouts.thinker._BATCHES_AT_ONCE", 1)
    reasoner = load("llama")
    with reading(True) as read:
        whole = [t for batch in reasoner.thinking(problems, batch_size=2) for t in batch]
        rest = [t for batch in reasoner.thinking(problems, start=2, batch_size=2) for t in batch]
    assert read[0] == read[1]
    for one, other in zip(whole[2:], rest, strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_array_equal(one.entropy, other.entropy)
