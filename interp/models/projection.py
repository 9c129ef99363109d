"""A projection of continuous thoughts, as CODI (arXiv 2502.21074, section 3) feeds its thoughts back through one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import StoreError

FILE_NAME = "projection.safetensors"


class Projection(nn.Module):
    """Two linear layers with a GELU between them, then a layer norm; d_model to d_model through `hidden`.

    CODI can be trained without the layer norm (`norm=False`).
    """

    def __init__(self, d_model: int, hidden: int, *, norm: bool = True) -> None:
        super().__init__()
        self.inner = nn.Linear(d_model, hidden)
        self.outer = nn.Linear(hidden, d_model)
        self.norm = nn.LayerNorm(d_model) if norm else nn.Identity()

    def forward(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.norm(self.outer(nn.functional.gelu(self.inner(states))))

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(
            {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}, folder / FILE_NAME
        )

    @classmethod
    def read(cls, folder: Path, d_model: int, hidden: int, like: Any = None) -> Projection:
        """The projection beside a model's weights, on the device and in the type of `like`.

        Raises `StoreError` when it is missing or has another shape.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        made = cls(d_model, hidden)
        try:
            found = load_file(folder / FILE_NAME)
            made.load_state_dict({name: value.float() for name, value in found.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise StoreError(
                f"{folder} should hold {FILE_NAME}, a projection of {d_model} through {hidden} dimensions: {first}"
            ) from None
        return made.to(like).requires_grad_(False) if like is not None else made
