"""The training loop of organisms: one curriculum for every kind of reasoner.

The curriculum is Coconut's (arXiv 2412.06769, section 3). At stage k the first k steps of the text are replaced by
thoughts, the loss covers the remaining text, and the optimizer is new. The reasoner defines its thoughts and its
training sequences. Recipes are in `recipes/`. Four choices let them learn on one CPU core: bf16 matrix products over
fp32 weights where the machine has them, ReLU, small sinusoidal positions, and one number of steps in a batch.
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
from interp.organisms.catalog import Recipe, Stage, current_path
from interp.organisms.training import checkpoint
from interp.organisms.training.batches import problem_batches
from interp.organisms.training.checkpoint import TrainingState
from interp.organisms.training.model import first_blocks, new_model, save_checkpoint, tokenizer_of, with_projection
from interp.organisms.training.optimizers import optimizers
from interp.organisms.training.pretrained import scored_loss, share_right, training_curriculum
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.reasoners.curriculum import LessonBatch, collate
from interp.runtime.hardware import mixed_precision, training_attention
from interp.runtime.progress import TrainingProgress

# A recipe's own loss: called with the model, the batch, and the finished fraction of the stage (0 to 1).
Loss = Callable[[Any, LessonBatch, float], torch.Tensor]
_REPORT_EVERY = 10
_N_MEASURED = 24  # validation problems of each number of steps, where a stage may end early


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
    """Train a recipe.

    Args:
        recipe: The recipe.
        seed: Seed of the weights and the data.
        initial: The model to start from, where the recipe builds on another organism.
        progress: Called with (stage, updates done, updates in all, loss).
        folder: Folder of checkpoints. An interrupted training resumes from the last one, to the same weights.
        device: Device of the training.
        keep_every: Also keep the reasoner before the first update, after every so many updates and after the last, as
            `checkpoints/update-000300` in `folder`, for `interp.load`. Updates count over all stages.

    Returns:
        The trained model, on the CPU in fp32.

    Raises:
        CotlensError: The loss is no longer finite.
        StoreError: The folder holds a checkpoint of another recipe or seed.
    """
    if keep_every is not None and folder is None:
        raise UsageError("expected a folder with keep_every, got none; give a folder for the checkpoints.")
    return _Training(recipe, seed, initial, progress, folder, device, keep_every).run()


class _Training:
    """One run of the curriculum loop."""

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
        self.tokenizer = tokenizer_of(recipe)
        self.curriculum = training_curriculum(recipe)
        self.device = torch.device(device)
        self.loss = _recipe_loss(recipe.loss, recipe) or self._reasoner_loss
        resumed = checkpoint.read(folder, recipe.to_dict(), seed) if folder else None
        self.state, self._saved = resumed or (TrainingState(recipe.to_dict(), seed), {})
        self.model = with_projection(initial or new_model(recipe, len(self.tokenizer), seed), recipe)
        self._measured: list[list[Problem]] | None = None
        torch.manual_seed(seed + 1)
        if self._saved:
            checkpoint.restore(self.model, self._saved)
        self.model.to(self.device)
        self.model.set_attn_implementation(training_attention(self.device))
        self._choose = random.Random(f"stages|{recipe.name}|{seed}")
        if self.state.chosen:
            version, words, gauss = self.state.chosen
            self._choose.setstate((version, tuple(words), gauss))
        self._streams: dict[str, Iterator[list[Problem]]] = {}

    def run(self) -> Any:
        """Run all stages and return the model."""
        self.model.train()
        while self.state.stage < len(self.recipe.stages):
            self._round(self.state.stage)
        return self.model.eval().cpu()

    def _round(self, number: int) -> None:
        """Run a stage once. The next round runs it again where its loss is not below `until` yet."""
        stage, state = self.recipe.stages[number], self.state
        earlier = self.recipe.stages[:number]
        stage_loss = _recipe_loss(stage.loss, self.recipe) or self.loss
        if stage.blocks is not None:
            stage_loss = _loss_after(stage_loss, stage.blocks, self.model)
        steppers = optimizers(self.recipe.optimizer, self.model, stage.learning_rate)
        if self._saved:
            checkpoint.restore_optimizers(steppers, self._saved)
            self._saved = {}
        if state.done + state.update == 0:
            self._keep_reasoner(0, steppers)
        for update in range(state.update, stage.updates):
            for stepper in steppers:
                stepper.param_groups[0]["lr"] = stage.learning_rate * _schedule(
                    update, stage.updates, self.recipe.warm_up
                )
            replayed = earlier and self._choose.random() < self.recipe.replay
            batch = self._batch(self._choose.choice(earlier) if replayed else stage)
            with mixed_precision(self.device):
                loss = stage_loss(self.model, batch, update / stage.updates)
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for stepper in steppers:
                stepper.step()
            if update % _REPORT_EVERY == 0 or update == stage.updates - 1:
                self._report(stage, update, float(loss.detach()))
            state.update = update + 1
            every = self.recipe.checkpoint_every or checkpoint.EVERY
            is_regular = state.update % every == 0 and state.update < stage.updates
            if self.folder and is_regular:
                self._write_checkpoint(steppers)
            self._keep_reasoner(state.done + state.update, steppers)
            if stage.enough and (is_regular or state.update == stage.updates) and self._is_enough(stage):
                break
        following = self._next_stage()
        state.stage, state.round = following, state.round + 1 if following == number else 0
        state.done, state.update, state.mean_loss = state.done + state.update, 0, None
        if self.folder and stage.enough and following < len(self.recipe.stages):
            save_checkpoint(self.model, self.recipe, self.folder, state.done)

    def _next_stage(self) -> int:
        """Return the number of the stage that follows the finished round: the same where it has to run again."""
        stages, state = self.recipe.stages, self.state
        stage = stages[state.stage]
        above = stage.until is not None and state.mean_loss is not None and state.mean_loss > stage.until
        if above and state.round + 1 < stage.rounds:
            return state.stage
        is_stuck = above if stage.until is not None else stage.if_stuck
        following = state.stage + 1
        while following < len(stages) and stages[following].if_stuck and not is_stuck:
            following += 1
        return following

    def _reasoner_loss(self, model: Any, batch: LessonBatch, done: float) -> torch.Tensor:
        return scored_loss(self.curriculum, model, batch) if self.recipe.base else self.curriculum.loss(model, batch)

    def _is_enough(self, stage: Stage) -> bool:
        """Measure on validation problems, and return whether the stage has come as far as it has to."""
        if self._measured is None:
            task = make_task(stage.task or self.recipe.task)
            self._measured = [
                list(islice(task.draws(random.Random(f"measured|{n}"), "val", n), _N_MEASURED))
                for n in range(task.min_steps, task.max_steps + 1)
            ]
        right: list[bool] = []
        for problems in self._measured:
            with mixed_precision(self.device):
                right += share_right(self.curriculum, self.model, self._lessons(problems, stage))
        share = sum(right) / len(right)
        self.state.right.append((stage.name, self.state.update, share))
        return share >= (stage.enough or 1.0)

    def _batch(self, stage: Stage) -> LessonBatch:
        spec = stage.task or self.recipe.task
        if stage.also:
            shares = {**stage.also, spec: 1 - sum(stage.also.values())}
            spec = self._choose.choices(list(shares), list(shares.values()))[0]
        drawn = self.state.drawn
        if spec not in self._streams:
            name = f"{self.recipe.name}|{self.seed}" + (f"|{spec}" if spec != self.recipe.task else "")
            stream = problem_batches(make_task(spec), self.recipe, random.Random(name))
            # A resumed training skips the batches that it trained on before.
            self._streams[spec] = islice(stream, drawn.get(spec, 0), None)
        drawn[spec] = drawn.get(spec, 0) + 1
        return self._lessons(next(self._streams[spec]), stage)

    def _lessons(self, problems: list[Problem], stage: Stage) -> LessonBatch:
        lessons = [self.curriculum.lesson(problem, stage.hidden_steps) for problem in problems]
        return collate(lessons, self.tokenizer).to(self.device)

    def _report(self, stage: Stage, update: int, value: float) -> None:
        if not math.isfinite(value):
            raise CotlensError(
                f"training {self.recipe.name} diverged in stage {stage.name!r} at update {update}: the loss is {value}. "
                f"Lower this stage's learning_rate ({stage.learning_rate}) or use another seed."
            )
        # A batch holds problems of one length, so single losses vary more than the running mean.
        before = self.state.mean_loss
        mean = value if before is None else 0.9 * before + 0.1 * value
        self.state.mean_loss = mean
        self.state.losses.append((stage.name, update, value))
        if self.progress:
            run = f", run {self.state.round + 1}" if self.state.round else ""
            self.progress(stage.name + run, update + 1, stage.updates, mean)

    def _keep_reasoner(self, updates: int, steppers: list[torch.optim.Optimizer]) -> None:
        """Save the reasoner where `keep_every` asks for it after this number of updates."""
        if self.folder is None or not self.keep_every:
            return
        stages, state = self.recipe.stages, self.state
        last = state.update == stages[state.stage].updates and self._next_stage() == len(stages)
        if updates % self.keep_every == 0 or last:
            # Write the checkpoint first: it names the recipe and seed that the folder belongs to.
            self._write_checkpoint(steppers)
            save_checkpoint(self.model, self.recipe, self.folder, updates)

    def _write_checkpoint(self, steppers: list[torch.optim.Optimizer]) -> None:
        assert self.folder is not None
        version, words, gauss = self._choose.getstate()
        self.state.chosen = [version, list(words), gauss]
        checkpoint.write(self.folder, self.state, self.model, steppers)


def _recipe_loss(function: str | None, recipe: Recipe) -> Loss | None:
    """Return the loss that a recipe or stage names as module:function; None where it names none."""
    return resolve_function(function)(recipe) if function else None


def _loss_after(loss: Loss, n_blocks: int, model: Any) -> Loss:
    """Return a loss that is computed after the first blocks of a GPT-2 model, with its final norm and unembedding."""
    if n_blocks > len(model.transformer.h):
        raise UsageError(
            f"expected at most {len(model.transformer.h)} blocks, which the model has, got {n_blocks}; change `blocks` of "
            "the recipe's stage."
        )

    def shallow(model: Any, batch: LessonBatch, done: float) -> torch.Tensor:
        with first_blocks(model, n_blocks):
            return loss(model, batch, done)

    return shallow


def resolve_function(function: str) -> Any:
    """Return the object that `module:function` names; modules of organism training that moved are found too."""
    module, _, attribute = current_path(function).partition(":")
    return getattr(importlib.import_module(module), attribute)


def _schedule(update: int, updates: int, warm_up: int, decay_from: float = 0.5) -> float:
    """Return the factor of the learning rate: linear warm-up, constant, then linear decay."""
    rising = min(1.0, (update + 1) / warm_up)
    done = update / updates
    falling = 1.0 if done < decay_from else max(0.02, (1 - done) / (1 - decay_from))
    return rising * falling
