"""SmolLM2-135M as benches use it: the file on this machine, and transformers' own reading of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from interp.loading.named_models import require_fetched
from interp.models.wrapping import quiet

MODEL = "smollm2"


@cache
def bare_model() -> Any:
    """Return transformers' own reading of the file, in float32.

    Raises:
        UsageError: The model is not on this machine. The message says how to get it.
    """
    from transformers import AutoModelForCausalLM

    path = require_fetched(MODEL)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
        )
    return model.eval().requires_grad_(False)
