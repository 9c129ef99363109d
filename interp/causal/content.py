"""Content or compute: do thoughts help by what they hold, or only by being there?

delta is the accuracy with a problem's own thoughts minus that with another problem's. Thoughts whose content is
used have a large one. Where it is small and leaving the thoughts out costs answers, only their positions (the
computation at them) are used; where that costs nothing either, they are not used at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from interp.causal.ablation import Ablation
from interp.errors import UsageError

NEEDED = ("own", "other problem", "dropped", "question of another")
VERDICTS = ("content", "compute", "unused", "undecided")


@dataclass(frozen=True)
class Content:
    """The verdict and the figures that it rests on; differences of accuracy with their 95 % intervals."""

    verdict: str
    why: str
    delta: float
    delta_ci: tuple[float, float]
    dropped: float
    dropped_ci: tuple[float, float]
    control: float
    control_ci: tuple[float, float]
    accuracy: float
    n: int

    @property
    def uses_content(self) -> bool | None:
        """Whether what the thoughts hold is used; None where that is undecided."""
        return None if self.verdict == "undecided" else self.verdict == "content"


def content_or_compute(battery: Ablation, *, margin: float = 0.1) -> Content:
    """The verdict of a battery that has the arms of `NEEDED`.

    A difference counts as there when its interval lies above `margin`, as not there when it lies below; an interval
    across it decides nothing. The positive control, another problem's states at the question, has to cost more than
    the margin, or no null is believed.
    """
    table = battery.summary().set_index("arm")
    missing = [arm for arm in NEEDED if arm not in table.index]
    if missing:
        raise UsageError(f"a verdict needs the arms {', '.join(NEEDED)}, but {', '.join(missing)} were not run.")
    if not 0 < margin < 1:
        raise UsageError(f"margin must lie between 0 and 1, but {margin} came.")
    delta, low_high = table.loc["other problem", "lost"], table.loc["other problem", "lost_ci"]
    dropped, control = table.loc["dropped"], table.loc["question of another"]
    verdict, why = _decided(low_high, dropped["lost_ci"], control["lost_ci"], margin)
    return Content(
        verdict,
        why,
        float(delta),
        tuple(low_high),
        float(dropped["lost"]),
        tuple(dropped["lost_ci"]),
        float(control["lost"]),
        tuple(control["lost_ci"]),
        float(table.loc["own", "accuracy"]),
        int(table.loc["own", "n"]),
    )


def _decided(delta: list[float], dropped: list[float], control: list[float], margin: float) -> tuple[str, str]:
    if control[0] <= margin:
        return "undecided", "the positive control does not bite, so a null would mean nothing"
    if delta[0] > margin:
        return "content", "another problem's thoughts cost answers"
    if delta[1] >= margin:
        return "undecided", f"the interval of delta holds the margin {margin}: take more problems"
    if dropped[0] > margin:
        return "compute", "another problem's thoughts do as well, but without any thoughts answers are lost"
    if dropped[1] < margin:
        return "unused", "neither another problem's thoughts nor none at all cost answers"
    return "undecided", f"content is not used; whether thoughts are is open, its interval holds the margin {margin}"
