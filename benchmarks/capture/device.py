"""`cotlens bench capture --device cuda`: the same contest on a GPU, with the small model and one of a size that fills it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import torch

from benchmarks.capture.peers import PEERS, missing_peers
from benchmarks.capture.runs import BATCHES, EVERYTHING, LARGE, SMALL, batch_to_disk, loops, side_by_side
from benchmarks.capture.small_model import POSITIONS, WORDS, SmallModel
from benchmarks.harness import interleaved, keep, ratio
from benchmarks.measures import report
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.models.load import quiet
from interp.runtime.console import Bars, jsonable

_TRANSFORMERS = {"peer": "transformers", "peer_version": version("transformers")}


@dataclass
class LargeModel(SmallModel):
    """The shape of Llama 3.2 1B (its configuration on the hub), never trained, in bfloat16, with 1,000 words.

    The words are few for the same reason as the small model's: capture needs no unembedding.
    """

    shape: ClassVar[dict[str, int]] = {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    layers: ClassVar[int] = shape["num_hidden_layers"]
    kept: ClassVar[torch.dtype] = torch.bfloat16

    def fresh(self) -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        shape: dict[str, Any] = {"vocab_size": WORDS, "max_position_embeddings": POSITIONS, **self.shape}
        with quiet(), torch.device(self.device):
            torch.manual_seed(0)
            model: Any = LlamaForCausalLM(LlamaConfig(bos_token_id=0, eos_token_id=0, **shape))
            return model.to(torch.bfloat16).eval().requires_grad_(False)

    def blocks(self, model: Any) -> Any:
        return model.model.layers


def bench(device: str, repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take the group `capture` on `device`, but for its growth with length, and the large model beside it."""
    small, large = SmallModel(device=device), LargeModel(device=device)
    taken: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    why_not: dict[str, str] = {}

    def contest(model: SmallModel, shape: tuple[int, int], rounds: int, *, store: bool) -> dict[str, list[float]]:
        with bars.stage(f"{_called(model)}, B{shape[0]} x T{shape[1]}"):
            found, missing = side_by_side(model, shape, rounds, store=store)
        why_not.update(missing)
        rows.extend(_rows(_called(model), f"B{shape[0]}xT{shape[1]}", found))
        return found

    found = contest(small, LARGE, repetitions, store=True)
    taken["capture.memory_over_bare"] = ratio(found, "ours", "bare") | _TRANSFORMERS
    taken["capture.disk_over_bare"] = batch_to_disk(found) | _TRANSFORMERS
    _against(taken, "capture.transformer_lens_ratio", found, "TransformerLens run_with_cache")
    found = contest(small, SMALL, 10 * repetitions, store=False)
    _against(taken, "capture.transformer_lens_ratio_small", found, "TransformerLens run_with_cache")
    _against(taken, "capture.nnsight_ratio_small", found, "nnsight")
    for name, batch, rounds in (("b1", 1, 4 * repetitions), ("b32", 32, repetitions)):
        with bars.stage(f"a Coconut loop, B={batch}"):
            found = interleaved(loops(small, batch), rounds, small.wait)
        taken[f"capture.coconut_loop_{name}"] = ratio(found, "ours", "bare") | _TRANSFORMERS
        rows.extend(_rows(_called(small), f"loop B={batch}", found))
    contest(large, LARGE, repetitions, store=True)
    contest(large, SMALL, repetitions, store=False)
    with bars.stage("device memory"):
        memory = {_called(model): _device_memory(model, LARGE) for model in (small, large) if model.wait}
    if memory:
        taken["capture.peak_memory_ratio"] = memory[_called(small)]
    more = {
        "device": _named(device),
        "table": jsonable(rows),
        "device_memory": jsonable(memory),
        "peers": missing_peers(why_not),
    }
    return keep(f"capture-{torch.device(device).type}", jsonable(report("capture", taken)), **more)


def _called(model: SmallModel) -> str:
    return "Llama 3.2 1B's shape, bfloat16" if isinstance(model, LargeModel) else "GPT-2, 6 layers of 256, float32"


def _named(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


def _rows(model: str, what: str, seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row for each contestant: its median, and the median of its rounds over the bare ones."""
    found = []
    for name, each in seconds.items():
        rounds = [a / b for a, b in zip(each, seconds["bare"], strict=True)]
        batches = BATCHES if name == "to disk" else 1
        found.append(
            {
                "model": model,
                "what": what,
                "who": name,
                "ms": 1000 * statistics.median(each) / batches,
                "over bare": statistics.median(rounds) / batches,
                "from": min(rounds) / batches,
                "to": max(rounds) / batches,
                "n": len(rounds),
            }
        )
    return found


def _against(taken: dict[str, dict[str, Any]], name: str, seconds: dict[str, list[float]], peer: str) -> None:
    if peer in seconds:
        taken[name] = ratio(seconds, peer, "ours") | {"peer": peer, "peer_version": version(PEERS[peer][0])}


def _device_memory(model: SmallModel, shape: tuple[int, int]) -> dict[str, Any]:
    """What a capture holds on the device above a bare pass at its worst, over the bytes that one batch keeps."""
    ids, traces = model.ids(*shape), model.traces(*shape)
    index = index_of(traces, EVERYTHING, shape[0])
    kept = 0

    def captured() -> None:
        nonlocal kept
        found = gather(model.reasoner, traces, model.addresses, index, dtype=model.kept)
        kept = sum(each.numel() * each.element_size() for each in found.values())

    def bare() -> None:
        with torch.inference_mode():
            model.bare.base_model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)

    above = _peak(captured) - _peak(bare)
    return {
        "value": above / kept,
        "ci": None,
        "n": 1,
        "unit": "x",
        "note": f"device memory, {kept / 2**20:.1f} MiB kept on the host",
    } | _TRANSFORMERS


def _peak(run: Callable[[], Any]) -> int:
    """The most bytes on the device during a second run, above what lay there before it."""
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
