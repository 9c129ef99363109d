"""Activations that other programs recorded: what vLLM's `extract_hidden_states` writes, and Arrow files of `exports`.

vLLM writes a safetensors file for each request, `token_ids` (positions) and `hidden_states` (positions x layers x d);
layer id k is the residual stream that enters block k, and the number of blocks is what leaves the last one, before
the final norm (https://docs.vllm.ai, features/speculative_decoding/extract_hidden_states).
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
from interp.activations.write import Given, write_store
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
    """A store of what vLLM extracted; `layers` are its `eagle_aux_hidden_state_layer_ids`, in their order.

    With `traces`, each file is matched to the trace with its tokens, and the store has that trace's channels, steps and
    places. Without, each file is a trace of its own whose positions are all `prompt`; `tokenizer` then gives the words.
    Raises `StoreError` on files that are not vLLM's or match no trace, and `UsageError` on layers that do not fit.
    """
    if not files:
        raise UsageError("no files to import. Give the safetensors files of the hidden states connector.")
    if len(set(layers)) != len(layers) or any(layer < 0 for layer in layers):
        raise UsageError(f"layers must be different ids from 0, as vLLM was given them, but {list(layers)} came.")
    read = [_vllm_file(path, len(layers)) for path in files]
    if traces is None:
        found = [_trace(k, ids, tokenizer, name) for k, (ids, _) in enumerate(read)]
        states = [each for _, each in read]
    else:
        by_tokens = {tuple(trace.token_ids): trace for trace in traces}
        found, states = [], []
        for path, (ids, each) in zip(files, read, strict=True):
            if tuple(ids) not in by_tokens:
                raise StoreError(
                    f"{path}: no trace has its {len(ids)} tokens. vLLM must be given the whole traces as prompts "
                    "(token ids, max_tokens=1)."
                )
            found.append(by_tokens[tuple(ids)])
            states.append(each)
    acts: dict[str, Given] = {_address(layer): _rows(states, k) for k, layer in enumerate(layers)}
    channels = list(Channel) if traces is None else DEFAULT_CHANNELS
    return write_store(out, found, acts, name=name, kind="text", dtype=dtype, channels=channels)


def from_arrow(folder: Path, traces: TraceSet, out: Path) -> Store:
    """The store that `exports.to_arrow` exported, whole again with its traces."""
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
    acts: dict[str, Given] = {
        name: table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1).astype(np.float32)
        for name in table.column_names
        if name in meta["addresses"]
    }
    said = meta["reasoner"]
    options = {"channels": meta["channels"], "shard_size": meta["shard_size"], "dtype": meta["dtype"]}
    return write_store(out, traces, acts, name=said["name"], kind=said["kind"], weights=said["weights"], **options)


def _vllm_file(path: Path, n_layers: int) -> tuple[list[int], np.ndarray]:
    """Token ids, and hidden states as positions x layers x d in float32."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
        ids, states = found["token_ids"], found["hidden_states"]
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(
            f"{path} is not a file of vLLM's hidden states connector (token_ids, hidden_states): {error}."
        ) from None
    shape = tuple(states.shape)
    if states.ndim == 3 and shape[:2] != (len(ids), n_layers) and shape[:2] == (n_layers, len(ids)):
        states = states.transpose(0, 1)  # a connector that keeps layers first
    elif states.ndim != 3 or shape[:2] != (len(ids), n_layers):
        raise UsageError(
            f"{path} holds hidden states {shape}; expected ({len(ids)} positions, {n_layers} layers, d). "
            "Give --layers as vLLM was given them."
        )
    return ids.tolist(), states.to(torch.float32).contiguous().numpy()


def _address(layer: int) -> str:
    return f"blocks.{layer - 1}.hook_out" if layer else "blocks.0.hook_in"


def _rows(states: list[np.ndarray], layer: int) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda index: np.stack(
        [states[t][p, layer] for t, p in zip(index["trace"].tolist(), index["position"].tolist(), strict=True)]
    )


def _trace(k: int, ids: list[int], tokenizer: Any, name: str) -> Trace:
    """A trace about which nothing is known but its tokens."""
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
