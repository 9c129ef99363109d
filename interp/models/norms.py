"""Norms as weights times inputs over one scale for each row, with the scale held at what it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LARGE = 1e3  # input to a norm at which its epsilon does not count
TOLERANCE = 1e-3  # of the largest value, in float32


@dataclass(frozen=True)
class FrozenNorm:
    """A norm with the scale that it had for one input.

    Attributes:
        gain: Its weights, shape (d,).
        bias: Its output for zeros, shape (d,).
        centres: Whether it takes the mean off.
        inverse_scale: One over the frozen scale of each row, shape (..., 1).
    """

    gain: Tensor
    bias: Tensor
    centres: bool
    inverse_scale: Tensor

    @classmethod
    def measure(cls, norm: Any, inputs: Tensor, outputs: Tensor) -> FrozenNorm:
        """Find out what a norm does from what it gives, so that every kind of norm is read in one way.

        Args:
            norm: The module.
            inputs: The inputs whose scale is frozen, shape (..., d).
            outputs: Its outputs for them.

        Raises:
            ValueError: It is not weights times inputs over one scale for each row.
        """
        d = inputs.shape[-1]
        probe = torch.linspace(0.5, 1.5, d, dtype=inputs.dtype, device=inputs.device)
        probe[::2] *= -1
        probe = probe - probe.mean()
        probe = probe / probe.square().mean().sqrt()
        bias = norm.forward(torch.zeros_like(probe)[None])[0]
        gain = (norm.forward(_LARGE * probe[None])[0] - bias) / probe
        level = norm.forward(torch.full_like(probe, _LARGE)[None])[0] - bias
        frozen = cls(gain, bias, bool(level.abs().max() < 0.1 * gain.abs().max()), torch.ones_like(inputs[..., :1]))
        unscaled, wanted = frozen(inputs) - bias, outputs - bias
        scale = (unscaled * wanted).sum(-1, keepdim=True) / unscaled.square().sum(-1, keepdim=True).clamp(min=1e-30)
        frozen = cls(gain, bias, frozen.centres, scale)
        if not close(frozen(inputs), outputs):
            raise ValueError(f"{type(norm).__name__} is not a norm with one scale for each position")
        return frozen

    def __call__(self, inputs: Tensor) -> Tensor:
        """Apply the norm with its frozen scale."""
        centred = inputs - inputs.mean(dim=-1, keepdim=True) if self.centres else inputs
        return centred * self.inverse_scale * self.gain + self.bias


def close(values: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Return whether values are as expected, relative to the largest of them."""
    gap = (values - expected).abs().max() if np.prod(values.shape) else torch.zeros(())
    return bool(gap <= tolerance * expected.abs().max().clamp(min=1e-6))
