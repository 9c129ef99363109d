"""SAE training speed: SAELens by default and with its fastest settings, sparsify, and our sparse kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import interleaved, ratio
from benchmarks.parts import Measures
from benchmarks.sae.sparsify_peer import INSTALL, SparsifyTrainer, installed, name_and_version
from interp.runtime.progress import Progress
from interp.sae.quality import explained_variance
from interp.sae.train import silent, to_inference

WIDTH, FEATURES, ACTIVE, BATCH = 256, 4096, 32, 4096
_STEPS = 10  # training steps of each contestant in a round
_DIRECTIONS, _HELD = 8192, 24
_LEARNING_RATE = 1e-3


def speed(repetitions: int, progress: Progress | None = None) -> Measures:
    """Return the measures of training speed.

    All contestants train on the same batches from the same start with one thread. Rows are sums of 24 of 8,192 random
    directions. Whole training steps are timed. Explained variance is measured on a held-out batch after equally many
    steps.
    """
    import sae_lens
    import torch

    from interp.sae.fast import FastTopKTrainingSAE, FastTopKTrainingSAEConfig, FastTrainer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        common: dict[str, Any] = {"d_in": WIDTH, "d_sae": FEATURES, "k": ACTIVE}
        plain, best = sae_lens.TopKTrainingSAE, {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
        pool = list(_data(9))
        with silent():
            trainers = {
                "default": _trainer(sae_lens.SAETrainer, plain(sae_lens.TopKTrainingSAEConfig(**common)), pool),
                "best": _trainer(sae_lens.SAETrainer, plain(sae_lens.TopKTrainingSAEConfig(**common, **best)), pool),
                "ours": _trainer(FastTrainer, FastTopKTrainingSAE(FastTopKTrainingSAEConfig(**common)), pool),
                # SAELens's fastest settings select features by another rule; this contestant has the same rule.
                "ours as best": _trainer(
                    FastTrainer,
                    FastTopKTrainingSAE(FastTopKTrainingSAEConfig(**common, rescale_acts_by_decoder_norm=False)),
                    pool,
                ),
            }
            if installed():
                trainers["sparsify"] = SparsifyTrainer(
                    _start(plain(sae_lens.TopKTrainingSAEConfig(**common))), _repeated(pool), _LEARNING_RATE
                )
            done, total = [0], len(trainers) * (repetitions + 1)
            seconds = interleaved(
                {name: _steps(trainer, done, progress, total) for name, trainer in trainers.items()}, repetitions
            )
        explained = {
            name: trainer.explained_variance(pool[-1])
            if isinstance(trainer, SparsifyTrainer)
            else explained_variance(to_inference(trainer.sae), pool[-1].numpy())
            for name, trainer in trainers.items()
        }
    finally:
        torch.set_num_threads(threads)
    peer = {"peer": "SAELens TopK", "peer_version": sae_lens.__version__}
    rate = {name: _STEPS * BATCH / float(np.median(times)) for name, times in seconds.items()}
    rates_note = ", ".join(f"{name} {rows:,.0f}" for name, rows in rate.items())
    variance_note = ", ".join(f"{name} {variance:.4f}" for name, variance in explained.items())
    steps = (repetitions + 1) * _STEPS
    over_best = ratio(seconds, "best", "ours as best") | peer
    beside = INSTALL
    if "sparsify" in seconds:
        over_sparsify = ratio(seconds, "sparsify", "ours as best")["value"]
        beside = (
            f"{name_and_version()} with Adam {rate['sparsify']:,.0f} rows per second, {over_sparsify:.2f} x, explained "
        )
        beside += f"variance {explained['sparsify']:.4f}"
    gap = max(abs(explained["ours"] - explained["default"]), abs(explained["ours as best"] - explained["best"]))
    return {
        "sae.train_over_saelens_default": ratio(seconds, "default", "ours")
        | peer
        | {"note": f"rows per second: {rates_note}"},
        "sae.train_over_saelens_best": over_best
        | {"note": "its sparse activations, without rescaling by decoder norms"},
        "scale.sae_over_best": over_best
        | {
            "note": f"its sparse activations, without rescaling by decoder norms, one thread; rows per second "
            f"{rate['best']:,.0f} and {rate['ours as best']:,.0f}; explained variance {explained['best']:.4f} and "
            f"{explained['ours as best']:.4f}; {beside}"
        },
        "sae.explained_variance_gap": {"value": gap, "n": BATCH, "note": f"after {steps} steps: {variance_note}"}
        | peer,
    }


def _data(batches: int) -> Iterator[Any]:
    """Yield batches of sums of random directions."""
    import torch

    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(_DIRECTIONS, WIDTH, generator=draw), dim=1)
    for _ in range(batches):
        chosen = torch.randint(0, _DIRECTIONS, (BATCH, _HELD), generator=draw)
        yield torch.einsum("bkd,bk->bd", directions[chosen], torch.rand(BATCH, _HELD, generator=draw) + 0.5)


def _trainer(kind: Any, sae: Any, pool: list[Any]) -> Any:
    """Return a trainer that repeats all batches but the last."""
    from sae_lens.config import SAETrainerConfig

    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=BATCH,
        lr=_LEARNING_RATE,
        lr_end=1e-4,
        n_batches_for_norm_estimate=1,
    )

    return kind(cfg=config, sae=_start(sae), data_provider=_repeated(pool))


def _start(sae: Any) -> Any:
    """Return the SAE with the weights that all contestants start from."""
    import torch

    torch.manual_seed(0)
    sae.initialize_weights()
    return sae


def _repeated(pool: list[Any]) -> Iterator[Any]:
    """Yield all batches but the last, again and again."""
    while True:
        yield from pool[:-1]


def _steps(trainer: Any, done: list[int], progress: Progress | None, total: int) -> Any:
    """Return a function that trains for a round and reports progress."""

    def run() -> None:
        for _ in range(_STEPS):
            trainer.step(next(trainer.data_provider))
            trainer.n_training_steps += 1
        done[0] += 1
        if progress:
            progress(done[0], total)

    return run
