"""The result of an interchange: its swaps, their rates, and a verdict where the sample supports one.

The verdict is about one value at one location: the steps' values at the address and offset that were edited, one thought
at a time. "Not used here" does not say that thoughts are not used. The model may take the value from another thought or
address, or from several thoughts that hold it too, and thoughts may hold something else. Whether answers need the
content of the thoughts at all, all of them together, is what the ablation battery decides (`interp.causal.content`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from interp.models.address import Address
from interp.statistics.estimates import Estimate

EDITS = ("other value", "same value", "wrong site", "wrong step", "random vector")
# Carried out only when they are named.
MORE_EDITS = ("transplant", "random subspace")
# Limits of the verdict. Corruption is reported with the verdict and does not decide it. A share of answers above chance
# counts from the same margin as a difference of accuracy does in `content_or_compute`.
SUFFICIENT, COMPETITOR, CORRUPTION, SAME_VALUE, PARTLY = 0.80, 0.25, -0.50, 0.10, 0.10
# What each verdict claims; {location} is where the steps were edited.
CLAIMS = {
    "used": "answers take the step's value from the step's thought ({location})",
    "partly used": "some answers take the step's value from its thought ({location}) and others do not",
    "not used here": "answers do not take the step's value from the step's thought ({location}) alone; other thoughts, "
    "addresses and offsets were not tested, and neither was whether thoughts matter at all: --map, --used-map, "
    "`causal ablate`",
    "damaged": "what the step's thought ({location}) holds is needed, but it is more than the step's value",
    "undecided": "nothing is claimed",
}
SUMMARY_COLUMNS = [
    *("edit", "step", "follow_rate", "ci_low", "ci_high", "chance"),
    *("change_rate", "change_low", "change_high", "n"),
]
MAP_COLUMNS = [
    *("address", "label", "offset", "followed", "followed_ci", "chance"),
    *("same_value_changed", "same_value_ci", "n"),
]
# Column and edit names of tables that were saved before version 0.2.
_OLD_COLUMNS = {"kind": "edit", "read": "value", "donor_read": "donor_value"}
_OLD_EDITS = {"random": "random vector"}


@dataclass(frozen=True)
class Verdict:
    """What an interchange shows.

    Attributes:
        name: `used`, `partly used`, `not used here`, `damaged` or `undecided`.
        why: The reason, in one clause.
        claim: What the verdict claims, in one sentence.
    """

    name: str
    why: str
    claim: str = field(default="", compare=False)


@dataclass(frozen=True)
class Contract:
    """The figures of the counterfactual contract.

    Attributes:
        sufficiency: Share of answers that become what the donor's value implies. At least 0.80 for `used`.
        competitor: The same after a swap at a wrong place, the larger of wrong site and wrong step. At most 0.25.
        matched_corruption: Minus the share of answers that a random vector of the same length changes.
    """

    sufficiency: Estimate
    competitor: Estimate
    matched_corruption: Estimate

    def items(self) -> list[tuple[str, Estimate]]:
        """Return (name, estimate) pairs for tables."""
        return [
            ("sufficiency", self.sufficiency),
            ("competitor", self.competitor),
            ("matched corruption", self.matched_corruption),
        ]


class InterchangeResult:
    """The swaps of an interchange and the answers after them.

    Attributes:
        location: Where the steps were edited, as text.
        donors: Where the donors came from: `others`, `rewrites` or `read-outs`.
        method: The decoder whose read-outs gave values and places; None where none did.
    """

    def __init__(self, frame: pd.DataFrame, location: str, donors: str, method: str | None = None) -> None:
        self._frame, self.location, self.donors, self.method = frame, location, donors, method

    def table(self) -> pd.DataFrame:
        """Return one row for each swap.

        Returns:
            Columns: trace, step, donor (-1 for a random vector), edit, value, donor_value, predicted (the answer that
            the donor's value implies), structure, n_steps, address, offset, target and source (positions),
            answer_before, answer_after, followed (the answer is the predicted one), changed, chance (how often an
            answer drawn at random would follow).
        """
        return self._frame

    def rate(self, edit: str, column: str = "followed", step: int | None = None) -> Estimate:
        """Return the mean of a column over the swaps of one edit.

        Args:
            edit: Name of the edit, such as `other value`.
            column: `followed`, `changed` or `chance`.
            step: Only this step. Default: all steps.

        Returns:
            The mean with a 95 % interval that resamples problem structures; NaN with n = 0 where there is no swap. A
            random vector can be followed only where a donor of another value says what that would be: `followed` and
            `chance` are over these swaps, `changed` over all.
        """
        part = self._frame[self._frame["edit"] == edit] if column == "changed" else self._followable(edit)
        return _rate(part if step is None else part[part["step"] == step], column)

    def _followable(self, edit: str) -> pd.DataFrame:
        """Return the swaps of an edit, without random vectors for which no answer is predicted."""
        part = self._frame[self._frame["edit"] == edit]
        return part[part["predicted"].notna()] if edit == "random vector" else part

    def summary(self) -> pd.DataFrame:
        """Return follow, chance and change rates for each edit and step.

        Returns:
            Columns: edit, step (0 is all steps), follow_rate, ci_low, ci_high, chance, change_rate, change_low,
            change_high, n. Intervals are 95 %, grouped by problem structure. n counts all swaps of the edit.
        """
        rows = []
        for edit in dict.fromkeys(self._frame["edit"]):
            steps = self._frame.loc[self._frame["edit"] == edit, "step"].unique()
            for step in [0, *sorted(steps)]:
                follow, change = (self.rate(edit, column, step or None) for column in ("followed", "changed"))
                chance = self.rate(edit, "chance", step or None).value
                rows.append(
                    (
                        *(edit, int(step), follow.value, *follow.interval, chance),
                        *(change.value, *change.interval, change.n),
                    )
                )
        return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)

    def contract(self) -> Contract:
        """Return sufficiency, competitor and matched corruption."""
        wrong = [self.rate(edit) for edit in ("wrong site", "wrong step")]
        measured = [rate for rate in wrong if rate.n]
        lost = self.rate("random vector", "changed")
        return Contract(
            sufficiency=self.rate("other value"),
            competitor=max(measured, key=lambda rate: rate.value) if measured else wrong[0],
            matched_corruption=Estimate(-lost.value, -lost.high, -lost.low, lost.n),
        )

    def verdict(self) -> Verdict:
        """Decide whether the value is used at this location, where the intervals can decide.

        Returns:
            `used`: answers follow donors of another value, stay with donors of the same value, and do not follow
            swaps at wrong places. `partly used`: fewer than 80 % follow, but more than by chance and more than after
            swaps at wrong places. `not used here`: at most 10 % more follow than by chance. `damaged`: donors of the
            same value change answers too, so the state holds more than the value. `undecided`: an interval contains its
            limit, or a control is missing.
        """
        verdict = self._verdict()
        return replace(verdict, claim=CLAIMS[verdict.name].format(location=self.location))

    def _verdict(self) -> Verdict:
        contract = self.contract()
        sufficiency, competitor = contract.sufficiency, contract.competitor
        same = self.rate("same value", "changed")
        if not sufficiency.n:
            return Verdict("undecided", "no donor of another value")
        if sufficiency.low >= SUFFICIENT:
            return _of_followed(competitor, same)
        if sufficiency.high >= SUFFICIENT:
            return Verdict("undecided", f"the interval of sufficiency contains {SUFFICIENT}: take more problems")
        if same.n and same.low > SAME_VALUE:
            return Verdict(
                "damaged", "donors of the same value change answers too: the state holds more than the value"
            )
        return _of_some_followed(sufficiency, competitor, self.above_chance())

    def above_chance(self, edit: str = "other value") -> Estimate:
        """Return the share of answers that follow minus the share that would by chance.

        Args:
            edit: Name of the edit.

        Returns:
            The difference with a 95 % interval that resamples problem structures.
        """
        part = self._followable(edit)
        return Estimate.of_difference(
            part["followed"].to_numpy(float) - part["chance"].to_numpy(float), part["structure"].to_numpy()
        )

    def map(self) -> pd.DataFrame:
        """Return one row for each address and offset.

        Returns:
            Columns: address, label, offset, followed, followed_ci, chance, same_value_changed, same_value_ci, n.
        """
        rows = []
        for (address, offset), part in self._frame.groupby(["address", "offset"], sort=False):
            other, same = (part[part["edit"] == edit] for edit in ("other value", "same value"))
            followed, changed = _rate(other, "followed"), _rate(same, "changed")
            label = Address(address).label if "." in address else address  # `everything` and `cache` have no hook name
            chance = _rate(other, "chance").value
            follow = (followed.value, list(followed.interval), chance)
            rows.append((address, label, offset, *follow, changed.value, list(changed.interval), followed.n))
        return pd.DataFrame(rows, columns=MAP_COLUMNS)


def combine(results: Sequence[InterchangeResult]) -> InterchangeResult:
    """Return one result with the swaps of several, such as those of all addresses."""
    frame = pd.concat([result.table() for result in results], ignore_index=True)
    locations = ", ".join(dict.fromkeys(result.location for result in results))
    return InterchangeResult(frame, locations, results[0].donors, results[0].method)


def with_current_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return a saved table, or the summary of one, with the column and edit names of this version.

    Args:
        table: A table that this or an earlier version saved.

    Returns:
        The table, with old names replaced.
    """
    table = table.rename(columns=_OLD_COLUMNS)
    return table.assign(edit=table["edit"].replace(_OLD_EDITS)) if "edit" in table else table


def _rate(part: pd.DataFrame, column: str) -> Estimate:
    return Estimate.of_mean(part[column].to_numpy(float), part["structure"].to_numpy())


def _of_followed(competitor: Estimate, same: Estimate) -> Verdict:
    """Return the verdict where answers follow donors of another value."""
    if competitor.n and competitor.high > COMPETITOR:
        return Verdict("undecided", f"the same swap at a wrong place may be followed as well (limit {COMPETITOR})")
    if not same.n:
        return Verdict("undecided", "no donors of the same value, so damage cannot be distinguished from content")
    if same.high <= SAME_VALUE:
        return Verdict("used", "answers follow the donor's value and stay when it is the same")
    if same.low > SAME_VALUE:
        return Verdict("damaged", "donors of the same value change answers too: the state holds more than the value")
    return Verdict("undecided", f"the interval of same-value changes contains {SAME_VALUE}: take more problems")


def _of_some_followed(sufficiency: Estimate, competitor: Estimate, above_chance: Estimate) -> Verdict:
    """Return the verdict where fewer answers follow than `used` needs."""
    if above_chance.high < PARTLY:
        return Verdict("not used here", f"fewer than {PARTLY:.0%} of answers follow beyond chance")
    if above_chance.low <= PARTLY:
        return Verdict("undecided", f"the interval of the share beyond chance contains {PARTLY}: take more problems")
    if competitor.n and competitor.high >= sufficiency.low:
        return Verdict("undecided", "about as many answers may follow the same swap at a wrong place")
    return Verdict("partly used", f"{sufficiency.value:.0%} of answers follow, fewer than {SUFFICIENT:.0%}")
