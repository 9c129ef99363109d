"""From final-norm states to logits, with the scaling and capping of each architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Unembedding:
    """The unembedding of a Hugging Face model, with the scale and soft cap from its configuration.

    Gemma 2 caps logits (`final_logit_softcapping`), Cohere multiplies them (`logit_scale`) and Granite divides them
    (`logits_scaling`).

    Args:
        model: A Hugging Face model with a language-model head.
    """

    def __init__(self, model: Any) -> None:
        self.module = model.get_output_embeddings()
        config = model.config.get_text_config()
        self._cap = getattr(config, "final_logit_softcapping", None)
        self._scale = getattr(config, "logit_scale", None) or 1.0
        self._scale /= getattr(config, "logits_scaling", None) or 1.0

    @property
    def weight(self) -> Float[Tensor, "vocab d_model"]:
        """The unembedding matrix."""
        return self.module.weight

    def uncapped(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Return the logits of final-norm states before the soft cap, in float32; they are linear in the states."""
        bias = getattr(self.module, "bias", None)
        bias = None if bias is None else bias.float()
        return torch.nn.functional.linear(states.float(), self.module.weight.float(), bias) * self._scale

    def rows(self, tokens: Sequence[int]) -> tuple[Float[Tensor, "tokens d_model"], Float[Tensor, " tokens"]]:
        """Return weights and biases, in float32, with which logits of some tokens before the soft cap are linear.

        Args:
            tokens: Token ids.
        """
        ids = torch.as_tensor(tokens, device=self.module.weight.device)
        weights = self.module.weight.detach()[ids].float() * self._scale
        bias = getattr(self.module, "bias", None)
        return weights, weights.new_zeros(len(ids)) if bias is None else bias.detach()[ids].float() * self._scale

    def capped(self, logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
        """Return logits after the soft cap, where the model has one."""
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    def __call__(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Return the logits of final-norm states, in the model's dtype; states of another are rounded to it."""
        dtype = self.module.weight.dtype
        logits = self.module(states if states.dtype == dtype else states.to(dtype))
        if self._scale != 1.0:
            logits = logits * self._scale
        return self.capped(logits)
