"""Further architectures, held to plain Hugging Face on every path that runs a model; batches of 4 equal one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from benchmarks.models.small_models import MORE_ARCHITECTURES, build_model
from interp.causal.visible_text.forcing import force
from interp.models.address import Address
from interp.models.wrapping import quiet
from interp.reasoners import Intervention
from interp.reasoners.interventions import add, identity
from interp.reasoners.monitor import Monitor

N = 4
ONE_BY_ONE = ("mamba2", "jamba")
CONFIG = {"kind": "text", "begin": "<think>", "end": "</think>", "eos": "", "stops": (), "prompt": "{question}"}
CONFIG |= {"max_thought_tokens": 10, "max_answer_tokens": 5}


@pytest.fixture(scope="module", params=MORE_ARCHITECTURES)
def folder(request: Any, model_folder: Callable, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("more") / request.param.replace(" ", "-")
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    build_model(path, request.param, MORE_ARCHITECTURES[request.param], tokenizer)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*one problem at a time")
@torch.no_grad()
def test_every_path_equals_hugging_face_and_one_by_one(folder: Any, asked: Callable) -> None:
    reasoner = interp.load(folder, reasoner=CONFIG)
    problems = [replace(problem, steps=()) for problem in asked(N)]
    thoughts = ["So the answer." * (k + 1) for k in range(N)]
    address, rng = Address("blocks.0.hook_out"), np.random.default_rng(0)
    direction, vector = rng.normal(size=(2, 32)).astype("f4")
    edit = Intervention(address, np.array([[0, 2], [2, 9], [3, 20]]), add(3 * vector))
    nothing = Intervention(address, np.array([[0, 2]]), identity)

    def monitored(size: int) -> list:
        monitor = Monitor.along(address, direction, 0.5, name="m", text=" wait", times=2)
        return list(reasoner.think(problems, monitors=[monitor], batch_size=size))

    runs: list[Callable[[int], list]] = [
        lambda size: list(reasoner.think(problems, batch_size=size)),
        lambda size: list(reasoner.think(problems, interventions=[nothing], batch_size=size)),
        lambda size: list(reasoner.think(problems, interventions=[edit], batch_size=size)),
        lambda size: list(force(reasoner, problems, thoughts, batch_size=size)),
        monitored,
    ]
    together = [run(N) for run in runs]
    for run, traces in zip(runs, together, strict=True):
        assert [t.token_ids for t in traces] == [t.token_ids for t in run(1)]
    assert [t.token_ids for t in together[0]] == [t.token_ids for t in together[1]]
    assert together[2] != together[0]
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    for trace in [*together[0], *together[3], *together[4]]:
        logits = plain(torch.tensor([trace.token_ids]), use_cache=False).logits[0]
        log_p = torch.log_softmax(logits, -1)
        for k in range(1, len(trace)):
            if not np.isnan(trace.logprob[k]):
                assert int(logits[k - 1].argmax()) == trace.token_ids[k]
                assert abs(float(log_p[k - 1, trace.token_ids[k]]) - trace.logprob[k]) < 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_logits_and_residual_streams(folder: Any, asked: Callable) -> None:
    reasoner = interp.load(folder, reasoner=CONFIG)
    traces = list(reasoner.think([replace(problem, steps=()) for problem in asked(N)], batch_size=1))
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    seen: dict[tuple[str, int], torch.Tensor] = {}

    def keeper(name: str) -> Callable:
        def keep(activations: torch.Tensor, batch: Any) -> None:
            seen.update({(name, int(k)): activations[b][batch.real[b]] for b, k in enumerate(batch.traces)})

        return keep

    names = ["blocks.0.hook_out", "ln_final.hook_out"]
    reasoner.replay(traces, hooks={name: keeper(name) for name in names}, batch_size=N)
    for k, trace in enumerate(traces):
        out = plain(torch.tensor([trace.token_ids]), output_hidden_states=True, use_cache=False)
        scale = float(out.logits.abs().max())
        torch.testing.assert_close(
            reasoner.unembed(seen["ln_final.hook_out", k]), out.logits[0], atol=1e-4 * scale, rtol=0
        )
        # The list of Mamba 2 begins after the first block, not before it.
        residual = out.hidden_states[0 if folder.name == "mamba2" else 1][0]
        torch.testing.assert_close(
            seen["blocks.0.hook_out", k], residual, atol=1e-4 * float(residual.abs().max()), rtol=0
        )
