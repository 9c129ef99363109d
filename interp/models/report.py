"""What loading a model found out, and how: read, recognised, assumed, or not determined at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

# read: from the model's own files; recognised: by a known pattern; chosen: by this project's rule; given: by hand;
# checked: by running the model; assumed: nothing says so; unknown: it could not be determined.
How = Literal["read", "recognised", "chosen", "given", "checked", "assumed", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing about a model: what, its value, how that is known, and what to do where it is not."""

    what: str
    value: str
    how: How
    note: str = ""


@dataclass
class LoadReport:
    """Everything that `interp.load` found out about a model, in the order in which it did."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, value: object, how: How, note: str = "") -> None:
        self.findings.append(Finding(what, str(value), how, note))

    @property
    def unsure(self) -> list[Finding]:
        """What was only assumed, or could not be determined."""
        return [each for each in self.findings if each.how in ("assumed", "unknown")]

    def table(self) -> pd.DataFrame:
        """One row for each finding: what, value, how, note."""
        rows = [(each.what, each.value, each.how, each.note) for each in self.findings]
        return pd.DataFrame(rows, columns=["what", "value", "how", "note"])

    def line(self) -> str:
        """What the person should know before they trust the result, or nothing."""
        said = [f"{each.what}: {each.value}" + (f" ({each.note})" if each.note else "") for each in self.unsure]
        return "; ".join(said)
