"""Checkpoints: the state of a training in one safetensors file, from which it resumes to the same weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from interp.errors import StoreError
from interp.organisms.catalog import training_part
from interp.runtime.files import commit

FILE_NAME = "checkpoint.safetensors"
EVERY = 100  # updates between checkpoints, where the recipe does not say


@dataclass
class TrainingState:
    """The progress of a training.

    Attributes:
        recipe: The recipe as JSON values.
        seed: Seed of the training.
        stage: Number of the current stage, from 0.
        round: Run of that stage, from 0.
        update: Updates done in this run.
        done: Updates done in finished runs.
        drawn: Batches drawn from each task, by spec.
        chosen: State of the generator that chooses stages.
        mean_loss: Running mean of the loss of this run.
        losses: (stage, update, loss) of every report.
        right: (stage, update, share of validation problems written right) of every measurement.
    """

    recipe: dict[str, Any]
    seed: int
    stage: int = 0
    round: int = 0
    update: int = 0
    done: int = 0
    drawn: dict[str, int] = field(default_factory=dict)
    chosen: list[Any] = field(default_factory=list)
    mean_loss: float | None = None
    losses: list[tuple[str, int, float]] = field(default_factory=list)
    right: list[tuple[str, int, float]] = field(default_factory=list)


def write(folder: Path, state: TrainingState, model: Any, optimizers: list[torch.optim.Optimizer]) -> None:
    """Write a checkpoint atomically."""
    from safetensors.torch import save

    tensors = {
        f"model.{name}": value.detach().clone() for name, value in model.named_parameters() if value.requires_grad
    }
    for number, optimizer in enumerate(optimizers):
        for parameter, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer {number}.{parameter}.{name}": value.clone() for name, value in values.items()}
    progress = json.dumps(vars(state))
    commit(folder / FILE_NAME, save({k: v.contiguous().cpu() for k, v in tensors.items()}, {"standing": progress}))


def read(folder: Path, recipe: dict[str, Any], seed: int) -> tuple[TrainingState, dict[str, torch.Tensor]] | None:
    """Read the checkpoint in `folder`.

    Args:
        folder: Folder of the training.
        recipe: The recipe that is to be trained, as JSON values.
        seed: Its seed.

    Returns:
        The progress and the tensors; None where there is no checkpoint.

    Raises:
        StoreError: The checkpoint is damaged, or belongs to another recipe or seed.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = TrainingState(**json.loads(file.metadata()["standing"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"expected a readable checkpoint at {path}, got an error: {error}. Remove {folder} and train again."
        ) from None
    if training_part(state.recipe) != training_part(recipe) or state.seed != seed:
        raise StoreError(
            f"expected a checkpoint of {recipe['name']}, seed {seed}, at {path}, got one of {state.recipe['name']}, seed "
            f"{state.seed}, or of another version of the recipe; choose another folder, or remove it."
        )
    return state, tensors


def restore(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Copy a checkpoint's weights into the model."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.copy_(tensors[f"model.{name}"])


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    """Copy a checkpoint's optimizer states into the optimizers."""
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        prefix = f"optimizer {number}."
        for name, value in tensors.items():
            if name.startswith(prefix):
                parameter, _, quantity = name.removeprefix(prefix).partition(".")
                state.setdefault(int(parameter), {})[quantity] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
