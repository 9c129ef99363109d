"""The loop over batches of problems: prompts, hooks, interventions and monitors of one call of `think`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from interp.errors import UsageError
from interp.models.cache import accepts_key_mask
from interp.models.fast_model import fast_model
from interp.problems.base import Problem
from interp.reasoners.batch import BatchState, Row
from interp.reasoners.interventions import intervening
from interp.reasoners.monitor import MonitorRun
from interp.reasoners.network import Network
from interp.reasoners.options import CheckedThinkOptions, LoopHook
from interp.reasoners.rollout import Rollout, RolloutOptions
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import Channel

#: Thinks about a batch, from the prompts that the rollout has read to the end of the answers.
ThinkBatch = Callable[[Rollout, Sequence[Problem]], None]


class Thinker:
    """Runs a way of thinking over problems, batch by batch.

    Args:
        network: The model and its ends.
        vocabulary: The reasoner's vocabulary.
        shares_position: Channels whose positions share the position id of the next position of another channel.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, shares_position: frozenset[Channel]) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.shares_position = shares_position

    def batches(
        self,
        think_batch: ThinkBatch,
        problems: Sequence[Problem],
        options: CheckedThinkOptions,
        *,
        start: int = 0,
        expected_positions: Callable[[Sequence[Problem]], int],
    ) -> Iterator[list[tuple[int, Row]]]:
        """Yield the number of each problem and its finished row, batch after batch.

        Args:
            think_batch: The way of thinking.
            problems: The problems.
            options: The options of `think`.
            start: Number of the first problem to think about.
            expected_positions: About how many positions a batch of problems takes beyond its prompts, to size buffers.

        Raises:
            UsageError: There are no problems, a question cannot be read, or the padding side does not suit the model.
        """
        if not problems:
            raise UsageError("expected at least one problem to think about, got none; generate one.")
        prompts = [self.vocabulary.prompt_ids(problem) for problem in problems[start:]]
        self._check_padding(prompts, options.padding_side)
        state = BatchState()
        runs = [MonitorRun(monitor, self.vocabulary, state) for monitor in options.monitors]
        monitor_hooks = [hook for run in runs for hook in run.hooks()]
        hooks = {name: partial(_call_loop_hook, hook, state) for name, hook in (options.hooks or {}).items()}
        fast = not options.interventions and not runs
        copy = fast_model(self.network.model) if fast else None
        # Finding out how the copy takes masks runs it, so it comes before any hook is on.
        by_key = copy is not None and accepts_key_mask(copy.base)
        for first in range(start, len(problems), options.batch_size):
            numbers = range(first, min(first + options.batch_size, len(problems)))
            batch = [problems[k] for k in numbers]
            rollout_options = RolloutOptions(
                pad_id=self.vocabulary.pad_id,
                sampler=options.sampler,
                padding_side=options.padding_side,
                shares_position=self.shares_position,
                extra_positions=expected_positions(batch),
                masks_by_key=by_key,
                after_pass=[run.inject_text for run in runs],
            )
            with (
                intervening(self.network.model, options.interventions, state, monitor_hooks),
                self.network.hooked(hooks, fast=fast) as base,
            ):
                rollout = Rollout(
                    self.network,
                    base,
                    [prompts[k - start] for k in numbers],
                    numbers,
                    state=state,
                    options=rollout_options,
                )
                think_batch(rollout, batch)
                rollout.settle()
            yield list(zip(numbers, rollout.rows, strict=True))

    def _check_padding(self, prompts: Sequence[list[int]], side: str) -> None:
        window = self.network.window
        if side == "right" and window is not None and len(set(map(len, prompts))) > 1:
            raise UsageError(
                f"{self.vocabulary.name} attends to windows of {window} columns, in which padding after a prompt would "
                "take the place of text; pad on the left."
            )


def _call_loop_hook(action: LoopHook, state: BatchState, activations: Tensor, hook: Any = None) -> None:
    action(activations, state)
