"""Making an organism from its recipe, measuring it, and checking that what is shipped still measures so."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import QualityError, StoreError, UsageError, checked_count
from interp.organisms.catalog import CARD_NAME, HERE, Recipe, card, recipe
from interp.organisms.training.checkpoint import FILE_NAME as CHECKPOINT
from interp.organisms.training.model import grown, save
from interp.organisms.training.train import named, train
from interp.problems import task as make_task
from interp.problems.base import checked_seed
from interp.reasoners import Reasoner
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.progress import TrainingProgress
from interp.statistics.intervals import grouped_mean_interval

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
    """Train organism `name` from `seed` into the folder `out`, and return its card.

    With `keep_every` the reasoner after every so many updates stays in `out`/checkpoints (see `train`).

    Run again after it was cut off, it goes on from its last checkpoint, to the same weights. An organism that
    starts from another takes the shipped one where that was made with the same seed, or the one in
    `OTHER-seedN` beside `out`, and trains it first otherwise. Refuses a folder that holds anything else.
    """
    made = recipe(name)
    checked_seed(seed)
    if keep_every is not None and checked_count("keep_every", keep_every) and made.trainer:
        raise UsageError(f"{name} is trained by {made.trainer}, which keeps no checkpoints; leave keep_every out.")
    with explain_os_errors(f"opening {out}"):
        if out.exists() and any(out.iterdir()) and not (out / CHECKPOINT).exists():
            raise StoreError(f"{out} is not empty; choose another --out, or remove it.")
        out.mkdir(parents=True, exist_ok=True)
    if made.trainer:
        named(made.trainer)(made, seed, out, progress)
    else:
        model = _trained(made, seed, progress, out, device, keep_every)
        with explain_os_errors(f"writing {out}"):
            save(model, made, out)
    return examined(made, seed, out)


def examined(made: Recipe, seed: int, out: Path) -> dict[str, Any]:
    """Measure what was trained, and write its card."""
    from interp.loading.load import load

    reasoner = load(out)
    measured = examine(made, reasoner)
    written = {
        "name": made.name,
        "summary": made.summary,
        "weaknesses": made.weaknesses,
        "task": made.task,
        "recipe": made.to_dict(),
        "seed": seed,
        "parameters": sum(p.numel() for p in _parameters(out)),
        "weights": reasoner.weights,
        "versions": {p: version(p) for p in ("torch", "transformers")} | {"python": platform.python_version()},
        **measured,
    }
    commit(out / CARD_NAME, (json.dumps(written, indent=2) + "\n").encode())
    (out / CHECKPOINT).unlink(missing_ok=True)
    return written


def _parameters(folder: Path) -> list[Any]:
    from safetensors.torch import load_file

    return [
        value
        for path in sorted(folder.glob("*.safetensors"))
        if path.name != CHECKPOINT
        for value in load_file(path).values()
    ]


def examine(made: Recipe, reasoner: Reasoner, n: int | None = None) -> dict[str, Any]:
    """What the recipe's own examiner measures, or accuracy; on `n` held-out problems."""
    measure = named(made.examiner) if made.examiner else exam
    return measure(reasoner, n or made.exam_size)


def _trained(
    made: Recipe,
    seed: int,
    progress: TrainingProgress | None,
    out: Path,
    device: str = "cpu",
    keep_every: int | None = None,
) -> Any:
    initial = initial_of(made, seed, out, progress, device)
    return train(made, seed, initial=initial, progress=progress, folder=out, device=device, keep_every=keep_every)


def initial_of(
    made: Recipe, seed: int, out: Path, progress: TrainingProgress | None = None, device: str = "cpu"
) -> Any:
    """The model that `made` starts from, of the same seed, trained first where it is not there yet; None if fresh."""
    if not made.initial:
        return None
    import torch

    before = recipe(made.initial)
    of_seed = seed if made.initial_seed is None else made.initial_seed
    initial = _made_before(made.initial, of_seed, out)
    if initial is None:
        initial = _trained(before, of_seed, progress, out / "initial", device)
    torch.manual_seed(seed)
    return grown(initial, before, made)


def _made_before(name: str, seed: int, out: Path) -> Any:
    """The weights of `name` from this seed and recipe, shipped or beside `out`, else None."""
    import torch
    from transformers import AutoModelForCausalLM

    from interp.models.load import quiet

    for folder in (HERE / "weights" / name, out.parent / f"{name}-seed{seed}"):
        try:
            written = json.loads((folder / CARD_NAME).read_text())
        except FileNotFoundError:
            continue
        if written["seed"] == seed and written["recipe"] == recipe(name).to_dict():
            with quiet():
                return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return None


def exam(reasoner: Reasoner, n: int) -> dict[str, Any]:
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
    from interp.loading.load import load

    written = card(name)
    reasoner = load(name)
    again = examine(recipe(name), reasoner, written["exam"]["n"])
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
