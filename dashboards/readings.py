"""How pages and reports say a decoder's confidence, and when a reading is hardly more than a guess."""

from __future__ import annotations

from typing import Any

# A value that is less than this many times as likely as a guess is hardly more than one.
_LIKELIER = 2


def percent(share: float) -> str:
    """Return a fraction in percent; never rounded up to 100 %."""
    return "over 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def is_guess(confidence: float, score: dict[str, Any]) -> bool:
    """Return whether a reading is hardly more than a guess.

    It is where the decoder's value is less than twice as likely as a guess, or where the decoder reads this step of
    held-out problems no better than chance, or than another problem's thought.

    Args:
        confidence: The decoder's confidence in the value.
        score: Held-out scores of the decoder at this step; empty where there are none.
    """
    floors = [score[name] for name in ("chance", "other_problem") if score.get(name) == score.get(name, float("nan"))]
    low = score.get("ci_low", score.get("top1"))
    chance = score.get("chance")
    unlikely = chance is not None and chance == chance and confidence < _LIKELIER * chance
    return unlikely or (low is not None and low == low and bool(floors) and low <= max(floors))
