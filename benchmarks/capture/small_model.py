"""The model that capture is timed on: an untrained GPT-2 with 6 layers of width 256 and 1,000 words.

The vocabulary is small on purpose. Capture skips the unembedding, and with a real vocabulary that alone would make it
several times faster than a full forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from interp.models.address import Address, resolve
from interp.models.tokenizers import word_tokenizer
from interp.models.wrapping import quiet, wrap
from interp.problems.base import Problem
from interp.reasoners import Reasoner, ReasonerConfig
from interp.reasoners.silent import ContinuousReasoner
from interp.traces import Trace, TraceSet

LAYERS, WIDTH, WORDS, POSITIONS = 6, 256, 1000, 1024


@dataclass
class SmallModel:
    """The same weights, loaded as each library loads them."""

    thoughts: int = 8
    device: str = "cpu"
    layers: ClassVar[int] = LAYERS
    kept: ClassVar[torch.dtype] = torch.float32

    @cached_property
    def tokenizer(self) -> Any:
        """A tokenizer of 1,000 words."""
        return word_tokenizer(f"w{k}" for k in range(WORDS - 7))

    def fresh(self) -> Any:
        """Return the bare Hugging Face model, with its default attention."""
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
        """A function that waits for the device, where calls return before their work is done."""
        return torch.cuda.synchronize if torch.device(self.device).type == "cuda" else None

    def blocks(self, model: Any) -> Any:
        """Return the blocks of a bare model or of another library's wrapper."""
        return model.transformer.h

    @cached_property
    def bare(self) -> Any:
        """The bare Hugging Face model."""
        return self.fresh()

    @cached_property
    def reasoner(self) -> Reasoner:
        """The model as a continuous reasoner."""
        config = ReasonerConfig(
            kind="continuous", begin=None, end=None, thoughts=self.thoughts, latent_scale=0.1, max_answer_tokens=1
        )
        model = wrap(self.fresh(), self.tokenizer)
        return ContinuousReasoner(model, self.tokenizer, config, name="small model", weights="random")

    @cached_property
    def addresses(self) -> list[Address]:
        """The output of every block."""
        return resolve(self.reasoner.model, "resid_post")

    def ids(self, batch: int, length: int, seed: int = 0) -> torch.Tensor:
        """Return random token ids, shape (batch, length)."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(7, WORDS, (batch, length), generator=generator).to(self.device)

    def problems(self, batch: int, length: int) -> list[Problem]:
        """Return problems whose questions are random words."""
        words = [" ".join(self.tokenizer.convert_ids_to_tokens(row)) for row in self.ids(batch, length).tolist()]
        return [
            Problem(f"p{k}", "chain", text, "0", (), f"p{k}", "test", text, meta={"start": "0", "operations": []})
            for k, text in enumerate(words)
        ]

    def traces(self, batch: int, length: int, seed: int = 0) -> TraceSet:
        """Return traces of random tokens; every position but the first is a visible thought."""
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
