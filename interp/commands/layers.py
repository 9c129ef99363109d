"""The option `--layers`: block numbers as `0,2,4` or `0-3`, for every command that has it."""

from __future__ import annotations

from collections.abc import Sequence

from interp.errors import UsageError

_MAX_LAYER = 100_000  # no model is as deep, and a range that is longer would only fill the memory


def layer_numbers(texts: str | Sequence[str] | None) -> list[int] | None:
    """Return the block numbers in texts such as `0,2,4` or `0-3`, in their order.

    Args:
        texts: One text, or those of a repeated option; None or none where the option is not used.

    Raises:
        UsageError: A text holds something else than numbers and ranges.
    """
    if texts is None:
        return None
    if isinstance(texts, str):
        return _numbers(texts)
    return [number for text in texts for number in _numbers(text)] or None


def _numbers(text: str) -> list[int]:
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"expected numbers and ranges after --layers, such as 0,2,4 or 0-3, got {text!r}.")
        low, high = int(first), int(last or first)
        if high < low:
            raise UsageError(
                f"expected ranges after --layers to begin with the smaller number, got {part.strip()!r}; "
                f"write {high}-{low}."
            )
        if high > _MAX_LAYER:
            raise UsageError(f"expected numbers of at most {_MAX_LAYER} after --layers, got {high}.")
        layers += range(low, high + 1)
    return layers
