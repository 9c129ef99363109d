"""From a final-norm state to logits, with what an architecture does to them after its unembedding matrix."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Unembedding:
    """The unembedding of a Hugging Face model, and the scale or soft cap that its configuration puts on the logits.

    Gemma 2 caps them softly (`final_logit_softcapping`), Cohere multiplies (`logit_scale`), Granite divides
    (`logits_scaling`).
    """

    def __init__(self, model: Any) -> None:
        self.module = model.get_output_embeddings()
        config = model.config.get_text_config()
        self._cap = getattr(config, "final_logit_softcapping", None)
        self._scale = getattr(config, "logit_scale", None) or 1.0
        self._scale /= getattr(config, "logits_scaling", None) or 1.0

    @property
    def weight(self) -> Float[Tensor, "vocab d_model"]:
        return self.module.weight

    def __call__(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        logits = self.module(states)
        if self._scale != 1.0:
            logits = logits * self._scale
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap
