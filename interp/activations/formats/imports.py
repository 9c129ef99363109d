"""Import of activations from other programs: vLLM's `extract_hidden_states`, and the Arrow files of `exports`.

vLLM writes a safetensors file for each request, with `token_ids` (positions) and `hidden_states` (positions x layers x d).
Layer k is the residual stream that enters block k; the layer after the last block is the output of that block, before the
final norm.

References:
    https://docs.vllm.ai, features/speculative_decoding/extract_hidden_states.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.activations.plan import DEFAULT_CHANNELS
from interp.activations.store import Store
from interp.activations.write import ActsOrFunction, write_store
from interp.errors import StoreError, UsageError
from interp.problems.base import Problem, structure_hash
from interp.traces import Channel, Trace, TraceSet


def from_vllm(
    files: Sequence[Path],
    layers: Sequence[int],
    out: Path,
    *,
    traces: TraceSet | None = None,
    tokenizer: Any = None,
    name: str = "vllm",
    dtype: str = "float32",
) -> Store:
    """Make a store of hidden states that vLLM extracted.

    Args:
        files: vLLM's safetensors files.
        layers: Its `eagle_aux_hidden_state_layer_ids`, in their order.
        out: Folder of the store.
        traces: Traces to match by their tokens, which give channels, steps and places. Without them each file is a trace
            whose positions are all `prompt`.
        tokenizer: Gives the tokens of files without traces.
        name: Name of the reasoner in the store.
        dtype: `float32`, `float16` or `bfloat16`.

    Returns:
        The store.

    Raises:
        UsageError: On no files, or layers that do not fit.
        StoreError: On files that are not vLLM's, or match no trace.
    """
    if not files:
        raise UsageError("no files to import. Give the safetensors files of the hidden states connector.")
    if len(set(layers)) != len(layers) or any(layer < 0 for layer in layers):
        raise UsageError(f"expected layers to be different ids from 0, as given to vLLM, got {list(layers)}.")
    read = [_vllm_file(path, len(layers)) for path in files]
    if traces is None:
        matched = [_trace(k, ids, tokenizer, name) for k, (ids, _) in enumerate(read)]
        states = [hidden for _, hidden in read]
    else:
        by_tokens = {tuple(trace.token_ids): trace for trace in traces}
        matched, states = [], []
        for path, (ids, hidden) in zip(files, read, strict=True):
            if tuple(ids) not in by_tokens:
                raise StoreError(
                    f"{path}: no trace has its {len(ids)} tokens. vLLM must be given the whole traces as prompts "
                    "(token ids, max_tokens=1)."
                )
            matched.append(by_tokens[tuple(ids)])
            states.append(hidden)
    acts: dict[str, ActsOrFunction] = {_address(layer): _rows(states, k) for k, layer in enumerate(layers)}
    channels = list(Channel) if traces is None else DEFAULT_CHANNELS
    return write_store(out, matched, acts, name=name, kind="text", dtype=dtype, channels=channels)


def from_arrow(folder: Path, traces: TraceSet, out: Path) -> Store:
    """Make a store again from an export of `exports.to_arrow` and its traces.

    Raises:
        StoreError: When the folder does not hold such an export.
    """
    import pyarrow as pa

    files = sorted(folder.glob("part-*.arrow"))
    if not files:
        raise StoreError(f"{folder} holds no part-*.arrow files of `cotlens capture export --to arrow`.")
    try:
        tables = []
        for path in files:
            with pa.memory_map(str(path)) as file:
                tables.append(pa.ipc.open_file(file).read_all())
        table = pa.concat_tables(tables)
        meta = json.loads(table.schema.metadata[b"cotlens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} cannot be read as an exported store ({error}).") from None
    acts: dict[str, ActsOrFunction] = {
        name: table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1).astype(np.float32)
        for name in table.column_names
        if name in meta["addresses"]
    }
    reasoner = meta["reasoner"]
    options = {"channels": meta["channels"], "shard_size": meta["shard_size"], "dtype": meta["dtype"]}
    return write_store(
        out, traces, acts, name=reasoner["name"], kind=reasoner["kind"], weights=reasoner["weights"], **options
    )


def _vllm_file(path: Path, n_layers: int) -> tuple[list[int], np.ndarray]:
    """Read token ids, and hidden states as positions x layers x d in float32."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        ids, states = tensors["token_ids"], tensors["hidden_states"]
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(
            f"{path} is not a file of vLLM's hidden states connector (token_ids, hidden_states): {error}."
        ) from None
    shape = tuple(states.shape)
    if states.ndim == 3 and shape[:2] != (len(ids), n_layers) and shape[:2] == (n_layers, len(ids)):
        states = states.transpose(0, 1)  # some connectors write layers first
    elif states.ndim != 3 or shape[:2] != (len(ids), n_layers):
        raise UsageError(
            f"{path} holds hidden states {shape}; expected ({len(ids)} positions, {n_layers} layers, d). "
            "Give --layers as they were given to vLLM."
        )
    return ids.tolist(), states.to(torch.float32).contiguous().numpy()


def _address(layer: int) -> str:
    """Return the address of one of vLLM's layers."""
    return f"blocks.{layer - 1}.hook_out" if layer else "blocks.0.hook_in"


def _rows(states: list[np.ndarray], layer: int) -> Callable[[pd.DataFrame], np.ndarray]:
    """Return a function that looks up the rows of an index at one layer."""
    return lambda index: np.stack(
        [states[t][p, layer] for t, p in zip(index["trace"].tolist(), index["position"].tolist(), strict=True)]
    )


def _trace(k: int, ids: list[int], tokenizer: Any, name: str) -> Trace:
    """Return a trace of which only the tokens are known."""
    text = tokenizer.decode(ids) if tokenizer is not None else " ".join(map(str, ids))
    tokens = tokenizer.convert_ids_to_tokens(ids) if tokenizer is not None else [str(i) for i in ids]
    structure = structure_hash("tokens", ids)
    problem = Problem(structure, "questions", text, "", (), structure, "test", text)
    unknown = [float("nan")] * len(ids)
    return Trace(
        id=k,
        problem=problem,
        reasoner=name,
        token_ids=ids,
        tokens=tokens,
        channel=[str(Channel.PROMPT)] * len(ids),
        step=[0] * len(ids),
        thought=[0] * len(ids),
        entropy=unknown,
        logprob=unknown,
        text=text,
        answer="",
        correct=False,
    )
