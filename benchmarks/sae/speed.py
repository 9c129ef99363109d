"""SAE training side by side: SAELens as it comes, SAELens at its best, and the sparse kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import interleaved, ratio
from interp.runtime.progress import Progress
from interp.sae.quality import explained_variance
from interp.sae.train import silent, to_inference

WIDTH, FEATURES, ACTIVE, BATCH = 256, 4096, 32, 4096
_STEPS = 10  # of each contestant in one round
_DIRECTIONS, _HELD = 8192, 24


def speed(repetitions: int, progress: Progress | None = None) -> dict[str, dict[str, Any]]:
    """The three speed measures. Every contestant trains on the same batches from the same start, one thread each.

    Rows are sums of 24 out of 8,192 random directions. Times are of whole training steps of SAELens's trainer; explained
    variance is that of the SAEs after as many steps, on a batch that none has seen.
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
                # SAELens's best setting chooses features by another rule, so it is met with that rule.
                "ours as best": _trainer(
                    FastTrainer,
                    FastTopKTrainingSAE(FastTopKTrainingSAEConfig(**common, rescale_acts_by_decoder_norm=False)),
                    pool,
                ),
            }
            done = [0]
            seconds = interleaved(
                {name: _steps(trainer, done, progress, repetitions) for name, trainer in trainers.items()}, repetitions
            )
        held_out = pool[-1].numpy()
        explained = {
            name: explained_variance(to_inference(trainer.sae), held_out) for name, trainer in trainers.items()
        }
    finally:
        torch.set_num_threads(threads)
    peer = {"peer": "SAELens TopK", "peer_version": sae_lens.__version__}
    rate = {name: _STEPS * BATCH / float(np.median(each)) for name, each in seconds.items()}
    said = ", ".join(f"{name} {each:,.0f}" for name, each in rate.items())
    ev = ", ".join(f"{name} {each:.4f}" for name, each in explained.items())
    steps = (repetitions + 1) * _STEPS
    gap = max(abs(explained["ours"] - explained["default"]), abs(explained["ours as best"] - explained["best"]))
    return {
        "sae.train_over_saelens_default": ratio(seconds, "default", "ours")
        | peer
        | {"note": f"rows per second: {said}"},
        "sae.train_over_saelens_best": ratio(seconds, "best", "ours as best")
        | peer
        | {"note": "its sparse activations, without rescaling by decoder norms"},
        "sae.explained_variance_gap": {"value": gap, "n": BATCH, "note": f"after {steps} steps: {ev}"} | peer,
    }


def _data(batches: int) -> Iterator[Any]:
    import torch

    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(_DIRECTIONS, WIDTH, generator=draw), dim=1)
    for _ in range(batches):
        chosen = torch.randint(0, _DIRECTIONS, (BATCH, _HELD), generator=draw)
        yield torch.einsum("bkd,bk->bd", directions[chosen], torch.rand(BATCH, _HELD, generator=draw) + 0.5)


def _trainer(kind: Any, sae: Any, pool: list[Any]) -> Any:
    import torch
    from sae_lens.config import SAETrainerConfig

    torch.manual_seed(0)
    sae.initialize_weights()  # every contestant from the same draw
    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=BATCH,
        lr=1e-3,
        lr_end=1e-4,
        n_batches_for_norm_estimate=1,
    )

    def again() -> Iterator[Any]:
        while True:
            yield from pool[:-1]

    return kind(cfg=config, sae=sae, data_provider=again())


def _steps(trainer: Any, done: list[int], progress: Progress | None, repetitions: int) -> Any:
    def run() -> None:
        for _ in range(_STEPS):
            trainer.step(next(trainer.data_provider))
            trainer.n_training_steps += 1
        done[0] += 1
        if progress:
            progress(done[0], 4 * (repetitions + 1))

    return run
