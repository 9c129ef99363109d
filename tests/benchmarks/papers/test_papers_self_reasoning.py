"""The section on self-reasoning: right texts get the reasoner's own layout, and are read where it predicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from benchmarks.papers.self_reasoning import Predictions, gaps, gold_trace, notes, predictions, reading_columns
from interp.models.tokenizers import word_tokenizer
from interp.models.wrapping import wrap
from interp.problems import task
from interp.reasoners import ReasonerConfig, curriculum_of, reasoner_class
from interp.reasoners.rollouts.rollout import Rollout
from interp.traces import Channel

COUNTER = task("counter", steps=4)
KINDS = {
    "text": {"kind": "text"},
    "stopped": {"kind": "self-reasoning", "reasoning_tokens": 2},
    "pauses": {"kind": "self-reasoning", "reasoning_tokens": 2, "reasoning_read": "reasoning"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An untrained model and its tokenizer, shared by all kinds."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = ReasonerConfig.parse(KINDS["stopped"], "test")
    word_tokenizer([*COUNTER.vocabulary(), *curriculum_of(config).words()]).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=48,
            n_embd=16,
            n_layer=2,
            n_head=2,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=0.3,
            attn_implementation="eager",
        )
    )
    return wrap(model.eval(), tokenizer), tokenizer


@pytest.fixture(params=sorted(KINDS))
def reasoner(request, made):
    model, tokenizer = made
    config = ReasonerConfig.parse({**KINDS[request.param], "task": "counter:steps=4"}, "test")
    return reasoner_class(config.kind)(model, tokenizer, config, name=request.param, weights="none")


def test_a_gold_trace_is_what_thinking_leaves_when_every_choice_is_right(reasoner, monkeypatch):
    problem = COUNTER.generate(1, seed=1, split="test")[0]
    words = [*(step.text for step in problem.steps), "<eot>", problem.answer, "<eos>"]
    ids = reasoner.tokenizer.convert_tokens_to_ids(words)

    def choose(rollout):
        done = sum(c in (Channel.THOUGHT, Channel.ANSWER) for c in rollout.rows[0].channel)
        answering = rollout.rows[0].token_ids[-1] == ids[4] or Channel.ANSWER in rollout.rows[0].channel
        return torch.tensor([ids[done + answering]])

    monkeypatch.setattr(Rollout, "choose", choose)
    (thought,) = reasoner.think([problem])
    gold = gold_trace(reasoner, problem, 0)
    assert thought.correct and gold.correct
    assert gold.tokens == thought.tokens and gold.token_ids == thought.token_ids
    assert gold.channel == thought.channel and gold.step == thought.step and gold.thought == thought.thought
    assert gold.text == thought.text and gold.answer == thought.answer


def test_predictions_are_those_made_while_thinking(reasoner):
    """On the model's own text, the loss is what thinking recorded of it."""
    result = [t for t in reasoner.think(COUNTER.generate(40, seed=2, split="test")) if Channel.ANSWER in t.channel]
    # An untrained model may open its thought again; the end marker that closed it by force then lies within the thought.
    thoughts = [np.array(t.channel) == Channel.THOUGHT for t in result]
    result = [t for t, inside in zip(result, thoughts, strict=True) if np.isfinite(np.array(t.logprob)[inside]).all()]
    length = max({sum(c == Channel.THOUGHT for c in t.channel) for t in result})
    traces = [t for t in result if sum(c == Channel.THOUGHT for c in t.channel) == length]
    taken = predictions(reasoner, traces)
    for row, trace in zip(taken.loss, traces, strict=True):
        at = [k for k, c in enumerate(trace.channel) if c == Channel.THOUGHT]
        at.append(trace.channel.index(Channel.ANSWER))
        np.testing.assert_allclose(row, [-trace.logprob[k] for k in at], atol=1e-4)
    assert (taken.right == 1).all(), "greedy text is what the model finds likeliest"


def test_steps_are_read_at_the_text_before_or_after_the_reasoning(made):
    model, tokenizer = made
    problem = COUNTER.generate(1, seed=3, split="test")[0]
    columns = {}
    for name in ("stopped", "pauses"):
        config = ReasonerConfig.parse(KINDS[name], "test")
        reasoner = reasoner_class(config.kind)(model, tokenizer, config, name=name, weights="none")
        trace = gold_trace(reasoner, problem, 0)
        columns[name] = reading_columns(trace, config.reasoning_read)
        assert len(columns[name]) == 5
    first = len(problem.question.split())
    assert columns["stopped"] == [first, first + 3, first + 6, first + 9, first + 15]
    assert columns["pauses"] == [first + 2, first + 5, first + 8, first + 11, first + 15]


def test_notes_say_which_way_it_came_out_and_no_more():
    rng = np.random.default_rng(0)
    base = rng.random((400, 5))
    right = np.ones_like(base)
    taken = {
        "stopped gradients": Predictions(right, base),
        "worse": Predictions(right, base + 0.1 + 0.01 * rng.standard_normal(base.shape)),
        "better": Predictions(right, base - 0.1 + 0.01 * rng.standard_normal(base.shape)),
        "alike": Predictions(right, base + 0.01 * rng.standard_normal(base.shape)),
    }
    output = notes(gaps(taken, np.arange(400)))
    assert "are better than worse" in output[0] and "are worse than better" in output[1]
    assert "are no different than alike" in output[2]
