"""Training an organism from its recipe, measuring it, and checking shipped organisms against their cards."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import QualityError, StoreError, UsageError, checked_count
from interp.models.devices import usable_device
from interp.organisms.catalog import CARD_NAME, ORGANISMS_FOLDER, Recipe, card, recipe, training_part
from interp.organisms.training.checkpoint import FILE_NAME as CHECKPOINT
from interp.organisms.training.model import save, with_added_words
from interp.organisms.training.pretrained import new_adapters, read_adapters
from interp.organisms.training.train import resolve_function, train
from interp.problems import task as make_task
from interp.problems.base import checked_seed
from interp.reasoners import Reasoner
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.locks import LOCK, locked
from interp.runtime.progress import TrainingProgress
from interp.statistics.estimates import Estimate

EXAM_SEED = 2026


def train_organism(
    name: str,
    seed: int,
    out: Path,
    progress: TrainingProgress | None = None,
    *,
    device: str = "cpu",
    keep_every: int | None = None,
) -> dict[str, Any]:
    """Train an organism into a folder.

    An interrupted training resumes from its last checkpoint, to the same weights. An organism that starts from another
    uses the shipped one of the same seed, or the one in `OTHER-seedN` beside `out`, and otherwise trains it first.

    Args:
        name: Name of the organism.
        seed: Seed of the weights and the data.
        out: Folder to write; empty, or with a checkpoint of this training.
        progress: Called with (stage, updates done, updates in all, loss).
        device: Device of the training.
        keep_every: Also keep the reasoner after every so many updates, in `out`/checkpoints (see `train`).

    Returns:
        The card, as it is written to `card.json`.

    Raises:
        UsageError: The organism is unknown, or cannot keep checkpoints.
        StoreError: The folder holds anything else, or another process trains into it.
    """
    its_recipe = recipe(name)
    checked_seed(seed)
    if keep_every is not None and checked_count("keep_every", keep_every) and its_recipe.trainer:
        raise UsageError(
            f"expected no keep_every for {name}, got {keep_every}: its trainer {its_recipe.trainer} keeps no checkpoints; "
            "leave it out."
        )
    usable_device(device)
    with locked(out, "training into"):
        if any(path.name != LOCK for path in out.iterdir()) and not (out / CHECKPOINT).exists():
            raise StoreError(f"expected an empty folder at {out}, got files in it; choose another --out, or remove it.")
        if its_recipe.trainer:
            resolve_function(its_recipe.trainer)(its_recipe, seed, out, progress)
        else:
            model = _trained(its_recipe, seed, progress, out, device, keep_every)
            with explain_os_errors(f"writing {out}"):
                save(model, its_recipe, out)
        return write_card(its_recipe, seed, out)


def write_card(its_recipe: Recipe, seed: int, out: Path) -> dict[str, Any]:
    """Measure a trained organism, write its card, remove its checkpoint, and return the card."""
    from interp.loading.load import load

    reasoner = load(out)
    measured = examine(its_recipe, reasoner)
    written_card = {
        "name": its_recipe.name,
        "summary": its_recipe.summary,
        "weaknesses": its_recipe.weaknesses,
        "task": its_recipe.task,
        "recipe": its_recipe.to_dict(),
        "seed": seed,
        "parameters": sum(p.numel() for p in _parameters(out)),
        "weights": reasoner.weights,
        "versions": {p: version(p) for p in ("torch", "transformers")} | {"python": platform.python_version()},
        **measured,
    }
    commit(out / CARD_NAME, (json.dumps(written_card, indent=2) + "\n").encode())
    (out / CHECKPOINT).unlink(missing_ok=True)
    return written_card


def _parameters(folder: Path) -> list[Any]:
    """Return every tensor of a folder's weights."""
    from safetensors.torch import load_file

    return [
        value
        for path in sorted(folder.glob("*.safetensors"))
        if path.name != CHECKPOINT
        for value in load_file(path).values()
    ]


def examine(its_recipe: Recipe, reasoner: Reasoner, n: int | None = None) -> dict[str, Any]:
    """Return what the recipe's own examiner measures, by default the accuracy.

    Args:
        its_recipe: The recipe.
        reasoner: The trained organism.
        n: Number of held-out problems; by default the recipe's.
    """
    measure = resolve_function(its_recipe.examiner) if its_recipe.examiner else exam
    return measure(reasoner, n or its_recipe.exam_size)


def _trained(
    its_recipe: Recipe,
    seed: int,
    progress: TrainingProgress | None,
    out: Path,
    device: str = "cpu",
    keep_every: int | None = None,
) -> Any:
    initial = initial_of(its_recipe, seed, out, progress, device)
    return train(its_recipe, seed, initial=initial, progress=progress, folder=out, device=device, keep_every=keep_every)


def initial_of(
    its_recipe: Recipe, seed: int, out: Path, progress: TrainingProgress | None = None, device: str = "cpu"
) -> Any:
    """Return the model that a recipe starts from, trained first where it does not exist yet; None for a fresh model."""
    if not its_recipe.initial:
        return None
    import torch

    before = recipe(its_recipe.initial)
    initial_seed = seed if its_recipe.initial_seed is None else its_recipe.initial_seed
    initial = _existing(its_recipe.initial, initial_seed, out)
    if initial is None:
        initial = _trained(before, initial_seed, progress, out / "initial", device)
    torch.manual_seed(seed)
    return with_added_words(initial, before, its_recipe)


def _existing(name: str, seed: int, out: Path) -> Any:
    """Return the model of an organism of this seed and recipe, shipped or beside `out`; None where there is none."""
    import torch

    from interp.models.report import LoadReport
    from interp.models.weights import read_weights
    from interp.models.wrapping import quiet

    for folder in (ORGANISMS_FOLDER / "weights" / name, out.parent / f"{name}-seed{seed}"):
        try:
            found_card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        same_recipe = training_part(found_card["recipe"]) == training_part(recipe(name).to_dict())
        if found_card["seed"] == seed and same_recipe and recipe(name).base is not None:
            return read_adapters(new_adapters(recipe(name), seed), folder)
        if found_card["seed"] == seed and same_recipe:
            with quiet():
                return read_weights(folder, LoadReport(), dtype=torch.float32, attn_implementation="eager")
    return None


def exam(reasoner: Reasoner, n: int) -> dict[str, Any]:
    """Return the accuracy on `n` held-out problems, over all with a 95 % interval and by number of steps."""
    problems = make_task(reasoner.config.task or "").generate(n, seed=EXAM_SEED, split="test")
    traces = reasoner.think(problems, batch_size=256)
    right = np.array([trace.correct for trace in traces])
    groups = np.array([problem.structure for problem in problems])
    lengths = np.array([problem.n_steps for problem in problems])
    accuracy = Estimate.of_mean(right, groups)
    return {
        "accuracy": round(accuracy.value, 4),
        "ci": [round(end, 4) for end in accuracy.interval],
        "accuracy_by_steps": {str(k): round(float(right[lengths == k].mean()), 4) for k in np.unique(lengths)},
        "exam": {"n": n, "seed": EXAM_SEED, "split": "test"},
    }


@dataclass(frozen=True)
class OrganismCheck:
    """A shipped organism measured again.

    Attributes:
        name: Name of the organism.
        accuracy: The accuracy now.
        card: The accuracy of the card, on as many problems.
        weights_match: Whether the weights are the card's.
    """

    name: str
    accuracy: float
    card: Estimate
    weights_match: bool

    @property
    def ok(self) -> bool:
        """Whether the weights match and the accuracy lies in the card's interval.

        The interval is widened by half a percent, because arithmetic differs between machines.
        """
        low, high = self.card.interval
        return low - 0.005 <= self.accuracy <= high + 0.005 and self.weights_match

    def to_dict(self) -> dict[str, Any]:
        """Return the row that `cotlens organisms check` prints."""
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "card": self.card.value,
            "ci": list(self.card.interval),
            "weights_match": self.weights_match,
            "ok": self.ok,
        }


def check_organism(name: str) -> OrganismCheck:
    """Measure a shipped organism again and compare it with its card."""
    from interp.loading.load import load

    shipped_card = card(name)
    reasoner = load(name)
    n, (low, high) = shipped_card["exam"]["n"], shipped_card["ci"]
    measured = examine(recipe(name), reasoner, n)
    return OrganismCheck(
        name=name,
        accuracy=measured["accuracy"],
        card=Estimate(shipped_card["accuracy"], low, high, n),
        weights_match=reasoner.weights == shipped_card["weights"],
    )


def require_ok(checks: list[OrganismCheck]) -> None:
    """Raise `QualityError` where an organism differs from its card."""
    wrong = [check.name for check in checks if not check.ok]
    if wrong:
        raise QualityError(
            f"these organisms differ from their cards: {', '.join(wrong)}. Train them again, or restore them."
        )
