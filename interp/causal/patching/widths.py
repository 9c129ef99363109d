"""How many tokens of a visible thought write a step's value: a value is exchanged whole, for one of as many tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.text.units import occurrences, units_of
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_LONGEST = 16  # tokens that one value is looked for in


class ValueWidths:
    """The number of tokens that write the value of each step of some traces; 1 where it is no written value.

    Args:
        traces: The traces.
        tokenizer: Their tokenizer.
    """

    def __init__(self, traces: Sequence[Trace], tokenizer: Any) -> None:
        self._traces, self._tokenizer = traces, tokenizer
        self._known: dict[tuple[int, int], int] = {}

    def of(self, trace: int, step: int) -> int:
        """Return the number of tokens of a step's value, up to the position where it is complete.

        Args:
            trace: Index of the trace.
            step: Number of the step, from 1.
        """
        if (trace, step) not in self._known:
            self._known[trace, step] = self._width(self._traces[trace], step)
        return self._known[trace, step]

    def ends_at(self, row: dict[str, Any]) -> bool:
        """Return whether a swap is at the last token of a value, or at the position that writes it."""
        positions, step = self._traces[row["trace"]].value_positions, row["at_step"]
        return step <= len(positions) and positions[step - 1] - row["target"] in (0, 1)

    def _width(self, trace: Trace, step: int) -> int:
        end = trace.value_positions[step - 1] if step <= len(trace.value_positions) else -1
        value = units_of(trace.problem.steps[step - 1].value) if step <= trace.problem.n_steps else []
        if end < 0 or not value:
            return 1
        for width in range(1, min(_LONGEST, end + 1) + 1):
            if not trace.thought[end - width + 1]:
                break
            written = self._tokenizer.decode(trace.token_ids[end - width + 1 : end + 1], skip_special_tokens=False)
            if occurrences(units_of(written), value):
                return width
        return 1


def widths_of_steps(reasoner: Reasoner, traces: Sequence[Trace], offset: int) -> Callable[[int, int], int]:
    """Return the function that gives the number of tokens of a step's value, from the indices of trace and step.

    Args:
        reasoner: The reasoner of the traces.
        traces: The traces.
        offset: Thoughts after the step's last one. Only offsets 0 and -1 are at a written value; others have width 1,
            and so have thoughts that are not text.
    """
    if offset not in (-1, 0) or not reasoner.thinks_in_text:
        return lambda trace, step: 1
    return ValueWidths(traces, reasoner.tokenizer).of


class WholeValues:
    """Swaps of whole written values, for donors' of as many tokens; other places are swapped position by position.

    Args:
        reasoner: The reasoner that is edited.
        traces: The recipients.
        donors: The traces that give states.
        offset: Thoughts after the step's last one at which it is edited.
    """

    def __init__(self, reasoner: Reasoner, traces: Sequence[Trace], donors: Sequence[Trace], offset: int) -> None:
        self._is_written = offset in (-1, 0) and reasoner.thinks_in_text
        self._widths, self._given = (ValueWidths(of, reasoner.tokenizer) for of in (traces, donors))

    def fits(self, trace: int, donor: int, step: int) -> bool:
        """Return whether a donor's value of a step can be put in place of a recipient's."""
        return not self._is_written or self._widths.of(trace, step) == self._given.of(donor, step)

    def widened(self, plan: pd.DataFrame) -> pd.DataFrame:
        """Return a plan whose swaps go over all tokens of a written value, as `whole_values` does."""
        return whole_values(plan, self._widths) if self._is_written else plan


def whole_values(plan: pd.DataFrame, widths: ValueWidths) -> pd.DataFrame:
    """Return a plan in which swaps at a value's last token go on over its other tokens, in the same run.

    The position before the last token writes it, so swaps there go on over those that write the other tokens.

    Args:
        plan: The table of `plan_swaps`, of swaps between values of as many tokens.
        widths: Widths of the recipients' values.
    """
    rows = []
    for row in plan.to_dict("records"):
        at_value = row["edit"] in ("other value", "same value", "wrong step", "random vector", "random subspace")
        width = widths.of(row["trace"], row["at_step"]) if at_value and widths.ends_at(row) else 1
        rows += [{**row, "target": row["target"] - k, "source": row["source"] - k} for k in range(width)]
    return pd.DataFrame(rows, columns=plan.columns)
