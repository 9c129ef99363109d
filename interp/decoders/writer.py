"""A small GPT-2 that reads a prompt ending in one free embedding, and writes words after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import CotlensError
from interp.runtime.hardware import mixed_precision, training_attention
from interp.runtime.progress import Progress

PAD, EOS, UNKNOWN, THOUGHT = "<pad>", "<eos>", "<unk>", "<thought>"
SPECIAL = (PAD, EOS, UNKNOWN, THOUGHT)
_PAD, _EOS, _UNKNOWN, _THOUGHT = range(4)
_NOTHING = -100  # what cross-entropy leaves out


class Vocabulary:
    """A vocabulary of whole words. Prompts may use every word, `spoken` are those that can be written."""

    def __init__(self, heard: Sequence[str], spoken: Sequence[str]) -> None:
        self.heard, self.spoken = list(dict.fromkeys(heard)), list(dict.fromkeys(spoken))
        self.all = list(dict.fromkeys([*SPECIAL, *self.heard, *self.spoken]))
        self._ids = {word: k for k, word in enumerate(self.all)}

    def __len__(self) -> int:
        return len(self.all)

    def ids(self, words: Sequence[str]) -> list[int]:
        return [self._ids.get(word, _UNKNOWN) for word in words]

    def text(self, ids: Sequence[int]) -> str:
        """The words before the end of the text."""
        ending = next((k for k, i in enumerate(ids) if i in (_EOS, _PAD)), len(ids))
        return " ".join(self.all[i] for i in ids[:ending])

    @property
    def silent(self) -> list[int]:
        """The ids that are never written."""
        return sorted(set(range(len(self))) - {_EOS, *self.ids(self.spoken)})


class Writer(nn.Module):
    """GPT-2 over whole words. The last position of a prompt is a latent, projected linearly, or a learned placeholder.

    Prompts are padded on the left and texts on the right; masks and positions are always passed, so a row
    gives the same in any batch.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, words: Vocabulary, d_latent: int | None, *, d_model: int, n_layers: int, n_heads: int, positions: int
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
        return self.mean.device

    def standardise(self, latents: Float[Tensor, "rows d_latent"]) -> None:
        """Take mean and spread of each latent dimension from training rows."""
        self.mean.copy_(latents.mean(dim=0))
        self.scale.copy_(latents.std(dim=0).clamp(min=1e-6))

    def prompt_ids(self, prompts: Sequence[Sequence[str]]) -> Int[Tensor, "rows prompt"]:
        """Prompts as ids with the placeholder at their end, padded on the left."""
        rows = [[*self.words.ids(prompt), _THOUGHT] for prompt in prompts]
        width = max(map(len, rows))
        return torch.tensor([[_PAD] * (width - len(row)) + row for row in rows], device=self.device)

    def text_ids(self, texts: Sequence[str]) -> Int[Tensor, "rows text"]:
        """Texts as ids with their end marked, padded on the right."""
        rows = [[*self.words.ids(text.split()), _EOS] for text in texts]
        width = max(map(len, rows))
        return torch.tensor([row + [_PAD] * (width - len(row)) for row in rows], device=self.device)

    def forward(
        self,
        prompt: Int[Tensor, "rows prompt"],
        latents: Float[Tensor, "rows d_latent"] | None,
        text: Int[Tensor, "rows text"],
    ) -> Float[Tensor, "rows next vocab"]:
        """Logits over the word after the prompt and after each word of `text`."""
        ids = torch.cat([prompt, text], dim=1)
        last = prompt.shape[1] - 1
        embeds = nn.functional.embedding(ids, self.table)
        if self.project is not None and latents is not None:
            at = torch.arange(ids.shape[1], device=ids.device)[None, :, None] == last
            embeds = torch.where(at, self.project((latents - self.mean) / self.scale)[:, None].to(embeds), embeds)
        real = torch.ones_like(ids)
        real[:, : last + 1] = prompt != _PAD
        order = (torch.cumsum(real, dim=1) - 1).clamp(min=0)
        states = self.states(embeds, real, order)
        return states[:, last:] @ self.unembedding.T.to(states)

    @property
    def table(self) -> Float[Tensor, "vocab d_model"]:
        """The embeddings of all words."""
        return self.gpt2.wte.weight

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        return self.table

    def states(self, embeds: Tensor, real: Tensor, order: Tensor) -> Float[Tensor, "rows pos d_model"]:
        """Final states over embeddings, a mask of what is no padding, and positions."""
        return self.gpt2(inputs_embeds=embeds, attention_mask=real, position_ids=order).last_hidden_state

    def learned(self) -> dict[str, Tensor]:
        """The tensors that bring this writer back."""
        return {name: value.detach().contiguous() for name, value in self.state_dict().items()}

    def loss(
        self, prompt: Int[Tensor, "rows prompt"], latents: Tensor | None, text: Int[Tensor, "rows text"]
    ) -> Float[Tensor, ""]:
        """Mean next-word loss over the texts and their ends."""
        logits = self(prompt, latents, text[:, :-1]).float()
        wanted = text.masked_fill(text == _PAD, _NOTHING)
        return nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=_NOTHING)

    @torch.no_grad()
    def candidates(
        self,
        prompt: Int[Tensor, "rows prompt"],
        latents: Float[Tensor, "rows d_latent"] | None,
        *,
        beams: int,
        longest: int,
    ) -> tuple[list[list[str]], Float[Tensor, "rows beams"]]:
        """The best texts of each row by beam search, best first, with their probabilities; one beam is greedy.

        `latents` may lie on another device than the writer; the probabilities are on the CPU.
        """
        n, silent = len(prompt), self.words.silent
        latents = None if latents is None else latents.to(self.device)
        written = torch.zeros(n, 1, 0, dtype=torch.long, device=prompt.device)
        scores = torch.zeros(n, 1, device=prompt.device)
        ended = torch.zeros(n, 1, dtype=torch.bool, device=prompt.device)
        for _ in range(longest + 1):
            wide = written.shape[1]
            repeated = None if latents is None else latents.repeat_interleave(wide, dim=0)
            logits = self(prompt.repeat_interleave(wide, dim=0), repeated, written.flatten(0, 1))[:, -1].float()
            logits[:, silent] = -torch.inf
            log_p = torch.log_softmax(logits, dim=-1).view(n, wide, -1)
            log_p[ended] = -torch.inf
            log_p[..., _PAD] = torch.where(ended, 0.0, log_p[..., _PAD])
            total = (scores[..., None] + log_p).flatten(1)
            scores, flat = total.topk(min(beams, total.shape[1]), dim=1)
            came, word = flat // len(self.words), flat % len(self.words)
            written = torch.cat(
                [written.gather(1, came[..., None].expand(-1, -1, written.shape[2])), word[..., None]], 2
            )
            ended = ended.gather(1, came) | (word == _EOS)
            if ended.all():
                break
        return [[self.words.text(ids) for ids in row] for row in written.tolist()], scores.exp().cpu()


def taught_writer(
    make: Callable[[Vocabulary, int | None, int], Writer],
    prompts: Sequence[Sequence[str]],
    latents: Float[Tensor, "rows d_latent"] | None,
    texts: Sequence[str],
    *,
    standardise: bool,
    seed: int,
    **training: Any,
) -> Writer:
    """A writer for the words of these prompts and texts, made by `make(words, d_latent, positions)` and taught them."""
    words = Vocabulary([w for prompt in prompts for w in prompt], [w for text in texts for w in text.split()])
    # The latent's place, and all words of a text.
    positions = max(map(len, prompts)) + 1 + max(len(text.split()) for text in texts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        writer = make(words, None if latents is None else latents.shape[1], positions)
    if standardise and latents is not None:
        writer.standardise(latents)
    train_writer(writer, prompts, latents, texts, seed=seed, **training)
    return writer


def train_writer(
    writer: Writer,
    prompts: Sequence[Sequence[str]],
    latents: Float[Tensor, "rows d_latent"] | None,
    texts: Sequence[str],
    *,
    updates: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Teach `writer` to write `texts` after `prompts`, in shuffled epochs. Raises `CotlensError` when it diverges."""
    prompt, text = writer.prompt_ids(prompts), writer.text_ids(texts)
    device = writer.device
    latents = None if latents is None else latents.to(device)
    optimizer = torch.optim.AdamW(
        [p for p in writer.parameters() if p.requires_grad],
        lr=learning_rate,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        fused=True,
    )
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    writer.train()
    for update in range(updates):
        if not len(order):
            order = torch.randperm(len(prompt), generator=draw)
        rows, order = order[:batch_size], order[batch_size:]
        optimizer.param_groups[0]["lr"] = learning_rate * _schedule(update, updates)
        with mixed_precision(device):
            loss = writer.loss(*_trimmed(prompt[rows], None if latents is None else latents[rows], text[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(writer.parameters(), 1.0)
        optimizer.step()
        if update % 50 == 0 or update == updates - 1:
            if not math.isfinite(float(loss.detach())):
                raise CotlensError(
                    f"the verbalizer diverged at update {update}; lower learning_rate ({learning_rate})."
                )
            if progress:
                progress(update + 1, updates)
    writer.eval()


def _trimmed(prompt: Tensor, latents: Tensor | None, text: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """A batch without the columns that are padding in all of it."""
    return (
        prompt[:, int((prompt != _PAD).any(0).int().argmax()) :],
        latents,
        text[:, : int((text != _PAD).any(0).sum())],
    )


def _schedule(update: int, updates: int) -> float:
    """Rises over the first twentieth, falls linearly over the last half."""
    done = update / updates
    return min(1.0, (update + 1) / (0.05 * updates + 1), max(0.02, 2 * (1 - done)))


def _sinusoids(positions: int, width: int, std: float = 0.1) -> Float[Tensor, "pos d_model"]:
    position = torch.arange(positions).float()[:, None]
    rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(1000.0) / width))
    table = torch.zeros(positions, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
    return table * (std / table.std())
