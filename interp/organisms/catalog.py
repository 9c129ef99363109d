"""The shipped organisms: their recipes, their weights and their model cards."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.errors import StoreError, UsageError, unknown
from interp.reasoners.config import ReasonerConfig

HERE = Path(__file__).parent
CARD_NAME = "card.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shape(_Strict):
    """The size of a GPT-2 model with ReLU."""

    n_layers: int = Field(3, ge=1)
    n_heads: int = Field(4, ge=1)
    d_model: int = Field(128, ge=8)
    n_positions: int = Field(64, ge=8)


class Stage(_Strict):
    """One stage of a curriculum; the optimizer starts anew at each."""

    name: str
    hidden_steps: int = Field(ge=0, description="how many of a problem's first steps are thoughts")
    updates: int = Field(ge=1)
    learning_rate: float = Field(gt=0)


class Recipe(_Strict):
    """How an organism is made, and what is known about it."""

    name: str
    kind: Literal["direct", "text", "pause", "continuous"]
    task: str
    summary: str
    weaknesses: str
    initial: str | None = Field(None, description="the organism whose weights it starts from, same seed")
    model: Shape = Shape()
    batch_size: int = Field(128, ge=1)
    replay: float = Field(0.2, ge=0, le=1, description="share of batches from earlier stages")
    latent_scale: float = Field(1.0, gt=0)
    stages: tuple[Stage, ...] = Field(min_length=1)

    def reasoner(self) -> ReasonerConfig:
        return ReasonerConfig(kind=self.kind, task=self.task, latent_scale=self.latent_scale)


@cache
def recipes() -> dict[str, Recipe]:
    """Every organism by name."""
    found = {}
    for path in sorted((HERE / "recipes").glob("*.toml")):
        try:
            found[path.stem] = Recipe(name=path.stem, **tomllib.loads(path.read_text()))
        except ValidationError as error:
            raise UsageError(f"recipe {path.name}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    return found


def recipe(name: str) -> Recipe:
    if name not in recipes():
        raise unknown("organism", name, recipes())
    return recipes()[name]


def weights_folder(name: str) -> Path:
    """Where an organism's weights are shipped. Raises when they are not there."""
    recipe(name)
    folder = HERE / "weights" / name
    if not (folder / "model.safetensors").exists():
        raise StoreError(f"organism {name!r} has no weights in {folder}. Train it: `cotlens organisms train {name}`.")
    return folder


def card(name: str) -> dict:
    """What was measured when the organism was made."""
    return json.loads((weights_folder(name) / CARD_NAME).read_text())
