"""The shipped organisms: their recipes, their weights and their model cards."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.errors import StoreError, UsageError, unknown
from interp.organisms.optimizers import Kind
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
    task: str | None = Field(None, description="a task of the same vocabulary for this stage alone, such as a warm-up")
    also: dict[str, float] = Field({}, description="shares of the batches that come from other tasks of the vocabulary")
    until: float | None = Field(
        None, gt=0, description="the mean loss at which the stage has been learned; above it, the stage is run again"
    )
    rounds: int = Field(3, ge=1, description="how often it is run at most, where `until` is given")
    loss: str | None = Field(
        None, description="module:function that takes the place of the recipe's loss in this stage"
    )


class Recipe(_Strict):
    """How an organism is made, and what is known about it."""

    name: str
    kind: str
    task: str
    summary: str
    weaknesses: str
    initial: str | None = Field(None, description="the organism whose weights it starts from, same seed")
    initial_seed: int | None = Field(None, ge=0, description="the seed of that organism, where it is not the same")
    initialise: Literal["plain", "induction", "lookback"] = Field(
        "plain", description="how fresh weights are drawn; lookback is induction and heads that look back"
    )
    model: Shape = Shape()
    optimizer: Kind = Field("adamw", description="adamw, or muon for the matrices within the blocks")
    batch_size: int = Field(128, ge=1)
    batching: Literal["shape", "length"] = Field(
        "shape", description="batches of one question length and number of steps, or of similar length with padding"
    )
    pool: int | None = Field(None, ge=1, description="train on this many problems again and again, not on fresh ones")
    swap_traces: bool = Field(False, description="give every training problem the steps of another one")
    replay: float = Field(0.2, ge=0, le=1, description="share of batches from earlier stages")
    latent_scale: float = Field(1.0, gt=0)
    reasoner_options: dict[str, Any] = Field({}, description="further fields of reasoner.json")
    loss: str | None = Field(None, description="module:function that takes the place of the reasoner's own loss")
    trainer: str | None = Field(None, description="module:function that takes the place of the curriculum loop")
    examiner: str | None = Field(None, description="module:function that takes the place of the accuracy exam")
    exam_size: int = Field(2000, ge=100, description="held-out problems of the exam")
    stored: Literal["float16", "float8_e4m3fn"] = Field(
        "float16", description="how the matrices are written; 8 bits for controls, of which more then fit the package"
    )
    stages: tuple[Stage, ...] = Field(min_length=1)

    def reasoner(self) -> ReasonerConfig:
        options = {"kind": self.kind, "task": self.task, "latent_scale": self.latent_scale, **self.reasoner_options}
        return ReasonerConfig.parse(options, f"recipe {self.name}")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON, without what is left at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)


@cache
def recipes() -> dict[str, Recipe]:
    """Every organism by name."""
    found = {}
    for path in sorted((HERE / "recipes").glob("*.toml"), key=lambda path: path.stem):
        try:
            found[path.stem] = Recipe(name=path.stem, **tomllib.loads(path.read_text()))
        except ValidationError as error:
            raise UsageError(f"recipe {path.name}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    return found


def recipe(name: str) -> Recipe:
    if name not in recipes():
        raise unknown("organism", name, recipes())
    return recipes()[name]


def shipped() -> list[str]:
    """The organisms whose weights are in the package; the others are trained by name."""
    return [name for name in recipes() if (HERE / "weights" / name / CARD_NAME).exists()]


def weights_folder(name: str) -> Path:
    """Where an organism's weights are shipped. Raises when they are not there."""
    recipe(name)
    folder = HERE / "weights" / name
    if not (folder / "model.safetensors").exists():
        raise StoreError(f"organism {name!r} is not shipped. Train it: `cotlens organisms train {name}`.")
    return folder


def card(name: str) -> dict:
    """What was measured when the organism was made."""
    return json.loads((weights_folder(name) / CARD_NAME).read_text())
