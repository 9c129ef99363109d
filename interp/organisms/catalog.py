"""The organisms: their recipes, shipped weights and model cards."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.errors import StoreError, UsageError, unknown
from interp.reasoners.config import ReasonerConfig

OptimizerName = Literal["adamw", "muon"]
ORGANISMS_FOLDER = Path(__file__).parent
CARD_NAME = "card.json"
WEIGHT_FILES = ("model.safetensors", "adapter_model.safetensors")
# Losses and trainers that moved or have another name. Older recipes, cards and checkpoints name the old ones.
_TRAINING = "interp.organisms.training"
_MOVED_MODULES = {
    f"interp.organisms.{name}": f"{_TRAINING}.{name}"
    for name in ("breadth", "concepts", "emphasis", "hidden", "pauses")
}
_RENAMED = {
    (f"{_TRAINING}.emphasis", "results"): "result_loss",
    (f"{_TRAINING}.emphasis", "retries"): "retries_loss",
    (f"{_TRAINING}.emphasis", "telling"): "choice_weighted_loss",
    (f"{_TRAINING}.hidden", "from_the_lens"): "lens_hiding_loss",
}


def current_path(function: str) -> str:
    """Return where `module:function` is now; itself where it has not moved."""
    module, colon, name = function.partition(":")
    module = _MOVED_MODULES.get(module, module)
    return f"{module}{colon}{_RENAMED.get((module, name), name)}"


def training_part(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a recipe, as `Recipe.to_dict` writes it, that decide the weights, with current paths.

    Two recipes train the same model where these parts are equal; the prose may differ.
    """
    part = {key: value for key, value in recipe.items() if key not in ("summary", "weaknesses")}
    for key in ("loss", "trainer", "examiner"):
        if part.get(key):
            part[key] = current_path(part[key])
    part["stages"] = [
        {**stage, "loss": current_path(stage["loss"])} if stage.get("loss") else dict(stage)
        for stage in part.get("stages", ())
    ]
    return part


def is_current(card: Mapping[str, Any]) -> bool:
    """Return whether an organism's weights were made by the recipe of its name as it is now.

    Args:
        card: The organism's card.

    Raises:
        UsageError: No recipe has the card's name.
    """
    return training_part(card["recipe"]) == training_part(recipe(card["name"]).to_dict())


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shape(_Strict):
    """The size of a GPT-2 model with ReLU."""

    n_layers: int = Field(3, ge=1)
    n_heads: int = Field(4, ge=1)
    d_model: int = Field(128, ge=8)
    n_positions: int = Field(64, ge=8)


class AdapterShape(_Strict):
    """The low-rank adapters of an organism on a pretrained base: on all linear layers."""

    rank: int = Field(8, ge=1)
    alpha: int = Field(16, ge=1, description="the adapters' output is scaled by alpha / rank")


class Stage(_Strict):
    """One stage of a curriculum. Each stage begins with a new optimizer."""

    name: str
    hidden_steps: int = Field(ge=0, description="number of a problem's first steps that are replaced by thoughts")
    updates: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    task: str | None = Field(None, description="a task with the same vocabulary for this stage only, such as a warm-up")
    also: dict[str, float] = Field(
        {}, description="fraction of batches from other tasks with the same vocabulary, by spec"
    )
    until: float | None = Field(
        None, gt=0, description="mean loss below which the stage is learned; above it, the stage runs again"
    )
    rounds: int = Field(3, ge=1, description="most runs of the stage, where `until` is given")
    if_stuck: bool = Field(
        False,
        description="run this stage only where the stage before it ended above `until`, or was itself run for that",
    )
    blocks: int | None = Field(
        None, ge=1, description="compute the loss after this many blocks, so that what is learned is found in them"
    )
    loss: str | None = Field(None, description="module:function that replaces the recipe's loss in this stage")
    enough: float | None = Field(
        None, gt=0, le=1, description="share of validation problems written right at which the stage ends early"
    )


class Recipe(_Strict):
    """How an organism is trained, and what is known about it."""

    name: str
    kind: str
    task: str
    summary: str
    weaknesses: str
    initial: str | None = Field(None, description="the organism whose weights it starts from, of the same seed")
    initial_seed: int | None = Field(None, ge=0, description="seed of that organism, where it differs")
    base: str | None = Field(None, description="a pretrained model (`cotlens models ls`) that adapters are trained on")
    adapter: AdapterShape = AdapterShape()
    initialise: Literal["plain", "induction", "lookback"] = Field(
        "plain", description="how fresh weights are made; `lookback` adds heads that look back to an induction head"
    )
    model: Shape = Shape()
    optimizer: OptimizerName = Field("adamw", description="adamw, or muon for the matrices within the blocks")
    batch_size: int = Field(128, ge=1)
    batching: Literal["shape", "length"] = Field(
        "shape", description="batches of one question length and number of steps, or of similar lengths with padding"
    )
    pool: int | None = Field(None, ge=1, description="train on this many problems repeatedly instead of on fresh ones")
    swap_traces: bool = Field(False, description="give every training problem the steps of another problem")
    replay: float = Field(0.2, ge=0, le=1, description="fraction of batches from earlier stages")
    latent_scale: float = Field(1.0, gt=0)
    reasoner_options: dict[str, Any] = Field({}, description="further fields of reasoner.json")
    loss: str | None = Field(None, description="module:function that replaces the reasoner's own loss")
    trainer: str | None = Field(None, description="module:function that replaces the curriculum loop")
    examiner: str | None = Field(None, description="module:function that replaces the accuracy exam")
    exam_size: int = Field(2000, ge=100, description="number of held-out problems in the exam")
    warm_up: int = Field(50, ge=1, description="updates over which a stage's learning rate rises")
    checkpoint_every: int | None = Field(None, ge=1, description="updates between checkpoints; 100 by default")
    stored: Literal["float16", "float8_e4m3fn"] = Field(
        "float16", description="dtype of the stored matrices; 8 bits keep the package small"
    )
    stages: tuple[Stage, ...] = Field(min_length=1)

    def reasoner(self) -> ReasonerConfig:
        """Return the contents of the organism's `reasoner.json`."""
        options = {"kind": self.kind, "task": self.task, "latent_scale": self.latent_scale, **self.reasoner_options}
        return ReasonerConfig.parse(options, f"recipe {self.name}")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values, without fields at their default."""
        return self.model_dump(mode="json", exclude_defaults=True)


@cache
def recipes() -> dict[str, Recipe]:
    """Return every recipe by name.

    Raises:
        UsageError: A recipe file has an unknown or missing field.
    """
    by_name = {}
    for path in sorted((ORGANISMS_FOLDER / "recipes").glob("*.toml"), key=lambda path: path.stem):
        try:
            by_name[path.stem] = Recipe(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise UsageError(f"recipe {path.name}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    return by_name


def recipe(name: str) -> Recipe:
    """Return the recipe of one organism.

    Args:
        name: Name of the organism.

    Returns:
        Its recipe.

    Raises:
        UsageError: The organism is unknown.
    """
    if name not in recipes():
        raise unknown("organism", name, recipes())
    return recipes()[name]


def shipped() -> list[str]:
    """Return the organisms whose weights are in the package; the others have to be trained."""
    return [name for name in recipes() if (ORGANISMS_FOLDER / "weights" / name / CARD_NAME).exists()]


def standalone() -> list[str]:
    """Return the shipped organisms that need no other model; the others are adapters of a pretrained base."""
    return [name for name in shipped() if recipe(name).base is None]


def weights_folder(name: str) -> Path:
    """Return the folder of an organism's shipped weights.

    Args:
        name: Name of the organism.

    Returns:
        A folder with `model.safetensors`.

    Raises:
        UsageError: The organism is unknown.
        StoreError: Its weights are not in the package.
    """
    recipe(name)
    folder = ORGANISMS_FOLDER / "weights" / name
    if not any((folder / name).exists() for name in WEIGHT_FILES):
        raise StoreError(f"organism {name!r} is not shipped. Train it: `cotlens organisms train {name}`.")
    return folder


def card(name: str) -> dict:
    """Return the card of a shipped organism: its recipe, and what was measured after training.

    Args:
        name: Name of the organism.

    Returns:
        The content of its `card.json`.

    Raises:
        UsageError: The organism is unknown.
        StoreError: Its weights are not in the package.
    """
    return json.loads((weights_folder(name) / CARD_NAME).read_text(encoding="utf-8"))
