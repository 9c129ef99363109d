"""Making an organism from its recipe, measuring it, and checking that what is shipped still measures so."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import QualityError, StoreError
from interp.files import commit, explained
from interp.organisms.catalog import CARD_NAME, Recipe, card, recipe, weights_folder
from interp.problems import task as make_task
from interp.problems.base import checked_seed
from interp.reasoners import Reasoner
from interp.stats import grouped_mean_interval

Progress = Callable[[str, int, int, float], None]
EXAM_SEED, EXAM_SIZE = 2026, 2000


def train_organism(name: str, seed: int, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Train organism `name` from `seed` into the folder `out`, and return its card.

    An organism that starts from another takes the shipped one where that was made with the same seed, and
    trains it first otherwise. Refuses a folder that is not empty.
    """
    made = recipe(name)
    checked_seed(seed)
    with explained(f"opening {out}"):
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out} is not empty; choose another --out, or remove it.")
        out.mkdir(parents=True, exist_ok=True)
    from interp.loading import load
    from interp.organisms.train import save

    model = _trained(made, seed, progress)
    with explained(f"writing {out}"):
        save(model, made, out)
    measured = exam(load(out))
    written = {
        "name": name,
        "summary": made.summary,
        "weaknesses": made.weaknesses,
        "task": made.task,
        "recipe": made.model_dump(mode="json"),
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": load(out).weights,
        "versions": {p: version(p) for p in ("torch", "transformers")} | {"python": platform.python_version()},
        **measured,
    }
    commit(out / CARD_NAME, (json.dumps(written, indent=2) + "\n").encode())
    return written


def _trained(made: Recipe, seed: int, progress: Progress | None) -> Any:
    from interp.organisms.train import train

    initial = None
    if made.initial:
        initial = _shipped_model(made.initial, seed) or _trained(recipe(made.initial), seed, progress)
    return train(made, seed, initial=initial, progress=progress)


def _shipped_model(name: str, seed: int) -> Any:
    """The shipped weights of `name` when they come from this seed and recipe, else None."""
    import torch
    from transformers import AutoModelForCausalLM

    from interp.models.load import quiet

    try:
        written = card(name)
    except (StoreError, FileNotFoundError):
        return None
    if written["seed"] != seed or written["recipe"] != recipe(name).model_dump(mode="json"):
        return None
    with quiet():
        return AutoModelForCausalLM.from_pretrained(
            weights_folder(name), dtype=torch.float32, attn_implementation="eager"
        )


def exam(reasoner: Reasoner, n: int = EXAM_SIZE) -> dict[str, Any]:
    """Accuracy on `n` held-out problems, over all and by number of steps, with 95 % intervals."""
    problems = make_task(reasoner.config.task or "").generate(n, seed=EXAM_SEED, split="test")
    traces = reasoner.think(problems, batch_size=256)
    right = np.array([trace.correct for trace in traces])
    groups = np.array([problem.structure for problem in problems])
    lengths = np.array([problem.n_steps for problem in problems])
    return {
        "accuracy": round(float(right.mean()), 4),
        "ci": [round(x, 4) for x in grouped_mean_interval(right, groups)],
        "accuracy_by_steps": {str(k): round(float(right[lengths == k].mean()), 4) for k in np.unique(lengths)},
        "exam": {"n": n, "seed": EXAM_SEED, "split": "test"},
    }


def check_organism(name: str) -> dict[str, Any]:
    """Measure a shipped organism again and set it beside its card.

    `ok` is whether the weights are the card's and the accuracy lies within the card's interval (half a
    percent either way at least, for arithmetic that differs between machines).
    """
    from interp.loading import load

    written = card(name)
    reasoner = load(name)
    again = exam(reasoner, written["exam"]["n"])
    low, high = written["ci"]
    ok = low - 0.005 <= again["accuracy"] <= high + 0.005 and reasoner.weights == written["weights"]
    return {
        "name": name,
        "accuracy": again["accuracy"],
        "card": written["accuracy"],
        "ci": written["ci"],
        "weights_match": reasoner.weights == written["weights"],
        "ok": ok,
    }


def require_ok(results: list[dict[str, Any]]) -> None:
    wrong = [r["name"] for r in results if not r["ok"]]
    if wrong:
        raise QualityError(
            f"these organisms differ from their cards: {', '.join(wrong)}. Train them again, or restore them."
        )
