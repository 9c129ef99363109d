"""The result of an ablation battery: the answers of each arm, and what each arm costs."""

from __future__ import annotations

import pandas as pd

from interp.errors import unknown
from interp.statistics.estimates import Estimate


class AblationResult:
    """The answers of each arm of the battery.

    Attributes:
        reasoner: Name of the reasoner.
        address: Where latents were replaced; `text` for visible thoughts.
        seed: Seed of donors, noise and orders.
    """

    def __init__(self, frame: pd.DataFrame, reasoner: str, address: str, seed: int) -> None:
        self._frame, self.reasoner, self.address, self.seed = frame, reasoner, address, seed

    def table(self) -> pd.DataFrame:
        """Return one row for each (arm, problem): arm, trace, n_steps, structure, answer, correct, changed."""
        return self._frame

    def right(self, arm: str) -> pd.Series:
        """Return whether each problem was answered correctly in an arm, by trace."""
        part = self._frame[self._frame["arm"] == arm]
        if part.empty:
            raise unknown("arm of this battery", arm, list(dict.fromkeys(self._frame["arm"])))
        return part.set_index("trace")["correct"].astype(float)

    def accuracy(self, arm: str) -> Estimate:
        """Return the accuracy of an arm."""
        part = self._frame[self._frame["arm"] == arm]
        return Estimate.of_mean(part["correct"].to_numpy(float), part["structure"].to_numpy())

    def accuracy_lost(self, arm: str) -> Estimate:
        """Return the accuracy with a problem's own thoughts minus that of an arm."""
        part = self._frame[self._frame["arm"] == arm]
        difference = self.right("own").loc[part["trace"]].to_numpy() - part["correct"].to_numpy(float)
        return Estimate.of_difference(difference, part["structure"].to_numpy())

    def summary(self) -> pd.DataFrame:
        """Return one row for each arm.

        Returns:
            Columns: arm, accuracy, ci, lost (accuracy with own thoughts minus that of the arm), lost_ci, changed, n.
            Intervals are 95 %, grouped by problem structure.
        """
        rows = []
        for arm, part in self._frame.groupby("arm", sort=False):
            accuracy, lost = self.accuracy(str(arm)), self.accuracy_lost(str(arm))
            rows.append(
                {
                    "arm": arm,
                    "accuracy": accuracy.value,
                    "ci": list(accuracy.interval),
                    "lost": lost.value,
                    "lost_ci": list(lost.interval),
                    "changed": part["changed"].mean(),
                    "n": len(part),
                }
            )
        return pd.DataFrame(rows)
