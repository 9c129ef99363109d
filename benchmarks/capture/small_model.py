"""The model that capture is timed on: GPT-2's architecture, 6 layers of width 256, never trained, 1,000 words.

The vocabulary is small on purpose. Capture needs no unembedding, and with a real vocabulary that alone would make
it look several times faster than a forward pass that has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from interp.models.address import Address, resolve
from interp.models.load import quiet, wrap
from interp.models.tokenizers import word_tokenizer
from interp.problems.base import Problem
from interp.reasoners import Reasoner, ReasonerConfig
from interp.reasoners.silent import ContinuousReasoner
from interp.traces import Trace, TraceSet

LAYERS, WIDTH, WORDS, POSITIONS = 6, 256, 1000, 1024


@dataclass
class SmallModel:
    """The same weights four times over, each loaded as its own library loads it."""

    thoughts: int = 8
    device: str = "cpu"
    layers: ClassVar[int] = LAYERS
    kept: ClassVar[torch.dtype] = torch.float32

    @cached_property
    def tokenizer(self) -> Any:
        return word_tokenizer(f"w{k}" for k in range(WORDS - 7))

    def fresh(self) -> Any:
        """The bare Hugging Face model, with the attention that Hugging Face chooses."""
        from transformers import GPT2Config, GPT2LMHeadModel

        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = GPT2Config(
                n_layer=LAYERS,
                n_embd=WIDTH,
                n_head=8,
                vocab_size=WORDS,
                n_positions=POSITIONS,
                bos_token_id=0,
                eos_token_id=0,
            )
            return GPT2LMHeadModel(config).eval().requires_grad_(False).to(self.device)

    @property
    def wait(self) -> Callable[[], None] | None:
        """What waits for the device's work, where a call returns before it is done."""
        return torch.cuda.synchronize if torch.device(self.device).type == "cuda" else None

    def blocks(self, model: Any) -> Any:
        """The blocks of such a bare model, or of what another library made of it."""
        return model.transformer.h

    @cached_property
    def bare(self) -> Any:
        return self.fresh()

    @cached_property
    def reasoner(self) -> Reasoner:
        config = ReasonerConfig(
            kind="continuous", begin=None, end=None, thoughts=self.thoughts, latent_scale=0.1, max_answer_tokens=1
        )
        model = wrap(self.fresh(), self.tokenizer)
        return ContinuousReasoner(model, self.tokenizer, config, name="small model", weights="random")

    @cached_property
    def addresses(self) -> list[Address]:
        return resolve(self.reasoner.model, "resid_post")

    def ids(self, batch: int, length: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(7, WORDS, (batch, length), generator=generator).to(self.device)

    def problems(self, batch: int, length: int) -> list[Problem]:
        words = [" ".join(self.tokenizer.convert_ids_to_tokens(row)) for row in self.ids(batch, length).tolist()]
        return [
            Problem(f"p{k}", "chain", text, "0", (), f"p{k}", "test", text, meta={"start": "0", "operations": []})
            for k, text in enumerate(words)
        ]

    def traces(self, batch: int, length: int, seed: int = 0) -> TraceSet:
        """Traces of tokens only, every position of them a visible thought, but for the first."""
        problems = self.problems(batch, 1)
        nothing = [float("nan")] * length
        return TraceSet(
            [
                Trace(
                    id=k,
                    problem=problem,
                    reasoner="small model",
                    token_ids=row,
                    tokens=self.tokenizer.convert_ids_to_tokens(row),
                    channel=["prompt", *["thought"] * (length - 1)],
                    step=[0] * length,
                    thought=list(range(length)),
                    entropy=nothing,
                    logprob=nothing,
                    text="",
                    answer="",
                    correct=False,
                )
                for k, (problem, row) in enumerate(zip(problems, self.ids(batch, length, seed).tolist(), strict=True))
            ]
        )
