"""`cotlens bench capture`: all contestants record the same numbers, and the contest on a device also runs on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import harness
from benchmarks.capture import device as capture_device
from benchmarks.capture.peers import hugging_face, transformer_lens
from benchmarks.capture.runs import EVERYTHING, loops
from benchmarks.capture.small_model import SmallModel
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.runtime.console import Bars


@pytest.fixture(scope="module")
def tiny() -> type[capture_device.LargeModel]:
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}

    class Tiny(capture_device.LargeModel):
        shape = {**sizes, "num_attention_heads": 4, "num_key_value_heads": 2}  # noqa: RUF012
        layers = 2

    return Tiny


def test_contestants_keep_the_same_numbers(tiny: type[capture_device.LargeModel]) -> None:
    for model, atol in ((SmallModel(), 1e-4), (tiny(), 0.05)):
        ids, traces = model.ids(2, 6), model.traces(2, 6)
        result = gather(model.reasoner, traces, model.addresses, index_of(traces, EVERYTHING, 2), dtype=model.kept)
        assert len(result) == model.layers and {rows.dtype for rows in result.values()} == {model.kept}
        states, cache = hugging_face(model, ids)()[1:-1], transformer_lens(model, ids)()
        for address, rows in result.items():
            torch.testing.assert_close(cache[address.name].flatten(0, 1), rows, atol=atol, rtol=0.02)
        for rows, state in zip(result.values(), states, strict=False):  # Hugging Face's last one is normed
            torch.testing.assert_close(state.flatten(0, 1), rows, atol=atol, rtol=0.02)


def test_the_loops_come_to_the_same_answer() -> None:
    small = SmallModel(thoughts=3)
    runs = loops(small, 2)
    traces, _ = runs["ours"]()
    first = [trace.token_ids[trace.channel.index("answer")] for trace in traces]
    logits, states = runs["bare"](), runs["bare, no unembedding"]()
    torch.testing.assert_close(small.bare.lm_head(states), logits, atol=1e-4, rtol=1e-4)
    assert len(first) == 2 and all(0 <= token < logits.shape[-1] for token in first)


def test_the_contest_on_a_device_is_kept_under_its_name(
    tiny: type[capture_device.LargeModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(capture_device, "LargeModel", tiny)
    monkeypatch.setattr(capture_device, "LARGE", (2, 6))
    monkeypatch.setattr(capture_device, "SMALL", (1, 4))
    with Bars() as bars:
        result = capture_device.bench("cpu", 1, bars)
    assert json.loads((tmp_path / "capture-cpu.json").read_text(encoding="utf-8"))["table"] == result["table"]
    assert {row["model"] for row in result["table"]} == {
        "GPT-2, 6 layers of 256, float32",
        "Llama 3.2 1B's shape, bfloat16",
    }
    assert {"bare", "ours", "to disk", "TransformerLens run_with_cache"} <= {row["who"] for row in result["table"]}
    by_id = {row["id"]: row for row in result["measures"]}
    assert by_id["capture.memory_over_bare"]["value"] > 0
    assert by_id["capture.peak_memory_ratio"]["value"] is None, "a CPU has no device memory"
