"""Content or compute: whether thoughts help by their content, or only by the computation at their positions.

delta is the accuracy with a problem's own thoughts minus that with another problem's. Thoughts whose content is used
have a large one. Where it is small and leaving the thoughts out costs answers, only the computation at their positions
is used. Where that costs nothing either, they are not used at all.

This verdict is about all thoughts of a problem together, and about any content: it does not say which value, which
thought or which address the answer takes it from, nor that every answer does. That is what an interchange tests, for one
value at one location (`interp.causal.interchanges.results`). So "content" here and "not used here" there are both true
where the content is another one or elsewhere, and `CLAIMS` says so in one sentence beside the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.causal.ablation_result import AblationResult
from interp.errors import UsageError
from interp.statistics.estimates import Estimate

NEEDED = ("own", "other problem", "dropped", "question of another")
VERDICTS = ("content", "compute", "unused", "undecided")
# What each verdict claims.
CLAIMS = {
    "content": "answers need what this problem's thoughts, all together, hold; which value and where: interchange",
    "compute": "thoughts are needed and any problem's will do, so no interchange of a value can be followed",
    "unused": "answers do without thoughts",
    "undecided": "nothing is claimed",
}


@dataclass(frozen=True)
class ContentResult:
    """A verdict and the figures that it rests on; differences of accuracy are from own thoughts.

    Attributes:
        verdict: One of `VERDICTS`.
        why: The reason, in one clause.
        delta: Accuracy lost with another problem's thoughts.
        dropped: Accuracy lost without thoughts.
        control: Accuracy lost with another problem's states at the question, the positive control.
        accuracy: Accuracy with own thoughts.
    """

    verdict: str
    why: str
    delta: Estimate
    dropped: Estimate
    control: Estimate
    accuracy: Estimate

    @property
    def claim(self) -> str:
        """What the verdict claims, in one sentence."""
        return CLAIMS[self.verdict]

    @property
    def share(self) -> float:
        """The share of the accuracy that another problem's thoughts cost, such as 0.27 where it falls from 0.90 to 0.66.

        "Content" with a small share means that most answers do not need it. NaN where nothing is answered right.
        """
        return self.delta.value / self.accuracy.value if self.accuracy.value else float("nan")

    @property
    def uses_content(self) -> bool | None:
        """Whether the content of the thoughts is used; None where that is undecided."""
        return None if self.verdict == "undecided" else self.verdict == "content"

    def to_dict(self) -> dict[str, Any]:
        """Return the form that commands print as JSON."""
        record: dict[str, Any] = {"verdict": self.verdict, "why": self.why, "claim": self.claim, "share": self.share}
        for name in ("delta", "dropped", "control"):
            estimate = getattr(self, name)
            record |= {name: estimate.value, f"{name}_ci": estimate.interval}
        return record | {"accuracy": self.accuracy.value, "n": self.accuracy.n}


def content_or_compute(battery: AblationResult, *, margin: float = 0.1) -> ContentResult:
    """Decide what the thoughts are used for, where the intervals can decide.

    A difference counts as present when its interval lies above `margin`, as absent when it lies below it. An interval
    that contains the margin decides nothing. The positive control must cost more than the margin, otherwise
    the verdict is undecided.

    Args:
        battery: A battery with the arms of `NEEDED`.
        margin: Difference of accuracy that counts, between 0 and 1.

    Returns:
        The verdict with its figures.

    Raises:
        UsageError: An arm is missing, or the margin is out of range.
    """
    arms = set(battery.table()["arm"])
    missing = [arm for arm in NEEDED if arm not in arms]
    if missing:
        raise UsageError(
            f"expected the arms {', '.join(NEEDED)}, got a battery without {', '.join(missing)}; run them."
        )
    if not 0 < margin < 1:
        raise UsageError(f"expected a margin between 0 and 1, got {margin}; choose one such as 0.1.")
    delta, dropped, control = (
        battery.accuracy_lost(arm) for arm in ("other problem", "dropped", "question of another")
    )
    verdict, why = _decide(delta.interval, dropped.interval, control.interval, margin)
    return ContentResult(verdict, why, delta, dropped, control, battery.accuracy("own"))


Interval = tuple[float, float]


def _decide(delta: Interval, dropped: Interval, control: Interval, margin: float) -> tuple[str, str]:
    if control[0] <= margin:
        return "undecided", "the positive control failed, so a null result would mean nothing"
    if delta[0] > margin:
        return "content", "another problem's thoughts cost answers"
    if delta[1] >= margin:
        return "undecided", f"the interval of delta contains the margin {margin}: take more problems"
    if dropped[0] > margin:
        return "compute", "another problem's thoughts do as well, but without any thoughts answers are lost"
    if dropped[1] < margin:
        return "unused", "neither another problem's thoughts nor none at all cost answers"
    return "undecided", f"content is not used; whether thoughts are is open, its interval contains the margin {margin}"
