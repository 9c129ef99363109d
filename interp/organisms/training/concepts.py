"""Training a small large concept model: the step autoencoder first, then the predictor in its space."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from interp.models.step_autoencoder import StepAutoencoder
from interp.organisms.catalog import ORGANISMS_FOLDER, Recipe
from interp.organisms.training.build import exam, initial_of
from interp.organisms.training.model import new_model, save, tokenizer_of
from interp.organisms.training.train import train
from interp.problems import task as make_task
from interp.problems.base import Split, Task, split_of, structure_hash
from interp.reasoners import Reasoner
from interp.runtime.progress import TrainingProgress

_UPDATES, _BATCH, _LEARNING_RATE, _NOISE, _HIDDEN = 800, 512, 2e-3, 0.4, 256
_DRAWN = 40_000


def train_concepts(recipe: Recipe, seed: int, out: Path, progress: TrainingProgress | None = None) -> None:
    """Train the autoencoder, then `recipe`'s predictor with it frozen, and write both into `out`."""
    autoencoder = train_autoencoder(recipe, seed, progress)
    model = initial_of(recipe, seed, out, progress) or new_model(recipe, len(tokenizer_of(recipe)), seed)
    model.step_autoencoder = autoencoder.requires_grad_(False)
    model = train(recipe, seed, initial=model, progress=progress, folder=out)
    del model.step_autoencoder
    save(model, recipe, out)
    autoencoder.save(out)


def train_autoencoder(recipe: Recipe, seed: int, progress: TrainingProgress | None = None) -> StepAutoencoder:
    """Return an autoencoder of the step texts of a recipe's task, trained on those of the train split.

    Each text belongs to one split (`step_texts`), so reconstruction can be measured on unseen texts.
    """
    task, tokenizer = make_task(recipe.task), tokenizer_of(recipe)
    texts = step_texts(task, "train", seed)
    longest = max(len(text.split()) for text in texts)
    torch.manual_seed(seed)
    pad: Any = tokenizer.pad_token_id
    autoencoder = StepAutoencoder(len(tokenizer), pad, longest, recipe.model.d_model, hidden=_HIDDEN)
    ids = autoencoder.ids_of(texts, tokenizer)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, _UPDATES)
    for update in range(_UPDATES):
        batch = ids[torch.randint(len(ids), (_BATCH,))]
        concepts = autoencoder.encode(batch)
        # Noise keeps different texts apart, so that an inexact prediction still decodes.
        logits = autoencoder.decode(concepts + _NOISE * torch.randn_like(concepts))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), batch.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress and (update + 1) % 50 == 0:
            progress("autoencoder", update + 1, _UPDATES, float(loss.detach()))
    return autoencoder.eval()


def step_texts(task: Task, split: Split, seed: int, n: int | None = None) -> list[str]:
    """Return the distinct texts among `n` steps of training problems whose own hash belongs to `split`."""
    stream = task.draws(random.Random(f"steps|{seed}"), "train")
    drawn = dict.fromkeys(islice(_texts(stream), n or _DRAWN))
    return [text for text in drawn if split_of(structure_hash("step", text)) == split]


def _texts(problems: Iterator[Any]) -> Iterator[str]:
    for problem in problems:
        for step in problem.steps:
            yield step.text


def examine(reasoner: Reasoner, n: int) -> dict[str, Any]:
    """Return the accuracy, and the fraction of thoughts that decode to the text of their gold step."""
    measured = exam(reasoner, n)
    folder = Path(reasoner.name) if Path(reasoner.name).is_dir() else ORGANISMS_FOLDER / "weights" / reasoner.name
    autoencoder = StepAutoencoder.read(folder)
    traces = reasoner.think(make_task(reasoner.config.task or "").generate(500, seed=1, split="test"), batch_size=256)
    right = [
        text == step.text
        for trace in traces
        for text, step in zip(
            autoencoder.texts(torch.tensor(trace.latents) / reasoner.config.latent_scale, reasoner.tokenizer),
            trace.problem.steps,
            strict=True,
        )
    ]
    return measured | {"thoughts_say_the_step": round(sum(right) / len(right), 4)}
