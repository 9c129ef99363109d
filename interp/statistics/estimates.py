"""A measured number with its interval and its sample size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    import numpy as np

    Rows = np.ndarray


class IntervalOptions(TypedDict, total=False):
    """Options of `interp.statistics.intervals.grouped_mean_interval`, which explains each."""

    seeds: Rows | None
    level: float
    draws: int
    seed: int


class Measure(TypedDict):
    """An estimate in the form of the benches' JSON; all but `n` are None where nothing was measured."""

    value: float | None
    ci: list[float] | None
    n: int


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval and the number of independent observations behind it.

    Attributes:
        value: The point estimate; NaN where it could not be measured.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of observations, usually rows or problems.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of_mean(cls, right: Rows, groups: Rows, **options: Unpack[IntervalOptions]) -> Estimate:
        """Return the mean of `right` with an interval that resamples whole groups.

        Args:
            right: One score or truth value a row, shape (rows,).
            groups: The group of each row, such as the structure of its problem, shape (rows,).
            **options: Passed to `grouped_mean_interval` (`seeds`, `level`, `draws`, `seed`).

        Returns:
            The estimate; all NaN where there are no rows.
        """
        from interp.statistics.intervals import grouped_mean_interval

        low, high = grouped_mean_interval(right, groups, **options)
        return cls(float(right.mean()) if len(right) else float("nan"), low, high, len(right))

    @classmethod
    def of_difference(cls, differences: Rows, groups: Rows, **options: Unpack[IntervalOptions]) -> Estimate:
        """Return the mean of differences of shares, which lie between -1 and 1.

        Args:
            differences: One difference a row, shape (rows,).
            groups: The group of each row, shape (rows,).
            **options: Passed to `grouped_mean_interval`.

        Returns:
            The estimate; all NaN where there are no rows.
        """
        share = cls.of_mean((differences + 1) / 2, groups, **options)
        value = float(differences.mean()) if len(differences) else float("nan")
        return cls(value, 2 * share.low - 1, 2 * share.high - 1, share.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The interval as (low, high)."""
        return self.low, self.high

    def measure(self) -> Measure:
        """Return the form that `cotlens bench --json` prints: `value`, `ci` and `n`."""
        return {"value": self.value, "ci": [self.low, self.high], "n": self.n}

    def measure_or_none(self) -> Measure:
        """Return `measure()`, with None where there are no observations."""
        return self.measure() if self.n else {"value": None, "ci": None, "n": 0}

    def __str__(self) -> str:
        """Return "0.912 [0.889, 0.931]"."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
