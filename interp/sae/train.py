"""Training of sparse autoencoders with SAELens on recorded activations."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pandas as pd
from pydantic import ValidationError

from interp.activations import ActivationSource
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.progress import Progress
from interp.sae.rows import Batches, batches_of
from interp.sae.settings import SAEOptions, SAESettings

if TYPE_CHECKING:
    import torch
    from sae_lens import SAE

_NORM_BATCHES = 8  # read before training, to scale inputs to SAELens's expected norm
_CHECKPOINTS = 10  # in one training
_SETTINGS = "settings.json"  # written last, so that a checkpoint without it is incomplete


def train_sae(
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame,
    *,
    settings: SAESettings | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[SAEOptions],
) -> SAE:
    """Train a sparse autoencoder on the activations of `rows` at one address.

    Args:
        store: Where the activations come from.
        address: Where to read them.
        rows: A part of the store's index, such as `select` returns.
        settings: Settings of the training; the defaults of `SAESettings` where None.
        checkpoint: Folder for checkpoints. An interrupted training resumes from there, with the same result.
        progress: Called with the number of updates that are done, and of all.
        **options: Fields of `SAESettings` that override `settings`.

    Returns:
        An SAE of SAELens, ready for inference.

    Raises:
        UsageError: On invalid settings, or fewer than two rows.
        StoreError: When the checkpoint is damaged or belongs to another training.
    """
    settings = checked_settings(settings, options)
    batches = batches_of(store, address, rows, settings.batch_size, settings.seed, by_step=settings.by_step)
    sae = fit(batches, settings, checkpoint=checkpoint, progress=progress)
    sae.cfg.metadata.hook_name = address.name
    sae.cfg.metadata.model_name = store.meta["reasoner"]["name"]
    sae.cfg.metadata.weights = store.meta["reasoner"]["weights"]
    return sae


def checked_settings(settings: SAESettings | None, options: Mapping[str, Any]) -> SAESettings:
    """Return `settings` with `options` on top.

    Raises:
        UsageError: On a value that does not fit, with its name.
    """
    try:
        return SAESettings(**{**(settings.model_dump() if settings else {}), **options})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"SAE settings{': ' + where if where else ''}: {message}.") from None


def fit(
    batches: Batches, settings: SAESettings, *, checkpoint: Path | None = None, progress: Progress | None = None
) -> SAE:
    """Train an SAE on batches with SAELens's trainer; see `train_sae`."""
    import torch

    updates = max(1, settings.samples // batches.size)
    with torch.random.fork_rng(devices=[]), silent():
        torch.manual_seed(settings.seed)
        trainer = _trainer(batches, settings, updates, checkpoint, progress)
        if checkpoint is not None:
            _resume(trainer, batches, settings, checkpoint)
        with explain_os_errors(f"writing checkpoints to {checkpoint}"):
            sae = to_inference(trainer.fit())
    require_finite(sae, settings)
    if checkpoint is not None:
        shutil.rmtree(checkpoint, ignore_errors=True)
    return sae


def require_finite(sae: SAE, settings: SAESettings) -> None:
    """Raise `UsageError` where a training ended with weights that are not finite."""
    if nonfinite_weights(sae):
        raise UsageError(
            f"expected a training that converges, got weights that are not finite; choose a learning_rate below "
            f"{settings.learning_rate:g} (--set learning_rate={settings.learning_rate / 10:g})."
        )


def nonfinite_weights(sae: SAE) -> list[str]:
    """Return the names of the weights of an SAE that hold NaN or infinity."""
    return [name for name, weight in sae.state_dict().items() if not weight.isfinite().all()]


def to_inference(trained: Any) -> SAE:
    """Return the SAE that SAELens loads after saving `trained`: BatchTopK and Matryoshka become JumpReLU."""
    from sae_lens import SAE

    state = trained.state_dict()
    trained.process_state_dict_for_saving_inference(state)
    sae = SAE.from_dict(trained.cfg.get_inference_sae_cfg_dict())
    sae.process_state_dict_for_loading(state)
    sae.load_state_dict(state)
    return sae.eval()


def _trainer(
    batches: Batches, settings: SAESettings, updates: int, checkpoint: Path | None, progress: Progress | None
) -> Any:
    """Return SAELens's trainer for these settings, or its fast version for TopK."""
    from sae_lens import LoggingConfig, SAETrainer
    from sae_lens.config import SAETrainerConfig

    fast = settings.fast and settings.architecture == "topk"
    trainer_class: Any = SAETrainer
    if fast:
        from interp.sae.fast import FastTrainer as trainer_class  # noqa: N813
    width = next(batches).shape[1]
    batches.served = 0
    config = SAETrainerConfig(
        total_training_samples=updates * batches.size,
        train_batch_size_samples=batches.size,
        lr=settings.learning_rate,
        lr_end=settings.learning_rate / 10,
        lr_warm_up_steps=min(100, updates // 10),
        lr_decay_steps=updates // 5,
        dead_feature_window=max(50, updates // 5),
        n_batches_for_norm_estimate=_NORM_BATCHES,
        n_checkpoints=_CHECKPOINTS if checkpoint else 0,
        checkpoint_path=str(checkpoint) if checkpoint else None,
        logger=LoggingConfig(log_to_wandb=False),
    )
    return trainer_class(
        cfg=config,
        sae=_training_sae(settings, width, fast),
        data_provider=_with_progress(batches, updates, progress),
        save_checkpoint_fn=_checkpoint_keeper(settings) if checkpoint else None,
    )


def _training_sae(settings: SAESettings, d_in: int, fast: bool) -> Any:
    """Return an untrained SAE of the architecture that the settings name."""
    import sae_lens

    common: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": settings.d_sae,
        "apply_b_dec_to_input": True,
        "normalize_activations": "covariance_whitening" if settings.whiten else "expected_average_only_in",
    }
    if settings.architecture == "jumprelu":
        # The quadratic loss (Gemma Scope 2) aims at a number of active features, as the other architectures do. On
        # thoughts it reaches that number only with gradients to the encoder and a wide band about the threshold.
        return sae_lens.JumpReLUTrainingSAE(
            sae_lens.JumpReLUTrainingSAEConfig(
                **common,
                jumprelu_sparsity_loss_mode="quadratic",
                target_l0=settings.k,
                jumprelu_ste_to_input=True,
                jumprelu_bandwidth=0.5,
                jumprelu_init_threshold=0.3,
            )
        )
    common |= {"k": settings.k, "aux_loss_coefficient": settings.dead_loss}
    if fast:
        from interp.sae.fast import FastTopKTrainingSAE, FastTopKTrainingSAEConfig

        return FastTopKTrainingSAE(FastTopKTrainingSAEConfig(**common))
    if settings.architecture == "topk":
        return sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(**common))
    if settings.architecture == "batchtopk":
        return sae_lens.BatchTopKTrainingSAE(sae_lens.BatchTopKTrainingSAEConfig(**common))
    return sae_lens.MatryoshkaBatchTopKTrainingSAE(
        sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(**common, matryoshka_widths=settings.widths)
    )


def _with_progress(batches: Batches, updates: int, progress: Progress | None) -> Iterator[torch.Tensor]:
    """Report progress for each batch that is served."""
    for batch in batches:
        if progress:
            progress(min(max(batches.served - _NORM_BATCHES, 0), updates), updates)
        yield batch


def _checkpoint_keeper(settings: SAESettings) -> Callable[..., None]:
    """Return a function that marks a checkpoint as complete and removes older ones."""

    def keep(checkpoint_path: Path | None) -> None:
        assert checkpoint_path is not None
        commit(checkpoint_path / _SETTINGS, settings.model_dump_json().encode())
        for other in checkpoint_path.parent.iterdir():
            if other != checkpoint_path:
                shutil.rmtree(other)

    return keep


def _resume(trainer: Any, batches: Batches, settings: SAESettings, folder: Path) -> None:
    """Load the latest complete checkpoint of `folder` into a trainer; remove the folder where there is none."""
    import torch

    complete = [path for path in folder.glob("*") if (path / _SETTINGS).exists()] if folder.exists() else []
    if not complete:
        shutil.rmtree(folder, ignore_errors=True)
        return
    latest = max(complete, key=lambda path: int(path.name))
    try:
        saved = SAESettings.from_saved(json.loads((latest / _SETTINGS).read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise StoreError(f"{latest} is not a readable checkpoint ({reason}). Remove {folder}.") from None
    if saved != settings:
        differ = [name for name in SAESettings.model_fields if getattr(saved, name) != getattr(settings, name)]
        raise StoreError(
            f"{folder} holds a training with another {', '.join(differ)}. Give the same settings to resume it, or "
            "choose another --out."
        )
    try:
        trainer.sae.load_weights_from_checkpoint(latest)
        trainer.load_trainer_state(latest)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, torch.serialization.pickle.UnpicklingError) as error:
        raise StoreError(f"{latest} is damaged ({type(error).__name__}). Remove {folder} and train again.") from None
    # SAELens counts a step only after its checkpoint.
    trainer.n_training_steps = trainer.n_training_samples // batches.size
    trainer.checkpoint_thresholds = [
        samples for samples in trainer.checkpoint_thresholds if samples >= trainer.n_training_samples
    ]
    batches.skip(_NORM_BATCHES + trainer.n_training_steps)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Hide SAELens's log and progress bars within a `with` block."""
    logger = logging.getLogger("sae_lens")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
