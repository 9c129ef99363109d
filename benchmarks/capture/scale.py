"""Recording all layers of SmolLM2-135M, to memory beside a bare pass and to a store beside the pass or a raw write.

The bare pass skips the unembedding, as capture does: with 49,152 words it is a fifth of the model's work. A store is
compared with the slower of its two floors in each round, the pass over the same batches and an fsynced write of the
same bytes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.capture.runs import BATCHES, EVERYTHING
from benchmarks.harness import interleaved, median_interval, ratio
from benchmarks.parts import Measures
from benchmarks.smollm2 import MODEL, bare_model
from interp.activations import capture
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.errors import UsageError
from interp.loading.named_models import require_fetched
from interp.models.address import resolve
from interp.problems.base import Problem
from interp.reasoners import Reasoner
from interp.traces import Trace, TraceSet

BATCH, LENGTH = 8, 128
_MEASURES = ("scale.capture_memory", "scale.capture_disk")


def scale(repetitions: int) -> Measures:
    """Return both measures; null where the model is not on this machine.

    Args:
        repetitions: Rounds.
    """
    import interp

    try:
        require_fetched(MODEL)
    except UsageError as error:
        return {name: {"value": None, "note": str(error)} for name in _MEASURES}
    reasoner = interp.load(MODEL, device="cpu", dtype="float32")
    return measures(interleaved(contestants(reasoner, bare_model()), repetitions))


def contestants(reasoner: Reasoner, bare: Any) -> dict[str, Callable[[], Any]]:
    """Return what is timed: passes, a recording, a capture of several batches, and a raw write of its bytes.

    Args:
        reasoner: The model.
        bare: The same weights in transformers.
    """
    many = random_traces(reasoner, BATCHES * BATCH)
    one = TraceSet(many[:BATCH])
    ids = torch.tensor([trace.token_ids for trace in one])
    mask = torch.ones_like(ids)
    addresses = resolve(reasoner.model, "resid_post")
    rows = index_of(one, EVERYTHING, BATCH)
    numbers = torch.rand(len(addresses) * len(rows) * bare.config.hidden_size)
    content = numbers.numpy().tobytes()

    def forward(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return model(input_ids=ids, attention_mask=mask, use_cache=False)

        return run

    def to_disk() -> None:
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"sites": "resid_post", "channels": EVERYTHING, "shard_size": BATCH}
            capture(reasoner, many, out=Path(folder) / "store", batch_size=BATCH, **options)

    def raw() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(BATCHES):
                with (Path(folder) / str(number)).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())

    return {
        "bare": forward(bare.base_model),
        "with unembedding": forward(bare),
        "ours": lambda: gather(reasoner, one, addresses, rows, batch_size=BATCH),
        "to disk": to_disk,
        "raw": raw,
    }


def measures(seconds: dict[str, list[float]]) -> Measures:
    """Return both measures from the seconds of each contestant in each round."""
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    what = f"{MODEL}, float32, B{BATCH} x T{LENGTH}, {threads}"
    unembedded = ratio(seconds, "ours", "with unembedding")["value"]
    floors = [max(BATCHES * bare, raw) for bare, raw in zip(seconds["bare"], seconds["raw"], strict=True)]
    rounds = [ours / floor for ours, floor in zip(seconds["to disk"], floors, strict=True)]
    passes, write = BATCHES * statistics.median(seconds["bare"]), statistics.median(seconds["raw"])
    return {
        "scale.capture_memory": ratio(seconds, "ours", "bare")
        | {
            "peer": "transformers, bare forward pass without unembedding",
            "peer_version": version("transformers"),
            "note": f"{what}; over a pass with unembedding {unembedded:.2f}",
        },
        "scale.capture_disk": {
            "value": statistics.median(rounds),
            "ci": median_interval(rounds),
            "n": len(rounds),
            "unit": "x",
            "peer": "the slower of transformers' bare pass without unembedding and a raw fsynced write",
            "peer_version": version("transformers"),
            "note": f"{what}; {BATCHES} batches: passes {passes:.1f} s, raw write {write:.1f} s, capture "
            f"{statistics.median(seconds['to disk']):.1f} s",
        },
    }


def random_traces(reasoner: Reasoner, count: int) -> TraceSet:
    """Return traces of random tokens; every position but the first is a visible thought."""
    draw = torch.Generator().manual_seed(0)
    rows: Sequence[list[int]] = torch.randint(1000, 10_000, (count, LENGTH), generator=draw).tolist()
    nothing = [float("nan")] * LENGTH
    return TraceSet(
        [
            Trace(
                id=k,
                problem=Problem(f"p{k}", "questions:path=bench", "?", "-", (), f"p{k}", "test", "?"),
                reasoner=reasoner.name,
                token_ids=row,
                tokens=reasoner.tokenizer.convert_ids_to_tokens(row),
                channel=["prompt", *["thought"] * (LENGTH - 1)],
                step=[0] * LENGTH,
                thought=list(range(LENGTH)),
                entropy=nothing,
                logprob=nothing,
                text="",
                answer="",
                correct=False,
                weights=reasoner.weights,
            )
            for k, row in enumerate(rows)
        ]
    )
