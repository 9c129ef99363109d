"""The optimizers of a training stage: AdamW for everything, or Muon for the matrices within the blocks.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") orthogonalises each matrix's
momentum. On long sequences of small models it takes about two thirds of AdamW's updates to the same loss, at a tenth
more time each; on short chains it gains nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

Kind = Literal["adamw", "muon"]


def optimizers(kind: Kind, model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """One optimizer, or Muon for the blocks' matrices after AdamW for the rest; both take the same learning rates."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in trained if kind == "muon" and ".h." in name and p.ndim == 2]
    taken = {id(p) for p in hidden}
    rest = [p for _, p in trained if id(p) not in taken]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    ]
    if hidden:
        # Updates of AdamW's size, so that its learning rates hold (Liu et al., arXiv 2502.16982, section 2.2).
        made.append(
            torch.optim.Muon(hidden, lr=learning_rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        )
    return made
