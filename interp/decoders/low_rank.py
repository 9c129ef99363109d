"""A writer that is the reasoner's own model: frozen, with low-rank adapters (LoRA, Hu et al., arXiv 2106.09685).

The activation oracles of arXiv 2512.15674 and LatentQA (arXiv 2412.08686) adapt the model whose latents they read, which knows
its own latents and the words of its questions already. Words that it has no token for (those of an oracle's questions, the
number of a step) get new embeddings, learned with the adapters.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interp.decoders.writer import EOS, Writer, WriterVocabulary
from interp.errors import UsageError, checked_count
from interp.models.fast_model import fast_model
from interp.models.fast_modules import TransposedLinear
from interp.runtime.hardware import training_attention

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

RANK = 16
# Linear layers whose weights are stored inputs x outputs.
_TRANSPOSED = (Conv1D, TransposedLinear)


class LowRank(nn.Module):
    """A frozen linear layer plus the product of two narrow matrices, zero at first.

    Args:
        base: The linear layer.
        rank: Inner width of the product.

    References:
        Hu et al., arXiv 2106.09685, section 4.1.
    """

    def __init__(self, base: Any, rank: int) -> None:
        super().__init__()
        weight = base.weight
        inputs, outputs = weight.shape if isinstance(base, _TRANSPOSED) else weight.shape[::-1]
        self.base = base
        self.down = nn.Parameter(torch.randn(inputs, rank).to(weight.device) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(rank, outputs, device=weight.device))

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """Return the layer's output plus the adapter's, which is computed in the adapter's dtype."""
        return self.base(x) + (x.to(self.down.dtype) @ self.down @ self.up).to(x)


def adapt(model: Any, rank: int) -> Any:
    """Return a frozen copy of a model with an adapter at every linear layer.

    The copy of a float16 model is float32, because small gradients vanish in float16. So is any copy on the CPU, where
    half precision is slow to train in.

    Args:
        model: The model, without hooks.
        rank: Rank of the adapters.

    Raises:
        UsageError: The model has no linear layers.
    """
    adapted = copy.deepcopy(model).requires_grad_(False)
    if adapted.dtype == torch.float16 or adapted.device.type == "cpu":
        adapted = adapted.float()
    if hasattr(adapted, "set_attn_implementation"):
        adapted.set_attn_implementation(training_attention(adapted.device))
    layers = [
        (module, name, part)
        for module in list(adapted.modules())
        for name, part in module.named_children()
        if isinstance(part, (*_TRANSPOSED, nn.Linear))
    ]
    if not layers:
        raise UsageError(
            f"expected a model with linear layers to adapt, got {type(model).__name__}, which has none; use a separate "
            "writer."
        )
    for module, name, part in layers:
        setattr(module, name, LowRank(part, rank))
    return adapted


class AdaptedWriter(Writer):
    """`Writer` on the reasoner's own model: its embeddings, unembedding and blocks, with low-rank adapters.

    Args:
        words: The vocabulary; words that are tokens of the model use its embeddings.
        d_latent: Width of the latents; None for a writer without them.
        reasoner: The model to adapt, which does not change.
        positions: Longest prompt and text together, in words.
        rank: Rank of the adapters.

    Raises:
        UsageError: The model is hooked or changed, or has too few positions.
    """

    is_token: Tensor
    input_table: Tensor
    output_table: Tensor

    def __init__(
        self, words: WriterVocabulary, d_latent: int | None, reasoner: Reasoner, *, positions: int, rank: int = RANK
    ) -> None:
        nn.Module.__init__(self)
        plain = fast_model(reasoner.model)
        if plain is None:
            raise UsageError(
                f"expected {reasoner.name} without hooks or changes to adapt it, got a changed model; load it again."
            )
        limit = getattr(plain.base.config, "max_position_embeddings", positions)
        if positions > limit:
            raise UsageError(
                f"expected questions and texts of at most {limit} positions, as {reasoner.name} has, got {positions}; use "
                "a separate writer."
            )
        self.words, self.positions = words, positions
        self.model = adapt(plain.base, checked_count("rank", rank))
        table, vocabulary = reasoner.embed.weight.detach().float(), reasoner.tokenizer.get_vocab()
        # The writer's end of text is the model's own, where it has one.
        tokens = [reasoner.tokenizer.eos_token if word == EOS else word for word in words.all]
        token_ids = torch.tensor([vocabulary.get(token, -1) if token else -1 for token in tokens], device=table.device)
        unembedding = reasoner.unembed.weight.detach().float()
        self.register_buffer("is_token", (token_ids >= 0)[:, None], persistent=False)
        self.register_buffer("input_table", table[token_ids.clamp(min=0)], persistent=False)
        self.register_buffer("output_table", unembedding[token_ids.clamp(min=0)], persistent=False)
        self.new = nn.Parameter(table.std() * torch.randn(self.input_table.shape).to(table))
        self.project = None if d_latent is None else nn.Linear(d_latent, table.shape[1])
        self.register_buffer("mean", torch.zeros(d_latent or 0))
        self.register_buffer("scale", torch.ones(d_latent or 0))
        if self.project is not None:
            with torch.no_grad():
                # A projected latent is about as long as an embedding.
                self.project.weight.normal_(0, float(table.std()) / math.sqrt(d_latent or 1))
                self.project.bias.zero_()
        self.to(table.device)

    @property
    def table(self) -> Float[Tensor, "vocab d_model"]:
        """The embeddings of all words: the model's own, or new ones."""
        return torch.where(self.is_token, self.input_table, self.new)

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """The output embeddings of all words: the model's own, or new ones."""
        return torch.where(self.is_token, self.output_table, self.new)

    def states(self, embeds: Tensor, mask: Tensor, positions: Tensor) -> Float[Tensor, "rows pos d_model"]:
        """Return the final states, as `Writer.states` does."""
        inputs = embeds.to(self.model.dtype)
        output = self.model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions, use_cache=False)
        return output.last_hidden_state.to(embeds.dtype)

    def train(self, mode: bool = True) -> AdaptedWriter:
        """Set the training mode of all but the model beneath, which does not learn."""
        super().train(mode)
        self.model.eval()
        return self

    def saved_tensors(self) -> dict[str, Tensor]:
        """Return adapters, new words, the projection and the latents' moments, without the model itself."""
        names = {name for name, value in self.named_parameters() if value.requires_grad} | {"mean", "scale"}
        return {name: value.detach().contiguous() for name, value in self.state_dict().items() if name in names}
