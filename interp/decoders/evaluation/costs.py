"""What a decoder costs: seconds to fit, seconds to decode, and bytes learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.activations import ActivationSource


@dataclass(frozen=True)
class Cost:
    """The cost of one decoder.

    Attributes:
        fit_seconds: Seconds to fit it at its location.
        decode_seconds: Seconds for 1,000 read-outs.
        bytes: Bytes of all arrays that it learned.
    """

    fit_seconds: float
    decode_seconds: float
    bytes: int


def learned_bytes(value: Any, seen: set[int] | None = None) -> int:
    """Return the bytes of all arrays that a decoder holds, without a reasoner or store that it only refers to.

    Args:
        value: A fitted decoder, or anything that it holds.
        seen: Identities of what is counted already.
    """
    from interp.reasoners.base import Reasoner

    seen = set() if seen is None else seen
    if (
        value is None
        or isinstance(value, (str, int, float, bool, type, Reasoner, ActivationSource))
        or id(value) in seen
    ):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if hasattr(value, "element_size"):
        return int(value.element_size() * value.nelement())
    if callable(getattr(value, "state_dict", None)):
        parts = list(value.state_dict().values())
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    else:
        parts = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return sum(learned_bytes(part, seen) for part in parts)
