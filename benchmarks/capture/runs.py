"""What `cotlens bench capture` times side by side, on a CPU or a GPU: recording, and a Coconut loop."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.capture.peers import available_peers
from benchmarks.capture.small_model import SmallModel
from benchmarks.harness import interleaved, ratio
from interp.activations import capture
from interp.activations.loop import think_and_record
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.models.cache import run_cached

LARGE, SMALL = (32, 128), (1, 16)
BATCHES = 4  # of one store, so that writing a batch and computing the next can overlap
EVERYTHING = ["prompt", "thought"]


def side_by_side(
    small: SmallModel, shape: tuple[int, int], repetitions: int, *, store: bool
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Time a bare pass, our recording to memory and to disk, and every peer that runs here.

    Args:
        small: The model.
        shape: Batch size and length.
        repetitions: Rounds.
        store: Whether a capture to disk is timed too.

    Returns:
        Seconds of each contestant in each round, and why missing peers did not run.
    """
    ids = small.ids(*shape)
    mask = torch.ones_like(ids)
    traces = small.traces(*shape)
    index = index_of(traces, EVERYTHING, shape[0])
    rows = {name: index[name].to_numpy() for name in ("trace", "position")}
    runs, failures = available_peers(small, ids)

    @torch.no_grad()
    def bare() -> Any:
        return small.bare(input_ids=ids, attention_mask=mask, use_cache=False).logits

    contestants: dict[str, Callable[[], Any]] = {
        "bare": bare,
        "ours": lambda: gather(small.reasoner, traces, small.addresses, rows, dtype=small.kept),
        **runs,
    }
    if small.wait:
        states = runs["Hugging Face output_hidden_states"]
        contestants["Hugging Face output_hidden_states, to the host"] = lambda: [state.cpu() for state in states()]
    if store:
        many = small.traces(shape[0] * BATCHES, shape[1])

        def to_disk() -> None:
            with tempfile.TemporaryDirectory() as folder:
                options: dict[str, Any] = {"sites": "resid_post", "channels": EVERYTHING, "shard_size": shape[0]}
                dtype = str(small.kept).removeprefix("torch.")
                capture(small.reasoner, many, out=Path(folder) / "store", dtype=dtype, **options)

        contestants["to disk"] = to_disk
    return interleaved(contestants, repetitions, small.wait), failures


def batch_to_disk(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return the time of one batch of a whole capture to a store, over a bare pass."""
    measure = ratio(seconds, "to disk", "bare")
    note = f"a whole capture of {BATCHES} batches, float32, fsynced"
    return measure | {"value": measure["value"] / BATCHES, "ci": [end / BATCHES for end in measure["ci"]], "note": note}


def loops(small: SmallModel, batch: int) -> dict[str, Callable[[], Any]]:
    """Return the same Coconut loop three times: plain Hugging Face, the same without unembedding the thoughts, and ours."""
    length, thoughts = 16, small.thoughts
    ids = small.ids(batch, length)
    problems = small.problems(batch, length)
    scale = small.reasoner.config.latent_scale
    head, base = small.bare, small.bare.base_model

    @torch.no_grad()
    def hugging_face() -> torch.Tensor:
        mask = torch.ones_like(ids)
        out, cache = run_cached(head, None, input_ids=ids, attention_mask=mask, output_hidden_states=True)
        for k in range(thoughts):
            mask = torch.cat([mask, mask[:, :1]], dim=1)
            out, cache = run_cached(
                head,
                cache,
                inputs_embeds=out.hidden_states[-1][:, -1:] * scale,
                attention_mask=mask,
                position_ids=torch.full((batch, 1), length + k, device=ids.device),
                output_hidden_states=True,
            )
        mask = torch.cat([mask, mask[:, :1]], dim=1)
        places = torch.full((batch, 1), length + thoughts, device=ids.device)
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
                position_ids=torch.full((batch, 1), length + k, device=ids.device),
            )
        mask = torch.cat([mask, mask[:, :1]], dim=1)
        places = torch.full((batch, 1), length + thoughts, device=ids.device)
        answer = head.lm_head(out.last_hidden_state[:, -1:]).argmax(-1)
        return run_cached(base, cache, input_ids=answer, attention_mask=mask, position_ids=places)[0].last_hidden_state

    return {
        "bare": hugging_face,
        "bare, no unembedding": without_unembedding,
        "ours": lambda: think_and_record(small.reasoner, problems, sites="resid_post"),
    }
