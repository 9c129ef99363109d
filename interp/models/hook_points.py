"""The hook points of a wrapped model: their names, and whether anything hangs on them.

TransformerLens lists them anew whenever it is asked, which takes longer than a short forward pass. They do not change
once a model is wrapped, so one record at the model serves everyone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_RECORD = "cotlens_hook_points"


class HookPoints:
    """The record of one wrapped model, made when the hooks that are always there are on."""

    def __init__(self, model: TransformerBridge) -> None:
        points = model.hook_dict
        self.names = tuple(points)
        # PyTorch's own dictionaries: a hook that is put on is in one of them as long as it stays.
        hooks = [each for point in points.values() for each in (point._forward_hooks, point._backward_hooks)]
        self._free = [each for each in hooks if not each]
        self._taken = [(each, len(each)) for each in hooks if each]

    @property
    def hooked(self) -> bool:
        """Whether there are hooks beyond those that are always there."""
        return any(self._free) or any(len(each) != always for each, always in self._taken)


def remember(model: TransformerBridge) -> None:
    """Make the record, outside the model's modules and state."""
    object.__setattr__(model, _RECORD, HookPoints(model))


def hook_points(model: TransformerBridge) -> HookPoints:
    """The record of a wrapped model, made now where it was wrapped elsewhere."""
    if _RECORD not in vars(model):
        remember(model)
    return vars(model)[_RECORD]
