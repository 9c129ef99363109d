"""`cotlens bench store`: reading a store compared with a raw memory map of the same numbers and with SAELens's format."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import interleaved, ratio
from benchmarks.parts import PartResult, run_parts
from benchmarks.store.growth import grow, keep_figure, made_traces, spread
from benchmarks.store.large import store_rss
from interp.activations import Store, write_store
from interp.activations.formats.exports import export
from interp.runtime.console import Bars

TRACES, LENGTH, WIDTH, LAYERS, AT_ONCE = 256, 256, 256, 6, 4096
BATCHES = 8
CONTEXT = 256  # SAELens's own configurations use 128 to 1024


def bench(repetitions: int, bars: Bars, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Take the measures of the group `store`.

    Args:
        repetitions: Rounds.
        bars: Progress bars.
        parts: Which to take: `reading`, `growth` or `scale`; all by default.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown.
    """

    def scale() -> PartResult:
        with bars.stage("ten million rows"):
            return PartResult({"scale.store_rss_mb": store_rss()})

    available = {"reading": lambda: _reading(repetitions, bars), "growth": lambda: _growth(bars), "scale": scale}
    return run_parts("store", available, parts)


def _growth(bars: Bars) -> PartResult:
    """Time stores of growing size."""
    with bars.stage("growth with the size of stores") as progress:
        table = grow(progress)
    keep_figure(table)
    growth = {
        "rows": table.to_dict("records"),
        "spread": {c: spread(table, c) for c in ("write", "random over memmap", "sequential over memmap")},
    }
    return PartResult({}, {"growth": growth})


def _reading(repetitions: int, bars: Bars) -> PartResult:
    """Time all ways of reading, with everything warm in the page cache."""
    measures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bars.stage("writing the same numbers in three formats"):
            store, maps = _written(folder)
            export(store, "saelens", folder / "saelens", addresses=["blocks.0.hook_out"], context_size=CONTEXT)
        seconds: dict[str, dict[str, list[float]]] = {}
        for what, contestants in {
            "random": _random(store, maps),
            "SAELens": {name: _many_batches(read) for name, read in _saelens(store, folder / "saelens").items()},
            "sequential": _sequential(store, maps),
            "trace": _trace(store, maps),
        }.items():
            with bars.stage(f"reading: {what}"):
                seconds[what] = interleaved(contestants, repetitions)
    raw = {"peer": "numpy.memmap", "peer_version": np.__version__}
    size = f"{TRACES * LENGTH} rows of {WIDTH} float32, {store.index['shard'].nunique()} shards"
    measures["store.random_over_memmap"] = (
        ratio(seconds["random"], "memmap", "ours") | raw | {"note": f"{AT_ONCE} rows of {size}, by number"}
    )
    measures["store.sequential_over_memmap"] = ratio(seconds["sequential"], "memmap", "ours") | raw | {"note": size}
    measures["store.trace_over_memmap"] = (
        ratio(seconds["trace"], "memmap", "ours")
        | raw
        | {"note": f"{LENGTH} positions x {LAYERS} layers, 64 traces one after the other"}
    )
    contexts, same = (ratio(seconds["SAELens"], peer, "ours")["value"] for peer in ("contexts", "same rows"))
    measures["store.random_over_saelens"] = ratio(seconds["SAELens"], "SAELens", "ours") | {
        "peer": "sae-lens ActivationsStore over its cached activations, at its own defaults",
        "peer_version": version("sae-lens"),
        "note": f"{BATCHES} shuffled batches of {AT_ONCE} rows; there from a mixing buffer, here any rows of the store, "
        f"into one array. As many rows in {AT_ONCE // CONTEXT} whole random contexts, not shuffled, {contexts:.1f} x; the very same rows, in "
        f"the contexts that hold them, {same:.1f} x",
    }
    return PartResult(measures)


def _written(folder: Path) -> tuple[Store, list[np.memmap]]:
    """Write a store of `LAYERS` addresses, and for each a raw file with the same rows in the same order."""
    rng = np.random.default_rng(0)
    acts = {f"blocks.{k}.hook_out": rng.standard_normal((TRACES * LENGTH, WIDTH), np.float32) for k in range(LAYERS)}
    traces = made_traces(TRACES, LENGTH)
    store = write_store(folder / "store", traces, acts, channels=["prompt", "thought"], shard_size=32)
    maps = []
    for number, rows in enumerate(acts.values()):
        path = folder / f"{number}.raw"
        rows.tofile(path)
        maps.append(np.memmap(path, np.float32, "r", shape=rows.shape))
    return store, maps


def _random(store: Store, maps: list[np.memmap]) -> dict[str, Callable[[], Any]]:
    """Read random rows of one address, different ones in every call."""
    draws = _draws(len(store.index))
    return {"memmap": lambda: maps[0][next(draws)], "ours": lambda: store.acts("blocks.0.hook_out", next(draws))}


def _saelens(store: Store, folder: Path) -> dict[str, Callable[[], Any]]:
    """Read shuffled batches of one address, and as many rows in the other ways that the format allows."""
    from datasets import load_from_disk

    hook = "blocks.0.hook_out"
    dataset = load_from_disk(str(folder))
    dataset.set_format("torch", columns=[hook])
    draws, rng = _draws(len(store.index)), np.random.default_rng(3)
    reader = _saelens_reader(folder, hook)
    buffer = np.empty((AT_ONCE, WIDTH), np.float32)

    def contexts() -> torch.Tensor:
        """Read whole contexts: as many rows, from fewer places."""
        return dataset[rng.permutation(len(dataset))[: AT_ONCE // CONTEXT]][hook]

    def same_rows() -> torch.Tensor:
        """Read the same random rows, through the contexts that hold them."""
        rows = next(draws)
        wanted, which = np.unique(rows // CONTEXT, return_inverse=True)
        return dataset[wanted][hook][which, rows % CONTEXT]

    def saelens() -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns when it starts over
            return reader.next_batch()

    ours = {"ours": lambda: store.acts(hook, next(draws), out=buffer)}
    return {**ours, "SAELens": saelens, "contexts": contexts, "same rows": same_rows}


def _many_batches(read: Callable[[], Any]) -> Callable[[], None]:
    """Read one batch after another, as training does; SAELens's reader fills its buffer only now and then."""

    def run() -> None:
        for _ in range(BATCHES):
            read()

    return run


def _saelens_reader(folder: Path, hook: str) -> Any:
    """Return SAELens's own reader of shuffled batches, with its default buffer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens.training.activations_store import ActivationsStore

        return ActivationsStore(
            model=torch.nn.Identity(),  # type: ignore[arg-type]
            dataset=None,  # type: ignore[arg-type]
            cached_activations_path=str(folder),
            streaming=False,
            hook_name=hook,
            hook_head_index=None,
            context_size=CONTEXT,
            d_in=WIDTH,
            n_batches_in_buffer=20,
            total_training_tokens=10**9,
            store_batch_size_prompts=32,
            train_batch_size_tokens=AT_ONCE,
            prepend_bos=False,
            normalize_activations="none",
            device=torch.device("cpu"),
            dtype="float32",
        )


def _draws(n: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    while True:
        yield rng.integers(0, n, AT_ONCE)


def _sequential(store: Store, maps: list[np.memmap]) -> dict[str, Callable[[], Any]]:
    return {"memmap": lambda: np.array(maps[0]), "ours": lambda: store.acts("blocks.0.hook_out")}


def _trace(store: Store, maps: list[np.memmap]) -> dict[str, Callable[[], Any]]:
    """Read every address of one whole trace, for 64 traces."""
    chosen = np.random.default_rng(2).permutation(TRACES)[:64].tolist()

    def raw() -> None:
        for k in chosen:
            for rows in maps:
                np.array(rows[k * LENGTH : (k + 1) * LENGTH])

    def ours() -> None:
        for k in chosen:
            store.trace_acts(k)

    return {"memmap": raw, "ours": ours}
