"""Thoughts that are the expected embedding of the next token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import interp
from interp.errors import UsageError
from interp.organisms.catalog import weights_folder
from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.curriculum import collate
from interp.reasoners.registry import curriculum_of

NAME = "chain-coconut"


def test_a_thought_is_the_mean_of_all_embeddings_weighted_by_what_comes_next() -> None:
    """Thinking and training, beside a plain loop over transformers' own model."""
    reasoner = interp.load(NAME, device="cpu", dtype="float32").with_config(fed_back="embedding", latent_scale=1.0)
    problems = reasoner.task.generate(60, seed=5, split="test")
    problems = [problem for problem in problems if problem.n_steps == problems[0].n_steps][:4]
    traces = reasoner.think(problems)
    model = AutoModelForCausalLM.from_pretrained(weights_folder(NAME), dtype=torch.float32, trust_remote_code=False)
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    curriculum = curriculum_of(reasoner.config)
    with torch.no_grad():
        for trace in traces:
            first = trace.channel.index("latent")
            n_thoughts = trace.channel.count("latent")
            inputs = table[torch.tensor(trace.token_ids[:first])][None]
            for k in range(n_thoughts):
                state = model.base_model(inputs_embeds=inputs).last_hidden_state[:, -1]
                thought = head(state).softmax(-1) @ table
                np.testing.assert_allclose(trace.latents[k], thought[0], atol=1e-4)
                inputs = torch.cat([inputs, thought[:, None]], dim=1)
            lesson = curriculum.lesson(trace.problem, trace.problem.n_steps)
            batch = collate([lesson], reasoner.tokenizer)
            states = curriculum.states(model, batch)
            expected = model.base_model(inputs_embeds=inputs).last_hidden_state
            torch.testing.assert_close(states[:, : inputs.shape[1]], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fed_back", ["state", "embedding"])
@pytest.mark.parametrize("architecture", ["gemma2", "llama4_text"])
def test_training_reads_the_logits_that_thinking_reads(
    model_folder: Callable[[str], Path], asked: Callable[[int], list[Problem]], architecture: str, fed_back: str
) -> None:
    """Gemma 2 caps its logits; the class of Llama 4's text model names its body wrongly."""
    folder = model_folder(architecture)
    silent = {
        "kind": "continuous",
        "fed_back": fed_back,
        "begin": "<think>",
        "end": "</think>",
        "thoughts": 2,
        "latent": "<pad>",
    }
    reasoner = interp.load(folder, reasoner=silent, device="cpu", dtype="float32")
    curriculum = curriculum_of(reasoner.config)
    curriculum.tokenize = reasoner.tokenizer.tokenize
    batch = collate([curriculum.lesson(asked(4)[0], 2)], reasoner.tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    embed, first = model.get_input_embeddings(), batch.first_thought
    with torch.no_grad():
        inputs = embed(batch.ids[:, :first])
        for _ in range(2):
            out = model(inputs_embeds=inputs, output_hidden_states=True)
            shares = out.logits[:, -1:].softmax(-1)
            thought = (
                out.hidden_states[-1][:, -1:] if fed_back == "state" else shares @ embed(torch.arange(shares.shape[-1]))
            )
            inputs = torch.cat([inputs, thought], dim=1)
        inputs = torch.cat([inputs, embed(batch.ids[:, first + 2 :])], dim=1)
        expected = model(inputs_embeds=inputs).logits
        torch.testing.assert_close(curriculum.logits(model, batch), expected, atol=1e-4, rtol=1e-4)


def test_an_embedding_is_not_projected() -> None:
    with pytest.raises(UsageError, match="expected fed_back `state` with a projection, got `embedding`"):
        ReasonerConfig.parse({"kind": "continuous", "fed_back": "embedding", "projection": 8}, "reasoner.json")


def test_a_lesson_without_silent_steps_is_read_as_transformers_reads_it() -> None:
    """The first stage of the curriculum, in which every step is written."""
    reasoner = interp.load(NAME, device="cpu", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(weights_folder(NAME), dtype=torch.float32, trust_remote_code=False)
    curriculum = curriculum_of(reasoner.config)
    problems = reasoner.task.generate(5, seed=5, split="test")
    batch = collate([curriculum.lesson(problem, 0) for problem in problems], reasoner.tokenizer)
    assert batch.n_thoughts == 0
    with torch.no_grad():
        expected = model(input_ids=batch.ids, output_hidden_states=True)
        states, logits = curriculum.states(model, batch), curriculum.logits(model, batch)
    torch.testing.assert_close(states, expected.hidden_states[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=1e-4)
