"""Reasoners whose thoughts carry no text: `continuous`, `pause` and `thinking-tokens`.

They share one loop and differ in what is fed as a thought:

- `continuous` is Coconut (arXiv 2412.06769, section 3): a thought's input embedding is the final-norm state of the
  position before, times a fixed scale where the organism was trained with one, and through a projection where it has one,
  as in CODI (arXiv 2502.21074). With `fed_back = "embedding"` it is the expected embedding of the next token, as in Soft
  Thinking (arXiv 2505.15778).
- `pause` (arXiv 2310.02226) feeds one learned token, so nothing returns to the bottom of the network. On Coconut's own
  curriculum it is the control that shows what the recurrence is for.
- `thinking-tokens` (Heima, arXiv 2501.19201, section 3) feeds one token for each step, `<CoT>(1)` to `<CoT>(K)`. The
  tokens are always the same, so what a thought holds is in its hidden states, which an interpreter reads at the token
  or one position earlier, where the token is predicted (`interp.decoders.verbalizer`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.models.base_model import base_of
from interp.models.cache import run_cached
from interp.models.projection import Projection
from interp.models.unembedding import Unembedding
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.curriculum import Curriculum, LessonBatch
from interp.reasoners.options import CheckedThinkOptions, ThinkOptions
from interp.reasoners.rollouts.rollout import EXTRA_POSITIONS, Rollout
from interp.reasoners.rollouts.writing import force_marker, open_thought, same_token, write_answer
from interp.traces import Channel, TraceSet


class SilentCurriculum(Curriculum, ABC):
    """Trains silent steps as thoughts."""

    @abstractmethod
    def placeholder(self, thought: int) -> str:
        """Return the token that is recorded for a thought, numbered from 1."""

    def fillers(self, hidden: int) -> list[str]:
        """Return the placeholders of the thoughts for `hidden` steps."""
        n_thoughts = self.config.n_thoughts(hidden) if hidden else 0
        return [self.placeholder(k) for k in range(1, n_thoughts + 1)]


class SilentReasoner(Reasoner):
    """Thinks a number of silent thoughts, known beforehand, between the markers."""

    curriculum: SilentCurriculum

    def _thought(self, rollout: Rollout) -> Float[Tensor, "batch d_model"] | None:
        """Return the embedding to feed as the next thought, or None to feed the placeholder's own."""
        return None

    def _expected_positions(self, problems: Sequence[Problem]) -> int:
        thoughts = max(self.config.n_thoughts(problem.n_steps) for problem in problems)
        markers = [i for marker in (self.config.begin, self.config.end) for i in self.vocabulary.marker_ids(marker)]
        return thoughts + len(markers) + min(EXTRA_POSITIONS, self.config.max_answer_tokens)

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._think_silently(rollout, problems, [self.config.n_thoughts(problem.n_steps) for problem in problems])
        force_marker(rollout, self.vocabulary, self.config.end)
        write_answer(rollout, self.vocabulary)

    def _think_silently(self, rollout: Rollout, problems: Sequence[Problem], thoughts: Sequence[int]) -> None:
        """Feed the begin marker and the first `thoughts` thoughts of each row."""
        open_thought(rollout, self.vocabulary, given=[True] * len(rollout.rows))
        totals = [self.config.n_thoughts(problem.n_steps) for problem in problems]
        for k in range(1, max(thoughts) + 1):
            token_id = self.vocabulary.token_id(self.curriculum.placeholder(k))
            rollout.feed(
                channel=Channel.LATENT,
                ids=same_token(rollout, token_id),
                embeds=self._thought(rollout),
                active=None if k <= min(thoughts) else torch.tensor([k <= n for n in thoughts]),
                steps=[_step(k, n, problem.n_steps) for n, problem in zip(totals, problems, strict=True)],
                thought=k,
            )

    def doubts(self, problems: Sequence[Problem]) -> str:
        """Return that problems without steps get no thoughts, where steps decide how many there are."""
        n_without = sum(not self.config.n_thoughts(problem.n_steps) for problem in problems)
        if not n_without or self.config.thoughts is not None:
            return ""
        return (
            f"{self.name} thinks {self.config.thoughts_per_step} thoughts for each step, and {n_without} of {len(problems)} "
            "problems have no steps, so it answers them without a thought; give their steps (field `steps`), or say how "
            "many thoughts there are (--reasoner '{\"thoughts\": 3}')"
        )

    def think_steps(self, problems: Sequence[Problem], n_steps: int, **options: Unpack[ThinkOptions]) -> TraceSet:
        """Think as if every problem had `n_steps` steps at most."""
        if self.config.thoughts is not None:
            return super().think_steps(problems, n_steps, **options)
        fewer = [replace(problem, steps=problem.steps[:n_steps]) for problem in problems]
        return self._think_with(self._think_batch, fewer, CheckedThinkOptions(**options))

    def write_after_thoughts(
        self, problems: Sequence[Problem], thoughts: Sequence[int], *, max_tokens: int, batch_size: int = 256
    ) -> TraceSet:
        """Return what the reasoner writes, greedily, after a few silent thoughts of each problem.

        A reasoner that was trained on Coconut's curriculum has learned to write out the steps that are not silent. So
        what it writes after k thoughts says, in its own words, which step it has reached.

        Args:
            problems: The problems.
            thoughts: The number of silent thoughts of each problem.
            max_tokens: The most tokens that are written.
            batch_size: Problems that are thought about at once.

        Returns:
            One trace for each problem. The text is its visible thought; nothing is answered.

        Raises:
            UsageError: `problems` and `thoughts` differ in length, or a number is negative.

        References:
            Coconut, arXiv 2412.06769, section 3.
        """
        if len(problems) != len(thoughts) or any(n < 0 for n in thoughts):
            raise UsageError(
                f"expected one number of thoughts, 0 or more, for each of {len(problems)} problems, got {len(thoughts)}: "
                f"{list(thoughts)[:8]}."
            )
        write = partial(self._write_after, thoughts=thoughts, max_tokens=max_tokens)
        return self._think_with(write, problems, CheckedThinkOptions(batch_size=batch_size))

    def _write_after(
        self, rollout: Rollout, problems: Sequence[Problem], *, thoughts: Sequence[int], max_tokens: int
    ) -> None:
        self._think_silently(rollout, problems, [thoughts[k] for k in rollout.state.traces.tolist()])
        stops = torch.tensor([self.vocabulary.token_id(t) for t in (self.config.end, self.config.eos) if t])
        writing = torch.ones(len(problems), dtype=torch.bool)
        for number in range(max_tokens):
            ids = rollout.choose()
            writing = writing & ~torch.isin(ids, stops) & (rollout.room > 0)
            if not writing.any():
                return
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=writing, thought=number + 1, sampled=True)


class ContinuousCurriculum(SilentCurriculum):
    """Trains thoughts by feeding states back, with gradients through the whole chain, as in the paper."""

    def placeholder(self, thought: int) -> str:
        """Return the placeholder that marks a continuous thought."""
        return self.config.latent

    def logits(self, model: Any, batch: LessonBatch) -> Float[Tensor, "batch pos vocab"]:
        """Return the logits of a model in training, whose thoughts are fed back."""
        if not batch.n_thoughts:
            return super().logits(model, batch)
        return Unembedding(model)(self.states(model, batch))

    def states(self, model: Any, batch: LessonBatch) -> Float[Tensor, "batch pos d_model"]:
        """Return the final-norm states of a model in training, whose thoughts are fed back."""
        if not batch.n_thoughts:
            return super().states(model, batch)
        embed, unembed, base = model.get_input_embeddings(), Unembedding(model), base_of(model)
        projection = getattr(model, "thought_projection", None)
        first, last = batch.first_thought, batch.first_thought + batch.n_thoughts
        read, cache = self.read(model, batch.ids[:, :first])
        states = [read]
        for _ in range(batch.n_thoughts):
            thought = _fed_back(states[-1][:, -1:], projection, self.config, embed, unembed)
            out, cache = run_cached(base, cache, inputs_embeds=thought)
            states.append(out.last_hidden_state)
        out, _ = run_cached(base, cache, inputs_embeds=embed(batch.ids[:, last:]))
        states.append(out.last_hidden_state)
        return torch.cat(states, dim=1)


class ContinuousReasoner(SilentReasoner):
    """Feeds the state of the position before as a thought."""

    kind = "continuous"
    curriculum_class = ContinuousCurriculum

    def _thought(self, rollout: Rollout) -> Float[Tensor, "batch d_model"]:
        return _fed_back(rollout.last, self.projection, self.config, self.embed, self.unembed)


class PauseCurriculum(SilentCurriculum):
    """Trains thoughts as one learned token."""

    def placeholder(self, thought: int) -> str:
        """Return the pause token."""
        return self.config.pause


class PauseReasoner(SilentReasoner):
    """Feeds the pause token as every thought."""

    kind = "pause"
    curriculum_class = PauseCurriculum


class ThinkingTokenCurriculum(SilentCurriculum):
    """Trains one token for each step. A model has as many of them as its task's longest problem needs."""

    def words(self) -> list[str]:
        """Return the thinking tokens.

        Raises:
            UsageError: The reasoner names no task, whose steps would count them.
        """
        if self.config.task is None:
            raise UsageError(
                "expected a task in the config of a `thinking-tokens` reasoner, got none; set task, whose longest "
                "problem says how many tokens there are."
            )
        most = self.config.n_thoughts(make_task(self.config.task).max_steps)
        return [self.placeholder(k) for k in range(1, most + 1)]

    def placeholder(self, thought: int) -> str:
        """Return thinking token number `thought`."""
        return self.config.thinking_token(thought)


class ThinkingTokenReasoner(SilentReasoner):
    """Feeds thinking token number k as thought k."""

    kind = "thinking-tokens"
    curriculum_class = ThinkingTokenCurriculum


def _fed_back(
    state: Tensor, projection: Projection | None, config: ReasonerConfig, embed: Any, unembed: Any
) -> Float[Tensor, "*places d_model"]:
    """Return what is fed as the next thought after a final-norm state, shape (*places, d_model)."""
    if config.fed_back == "embedding":
        shares = unembed(state).float().softmax(-1)
        # Some models scale their embeddings, so the table is what the module itself returns.
        plain = type(embed) is torch.nn.Embedding
        table = embed.weight if plain else embed(torch.arange(shares.shape[-1], device=state.device))
        return (shares.to(table.dtype) @ table[: shares.shape[-1]]) * config.latent_scale
    return (state if projection is None else projection(state)) * config.latent_scale


def _step(thought: int, n_thoughts: int, n_steps: int) -> int:
    """Return the gold step of a thought, when thoughts are shared out evenly over the steps."""
    return -(-thought * n_steps // n_thoughts) if n_steps else 0
