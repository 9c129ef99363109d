"""The loop over batches of problems: prompts, hooks, interventions and monitors of one call of `think`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

from torch import Tensor

from interp.errors import StoreError, UsageError
from interp.models.cache import accepts_key_mask, gaps_matter, shares_prefixes, uses_cache
from interp.models.fast_model import fast_model
from interp.problems.base import Problem
from interp.reasoners.interventions import intervening
from interp.reasoners.monitor import MonitorRun
from interp.reasoners.network import Network
from interp.reasoners.options import CheckedThinkOptions, LoopHook
from interp.reasoners.replayer import Replayer
from interp.reasoners.rollouts.batch import BatchState, Row
from interp.reasoners.rollouts.measures import NonFiniteError
from interp.reasoners.rollouts.prefix import OVER_PAIRS, SharedPrefix, first_edited, read_prefix, shared_length
from interp.reasoners.rollouts.queue import QueuedRollout
from interp.reasoners.rollouts.reporting import writing_report
from interp.reasoners.rollouts.rollout import EXTRA_POSITIONS, Rollout, RolloutOptions
from interp.reasoners.vocabulary import Vocabulary
from interp.runtime.progress import Progress
from interp.traces import Channel

# Batches whose problems are in one queue. Traces are kept after each queue, so longer ones lose more when killed.
_BATCHES_AT_ONCE = 4

#: Thinks about a batch, from the prompts that the rollout has read to the end of the answers.
ThinkBatch = Callable[[Rollout, Sequence[Problem]], None]


class Thinker:
    """Runs a way of thinking over problems, batch by batch.

    Args:
        network: The model and its ends.
        vocabulary: The reasoner's vocabulary.
        replayer: The reasoner's replayer, which finds the address at which a row is not finite.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, replayer: Replayer) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self._replayer = replayer

    def batches(
        self,
        think_batch: ThinkBatch,
        problems: Sequence[Problem],
        options: CheckedThinkOptions,
        *,
        start: int,
        expected_positions: Callable[[Sequence[Problem]], int],
        replaces_rows: bool,
        progress: Progress | None = None,
    ) -> Iterator[list[tuple[int, Row]]]:
        """Yield the number of each problem and its finished row, batch after batch.

        Args:
            think_batch: The way of thinking.
            problems: The problems.
            options: The options of `think`.
            start: Number of the first problem to think about.
            expected_positions: About how many positions a batch of problems takes beyond its prompts, to size buffers.
            replaces_rows: Whether `think_batch` gives finished rows to the problems that wait, and takes them out of the
                batch where none waits. Several batches are yielded together then.
            progress: Is told what is written within a batch, where it takes that (`WritingProgress`).

        Raises:
            UsageError: There are no problems, or a question cannot be read.
            StoreError: A state or a logit is not finite.
        """
        if not problems:
            raise UsageError("expected at least one problem to think about, got none; generate one.")
        # All of them, so that what they share does not depend on where thinking goes on.
        prompts = [self.vocabulary.prompt_ids(problem) for problem in problems]
        config = self.vocabulary.config
        n_new = max(map(config.n_thoughts, (problem.n_steps for problem in problems)))
        n_new += config.max_thought_tokens + config.max_answer_tokens + EXTRA_POSITIONS
        batch_size = self._batch_size(prompts[start:], options.batch_size, n_new)
        report = writing_report(
            progress,
            len(problems),
            start=start,
            most_tokens=max(config.most_tokens(problem.n_steps) for problem in problems),
            most_answer_tokens=config.max_answer_tokens,
        )
        state = BatchState()
        runs = [MonitorRun(monitor, self.vocabulary, state) for monitor in options.monitors]
        monitor_hooks = [hook for run in runs for hook in run.hooks()]
        hooks = {name: partial(_call_loop_hook, name, hook, state) for name, hook in (options.hooks or {}).items()}
        fast = not options.interventions and not runs
        measured = fast_model(self.network.model)
        copy = measured if fast else None
        rereads = not uses_cache(self.network.base_under(hooks, fast=fast))
        common = RolloutOptions(
            pad_id=self.vocabulary.pad_id,
            sampler=options.sampler,
            padding_side=options.padding_side,
            shares_position=self._replayer.shares_position,
            # Finding out how the model takes masks runs it, so it comes before any hook is on.
            masks_by_key=copy is not None and not rereads and accepts_key_mask(copy.base),
            closes_gaps=batch_size > 1
            and (rereads or gaps_matter(self.network.base if measured is None else measured.base)),
            rereads=rereads,
            prefix=self._prefix(prompts, options, fast=fast),
            prefix_hooks=options.hooks or {},
            after_pass=[*(run.inject_text for run in runs), *([] if report is None else [report])],
        )
        queues = replaces_rows and batch_size > 1 and copy is not None and not hooks and shares_prefixes(copy.base)
        n_at_once = batch_size * (_BATCHES_AT_ONCE if queues else 1)
        for first in range(start, len(problems), n_at_once):
            numbers = range(first, min(first + n_at_once, len(problems)))
            batch = [problems[k] for k in numbers]
            with_row, waiting = numbers[:batch_size], numbers[batch_size:]
            new_rollout = partial(QueuedRollout, waiting=[(k, prompts[k]) for k in waiting]) if queues else Rollout
            with (
                intervening(self.network.model, options.interventions, state, monitor_hooks),
                self.network.hooked(hooks, fast=fast) as base,
            ):
                rollout = new_rollout(
                    self.network,
                    base,
                    [prompts[k] for k in with_row],
                    with_row,
                    state=state,
                    options=replace(common, extra_positions=expected_positions(batch)),
                )
                error = _think(think_batch, rollout, batch)
            if error is not None:
                raise self._refusal(error, rollout, changed=not fast)
            finished = rollout.finished if isinstance(rollout, QueuedRollout) else []
            if report is not None:
                report.finish([*rollout.replaced, *rollout.rows])
            yield sorted([*finished, *zip(state.traces.tolist(), rollout.rows, strict=True)], key=itemgetter(0))

    def _prefix(self, prompts: Sequence[list[int]], options: CheckedThinkOptions, *, fast: bool) -> SharedPrefix | None:
        """Read the beginning that all prompts share, where that pays and nothing is changed or watched in it."""
        if any(Channel.PROMPT in monitor.channels for monitor in options.monitors):
            return None
        n = shared_length(self.network, prompts, first_edited(options.interventions))
        return read_prefix(self.network, prompts[0][:n], hooks=list(options.hooks or {}), fast=fast) if n else None

    def _batch_size(self, prompts: Sequence[list[int]], asked_for: int, n_new: int) -> int:
        """Return how many problems are thought about at once: one, with a warning, where the model's rows cannot mix."""
        reason = self.network.runs_alone(max(map(len, prompts), default=0) + n_new)
        if reason is None or min(asked_for, len(prompts)) <= 1:
            return asked_for
        warnings.warn(f"{self.vocabulary.name} {reason}, so it thinks about one problem at a time.", stacklevel=2)
        return 1

    def _refusal(self, error: NonFiniteError, rollout: Rollout, *, changed: bool) -> StoreError:
        """Return the message for a row that is not finite; `changed` says that edits or monitors were on the model."""
        place = None if changed else self._replayer.first_nonfinite(rollout.rows[error.row], error.last)
        address, position = place or (None, error.position)
        where = "a state or its logits are" if address is None else f"{address} is"
        dtype = str(self.network.embed.weight.dtype).removeprefix("torch.")
        advice = "check the weights" if dtype == "float32" else "load it in another dtype (--model-dtype float32)"
        return StoreError(
            f"expected finite numbers from {self.vocabulary.name} in {dtype}, got others in trace "
            f"{rollout.state.traces[error.row]} at position {position}: {where} not finite there; {advice}."
        )


def _think(think_batch: ThinkBatch, rollout: Rollout, problems: Sequence[Problem]) -> NonFiniteError | None:
    """Think about a batch, and return the error of the earliest position that is not finite, if there is one."""
    try:
        think_batch(rollout, problems)
        rollout.settle()
    except NonFiniteError as error:
        try:
            rollout.settle()  # the thoughts are needed to find the layer
        except NonFiniteError as earlier:
            return min(error, earlier, key=lambda one: one.position)
        return error
    return None


def _call_loop_hook(name: str, action: LoopHook, state: BatchState, activations: Tensor, hook: Any = None) -> None:
    if state.n_reread:
        dim = 2 if name.endswith(OVER_PAIRS) else 1
        activations = activations.narrow(dim, state.n_reread, activations.shape[dim] - state.n_reread)
    action(activations, state.new_columns())
