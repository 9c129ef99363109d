"""How other libraries keep every block's output of one batch; one entry for each library that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.capture.small_model import SmallModel

Run = Callable[[], Any]
INSTALL = "not installed: pip install 'cotlens[peers]'"


def hugging_face(small: SmallModel, ids: torch.Tensor) -> Run:
    """Return a pass with `output_hidden_states=True`."""
    mask = torch.ones_like(ids)

    @torch.no_grad()
    def run() -> Any:
        return small.bare(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states

    return run


def transformer_lens(small: SmallModel, ids: torch.Tensor) -> Run:
    """Return the Bridge's `run_with_cache`, filtered to the kept activations."""
    bridge = small.reasoner.model
    names = {address.name for address in small.addresses}

    @torch.no_grad()
    def run() -> Any:
        return bridge.run_with_cache(ids, names_filter=lambda name: name in names, return_type=None)[1]

    return run


def nnsight(small: SmallModel, ids: torch.Tensor) -> Run:
    """Return a trace that saves each block's output."""
    import nnsight as library

    model = library.NNsight(small.fresh())
    mask = torch.ones_like(ids)

    def run() -> Any:
        with torch.no_grad(), model.trace(input_ids=ids, attention_mask=mask, use_cache=False):
            kept = library.save([])
            for block in small.blocks(model):
                kept.append(block.output)
        return kept

    return run


def interp_engine(small: SmallModel, ids: torch.Tensor) -> Run:
    """Return `capture` of interp-engine's eager backend."""
    import interp_engine as library

    model = library.EagerModel("local/small", hf_model=small.fresh(), tokenizer=small.tokenizer, device=small.device)
    points = [library.Address("resid_post", layer) for layer in range(small.layers)]

    @torch.no_grad()
    def run() -> Any:
        return library.capture(model, ids, points)

    return run


PEERS: dict[str, tuple[str, Callable[[SmallModel, torch.Tensor], Run]]] = {
    "Hugging Face output_hidden_states": ("transformers", hugging_face),
    "TransformerLens run_with_cache": ("transformer-lens", transformer_lens),
    "nnsight": ("nnsight", nnsight),
    "interp-engine": ("interp-engine", interp_engine),
}


def available_peers(small: SmallModel, ids: torch.Tensor) -> tuple[dict[str, Run], dict[str, str]]:
    """Try each peer once.

    Args:
        small: The model to run.
        ids: Token ids of the batch, shape (batch, positions).

    Returns:
        The peers that run here, and for the others why they do not.
    """
    runs: dict[str, Run] = {}
    failures: dict[str, str] = {}
    for name, (package, build) in PEERS.items():
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            failures[name] = INSTALL
            continue
        try:
            run = build(small, ids)
            run()
        except Exception as error:  # a peer's failure is noted beside its figure and does not end the bench
            failures[name] = (
                f"{package} {version(package)} does not run here: {type(error).__name__}: {str(error)[:120]}"
            )
            continue
        runs[name] = run
    return runs, failures


def missing_peers(failures: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return for every peer the version that ran, or why it did not."""
    return {
        name: {"version": None if name in failures else version(package), "note": failures.get(name, "")}
        for name, (package, _) in PEERS.items()
    }
