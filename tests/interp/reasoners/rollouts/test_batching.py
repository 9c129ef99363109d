"""Batched equals alone on every path that runs a model, also where it counts the columns between two positions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import interp
from interp.activations.loop import LoopRecorder
from interp.causal.visible_text.forcing import force, resume
from interp.models.address import Address
from interp.models.cache import gaps_matter, uses_cache
from interp.models.wrapping import quiet
from interp.problems.base import Problem, Step
from interp.reasoners import Intervention
from interp.reasoners.interventions import add, identity
from interp.reasoners.monitor import Monitor
from interp.traces import Trace

# Whether masked columns between two positions change what each of them says later.
WINDOWS = {"mistral": True, "gpt_oss": True, "gpt_neo": True, "mpt": True, "gemma3_text": True}
WINDOWS |= {"llama4_text": True}  # chunks
GAP_PROOF = {"bloom": False, "qwen3_moe": False, "llama": False}
N = 4
BUDGET = {"eos": "", "max_answer_tokens": 6, "max_thought_tokens": 10}
TEXT = {"kind": "text", "begin": "<think>", "end": "</think>", **BUDGET}
# Thoughts longer than any window here, and each of another length.
THOUGHTS = ["So the answer." * (k + 1) for k in range(N)]


@pytest.fixture(scope="module")
def load(model_folder: Callable) -> Callable[..., interp.Reasoner]:
    """Load a small model of an architecture with another `reasoner.json`; asked for twice, it is the same."""
    return functools.cache(lambda name, **config: interp.load(model_folder(name), reasoner={**TEXT, **config}))


@pytest.fixture(scope="module")
def problems(asked: Callable[..., list[Problem]]) -> list[Problem]:
    """Questions of different lengths, with 1 to 3 steps."""
    return [replace(problem, steps=(Step("s", "1"),) * (1 + k % 3)) for k, problem in enumerate(asked(N))]


def same(run: Callable[..., list[Trace]], **options) -> None:
    together, alone = (list(run(batch_size=size, **options)) for size in (N, 1))
    assert [t.token_ids for t in together] == [t.token_ids for t in alone]
    assert [t.channel for t in together] == [t.channel for t in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.entropy, other.entropy, atol=2e-3)
    assert len({round(float(np.nanmean(t.entropy)), 4) for t in together}) > 1, (
        "rows that are all alike would test little"
    )


@pytest.mark.parametrize(("name", "matter"), (WINDOWS | GAP_PROOF).items())
def test_thoughts_of_different_lengths_are_forced_together(
    name: str, matter: bool, load: Callable, problems: list[Problem]
) -> None:
    text = load(name)
    assert gaps_matter(text.base) == matter
    same(lambda **options: force(text, problems, THOUGHTS, **options))


@pytest.mark.parametrize("name", ["mistral", "mpt"])
def test_beginnings_of_different_lengths_go_on_together(name: str, load: Callable, problems: list[Problem]) -> None:
    text = load(name)
    same(lambda **options: resume(text, problems, THOUGHTS, **options))


@pytest.mark.parametrize("name", ["mistral", "gpt_neo", "gpt_oss", "mpt"])
def test_a_monitor_injects_text_at_different_positions(name: str, load: Callable, problems: list[Problem]) -> None:
    text = load(name)
    direction = np.random.default_rng(0).normal(size=32).astype("f4")

    def run(**options) -> list[Trace]:
        monitor = Monitor.along(Address("blocks.0.hook_out"), direction, 0.0, name="m", text=" wait", times=2)
        return list(text.think(problems, monitors=[monitor], **options))

    events = [[event["position"] for event in trace.events] for trace in run(batch_size=N)]
    assert len({tuple(positions) for positions in events}) > 1
    same(run)


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "qwen3", "gemma2", "mistral", "gpt_oss", "gpt_neo", "bloom", "phi3", "mpt"]
)
def test_thinking_under_an_edit_that_changes_nothing(name: str, load: Callable, problems: list[Problem]) -> None:
    """The wrapped model that edits need thinks what the fast copy thinks."""
    text = load(name)
    edited = Intervention(Address("blocks.0.hook_out"), np.array([[0, 1]]), identity)
    plain, under_edit = text.think(problems), text.think(problems, interventions=[edited])
    assert [t.token_ids for t in plain] == [t.token_ids for t in under_edit]
    for one, other in zip(plain, under_edit, strict=True):
        np.testing.assert_allclose(one.entropy, other.entropy, atol=2e-3)


@pytest.mark.parametrize("name", ["mistral", "mpt"])
def test_edits_while_thinking(name: str, load: Callable, problems: list[Problem]) -> None:
    text = load(name)
    edit = add(np.random.default_rng(1).normal(size=32).astype("f4"))
    edited = Intervention(Address("blocks.0.hook_out"), np.array([[0, 5], [2, 9], [3, 20]]), edit)
    same(lambda **options: text.think(problems, interventions=[edited], **options))


@torch.no_grad()
def test_a_wrapped_model_that_forgets_earlier_positions_reads_the_whole_row_at_each_step(
    load: Callable, problems: list[Problem], model_folder: Callable
) -> None:
    """Edits of the prompt and of what is written give what plain Hugging Face writes under the same edits."""
    text = load("mpt")
    assert not uses_cache(text.base)
    directions = np.random.default_rng(1).normal(size=(2, 32)).astype("f4")
    positions = [3, len(text.vocabulary.prompt_ids(problems[1])) + 4]
    rows = np.array([[1, position] for position in positions])
    edited = Intervention(Address("blocks.0.hook_out"), rows, add(directions, 3.0))
    trace = text.think(problems, interventions=[edited])[1]

    def edit(module, inputs, output):
        for position, direction in zip(positions, directions, strict=True):
            output[0][:, position : position + 1] += 3.0 * torch.from_numpy(direction)

    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(model_folder("mpt"), attn_implementation="eager").eval()
    plain.transformer.blocks[0].register_forward_hook(edit)
    for k in range(positions[1] - 1, len(trace)):
        if trace.channel[k] in ("thought", "answer"):
            logits = plain(torch.tensor([trace.token_ids[:k]]), use_cache=False).logits[0, -1]
            assert int(logits.argmax()) == trace.token_ids[k]
    assert trace.token_ids != text.think(problems)[1].token_ids


def test_a_monitor_adds_a_vector_in_a_model_without_a_cache(load: Callable, problems: list[Problem]) -> None:
    """The vector stays at its position in every later pass, as it does in the cache of other models."""
    text = load("mpt")
    rng = np.random.default_rng(0)
    watched, vector = rng.normal(size=(2, 32)).astype("f4")
    address = Address("blocks.0.hook_out")
    monitor = Monitor.along(address, watched, 0.0, name="m", vector=4 * vector, times=2)
    traces = text.think(problems, monitors=[monitor])
    assert any(trace.events for trace in traces)
    expected = text.think(problems, interventions=monitor.interventions(list(traces)))
    assert [t.token_ids for t in traces] == [t.token_ids for t in expected]


def test_hooks_of_a_model_without_a_cache_see_every_position_once(load: Callable, problems: list[Problem]) -> None:
    """Also under an edit, where the wrapped model runs and reads all positions in every pass."""
    text = load("mpt")
    edited = Intervention(Address("blocks.0.hook_in"), np.array([[0, 1]]), add(np.ones(32, "f4")))
    recorder = LoopRecorder([Address("blocks.1.hook_out")])
    traces = list(text.think(problems, hooks=recorder.hooks, interventions=[edited]))
    recorder.flush()
    replayed: dict[int, np.ndarray] = {}

    def keep(acts, batch) -> None:
        replayed.update({int(k): acts[b][batch.real[b]].numpy() for b, k in enumerate(batch.traces)})

    text.replay(traces, hooks={"blocks.1.hook_out": keep}, interventions=[edited])
    (kept,) = recorder.rows.values()
    for k, trace in enumerate(traces):
        n = len(kept[k])
        assert n in (len(trace), len(trace) - 1)  # the last token is not read
        np.testing.assert_allclose(kept[k].numpy(), replayed[k][:n], atol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "continuous", "latent": "<pad>", "thoughts_per_step": 7, "begin": None, "end": None},
        {"kind": "self-reasoning", "reasoning": "<pad>", "reasoning_tokens": 2, "begin": None, "end": "</think>"},
    ],
    ids=["continuous", "self-reasoning"],
)
def test_rows_whose_thoughts_end_at_different_times(config: dict, load: Callable, problems: list[Problem]) -> None:
    reasoner = load("mistral", **config)
    same(lambda **options: reasoner.think(problems, padding_side="right", **options))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("longrope", "scales its rotary frequencies"), ("mamba", "keeps a state"), ("rwkv", "keeps a state")],
)
def test_what_cannot_share_a_batch_is_thought_about_one_by_one(
    name: str, reason: str, load: Callable, problems: list[Problem]
) -> None:
    reasoner = load(name)
    with pytest.warns(UserWarning, match=f"{reason}.*one problem at a time"):
        same(lambda **options: force(reasoner, problems, THOUGHTS, **options))
    same(lambda **options: reasoner.think(problems, **options))


@torch.no_grad()
def test_texts_grow_beyond_the_switch_of_frequencies_as_without_a_cache(
    load: Callable, problems: list[Problem], model_folder: Callable
) -> None:
    """Keys of a short text are wrong in a long one, so the row is read anew; monitors and hooks see it all the same."""
    reasoner = load("longrope", max_thought_tokens=6, max_answer_tokens=6)
    n_seen: dict[int, list[int]] = {}

    def see(acts, state) -> None:
        n_seen.setdefault(int(state.traces[0]), []).extend(state.positions[0].tolist())
        assert acts.shape[1] == state.positions.shape[1]

    seen = reasoner.think(problems, batch_size=1, hooks={"blocks.0.hook_out": see})
    edited = reasoner.think(
        problems, batch_size=1, interventions=[Intervention(Address("blocks.0.hook_out"), np.array([[0, 0]]), identity)]
    )
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(model_folder("longrope"), attn_implementation="eager").eval()
    for k, trace in enumerate(seen):
        assert trace.token_ids == edited[k].token_ids
        ids = torch.tensor([trace.token_ids])
        for end in range(trace.channel.count("prompt"), len(trace)):
            if np.isnan(trace.logprob[end]) or trace.channel[end] == "special":
                continue  # a marker is put in, not chosen
            logits = plain(ids[:, :end], use_cache=False).logits[0, -1]
            assert int(logits.argmax()) == trace.token_ids[end], (k, end)
            assert abs(float(torch.log_softmax(logits, -1)[trace.token_ids[end]]) - trace.logprob[end]) < 1e-4
        assert n_seen[k] == list(range(len(n_seen[k]))), "a hook sees each position once"
    assert any(trace.channel.count("prompt") < 20 < len(trace) for trace in seen)
    with pytest.warns(UserWarning, match="grew beyond 20 positions"):
        reasoner.replay(seen, hooks={"ln_final.hook_out": lambda acts, batch: None})


def test_replay_of_a_model_with_frequencies_by_length(load: Callable, problems: list[Problem]) -> None:
    """A short trace is replayed with its own frequencies, not those of the longest of its batch or of one before."""
    reasoner = load("longrope", max_thought_tokens=1, max_answer_tokens=1)
    traces = reasoner.think(problems, batch_size=1)
    assert min(map(len, traces)) < 20 < max(map(len, traces))
    states = {}
    for size in (N, 1):
        seen = states[size] = {}

        def keep(acts, batch, seen=seen) -> None:
            seen.update({int(k): acts[b][batch.real[b]].clone() for b, k in enumerate(batch.traces)})

        reasoner.replay(list(traces)[::-1], hooks={"ln_final.hook_out": keep}, batch_size=size)
    for k in states[1]:
        np.testing.assert_allclose(states[N][k], states[1][k], atol=1e-5)
