"""The projection through which CODI (arXiv 2502.21074, section 3) feeds its continuous thoughts back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import StoreError

FILE_NAME = "projection.safetensors"


class Projection(nn.Module):
    """Two linear layers with a GELU between them, then a layer norm.

    Args:
        d_model: Width of the states.
        hidden: Width between the two linear layers.
        norm: Whether there is a layer norm; CODI can be trained without.
    """

    def __init__(self, d_model: int, hidden: int, *, norm: bool = True) -> None:
        super().__init__()
        self.inner = nn.Linear(d_model, hidden)
        self.outer = nn.Linear(hidden, d_model)
        self.norm = nn.LayerNorm(d_model) if norm else nn.Identity()

    def forward(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the projected states."""
        return self.norm(self.outer(nn.functional.gelu(self.inner(states))))

    def save(self, folder: Path) -> None:
        """Write the weights (float16) to a folder."""
        from safetensors.torch import save_file

        save_file(
            {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}, folder / FILE_NAME
        )

    @classmethod
    def read(cls, folder: Path, d_model: int, hidden: int, like: Any = None) -> Projection:
        """Read the projection from a model's folder.

        Args:
            folder: The model's folder.
            d_model: Width of the states.
            hidden: Width between the two linear layers.
            like: A tensor with the wanted device and dtype.

        Raises:
            StoreError: The file is missing or has another shape.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        projection = cls(d_model, hidden)
        try:
            weights = load_file(folder / FILE_NAME)
            projection.load_state_dict({name: value.float() for name, value in weights.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise StoreError(
                f"expected {FILE_NAME}, a projection of {d_model} through {hidden} dimensions, in {folder}: {reason}"
            ) from None
        return projection.to(like).requires_grad_(False) if like is not None else projection
