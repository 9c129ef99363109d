"""No token is written from states or logits that are not finite, such as those of a float16 overflow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from interp.errors import StoreError
from interp.models.address import Address
from interp.models.wrapping import quiet
from interp.reasoners import Intervention
from interp.reasoners.rollouts.measures import FiniteCheck, NonFiniteError

HOT = "9"  # a token of its own, also behind a space


@pytest.fixture(scope="module")
def overflowing(model_folder, tmp_path_factory):
    """A model whose first block goes beyond float16's 65504 where it reads a 9, and nowhere else."""
    folder = model_folder("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hot = tokenizer(HOT, add_special_tokens=False).input_ids[0]
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    layer = model.model.layers[0]
    with torch.no_grad():
        model.model.embed_tokens.weight[hot, 5] = 3e4
        layer.post_attention_layernorm.weight[5] = 1.0
        for weight in (layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight):
            weight[0] = 0
            weight[0, 5] = 2
        layer.mlp.down_proj.weight[5, 0] = 400.0
    out = tmp_path_factory.mktemp("overflowing")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def half(overflowing):
    return interp.load(overflowing, dtype="float16").with_config(max_thought_tokens=8, max_answer_tokens=4)


def questions(asked, *texts):
    return [replace(problem, question=text) for problem, text in zip(asked(len(texts)), texts, strict=True)]


def message(reasoner, trace, question):
    ids = reasoner.vocabulary.prompt_ids(question)
    position = ids.index(reasoner.tokenizer(HOT, add_special_tokens=False).input_ids[0])
    return rf"in float16, got others in trace {trace} at position {position}: blocks\.0\.hook_out is not finite there; "


@pytest.mark.parametrize("batch_size", [8, 1])
def test_an_overflow_in_a_prompt_is_refused_with_its_place(batch_size, half, asked):
    problems = questions(asked, "What is 2 plus 1 and so on?", "What is 3 plus 1?", f"What is {HOT} plus 1?")
    cool = half.think(problems[:2], batch_size=batch_size)
    assert not any(math.isnan(e) for trace in cool for e in trace.entropy[len(trace.entropy) - 4 :])
    with pytest.raises(StoreError, match=message(half, 2, problems[2])) as refused:
        half.think(problems, batch_size=batch_size)
    assert "--model-dtype float32" in str(refused.value)
    with pytest.raises(StoreError, match=message(half, 2, problems[2])):
        half.think(problems, batch_size=batch_size, temperature=1.0, top_p=0.9, seed=3)


def test_a_long_thought_that_is_broken_ends_early(half, asked, monkeypatch):
    from interp.reasoners.rollouts.rollout import Rollout

    real, passes = Rollout._run, []
    monkeypatch.setattr(Rollout, "_run", lambda self, *arguments: passes.append(1) or real(self, *arguments))
    with pytest.raises(StoreError):
        half.with_config(max_thought_tokens=150).think(questions(asked, f"What is {HOT} plus 1?"))
    assert len(passes) < 30


def test_float32_and_bfloat16_hold_it(overflowing, asked):
    problems = questions(asked, f"What is {HOT} plus 1?")
    for dtype in ("float32", "bfloat16"):
        reasoner = interp.load(overflowing, dtype=dtype).with_config(max_thought_tokens=3, max_answer_tokens=2)
        assert np.isfinite(reasoner.think(problems)[0].entropy[-2:]).all()


def test_an_overflow_in_a_forced_thought_is_refused(half, asked):
    problems = questions(asked, "What is 2 plus 1?", "What is 3 plus 1?")
    cool, hot = (half.tokenizer(text, add_special_tokens=False).input_ids for text in ("so 2", f"so {HOT}"))
    assert len(half.think_given(problems, [cool, cool])) == 2
    n = len(half.vocabulary.prompt_ids(problems[1])) + 1 + hot.index(half.tokenizer.convert_tokens_to_ids(HOT))
    for go_on in (False, True):
        if len(cool) != len(hot) and go_on:
            continue
        with pytest.raises(StoreError, match=rf"in trace 1 at position {n}: blocks\.0\.hook_out is not finite"):
            half.think_given(problems, [cool, hot], go_on=go_on)


def test_nothing_is_left_on_the_model_after_a_refusal(half, asked):
    problems = questions(asked, "What is 2 plus 1?", f"What is {HOT} plus 1?")
    before = half.think(problems[:1])
    with pytest.raises(StoreError):
        half.think(problems)
    assert [t.token_ids for t in half.think(problems[:1])] == [t.token_ids for t in before]


@pytest.mark.parametrize("organism", ["chain-coconut", "chain-text"])
def test_an_edit_that_is_not_finite_is_refused(organism):
    reasoner = interp.load(organism)
    problems = reasoner.task.generate(3, seed=0)
    position = len(reasoner.vocabulary.prompt_ids(problems[1])) + 1

    def spoil(activations, rows):
        return activations * float("inf")

    broken = Intervention(Address("blocks.0.hook_out"), np.array([[1, position]]), spoil)
    with pytest.raises(
        StoreError, match=rf"in float32, got others in trace 1 at position {position}: .*check the weights"
    ):
        reasoner.think(problems, interventions=[broken])


def test_logits_that_overflow_behind_finite_states_are_refused(model_folder, asked):
    """A finite state whose product with the unembedding is beyond float16, before a forced token and a chosen one."""
    reasoner = interp.load(model_folder("llama"), dtype="float16").with_config(
        max_thought_tokens=2, max_answer_tokens=2
    )
    with torch.no_grad():
        reasoner.unembed.weight[7] = 60_000.0
    for think in (
        lambda: reasoner.think(asked(2)),
        lambda: reasoner.think_given(asked(2), [[50, 51], [52]]),
    ):
        with pytest.raises(StoreError, match="a state or its logits are not finite"):
            think()


def test_a_check_looks_at_real_cells_alone_and_names_the_first_row():
    check, nan = FiniteCheck(), float("nan")
    check.settle()
    check.add(torch.tensor([[[nan, 1.0], [1.0, 1.0]]]), np.array([[-1, 0]]))
    check.settle()
    check.add(torch.ones(2, 2, 2), np.array([[0, 1], [0, 1]]))
    check.add(torch.tensor([[[1.0, 1.0], [1.0, nan]], [[1.0, -math.inf], [1.0, 1.0]]]), np.array([[2, 3], [2, 3]]))
    with pytest.raises(NonFiniteError) as found:
        check.settle()
    assert (found.value.row, found.value.position, found.value.last) == (0, 3, 3)
    check.settle()
    check.add(torch.full((1, 1, 3), 60_000.0, dtype=torch.float16), np.array([[4]]))
    check.settle()


@pytest.mark.parametrize("place", ["attention", "unembedding"])
def test_a_model_that_overflows_everywhere_is_not_called_unsupported(place, model_folder, tmp_path):
    """The dtype is at fault, not the architecture; in float32 the same weights load."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(model_folder("llama"), dtype=torch.float32)
    with torch.no_grad():
        if place == "attention":
            attention = model.model.layers[-1].self_attn
            for weight in (attention.q_proj.weight, attention.k_proj.weight):
                weight.fill_(100.0)
            model.model.layers[-1].input_layernorm.weight.fill_(30.0)
        else:
            model.lm_head.weight[9] = 6e4
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_folder("llama")).save_pretrained(tmp_path)
    interp.load(tmp_path)
    with pytest.raises(StoreError, match=r"finite numbers .* in float16, got logits .*--model-dtype float32"):
        interp.load(tmp_path, dtype="float16")
