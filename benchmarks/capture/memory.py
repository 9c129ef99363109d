"""Print the peak memory of a process that runs one batch four times, with or without capture, as one JSON object.

Run as `python -m benchmarks.capture.memory bare|plain|capture`, so that the peak is this work's alone. `bare` is Hugging
Face's model and `plain` the fast copy that capture runs. Both skip the unembedding, because the logits of every position
would hide what is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.capture.small_model import SmallModel
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.models.fast_model import fast_model


def main(what: str) -> None:
    """Run `bare`, `plain` or `capture` and print `peak` and `kept`, in bytes."""
    torch.set_num_threads(1)
    small = SmallModel()
    traces = small.traces(32, 128)
    index = index_of(traces, ["prompt", "thought"], 32)
    ids = small.ids(32, 128)
    mask = torch.ones_like(ids)
    reasoner = small.reasoner
    _ = small.addresses, small.bare
    gather(reasoner, small.traces(1, 4), small.addresses, index_of(small.traces(1, 4), ["prompt", "thought"], 1))
    fast = fast_model(reasoner.model)
    assert fast is not None
    models = {"bare": small.bare.base_model, "plain": fast.base}
    kept = 0
    for _ in range(4):
        if what == "capture":
            acts = gather(reasoner, traces, small.addresses, index)
            kept = sum(rows.numel() * rows.element_size() for rows in acts.values())
            del acts
        else:
            with torch.inference_mode():
                models[what](input_ids=ids, attention_mask=mask, use_cache=False)
    print(json.dumps({"peak": peak_memory(), "kept": kept}))


def peak_memory() -> int:
    """Return the peak memory of this process, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
    # On Linux, `ru_maxrss` starts at what the parent held when it started this process.
    return int(status.split("VmHWM:")[1].split()[0]) * 2**10


if __name__ == "__main__":
    main(sys.argv[1])
