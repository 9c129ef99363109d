"""The optimizers of a training stage: AdamW for everything, or Muon for the matrices within the blocks.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") orthogonalises each matrix's
momentum. On long sequences of small models it needs about two thirds of AdamW's updates for the same loss, at a tenth
more time each. On short chains it gains nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from interp.organisms.catalog import OptimizerName


def optimizers(name: OptimizerName, model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Return AdamW for all parameters, or AdamW and then Muon for the blocks' matrices.

    Args:
        name: "adamw" or "muon".
        model: A GPT-2 model.
        learning_rate: Learning rate of both.
    """
    trained = [(name_, p) for name_, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name_, p in trained if name == "muon" and ".h." in name_ and p.ndim == 2]
    matrix_ids = {id(p) for p in matrices}
    others = [p for _, p in trained if id(p) not in matrix_ids]
    steppers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    ]
    if matrices:
        # Updates of AdamW's size, so that its learning rates hold (Liu et al., arXiv 2502.16982, section 2.2).
        steppers.append(
            torch.optim.Muon(
                matrices, lr=learning_rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
        )
    return steppers
