"""Training organisms: one curriculum loop for every way of thinking.

The curriculum is Coconut's (arXiv 2412.06769, section 3): at stage k the first k steps of the text are
replaced by thoughts, the loss covers what is still text, and the optimizer starts anew. What a thought is,
and so what a training sequence looks like, is said by the reasoner (`Reasoner.lesson`, `Reasoner.logits`).
Recipes are in `recipes/`; the tricks behind them (bf16 matrix products over fp32 weights where the machine
has them, ReLU, small sinusoidal positions, one number of steps in a batch) are what made them learn on one CPU core.
"""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from interp.errors import CotlensError, UsageError, checked_count
from interp.organisms.catalog import Recipe, Stage
from interp.organisms.optimizers import optimizers
from interp.organisms.training import checkpoint
from interp.organisms.training.batches import problem_batches
from interp.organisms.training.checkpoint import Standing
from interp.organisms.training.model import keep_reasoner, new_model, tokenizer_of, with_projection
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.reasoners.curriculum import LessonBatch, collate
from interp.reasoners.registry import curriculum_of
from interp.runtime.hardware import mixed_precision, training_attention
from interp.runtime.progress import TrainingProgress

# A loss of a recipe's own: the model in training, the batch, and how much of the stage is done (0 to 1).
Loss = Callable[[Any, LessonBatch, float], torch.Tensor]
_REPORT_EVERY = 10


def train(
    recipe: Recipe,
    seed: int,
    *,
    initial: Any = None,
    progress: TrainingProgress | None = None,
    folder: Path | None = None,
    device: str = "cpu",
    keep_every: int | None = None,
) -> Any:
    """Train `recipe` from `seed`, starting from the model `initial` where the recipe builds on another organism.

    With a `folder`, checkpoints are kept there and a training that was cut off goes on from the last one, to
    the same weights. With `keep_every` the reasoner as it is before the first update, after every so many and after the
    last stays there too, as `checkpoints/update-000300` for `interp.load`; updates count over all stages. Returns
    the model in fp32. Raises `CotlensError` when the loss is no longer a finite number.
    """
    if keep_every is not None and folder is None:
        raise UsageError("keep_every needs a folder to keep checkpoints in.")
    return _Training(recipe, seed, initial, progress, folder, device, keep_every).run()


class _Training:
    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        initial: Any,
        progress: TrainingProgress | None,
        folder: Path | None,
        device: str,
        keep_every: int | None,
    ) -> None:
        self.recipe, self.seed, self.progress, self.folder = recipe, seed, progress, folder
        self.keep_every = keep_every if keep_every is None else checked_count("keep_every", keep_every)
        self.curriculum = curriculum_of(recipe.reasoner())
        self.tokenizer = tokenizer_of(recipe)
        self.device = torch.device(device)
        self.loss = _own_loss(recipe.loss, recipe) or self._reasoners_loss
        found = checkpoint.read(folder, recipe.to_dict(), seed) if folder else None
        self.standing, self._saved = found or (Standing(recipe.to_dict(), seed), {})
        self.model = with_projection(initial or new_model(recipe, len(self.tokenizer), seed), recipe)
        torch.manual_seed(seed + 1)
        if self._saved:
            checkpoint.restore(self.model, self._saved)
        self.model.to(self.device)
        self.model.set_attn_implementation(training_attention(self.device))
        self._choose = random.Random(f"stages|{recipe.name}|{seed}")
        if self.standing.chosen:
            version, state, gauss = self.standing.chosen
            self._choose.setstate((version, tuple(state), gauss))
        self._streams: dict[str, Iterator[list[Problem]]] = {}

    def run(self) -> Any:
        self.model.train()
        while self.standing.stage < len(self.recipe.stages):
            self._round(self.standing.stage)
        return self.model.eval().cpu()

    def _round(self, number: int) -> None:
        """One run of a stage; the next is of the same one where its loss is not yet what it should come to."""
        stage, standing = self.recipe.stages[number], self.standing
        earlier = self.recipe.stages[:number]
        of_stage = _own_loss(stage.loss, self.recipe) or self.loss
        steppers = optimizers(self.recipe.optimizer, self.model, stage.learning_rate)
        if self._saved:
            checkpoint.restore_optimizers(steppers, self._saved)
            self._saved = {}
        if standing.done + standing.update == 0:
            self._stay(0, steppers)
        for update in range(standing.update, stage.updates):
            for each in steppers:
                each.param_groups[0]["lr"] = stage.learning_rate * _schedule(update, stage.updates)
            again = earlier and self._choose.random() < self.recipe.replay
            batch = self._batch(self._choose.choice(earlier) if again else stage)
            with mixed_precision(self.device):
                loss = of_stage(self.model, batch, update / stage.updates)
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for each in steppers:
                each.step()
            if update % _REPORT_EVERY == 0 or update == stage.updates - 1:
                self._note(stage, update, float(loss.detach()))
            standing.update = update + 1
            if self.folder and standing.update % checkpoint.EVERY == 0 and standing.update < stage.updates:
                self._keep(steppers)
            self._stay(standing.done + standing.update, steppers)
        again = self._again()
        standing.stage, standing.round = (number, standing.round + 1) if again else (number + 1, 0)
        standing.done, standing.update, standing.mean_loss = standing.done + stage.updates, 0, None

    def _again(self) -> bool:
        """Whether the stage whose updates are through has to be run again."""
        stage, standing = self.recipe.stages[self.standing.stage], self.standing
        if stage.until is None or standing.round + 1 >= stage.rounds:
            return False
        return standing.mean_loss is not None and standing.mean_loss > stage.until

    def _reasoners_loss(self, model: Any, batch: LessonBatch, done: float) -> torch.Tensor:
        return self.curriculum.loss(model, batch)

    def _batch(self, stage: Stage) -> LessonBatch:
        spec = stage.task or self.recipe.task
        if stage.also:
            shares = {**stage.also, spec: 1 - sum(stage.also.values())}
            spec = self._choose.choices(list(shares), list(shares.values()))[0]
        drawn = self.standing.drawn
        if spec not in self._streams:
            name = f"{self.recipe.name}|{self.seed}" + (f"|{spec}" if spec != self.recipe.task else "")
            stream = problem_batches(make_task(spec), self.recipe, random.Random(name))
            # After a restart, the batches that were trained on before are drawn again and left aside.
            self._streams[spec] = islice(stream, drawn.get(spec, 0), None)
        drawn[spec] = drawn.get(spec, 0) + 1
        problems = next(self._streams[spec])
        lessons = [self.curriculum.lesson(problem, stage.hidden_steps) for problem in problems]
        return collate(lessons, self.tokenizer).to(self.device)

    def _note(self, stage: Stage, update: int, value: float) -> None:
        if not math.isfinite(value):
            raise CotlensError(
                f"training {self.recipe.name} diverged in stage {stage.name!r} at update {update}: the loss is {value}. "
                f"Lower this stage's learning_rate ({stage.learning_rate}) or use another seed."
            )
        # A batch holds problems of one length, so single losses jump about; the running mean does not.
        before = self.standing.mean_loss
        mean = value if before is None else 0.9 * before + 0.1 * value
        self.standing.mean_loss = mean
        self.standing.losses.append((stage.name, update, value))
        if self.progress:
            again = f", run {self.standing.round + 1}" if self.standing.round else ""
            self.progress(stage.name + again, update + 1, stage.updates, mean)

    def _stay(self, updates: int, steppers: list[torch.optim.Optimizer]) -> None:
        """Keep the reasoner as it is now, where it was asked for after so many updates."""
        if self.folder is None or not self.keep_every:
            return
        stages, standing = self.recipe.stages, self.standing
        through = standing.stage == len(stages) - 1 and standing.update == stages[-1].updates
        last = through and not self._again()
        if updates % self.keep_every == 0 or last:
            # Of the two that which says whose training it is comes first.
            self._keep(steppers)
            keep_reasoner(self.model, self.recipe, self.folder, updates)

    def _keep(self, steppers: list[torch.optim.Optimizer]) -> None:
        assert self.folder is not None
        version, state, gauss = self._choose.getstate()
        self.standing.chosen = [version, list(state), gauss]
        checkpoint.write(self.folder, self.standing, self.model, steppers)


def _own_loss(said: str | None, recipe: Recipe) -> Loss | None:
    """The loss that a recipe or stage names as module:function; called with the recipe, it gives the loss."""
    return named(said)(recipe) if said else None


def named(function: str) -> Any:
    """What `module:function` names."""
    module, _, attribute = function.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _schedule(update: int, updates: int, warm_up: int = 50, decay_from: float = 0.5) -> float:
    rising = min(1.0, (update + 1) / warm_up)
    done = update / updates
    falling = 1.0 if done < decay_from else max(0.02, (1 - done) / (1 - decay_from))
    return rising * falling
