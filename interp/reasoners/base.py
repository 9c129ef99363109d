"""What every reasoner can do: think about problems, and replay its traces in one masked batched pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.problems import task as make_task
from interp.problems.base import Problem, Task, checked_seed
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.interventions import Intervention, Position, intervening
from interp.reasoners.rollout import Rollout, Row
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReplayBatch:
    """The batch that a replay hook is looking at: which traces, and which cells are real."""

    traces: Int[np.ndarray, " batch"]
    real: Bool[Tensor, "batch pos"]


ReplayHook = Callable[[Float[Tensor, "batch pos d"], ReplayBatch], None]


class Reasoner(ABC):
    """A model together with the way it thinks. Subclasses say only what a thought is (`_think_batch`).

    `model` carries TransformerLens hooks under their usual names; `base` is the same model without its
    unembedding, `embed` and `unembed` its two ends.
    """

    kind: str

    def __init__(
        self,
        model: TransformerBridge,
        tokenizer: PreTrainedTokenizerBase,
        config: ReasonerConfig,
        *,
        name: str,
        weights: str,
    ) -> None:
        self.model = model
        self.tokenizer: Any = tokenizer
        self.config = config
        self.name = name
        self.weights = weights
        hf: Any = model.original_model
        self.base: Any = hf.base_model
        self.embed: Any = hf.get_input_embeddings()
        self.unembed: Any = hf.get_output_embeddings()
        self.device = next(hf.parameters()).device
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.max_positions: int | None = getattr(hf.config, "max_position_embeddings", None)

    @property
    def task(self) -> Task:
        """The task that this reasoner was made for. Raises `UsageError` where it names none."""
        if self.config.task is None:
            raise UsageError(f"{self.name} names no task in its reasoner.json; give the problems by hand.")
        return make_task(self.config.task)

    def token_id(self, token: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self.tokenizer.unk_token_id:
            raise UsageError(f"{self.name}'s tokenizer has no token {token!r}, which its reasoner.json names.")
        return found

    def think(
        self,
        problems: Sequence[Problem],
        *,
        batch_size: int = 64,
        seed: int = 0,
        interventions: Sequence[Intervention] = (),
        padding_side: str = "left",
        progress: Progress | None = None,
    ) -> TraceSet:
        """One trace for each problem, greedily and in order.

        Interventions name traces by their place in `problems`. Raises `UsageError` on no problems, on
        words that the tokenizer does not know, and on questions longer than the model's positions.
        """
        checked_count("batch_size", batch_size)
        checked_seed(seed)
        problems = list(problems)
        if not problems:
            raise UsageError("there are no problems to think about; generate at least one.")
        prompts = [self._prompt(problem) for problem in problems]
        traces: list[Trace] = []
        where = Position()
        with intervening(self.model, interventions, where):
            for start in range(0, len(problems), batch_size):
                batch = range(start, min(start + batch_size, len(problems)))
                rollout = Rollout(self, [prompts[k] for k in batch], batch, where=where, padding_side=padding_side)
                self._think_batch(rollout, [problems[k] for k in batch])
                traces += [self._trace(k, problems[k], row, seed) for k, row in zip(batch, rollout.rows, strict=True)]
                if progress:
                    progress(len(traces), len(problems))
        return TraceSet(traces)

    @torch.no_grad()
    def replay(
        self,
        traces: Sequence[Trace],
        *,
        hooks: Mapping[str, ReplayHook],
        batch_size: int = 64,
        interventions: Sequence[Intervention] = (),
        progress: Progress | None = None,
    ) -> None:
        """Run the finished traces through the model once, in masked batches, and show hooks what passes.

        Continuous thoughts are fed as they were thought, so an intervention changes what comes after it in
        the same pass but not which thoughts are fed. Interventions name traces by their place in `traces`.
        """
        checked_count("batch_size", batch_size)
        where = Position()
        now: dict[str, ReplayBatch] = {}

        def watch(action: ReplayHook) -> Callable[..., None]:
            return lambda activations, hook=None: action(activations, now["batch"])

        watching = [(name, watch(action)) for name, action in hooks.items()]
        with intervening(self.model, interventions, where), self.model.hooks(fwd_hooks=watching):
            for start in range(0, len(traces), batch_size):
                batch = range(start, min(start + batch_size, len(traces)))
                inputs, real = self._replay_inputs([traces[k] for k in batch])
                order = torch.cumsum(real.long(), dim=1) - 1
                where.traces = now_traces = np.asarray(batch, dtype=np.int64)
                where.positions = torch.where(real, order, -1).cpu().numpy()
                now["batch"] = ReplayBatch(now_traces, real)
                self.base(
                    inputs_embeds=inputs,
                    attention_mask=real.long(),
                    position_ids=order.clamp(min=0),
                    use_cache=False,
                )
                if progress:
                    progress(batch.stop, len(traces))

    @abstractmethod
    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        """Take a rollout that has read its prompts to the end of the answers."""

    def _prompt(self, problem: Problem) -> list[int]:
        ids = self.tokenizer(problem.question, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UsageError(f"problem {problem.id} has an empty question.")
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in ids:
            word = next((w for w in problem.question.split() if self._is_unknown(w)), problem.question)
            raise UsageError(
                f"{self.name} does not know {word!r} in the question {problem.question!r}. "
                f"It was made for task {self.config.task!r}."
            )
        room = (self.max_positions or 10**9) - len(ids) - self.config.n_thoughts(problem.n_steps) - 3
        if room < 0:
            raise UsageError(
                f"the question {problem.question[:60]!r} needs more than the {self.max_positions} positions of {self.name}."
            )
        return ids

    def _is_unknown(self, word: str) -> bool:
        return self.tokenizer.convert_tokens_to_ids(word) == self.tokenizer.unk_token_id

    def _mark(self, rollout: Rollout, token: str | None, active: Tensor | None = None) -> None:
        """Force a marker token, where the reasoner has one."""
        if token is not None:
            rollout.feed(channel=Channel.SPECIAL, ids=self._constant(token, rollout), active=active)

    def _constant(self, token: str, rollout: Rollout) -> Int[Tensor, " batch"]:
        return torch.full((len(rollout.rows),), self.token_id(token), device=self.device)

    def _answer(self, rollout: Rollout) -> None:
        """Write the answer greedily until the end-of-sequence token."""
        eos = self.token_id(self.config.eos)
        writing = torch.ones(len(rollout.rows), dtype=torch.bool, device=self.device)
        for _ in range(self.config.max_answer_tokens):
            ids = rollout.logits.argmax(-1)
            writing = writing & (ids != eos) & (rollout.room > 0)
            if not writing.any():
                return
            rollout.feed(channel=Channel.ANSWER, ids=ids, active=writing, sampled=True)

    def _trace(self, k: int, problem: Problem, row: Row, seed: int) -> Trace:
        tokens = self.tokenizer.convert_ids_to_tokens(row.token_ids)
        written = [t for t, c in zip(row.token_ids, row.channel, strict=True) if c == Channel.THOUGHT]
        answered = [t for t, c in zip(row.token_ids, row.channel, strict=True) if c == Channel.ANSWER]
        thoughts = self.tokenizer.decode(written) if written else ""
        answer = self.tokenizer.decode(answered).strip() if answered else ""
        text = f"{thoughts} {answer}".strip()
        correct = bool(answer) and make_task(problem.task).verify(problem, text).answer
        return Trace(
            id=k,
            problem=problem,
            reasoner=self.name,
            token_ids=row.token_ids,
            tokens=tokens,
            channel=[str(c) for c in row.channel],
            step=row.step,
            thought=row.thought,
            entropy=row.entropy,
            logprob=row.logprob,
            text=text,
            answer=answer,
            correct=correct,
            seed=seed,
            latents=torch.stack(row.latents).numpy() if row.latents else None,
        )

    def _replay_inputs(self, traces: Sequence[Trace]) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
        width = max(map(len, traces))
        ids = torch.full((len(traces), width), self.pad_id)
        real = torch.zeros(len(traces), width, dtype=torch.bool)
        for k, trace in enumerate(traces):
            ids[k, : len(trace)] = torch.tensor(trace.token_ids)
            real[k, : len(trace)] = True
        inputs = self.embed(ids.to(self.device)).clone()
        for k, trace in enumerate(traces):
            if trace.latents is not None:
                at = [c for c, channel in enumerate(trace.channel) if channel == Channel.LATENT]
                inputs[k, at] = torch.as_tensor(trace.latents).to(inputs)
        return inputs, real.to(self.device)

    def describe(self) -> dict[str, Any]:
        """What a store records about who thought: name, kind, weights and configuration."""
        return {"name": self.name, "kind": self.kind, "weights": self.weights, "config": self.config.model_dump()}
