"""A writer that is the reasoner's own model: frozen, with low-rank adapters (LoRA, Hu et al., arXiv 2106.09685).

The activation oracles of arXiv 2512.15674 and LatentQA (arXiv 2412.08686) adapt the model that they ask about, which knows
its own latents and the words of its questions already. What it has no token for (the words of an oracle's questions, the
number of a step) gets an embedding of its own, learned with the adapters.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interp.decoders.writer import EOS, Vocabulary, Writer
from interp.errors import UsageError, checked_count
from interp.models.fast_model import fast_model
from interp.models.fast_modules import TransposedLinear
from interp.runtime.hardware import training_attention

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

RANK = 16
# Linear maps whose weights are stored inputs x outputs.
_TRANSPOSED = (Conv1D, TransposedLinear)


class LowRank(nn.Module):
    """A linear layer that stays as it is, plus the product of two narrow matrices, at first zero."""

    def __init__(self, base: Any, rank: int) -> None:
        super().__init__()
        weight = base.weight
        wide, out = weight.shape if isinstance(base, _TRANSPOSED) else weight.shape[::-1]
        self.base = base
        self.down = nn.Parameter(torch.randn(wide, rank).to(weight.device) / math.sqrt(wide))
        self.up = nn.Parameter(torch.zeros(rank, out, device=weight.device))

    def forward(self, x: Float[Tensor, "*rows wide"]) -> Float[Tensor, "*rows out"]:
        return self.base(x) + (x @ self.down @ self.up).to(x)


def adapt(model: Any, rank: int) -> Any:
    """A frozen copy of a plain model with an adapter at every linear layer of its blocks."""
    adapted = copy.deepcopy(model).requires_grad_(False)
    if hasattr(adapted, "set_attn_implementation"):
        adapted.set_attn_implementation(training_attention(adapted.device))
    found = [
        (module, name, part)
        for module in list(adapted.modules())
        for name, part in module.named_children()
        if isinstance(part, (*_TRANSPOSED, nn.Linear))
    ]
    if not found:
        raise UsageError(f"{type(model).__name__} has no linear layers to adapt. Use a separate writer.")
    for module, name, part in found:
        setattr(module, name, LowRank(part, rank))
    return adapted


class AdaptedWriter(Writer):
    """`Writer` on the reasoner's own model: its embeddings, unembedding and blocks, with adapters of rank `rank`."""

    known: Tensor
    heard: Tensor
    spoken: Tensor

    def __init__(
        self, words: Vocabulary, d_latent: int | None, reasoner: Reasoner, *, positions: int, rank: int = RANK
    ) -> None:
        nn.Module.__init__(self)
        plain = fast_model(reasoner.model)
        if plain is None:
            raise UsageError(f"the plain model of {reasoner.name} was changed or is hooked; load it anew to adapt it.")
        room = getattr(plain.base.config, "max_position_embeddings", positions)
        if positions > room:
            raise UsageError(
                f"{reasoner.name} has room for {room} positions, but questions and texts here take {positions}. Use a "
                "separate writer."
            )
        self.words, self.positions = words, positions
        self.model = adapt(plain.base, checked_count("rank", rank))
        table, vocabulary = reasoner.embed.weight.detach().float(), reasoner.tokenizer.get_vocab()
        # The writer's end of text is the model's own, where it has one.
        known = {EOS: reasoner.tokenizer.eos_token, **{word: word for word in words.all if word != EOS}}
        places = [vocabulary.get(known[word], -1) if known[word] else -1 for word in words.all]
        held = torch.tensor(places, device=table.device)
        unembedding = reasoner.unembed.weight.detach().float()
        self.register_buffer("known", (held >= 0)[:, None], persistent=False)
        self.register_buffer("heard", table[held.clamp(min=0)], persistent=False)
        self.register_buffer("spoken", unembedding[held.clamp(min=0)], persistent=False)
        self.new = nn.Parameter(table.std() * torch.randn(self.heard.shape).to(table))
        self.project = None if d_latent is None else nn.Linear(d_latent, table.shape[1])
        self.register_buffer("mean", torch.zeros(d_latent or 0))
        self.register_buffer("scale", torch.ones(d_latent or 0))
        if self.project is not None:
            with torch.no_grad():
                # As long as an embedding: norm-matched injection to begin with.
                self.project.weight.normal_(0, float(table.std()) / math.sqrt(d_latent or 1))
                self.project.bias.zero_()
        self.to(table.device)

    @property
    def table(self) -> Float[Tensor, "vocab d_model"]:
        return torch.where(self.known, self.heard, self.new)

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        return torch.where(self.known, self.spoken, self.new)

    def states(self, embeds: Tensor, real: Tensor, order: Tensor) -> Float[Tensor, "rows pos d_model"]:
        found = self.model(inputs_embeds=embeds, attention_mask=real, position_ids=order, use_cache=False)
        return found.last_hidden_state

    def train(self, mode: bool = True) -> AdaptedWriter:
        """The model beneath stays in evaluation mode: it is not what learns, and its dropout has been taken out."""
        super().train(mode)
        self.model.eval()
        return self

    def learned(self) -> dict[str, Tensor]:
        """What was learned: adapters, new words, the projection and the latents' moments, without the model itself."""
        kept = {name for name, value in self.named_parameters() if value.requires_grad} | {"mean", "scale"}
        return {name: value.detach().contiguous() for name, value in self.state_dict().items() if name in kept}
