"""Parity with plain Hugging Face for every architecture: logits and residual streams, in batches and alone, padded on either side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from benchmarks.models.small_models import EVERY_ARCHITECTURE, SPECIAL, THINK, asked, build_model, byte_tokenizer
from benchmarks.parts import PartResult
from interp.models.wrapping import quiet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

TOLERANCE = 1e-4
N_QUESTIONS = 8
N_NEW = 12
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
BATCH_SIZES = (1, N_QUESTIONS)
HALF = ("bfloat16", "float16")
_DIRECT = {"kind": "direct", "begin": None, "end": None, "eos": "", "stops": (), "max_answer_tokens": N_NEW}


@dataclass(frozen=True)
class Passed:
    """What a model computes over one trace.

    Attributes:
        logits: Tokens x vocabulary.
        blocks: The residual stream after each block, each tokens x d.
    """

    logits: Tensor
    blocks: list[Tensor]


def parity(architectures: Mapping[str, Mapping[str, Any]] | None = None, progress: Any = None) -> PartResult:
    """Hold architectures to plain Hugging Face, each built small with random weights.

    Args:
        architectures: Name to the fields of its configuration. Default: all.
        progress: Called with the architectures done and all of them.

    Returns:
        `models.parity_max` and `models.architectures`, and the table `parity`: a row for each architecture.
    """
    chosen = EVERY_ARCHITECTURE if architectures is None else architectures
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = byte_tokenizer(pad=True, bos=True, chat=None, special=[*SPECIAL, *THINK])
        for number, (name, shape) in enumerate(chosen.items()):
            path = Path(folder) / name.replace(" ", "-")
            build_model(path, name, shape, tokenizer)
            rows.append({"architecture": name, **architecture_parity(path)})
            if progress is not None:
                progress(number + 1, len(chosen))
    worst = max(rows, key=lambda row: row["difference"])
    equal = [row for row in rows if row["difference"] <= TOLERANCE and row["same_text"]]
    others = [row["architecture"] for row in rows if row not in equal]
    peer = {"peer": "transformers", "peer_version": version("transformers"), "n": len(rows)}
    batches = f"batches of {BATCH_SIZES[0]} and {BATCH_SIZES[1]}, padded left and right"
    note = f"worst: {worst['architecture']}; {batches}; every token is plain Hugging Face's likeliest after the text before it, without a cache"
    counted = "not equal: " + ", ".join(others) if others else "none differs"
    return PartResult(
        {
            "models.parity_max": {"value": worst["difference"], "note": note} | peer,
            "models.architectures": {"value": len(equal), "note": f"of {len(rows)} configurations; {counted}"} | peer,
        },
        {"parity": rows},
    )


@torch.no_grad()
def architecture_parity(folder: Path) -> dict[str, Any]:
    """Return how far a model as we read it is from the same model in plain Hugging Face.

    Args:
        folder: The model's folder.

    Returns:
        `difference`: the largest difference of logits and residual streams in float32, over the largest value of the
        tensor. `same_text`: whether all batches write the same text, and each of its tokens is plain Hugging Face's likeliest. `one_by_one`:
        whether problems cannot share a batch. `bfloat16` and `float16`: our largest error of logits against float32
        over plain Hugging Face's own error in that type; a model that overflows there has a text that says so.
    """
    import interp

    reasoner, plain = interp.load(folder, reasoner=_DIRECT, device="cpu", dtype="float32"), _plain(folder, "float32")
    runs = [
        reasoner.think(asked(N_QUESTIONS), batch_size=size, padding_side=side) for size in BATCH_SIZES for side in SIDES
    ]
    texts = [[trace.token_ids for trace in run] for run in runs]
    traces = runs[0]
    expected = [_hugging_face(plain, trace.token_ids) for trace in traces]
    difference = 0.0
    for size in BATCH_SIZES:
        for ours, theirs in zip(_replayed(reasoner, traces, size), expected, strict=True):
            pairs = zip([ours.logits, *ours.blocks], [theirs.logits, *theirs.blocks], strict=True)
            difference = max(difference, *(_relative(a, b) for a, b in pairs))
    greedy = all(_is_greedy(plain, trace.token_ids, trace.channel.count("prompt")) for trace in traces)
    return {
        "difference": difference,
        "same_text": greedy and all(text == texts[0] for text in texts),
        "one_by_one": reasoner.network.runs_alone(max(map(len, traces))) is not None,
        **{dtype: _half_precision(folder, traces, expected, dtype) for dtype in HALF},
    }


def _half_precision(folder: Path, traces: TraceSet, exact: Sequence[Passed], dtype: str) -> float | str:
    """Return our largest error of logits over plain Hugging Face's own, both in `dtype` against float32."""
    import interp
    from interp.errors import CotlensError

    try:
        half = interp.load(folder, reasoner=_DIRECT, device="cpu", dtype=dtype)
        ours = _replayed(half, traces, N_QUESTIONS)
    except CotlensError as error:
        return f"refused: {error}"
    plain = _plain(folder, dtype)
    own, noise = 0.0, 0.0
    for trace, here, there in zip(traces, ours, exact, strict=True):
        own = max(own, _relative(here.logits, there.logits))
        noise = max(noise, _relative(_hugging_face(plain, trace.token_ids).logits, there.logits))
    return own / noise


def _plain(folder: Path, dtype: str) -> Any:
    from transformers import AutoModelForCausalLM

    with quiet():
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="eager", trust_remote_code=False
        ).eval()


def _hugging_face(plain: Any, token_ids: Sequence[int]) -> Passed:
    """Return what plain Hugging Face computes over one text alone; hooks on its blocks see the residual streams."""
    blocks: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        blocks.append((output[0] if isinstance(output, tuple) else output)[0].float())

    handles = [block.register_forward_hook(keep) for block in _blocks(plain)]
    try:
        logits = plain(torch.tensor([list(token_ids)]), use_cache=False).logits[0].float()
    finally:
        for handle in handles:
            handle.remove()
    return Passed(logits, blocks)


def _is_greedy(plain: Any, token_ids: Sequence[int], n_prompt: int) -> bool:
    """Return whether each token is the likeliest after the text before it, which is read anew, without a cache.

    Models whose rotary frequencies depend on the length of a text say other things of it when it is longer.
    """
    ids = torch.tensor([list(token_ids)])
    return all(
        int(plain(ids[:, :k], use_cache=False).logits[0, -1].argmax()) == token_ids[k]
        for k in range(n_prompt, len(token_ids))
    )


def _blocks(plain: Any) -> list[Any]:
    """Return the blocks of a model: its longest list of modules that is not inside another one."""
    lists = [list(module) for module in plain.base_model.children() if isinstance(module, torch.nn.ModuleList)]
    lists = lists or [list(module) for module in plain.base_model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len)


def _replayed(reasoner: Reasoner, traces: TraceSet, batch_size: int) -> list[Passed]:
    """Return what a reasoner computes over traces, in masked batches."""
    outs = [f"blocks.{k}.hook_out" for k in range(reasoner.model.cfg.n_layers)]
    seen: dict[tuple[str, int], Tensor] = {}

    def keeper(name: str) -> Callable[..., None]:
        def keep(activations: Tensor, batch: Any) -> None:
            for b, k in enumerate(batch.traces.tolist()):
                seen[name, k] = activations[b][batch.real[b]].clone()

        return keep

    reasoner.replay(traces, hooks={name: keeper(name) for name in [*outs, "ln_final.hook_out"]}, batch_size=batch_size)
    return [
        Passed(reasoner.unembed(seen["ln_final.hook_out", k]).float(), [seen[name, k].float().cpu() for name in outs])
        for k in range(len(traces))
    ]


def _relative(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
