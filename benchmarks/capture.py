"""`cotlens bench capture`: what recording costs beside a bare forward pass, other libraries, and a Coconut loop."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.capture_growth import grow, keep_figure
from benchmarks.capture_peers import INSTALL, PEERS, there
from benchmarks.growth_figure import relative_spread
from benchmarks.harness import interleaved, keep, ratio
from benchmarks.small_model import SmallModel
from interp.activations import capture
from interp.activations.loop import think_and_record
from interp.activations.record import gather
from interp.activations.rows import index_of
from interp.console import Bars, plain
from interp.measures import report
from interp.models.cache import run_cached

LARGE, SMALL = (32, 128), (1, 16)
_BATCHES = 4  # of one store, so that writing one and computing the next can overlap
_EVERYTHING = ["prompt", "thought"]


def bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take every measure of the group `capture`; `repetitions` rounds of the large batch, ten times that of the small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a shared machine measure the other processes
    try:
        return _bench(repetitions, bars)
    finally:
        torch.set_num_threads(threads)


def _bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    small = SmallModel()
    taken: dict[str, dict[str, Any]] = {}
    seconds: dict[str, dict[str, float]] = {}
    with bars.stage("all layers, B32 x T128"):
        found, why_not = _side_by_side(small, LARGE, repetitions, store=True)
        seconds["B32xT128"] = {name: statistics.median(each) for name, each in found.items()}
    bare = {"peer": "transformers, bare forward pass", "peer_version": version("transformers")}
    taken["capture.memory_over_bare"] = ratio(found, "ours", "bare") | bare
    in_blocks = ratio(found, "to disk", "bare")
    each = {key: in_blocks[key] / _BATCHES if key == "value" else in_blocks[key] for key in in_blocks}
    each["ci"] = [end / _BATCHES for end in in_blocks["ci"]]
    taken["capture.disk_over_bare"] = each | bare | {"note": f"a whole capture of {_BATCHES} batches, float32, fsynced"}
    lens = {"peer": "transformer-lens run_with_cache", "peer_version": version("transformer-lens")}
    taken["capture.transformer_lens_ratio"] = ratio(found, "TransformerLens run_with_cache", "ours") | lens
    with bars.stage("all layers, B1 x T16"):
        found, _ = _side_by_side(small, SMALL, 10 * repetitions, store=False)
        seconds["B1xT16"] = {name: statistics.median(each) for name, each in found.items()}
    taken["capture.transformer_lens_ratio_small"] = ratio(found, "TransformerLens run_with_cache", "ours") | lens
    if "nnsight" in found:
        versioned = {"peer": "nnsight", "peer_version": version("nnsight")}
        taken["capture.nnsight_ratio_small"] = ratio(found, "nnsight", "ours") | versioned
    else:
        taken["capture.nnsight_ratio_small"] = {"peer": "nnsight", "note": why_not.get("nnsight", INSTALL)}
    cached = {"peer": "transformers with a key-value cache, no capture", "peer_version": version("transformers")}
    for name, batch, rounds in (("b1", 1, 4 * repetitions), ("b32", 32, repetitions)):
        with bars.stage(f"a Coconut loop, B={batch}"):
            found = interleaved(_loops(small, batch), rounds)
            seconds[f"loop B={batch}"] = {name: statistics.median(each) for name, each in found.items()}
        harder = statistics.median(a / b for a, b in zip(found["ours"], found["bare, no unembedding"], strict=True))
        note = f"16 question tokens, {small.thoughts} thoughts, 1 answer token; over a loop that skips the unembedding {harder:.2f}"
        taken[f"capture.coconut_loop_{name}"] = ratio(found, "ours", "bare") | cached | {"note": note}
    with bars.stage("peak memory"):
        taken["capture.peak_memory_ratio"] = _memory()
    with bars.stage("growth with the length of traces") as progress:
        grown = grow(progress)
    keep_figure(grown)
    peers = {
        name: {"version": None if name in why_not else version(package), "note": why_not.get(name, "")}
        for name, (package, _) in PEERS.items()
    }
    growth = {"rows": grown.to_dict("records"), "spread": relative_spread(grown["whole"])}
    return keep("capture", plain(report("capture", taken)), seconds=plain(seconds), peers=peers, growth=plain(growth))


def _side_by_side(
    small: SmallModel, shape: tuple[int, int], repetitions: int, *, store: bool
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of a bare pass, of ours in memory (and to disk), and of every peer that runs here."""
    ids = small.ids(*shape)
    mask = torch.ones_like(ids)
    traces = small.traces(*shape)
    index = index_of(traces, _EVERYTHING, shape[0])
    runs, why_not = there(small, ids)

    @torch.no_grad()
    def bare() -> Any:
        return small.bare(input_ids=ids, attention_mask=mask, use_cache=False).logits

    contestants: dict[str, Callable[[], Any]] = {
        "bare": bare,
        "ours": lambda: gather(small.reasoner, traces, small.addresses, index),
        **runs,
    }
    if store:
        many = small.traces(shape[0] * _BATCHES, shape[1])

        def to_disk() -> None:
            with tempfile.TemporaryDirectory() as folder:
                options: dict[str, Any] = {"sites": "resid_post", "channels": _EVERYTHING, "shard_size": shape[0]}
                capture(small.reasoner, many, out=Path(folder) / "store", **options)

        contestants["to disk"] = to_disk
    return interleaved(contestants, repetitions), why_not


def _loops(small: SmallModel, batch: int) -> dict[str, Callable[[], Any]]:
    """The same thoughts three times: by Hugging Face's own means, the same without unembedding thoughts, and ours."""
    length, thoughts = 16, small.thoughts
    ids = small.ids(batch, length)
    problems = small.problems(batch, length)
    scale = small.reasoner.config.latent_scale
    head, base = small.bare, small.bare.base_model

    @torch.no_grad()
    def plainly() -> torch.Tensor:
        mask = torch.ones_like(ids)
        out, cache = run_cached(head, None, input_ids=ids, attention_mask=mask, output_hidden_states=True)
        for k in range(thoughts):
            mask = torch.cat([mask, mask[:, :1]], dim=1)
            out, cache = run_cached(
                head,
                cache,
                inputs_embeds=out.hidden_states[-1][:, -1:] * scale,
                attention_mask=mask,
                position_ids=torch.full((batch, 1), length + k),
                output_hidden_states=True,
            )
        mask = torch.cat([mask, mask[:, :1]], dim=1)
        places = torch.full((batch, 1), length + thoughts)
        answer = out.logits[:, -1:].argmax(-1)
        return run_cached(head, cache, input_ids=answer, attention_mask=mask, position_ids=places)[0].logits

    @torch.no_grad()
    def without_unembedding() -> torch.Tensor:
        mask = torch.ones_like(ids)
        out, cache = run_cached(base, None, input_ids=ids, attention_mask=mask)
        for k in range(thoughts):
            mask = torch.cat([mask, mask[:, :1]], dim=1)
            out, cache = run_cached(
                base,
                cache,
                inputs_embeds=out.last_hidden_state[:, -1:] * scale,
                attention_mask=mask,
                position_ids=torch.full((batch, 1), length + k),
            )
        mask = torch.cat([mask, mask[:, :1]], dim=1)
        places = torch.full((batch, 1), length + thoughts)
        answer = head.lm_head(out.last_hidden_state[:, -1:]).argmax(-1)
        return run_cached(base, cache, input_ids=answer, attention_mask=mask, position_ids=places)[0].last_hidden_state

    return {
        "bare": plainly,
        "bare, no unembedding": without_unembedding,
        "ours": lambda: think_and_record(small.reasoner, problems, sites="resid_post"),
    }


def _memory() -> dict[str, Any]:
    """Peak memory of a process that captures one batch, less that of one that only infers, over the bytes kept."""
    peaks = {what: sorted(_peak(what) for _ in range(3)) for what in ("bare", "plain", "capture")}
    kept = json.loads(_measured("capture"))["kept"]
    above = {
        what: [(a - b) / kept for a, b in zip(peaks["capture"], peaks[what], strict=True)] for what in ("bare", "plain")
    }
    return {
        "value": statistics.median(above["plain"]),
        "ci": [min(above["plain"]), max(above["plain"])],
        "n": len(above["plain"]),
        "unit": "x",
        "peer": "the same model without hooks or unembedding",
        "peer_version": version("transformers"),
        "note": f"B32xT128, {kept / 2**20:.1f} MiB kept; each in a process of its own; above Hugging Face's own forward "
        f"pass without unembedding {statistics.median(above['bare']):.2f}",
    }


def _peak(what: str) -> int:
    return int(json.loads(_measured(what))["peak"])


def _measured(what: str) -> str:
    command = [sys.executable, "-m", "benchmarks.capture_memory", what]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
