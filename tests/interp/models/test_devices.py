"""Moving a reasoner to a device moves its model, fast model and projection, which still share tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import interp
from interp.errors import UsageError
from interp.models.devices import copy_to
from interp.models.fast_model import fast_model

HOW = {"kind": "text", "begin": "<think>", "end": "</think>"}


@pytest.fixture
def meta_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users cannot move a model to the meta device; here it shows that nothing was left behind."""
    monkeypatch.setattr("interp.models.devices.usable_device", lambda device: device)


def tensors(*models: torch.nn.Module) -> dict[str, torch.Tensor]:
    result = [*(model.named_parameters() for model in models), *(model.named_buffers() for model in models)]
    return {f"{k}.{name}": each for k, part in enumerate(result) for name, each in part}


@pytest.mark.usefixtures("meta_is_usable")
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3_text"])
def test_every_parameter_and_buffer_is_moved(model_folder: Callable[..., Path], architecture: str) -> None:
    """On the meta device every operation between two devices is refused, and none computes."""
    reasoner = interp.load(model_folder(architecture), reasoner=HOW, device="cpu")
    plain = fast_model(reasoner.model)
    assert plain is not None and reasoner.device == torch.device("cpu")
    shared = {id(each) for each in plain.base.parameters()} & {id(each) for each in reasoner.base.parameters()}
    assert reasoner.to("meta") is reasoner and reasoner.device == torch.device("meta")
    assert {each.device.type for each in tensors(reasoner.model, plain.base, reasoner.base).values()} == {"meta"}
    still = {id(each) for each in plain.base.parameters()} & {id(each) for each in reasoner.base.parameters()}
    assert len(still) == len(shared) > 5 and fast_model(reasoner.model) is plain
    ids = torch.zeros(1, 5, dtype=torch.long, device="meta")
    inputs = {"inputs_embeds": reasoner.embed(ids), "use_cache": False}
    inputs["attention_mask"] = torch.zeros(
        1, 1, 5, 5, device="meta"
    )  # of two dimensions, its values would be looked at
    for base in (plain.base, reasoner.base):
        states = base(**inputs).last_hidden_state
        assert reasoner.unembed(states).shape == (1, 5, reasoner.embed.weight.shape[0])
    devices = [each.value for each in reasoner.loaded.findings if each.what == "device"]
    assert devices == ["meta"]


@pytest.mark.usefixtures("meta_is_usable")
def test_the_projection_is_moved_too(coconut: interp.Reasoner) -> None:
    from interp.models.projection import Projection

    reasoner = interp.load("chain-coconut")
    reasoner.projection = Projection(4, 8)
    reasoner.to("meta")
    assert {each.device.type for each in reasoner.projection.parameters()} == {"meta"}
    assert reasoner.with_config(max_answer_tokens=2).device == torch.device("meta")


def test_moving_to_the_same_device_changes_nothing(coconut: interp.Reasoner) -> None:
    problems = coconut.task.generate(3, seed=0, split="test")
    before = coconut.think(problems)
    weight = coconut.embed.weight
    assert coconut.to(coconut.device).embed.weight is weight
    assert [trace.answer for trace in coconut.think(problems)] == [trace.answer for trace in before]


def test_a_module_is_copied_and_the_original_stays() -> None:
    module = torch.nn.Linear(2, 3)
    assert copy_to(module, torch.device("cpu")) is module
    there = copy_to(module, torch.device("meta"))
    assert there.weight.device.type == "meta" and module.weight.device.type == "cpu"


def test_a_writer_makes_its_inputs_on_its_device(coconut: interp.Reasoner) -> None:
    from interp.decoders.low_rank import AdaptedWriter
    from interp.decoders.writer import WriterVocabulary

    writer = AdaptedWriter(WriterVocabulary(["what"], ["1", "2"]), 8, coconut, positions=6).to("meta")
    assert writer.device == torch.device("meta")
    assert {each.device.type for each in (writer.prompt_ids([["what"]]), writer.text_ids(["1", "2"]))} == {"meta"}


def test_a_fast_model_with_buffers_on_another_device_is_not_used(model_folder: Callable[..., Path]) -> None:
    """Moved by hand, the shared parameters are elsewhere and the plain model's own buffers are not."""
    reasoner = interp.load(model_folder("llama"), reasoner=HOW, device="cpu")
    plain = fast_model(reasoner.model)
    assert plain is not None
    for part in plain.base.modules():
        part._buffers |= {name: each.to("meta") for name, each in part._buffers.items()}
    assert fast_model(reasoner.model) is None


def test_an_unknown_device_is_refused() -> None:
    reasoner = interp.load("chain-coconut")
    for wrong in ("warp:9", str(torch.bfloat16)):
        with pytest.raises(UsageError, match=f"device '{wrong}' cannot be used here"):
            reasoner.to(wrong)
