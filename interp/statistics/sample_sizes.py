"""How many observations a verdict would take."""

from __future__ import annotations

import math

_HALF, _Z = 0.5, 1.959964


def n_to_leave_out_half(share: float, n: int) -> int | None:
    """Return the sample size at which a share's 95 % Wilson interval leaves out one half.

    Args:
        share: The share as it was measured.
        n: Its sample size.

    Returns:
        The sample size; None where the share is one half as nearly as `n` observations can tell.
    """
    distance = abs(share - _HALF)
    if distance < _HALF / max(n, 1):
        return None
    # Wilson's interval leaves out one half where |p - 1/2| > z / (2 sqrt(n)).
    return math.ceil((_Z / (2 * distance)) ** 2)


def more_would_do(share: float, n: int, what: str, of_all: float = 1.0) -> str:
    """Return in words how large a sample would tell a share from one half.

    Args:
        share: The share as it was measured.
        n: Its sample size.
        what: What is counted, such as "problems".
        of_all: The part of these that the share is about.
    """
    needed = n_to_leave_out_half(share, n)
    if needed is None:
        return "at this share no sample would do"
    return f"about {max(math.ceil(needed / of_all), n + 1)} {what} would do"
