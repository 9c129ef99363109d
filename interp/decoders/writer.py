"""A small GPT-2 over whole words that reads a prompt ending in a latent, and writes words after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.decoders.base import RankedTexts, pad_ranking
from interp.runtime.hardware import training_attention

PAD, EOS, UNKNOWN, THOUGHT = "<pad>", "<eos>", "<unk>", "<thought>"
SPECIAL = (PAD, EOS, UNKNOWN, THOUGHT)
PAD_ID = 0
_PAD, _EOS, _UNKNOWN, _THOUGHT = range(4)
_IGNORED = -100  # the label that cross-entropy leaves out


class WriterOptions(TypedDict, total=False):
    """Sizes of a writer, and its training."""

    d_model: int
    n_layers: int
    n_heads: int
    updates: int
    batch_size: int
    learning_rate: float


class WriterVocabulary:
    """A vocabulary of whole words.

    Args:
        prompt_words: Words that prompts may use.
        text_words: Words that can be written; prompts may use them too.
    """

    def __init__(self, prompt_words: Sequence[str], text_words: Sequence[str]) -> None:
        self.prompt_words, self.text_words = list(dict.fromkeys(prompt_words)), list(dict.fromkeys(text_words))
        self.all = list(dict.fromkeys([*SPECIAL, *self.prompt_words, *self.text_words]))
        self._ids = {word: k for k, word in enumerate(self.all)}

    def __len__(self) -> int:
        return len(self.all)

    def ids(self, words: Sequence[str]) -> list[int]:
        """Return the id of each word; that of `<unk>` for an unknown one."""
        return [self._ids.get(word, _UNKNOWN) for word in words]

    def text(self, ids: Sequence[int]) -> str:
        """Return the words before the end of the text."""
        end = next((k for k, i in enumerate(ids) if i in (_EOS, _PAD)), len(ids))
        return " ".join(self.all[i] for i in ids[:end])

    @property
    def never_written(self) -> list[int]:
        """The ids that cannot be written."""
        return sorted(set(range(len(self))) - {_EOS, *self.ids(self.text_words)})


class Writer(nn.Module):
    """GPT-2 over whole words. The last position of a prompt is a latent, projected linearly, or a learned placeholder.

    Prompts are padded on the left and texts on the right. Masks and positions are always passed, so a row gives the same
    in any batch.

    Args:
        words: The vocabulary.
        d_latent: Width of the latents; None for a writer without them.
        d_model: Width of the model.
        n_layers: Number of layers.
        n_heads: Number of attention heads.
        positions: Longest prompt and text together, in words.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        words: WriterVocabulary,
        d_latent: int | None,
        *,
        d_model: int,
        n_layers: int,
        n_heads: int,
        positions: int,
    ) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        self.words = words
        self.positions = positions
        config: Any = GPT2Config(  # type: ignore[call-arg]
            vocab_size=len(words),
            n_positions=positions,
            n_embd=d_model,
            n_layer=n_layers,
            n_head=n_heads,
            activation_function="relu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=_EOS,
            attn_implementation=training_attention(torch.device("cpu")),
        )
        self.gpt2 = GPT2Model(config)
        self.project = None if d_latent is None else nn.Linear(d_latent, d_model)
        self.register_buffer("mean", torch.zeros(d_latent or 0))
        self.register_buffer("scale", torch.ones(d_latent or 0))
        with torch.no_grad():
            self.gpt2.wte.weight.normal_(0, 0.1)
            self.gpt2.wpe.weight.copy_(_sinusoids(positions, d_model))
            if self.project is not None:
                self.project.weight.normal_(0, 0.1 / math.sqrt(d_latent or 1))
                self.project.bias.zero_()

    @property
    def device(self) -> torch.device:
        """The device of the writer's tensors."""
        return self.mean.device

    def standardise(self, latents: Float[Tensor, "rows d_latent"]) -> None:
        """Take mean and spread of each latent dimension from training rows."""
        self.mean.copy_(latents.mean(dim=0))
        self.scale.copy_(latents.std(dim=0).clamp(min=1e-6))

    def prompt_ids(self, prompts: Sequence[Sequence[str]]) -> Int[Tensor, "rows prompt"]:
        """Return prompts as ids with the placeholder at their end, padded on the left."""
        rows = [[*self.words.ids(prompt), _THOUGHT] for prompt in prompts]
        width = max(map(len, rows))
        return torch.tensor([[_PAD] * (width - len(row)) + row for row in rows], device=self.device)

    def text_ids(self, texts: Sequence[str]) -> Int[Tensor, "rows text"]:
        """Return texts as ids with their end marked, padded on the right."""
        rows = [[*self.words.ids(text.split()), _EOS] for text in texts]
        width = max(map(len, rows))
        return torch.tensor([row + [_PAD] * (width - len(row)) for row in rows], device=self.device)

    def forward(
        self,
        prompt: Int[Tensor, "rows prompt"],
        latents: Float[Tensor, "rows d_latent"] | None,
        text: Int[Tensor, "rows text"],
    ) -> Float[Tensor, "rows next vocab"]:
        """Return logits over the word after the prompt and after each word of `text`."""
        ids = torch.cat([prompt, text], dim=1)
        last = prompt.shape[1] - 1
        embeds = nn.functional.embedding(ids, self.table)
        if self.project is not None and latents is not None:
            is_latent = torch.arange(ids.shape[1], device=ids.device)[None, :, None] == last
            projected = self.project((latents - self.mean) / self.scale)[:, None].to(embeds)
            embeds = torch.where(is_latent, projected, embeds)
        mask = torch.ones_like(ids)
        mask[:, : last + 1] = prompt != _PAD
        positions = (torch.cumsum(mask, dim=1) - 1).clamp(min=0)
        states = self.states(embeds, mask, positions)
        return states[:, last:] @ self.unembedding.T.to(states)

    @property
    def table(self) -> Float[Tensor, "vocab d_model"]:
        """The embeddings of all words."""
        return self.gpt2.wte.weight

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """The output embeddings of all words."""
        return self.table

    def states(self, embeds: Tensor, mask: Tensor, positions: Tensor) -> Float[Tensor, "rows pos d_model"]:
        """Return the final states.

        Args:
            embeds: Embeddings, shape (rows, pos, d_model).
            mask: 0 at padding, shape (rows, pos).
            positions: Position of each embedding, shape (rows, pos).
        """
        return self.gpt2(inputs_embeds=embeds, attention_mask=mask, position_ids=positions).last_hidden_state

    def saved_tensors(self) -> dict[str, Tensor]:
        """Return the tensors to save, by name in the state dict."""
        return {name: value.detach().contiguous() for name, value in self.state_dict().items()}

    def loss(
        self, prompt: Int[Tensor, "rows prompt"], latents: Tensor | None, text: Int[Tensor, "rows text"]
    ) -> Float[Tensor, ""]:
        """Return the mean next-word loss over the texts and their ends."""
        logits = self(prompt, latents, text[:, :-1]).float()
        labels = text.masked_fill(text == _PAD, _IGNORED)
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)

    @torch.no_grad()
    def candidates(
        self,
        prompt: Int[Tensor, "rows prompt"],
        latents: Float[Tensor, "rows d_latent"] | None,
        *,
        beams: int,
        longest: int,
    ) -> tuple[list[list[str]], Float[Tensor, "rows beams"]]:
        """Return the best texts of each row by beam search, best first, with their probabilities.

        Args:
            prompt: Ids of the prompts (`prompt_ids`).
            latents: The latent of each row; may lie on another device than the writer.
            beams: Number of texts; one beam is greedy.
            longest: Longest text, in words.

        Returns:
            Texts, and probabilities on the CPU.
        """
        n, never_written = len(prompt), self.words.never_written
        latents = None if latents is None else latents.to(self.device)
        written = torch.zeros(n, 1, 0, dtype=torch.long, device=prompt.device)
        scores = torch.zeros(n, 1, device=prompt.device)
        ended = torch.zeros(n, 1, dtype=torch.bool, device=prompt.device)
        for _ in range(longest + 1):
            width = written.shape[1]
            repeated = None if latents is None else latents.repeat_interleave(width, dim=0)
            logits = self(prompt.repeat_interleave(width, dim=0), repeated, written.flatten(0, 1))[:, -1].float()
            logits[:, never_written] = -torch.inf
            log_p = torch.log_softmax(logits, dim=-1).view(n, width, -1)
            # Padding after the end of a text has log-probability 0.
            log_p[ended] = -torch.inf
            log_p[..., _PAD] = torch.where(ended, 0.0, log_p[..., _PAD])
            total = (scores[..., None] + log_p).flatten(1)
            scores, flat = total.topk(min(beams, total.shape[1]), dim=1)
            beam, word = flat // len(self.words), flat % len(self.words)
            written = torch.cat(
                [written.gather(1, beam[..., None].expand(-1, -1, written.shape[2])), word[..., None]], 2
            )
            ended = ended.gather(1, beam) | (word == _EOS)
            if ended.all():
                break
        return [[self.words.text(ids) for ids in row] for row in written.tolist()], scores.exp().cpu()


def ranked_candidates(candidates: Sequence[tuple[Sequence[str], np.ndarray]], top_k: int) -> RankedTexts:
    """Return the texts and probabilities of a beam search as ranked texts; those of probability 0 become ""."""
    texts = [[text if p > 0 else "" for text, p in zip(*row, strict=True)] for row in candidates]
    return pad_ranking(texts, [scores for _, scores in candidates], top_k)


def _sinusoids(positions: int, width: int, std: float = 0.1) -> Float[Tensor, "pos d_model"]:
    position = torch.arange(positions).float()[:, None]
    rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(1000.0) / width))
    table = torch.zeros(positions, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
    return table * (std / table.std())
