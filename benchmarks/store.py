"""`cotlens bench store`: reading a store beside a raw memory map of the same numbers, and beside what SAELens writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import interleaved, keep, ratio
from benchmarks.store_growth import grow, keep_figure, made_traces, spread
from interp.activations import Store, write_given
from interp.activations.exports import export
from interp.console import Bars, plain
from interp.measures import report

TRACES, LENGTH, WIDTH, LAYERS, AT_ONCE = 256, 256, 256, 6, 4096
CONTEXT = 256  # what SAELens's own configurations use is 128 to 1024


def bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take every measure of the group `store`, everything warm in the page cache."""
    taken: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bars.stage("writing the same numbers three times"):
            store, maps = _written(folder)
            export(store, "saelens", folder / "saelens", addresses=["blocks.0.hook_out"], context_size=CONTEXT)
        seconds: dict[str, dict[str, list[float]]] = {}
        for what, contestants in {
            "random": _random(store, maps, folder / "saelens"),
            "sequential": _sequential(store, maps),
            "trace": _trace(store, maps),
        }.items():
            with bars.stage(f"reading: {what}"):
                seconds[what] = interleaved(contestants, repetitions)
    raw = {"peer": "numpy.memmap", "peer_version": np.__version__}
    size = f"{TRACES * LENGTH} rows of {WIDTH} float32, {store.index['shard'].nunique()} shards"
    taken["store.random_over_memmap"] = (
        ratio(seconds["random"], "memmap", "ours") | raw | {"note": f"{AT_ONCE} rows of {size}, by number"}
    )
    taken["store.sequential_over_memmap"] = ratio(seconds["sequential"], "memmap", "ours") | raw | {"note": size}
    taken["store.trace_over_memmap"] = (
        ratio(seconds["trace"], "memmap", "ours")
        | raw
        | {"note": f"{LENGTH} positions x {LAYERS} layers, 64 traces after another"}
    )
    taken["store.random_over_saelens"] = ratio(seconds["random"], "saelens", "ours") | {
        "peer": "sae-lens cached activations, read by datasets in its torch format",
        "peer_version": version("sae-lens"),
        "note": f"{AT_ONCE} rows; there in {AT_ONCE // CONTEXT} random contexts, for it cannot read single rows",
    }
    with bars.stage("growth with the size of stores") as progress:
        grown = grow(progress)
    keep_figure(grown)
    growth = {
        "rows": grown.to_dict("records"),
        "spread": {c: spread(grown, c) for c in ("write", "random", "sequential")},
    }
    return keep("store", plain(report("store", taken)), growth=plain(growth))


def _written(folder: Path) -> tuple[Store, list[np.memmap]]:
    """A store of `LAYERS` addresses, and one raw file for each with the same rows in the same order."""
    rng = np.random.default_rng(0)
    acts = {f"blocks.{k}.hook_out": rng.standard_normal((TRACES * LENGTH, WIDTH), np.float32) for k in range(LAYERS)}
    traces = made_traces(TRACES, LENGTH)
    store = write_given(folder / "store", traces, acts, channels=["prompt", "thought"], shard_size=32)
    maps = []
    for number, rows in enumerate(acts.values()):
        path = folder / f"{number}.raw"
        rows.tofile(path)
        maps.append(np.memmap(path, np.float32, "r", shape=rows.shape))
    return store, maps


def _random(store: Store, maps: list[np.memmap], saelens: Path) -> dict[str, Callable[[], Any]]:
    """Random rows of one address, others in every call."""
    from datasets import load_from_disk

    dataset = load_from_disk(str(saelens))
    dataset.set_format("torch", columns=["blocks.0.hook_out"])
    draws, rng = _draws(len(store.index)), np.random.default_rng(3)

    def theirs() -> torch.Tensor:
        """Whole contexts, which is all that the format can give: as many rows, of fewer places."""
        contexts = np.unique(next(draws) // CONTEXT)
        return dataset[rng.permutation(contexts)[: AT_ONCE // CONTEXT]]["blocks.0.hook_out"]

    return {
        "memmap": lambda: maps[0][next(draws)],
        "ours": lambda: store.acts("blocks.0.hook_out", next(draws)),
        "saelens": theirs,
    }


def _draws(n: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    while True:
        yield rng.integers(0, n, AT_ONCE)


def _sequential(store: Store, maps: list[np.memmap]) -> dict[str, Callable[[], Any]]:
    return {"memmap": lambda: np.array(maps[0]), "ours": lambda: store.acts("blocks.0.hook_out")}


def _trace(store: Store, maps: list[np.memmap]) -> dict[str, Callable[[], Any]]:
    """Every address of one whole trace, for 64 traces."""
    chosen = np.random.default_rng(2).permutation(TRACES)[:64].tolist()

    def raw() -> None:
        for k in chosen:
            for each in maps:
                np.array(each[k * LENGTH : (k + 1) * LENGTH])

    def ours() -> None:
        for k in chosen:
            store.trace_acts(k)

    return {"memmap": raw, "ours": ours}
