"""The report of loading a model: each property, and how it was determined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

# read: from the model's files; recognised: by a known pattern; chosen: by a rule of this project; given: by the user;
# checked: by running the model; assumed: a default, as nothing determines it; unknown: not determined.
How = Literal["read", "recognised", "chosen", "given", "checked", "assumed", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One property of a model.

    Attributes:
        what: Name of the property.
        value: Its value.
        how: How the value was determined.
        note: Details, or what to do where the value is not certain.
    """

    what: str
    value: str
    how: How
    note: str = ""


@dataclass
class LoadReport:
    """All properties that `load` determined, in order."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, value: object, how: How, note: str = "") -> None:
        """Append a property."""
        self.findings.append(Finding(what, str(value), how, note))

    @property
    def unsure(self) -> list[Finding]:
        """Properties that are assumed or unknown."""
        return [finding for finding in self.findings if finding.how in ("assumed", "unknown")]

    def table(self) -> pd.DataFrame:
        """Return one row for each property: what, value, how, note."""
        rows = [(finding.what, finding.value, finding.how, finding.note) for finding in self.findings]
        return pd.DataFrame(rows, columns=["what", "value", "how", "note"])

    def line(self) -> str:
        """Return the properties that are assumed or unknown as one line; empty where there are none."""
        parts = [f"{item.what}: {item.value}" + (f" ({item.note})" if item.note else "") for item in self.unsure]
        return "; ".join(parts)

    def assumptions(self) -> dict[str, str]:
        """Return the value of each property that is assumed, by its name."""
        return {finding.what: finding.value for finding in self.findings if finding.how == "assumed"}
