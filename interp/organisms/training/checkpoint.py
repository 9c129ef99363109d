"""Where a training stands, in one safetensors file, so that an interrupted one goes on to the same loss curve."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from interp.errors import StoreError
from interp.runtime.files import commit

FILE_NAME = "checkpoint.safetensors"
EVERY = 100  # updates


@dataclass
class Standing:
    """How far a training has come: its stage, round of it and update, those of finished rounds (`done`), the batches
    drawn of each task, and the losses so far."""

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


def write(folder: Path, standing: Standing, model: Any, optimizers: list[torch.optim.Optimizer]) -> None:
    """Commit a checkpoint, whole or not at all."""
    from safetensors.torch import save

    tensors = {f"model.{name}": value.detach().clone() for name, value in model.named_parameters()}
    for place, optimizer in enumerate(optimizers):
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer {place}.{number}.{name}": value.clone() for name, value in state.items()}
    told = json.dumps(vars(standing))
    commit(folder / FILE_NAME, save({k: v.contiguous().cpu() for k, v in tensors.items()}, {"standing": told}))


def read(folder: Path, recipe: dict[str, Any], seed: int) -> tuple[Standing, dict[str, torch.Tensor]] | None:
    """The checkpoint in `folder`, or None where there is none.

    Raises `StoreError` when it is damaged, or belongs to another recipe or seed.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            standing = Standing(**json.loads(file.metadata()["standing"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a readable checkpoint ({error}). Remove {folder} and train again.") from None
    if standing.recipe != recipe or standing.seed != seed:
        raise StoreError(
            f"{path} belongs to another recipe or seed ({standing.recipe['name']}, seed {standing.seed}), not to "
            f"{recipe['name']}, seed {seed}. Choose another folder, or remove it."
        )
    return standing, tensors


def restore(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(tensors[f"model.{name}"])


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    for place, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == f"optimizer {place}":
                number, _, what = rest.partition(".")
                state.setdefault(int(number), {})[what] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
