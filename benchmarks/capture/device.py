"""`cotlens bench capture --device cuda`: the same contest on a GPU, with the small model and one that fills the GPU."""

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
from benchmarks.measures import bench_report
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.models.wrapping import quiet
from interp.runtime.console import Bars, jsonable

_TRANSFORMERS = {"peer": "transformers", "peer_version": version("transformers")}


@dataclass
class LargeModel(SmallModel):
    """An untrained bfloat16 model of the shape of Llama 3.2 1B (its configuration on the hub), with 1,000 words.

    The vocabulary is small for the same reason as the small model's: capture needs no unembedding.
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
        """Return the bare Hugging Face model."""
        from transformers import LlamaConfig, LlamaForCausalLM

        shape: dict[str, Any] = {"vocab_size": WORDS, "max_position_embeddings": POSITIONS, **self.shape}
        with quiet(), torch.device(self.device):
            torch.manual_seed(0)
            model: Any = LlamaForCausalLM(LlamaConfig(bos_token_id=0, eos_token_id=0, **shape))
            return model.to(torch.bfloat16).eval().requires_grad_(False)

    def blocks(self, model: Any) -> Any:
        """Return the blocks of a bare model."""
        return model.model.layers


def bench(device: str, repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take the group `capture` on a device, without growth, for the small and the large model.

    Args:
        device: A PyTorch device, such as "cuda".
        repetitions: Rounds of the large batch.
        bars: Progress bars.

    Returns:
        The kept result, as `cotlens bench --json` prints it.
    """
    small, large = SmallModel(device=device), LargeModel(device=device)
    measures: dict[str, dict[str, Any]] = {}
    records: list[dict[str, Any]] = []
    failures: dict[str, str] = {}

    def contest(model: SmallModel, shape: tuple[int, int], rounds: int, *, store: bool) -> dict[str, list[float]]:
        with bars.stage(f"{_title(model)}, B{shape[0]} x T{shape[1]}"):
            times, failed = side_by_side(model, shape, rounds, store=store)
        failures.update(failed)
        records.extend(_records(_title(model), f"B{shape[0]}xT{shape[1]}", times))
        return times

    times = contest(small, LARGE, repetitions, store=True)
    measures["capture.memory_over_bare"] = ratio(times, "ours", "bare") | _TRANSFORMERS
    measures["capture.disk_over_bare"] = batch_to_disk(times) | _TRANSFORMERS
    _add_peer(measures, "capture.transformer_lens_ratio", times, "TransformerLens run_with_cache")
    times = contest(small, SMALL, 10 * repetitions, store=False)
    _add_peer(measures, "capture.transformer_lens_ratio_small", times, "TransformerLens run_with_cache")
    _add_peer(measures, "capture.nnsight_ratio_small", times, "nnsight")
    for name, batch, rounds in (("b1", 1, 4 * repetitions), ("b32", 32, repetitions)):
        with bars.stage(f"a Coconut loop, B={batch}"):
            times = interleaved(loops(small, batch), rounds, small.wait)
        measures[f"capture.coconut_loop_{name}"] = ratio(times, "ours", "bare") | _TRANSFORMERS
        records.extend(_records(_title(small), f"loop B={batch}", times))
    contest(large, LARGE, repetitions, store=True)
    contest(large, SMALL, repetitions, store=False)
    with bars.stage("device memory"):
        memory = {_title(model): _device_memory(model, LARGE) for model in (small, large) if model.wait}
    if memory:
        measures["capture.peak_memory_ratio"] = memory[_title(small)]
    more = {
        "device": _device_name(device),
        "table": jsonable(records),
        "device_memory": jsonable(memory),
        "peers": missing_peers(failures),
    }
    return keep(f"capture-{torch.device(device).type}", jsonable(bench_report("capture", measures)), **more)


def _title(model: SmallModel) -> str:
    return "Llama 3.2 1B's shape, bfloat16" if isinstance(model, LargeModel) else "GPT-2, 6 layers of 256, float32"


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


def _records(model: str, what: str, seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return one record a contestant: its median time, and the median of its rounds over the bare ones."""
    records = []
    for name, times in seconds.items():
        rounds = [a / b for a, b in zip(times, seconds["bare"], strict=True)]
        batches = BATCHES if name == "to disk" else 1
        records.append(
            {
                "model": model,
                "what": what,
                "who": name,
                "ms": 1000 * statistics.median(times) / batches,
                "over bare": statistics.median(rounds) / batches,
                "from": min(rounds) / batches,
                "to": max(rounds) / batches,
                "n": len(rounds),
            }
        )
    return records


def _add_peer(measures: dict[str, dict[str, Any]], name: str, seconds: dict[str, list[float]], peer: str) -> None:
    if peer in seconds:
        measures[name] = ratio(seconds, peer, "ours") | {"peer": peer, "peer_version": version(PEERS[peer][0])}


def _device_memory(model: SmallModel, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the peak device memory of a capture above that of a bare pass, over the bytes that one batch keeps."""
    ids, traces = model.ids(*shape), model.traces(*shape)
    index = index_of(traces, EVERYTHING, shape[0])
    kept = 0

    def captured() -> None:
        nonlocal kept
        acts = gather(model.reasoner, traces, model.addresses, index, dtype=model.kept)
        kept = sum(rows.numel() * rows.element_size() for rows in acts.values())

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
    """Return the peak bytes on the device during a second run, above what was there before it."""
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
