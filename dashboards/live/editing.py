"""Live edits: a thought of a run's problem is exchanged, the model thinks again, and its thoughts are read again."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from dashboards.live.reading import ThoughtReader, locations_of
from dashboards.runs import Run
from interp.errors import StoreError

if TYPE_CHECKING:
    from interp.causal.interchanges.single import ThoughtEdit
    from interp.reasoners import Reasoner


# Edits of the chosen step; the others are controls elsewhere.
_AT_STEP = ("other value", "same value", "random vector")


@dataclass(frozen=True)
class Edit:
    """An edit that a person chose.

    Attributes:
        step: The step whose thought is exchanged, from 1.
        value: The value that the donor holds there.
    """

    step: int
    value: str

    @classmethod
    def parse(cls, text: str) -> Edit | None:
        """Return the edit that a URL names, as `3:7`; None where it names none."""
        step, colon, value = text.partition(":")
        return cls(int(step), value) if colon and value and step.isdecimal() and len(step) < 6 else None

    def __str__(self) -> str:
        return f"{self.step}:{self.value}"


@dataclass(frozen=True)
class Arm:
    """What came of one edit: the chosen one, or a control.

    Attributes:
        name: Name of the edit, such as `other value`.
        step: The step that was edited; None where it was elsewhere.
        where: The place that was edited, such as `thought 3`; empty in a text.
        donor: The donor's question; empty where there is none.
        value: The value that the donor holds at the step; empty where there is none.
        read: What was read in each step afterwards, and the decoder's score, by step.
        wrote: What the model wrote as its thought; empty for silent thoughts.
        answer: The answer.
        followed: Whether it is the answer that the chosen value implies.
        changed: Whether it is another than without the edit.
    """

    name: str
    step: int | None
    where: str
    donor: str
    value: str
    read: dict[int, tuple[str, float]]
    wrote: str
    answer: str
    followed: bool
    changed: bool


@dataclass(frozen=True)
class LiveEdit:
    """An edit with its controls, as a page shows it.

    Attributes:
        edit: What was chosen.
        own: What the model thinks without an edit.
        predicted: The answer if the value is used.
        arms: The chosen edit, then its controls.
        address: Where it was made; empty for a text, whose words are replaced.
        method: The decoder that reads.
        seconds: How long thinking and reading took, the model being loaded.
    """

    edit: Edit
    own: Arm
    predicted: str
    arms: tuple[Arm, ...]
    address: str
    method: str
    seconds: float


class LiveModel:
    """The model of a run, loaded to answer edits.

    Args:
        run: The run.
        method: The decoder that reads thoughts, the probe or the logit lens.
        reasoner: Its model; loaded by default.

    Raises:
        StoreError: The run has no store, or its model has changed since.
        UsageError: The model cannot be loaded.
    """

    def __init__(self, run: Run, method: str, reasoner: Reasoner | None = None) -> None:
        self.run, self.method = run, method
        self.reasoner: Reasoner = run.store.load_reasoner() if reasoner is None else reasoner
        made_by = run.traces[0].weights
        if made_by and made_by != self.reasoner.weights:
            raise StoreError(
                f"expected the model that thought these traces, got {self.reasoner.name} with other weights; make the run "
                "again with the model as it is now."
            )
        self.reader = ThoughtReader(run, method, self.reasoner)
        self.reader.fit()

    def edit(self, trace: int, edit: Edit) -> LiveEdit:
        """Think again about a problem with one thought exchanged, with its controls.

        Args:
            trace: Index of the trace in the run.
            edit: The step and the value.

        Raises:
            UsageError: The step or the value cannot be edited.
        """
        started = time.perf_counter()
        place, done = place_of(self.run, trace, edit.step, self.method), self._edit(trace, edit)
        read = self.reader.read(done.recording)
        arms = [
            self._arm(done, number, row, read[read["trace"] == number])
            for number, row in enumerate(done.table.to_dict("records"))
        ]
        text = self.reasoner.thinks_in_text
        seconds = time.perf_counter() - started
        address = "" if text else place[0]
        return LiveEdit(edit, self._own(trace), done.predicted, tuple(arms), address, self.method, seconds)

    def _edit(self, trace: int, edit: Edit) -> ThoughtEdit:
        from interp import causal

        sites = self.reader.addresses()
        if self.reasoner.thinks_in_text:
            return causal.edit_written_thought(
                self.reasoner, self.run.traces, trace, edit.step, edit.value, sites=sites
            )
        address, offset = place_of(self.run, trace, edit.step, self.method)
        return causal.edit_thought(
            self.reasoner,
            self.run.traces,
            trace,
            edit.step,
            edit.value,
            address=address,
            offset=offset,
            sites=sites,
        )

    def _own(self, trace: int) -> Arm:
        own = self.run.traces[trace]
        rows = self.run.readouts
        rows = rows[(rows["trace"] == trace) & (rows["method"] == self.method)]
        read = {int(r["step"]): (str(r["text"]), float(r["scores"][0])) for r in rows.to_dict("records")}
        return Arm("", None, "", "", "", read, own.text, own.answer, False, False)

    def _arm(self, done: ThoughtEdit, number: int, row: dict[str, Any], read: pd.DataFrame) -> Arm:
        donor, name = int(row["donor"]), str(row["edit"])
        value = row["donor_value"]
        return Arm(
            name=name,
            step=int(row["step"]) if name in _AT_STEP else None,
            where=self.run.traces[int(row["trace"])].places[int(row["target"])] if "target" in row else "",
            donor=done.donors[donor].problem.question if donor >= 0 else "",
            value=value if isinstance(value, str) else "",
            read={int(r["step"]): (str(r["text"]), float(r["score"])) for r in read.to_dict("records")},
            wrote=done.recording.traces[number].text,
            answer=str(row["answer_after"]),
            followed=bool(row["followed"]) and name != "same value",
            changed=bool(row["changed"]),
        )


def place_of(run: Run, trace: int, step: int, method: str) -> tuple[str, int]:
    """Return the address and the offset at which a step is edited: where the decoder read it."""
    for location in locations_of(run, method):
        if step in location.steps:
            return location.address, location.offset
    return locations_of(run, method)[0].address, 0


def python_of(run: Run, trace: int, edit: Edit, method: str, *, text: bool) -> str:
    """Return the Python that makes the same edit."""
    start = "from interp import causal\n\nreasoner = run.store.load_reasoner()\n"
    if text:
        return (
            start + f"edit = causal.edit_written_thought(reasoner, run.traces, {trace}, {edit.step}, {edit.value!r})\n"
            "edit.table"
        )
    address, offset = place_of(run, trace, edit.step, method)
    return (
        f"{start}edit = causal.edit_thought(\n    reasoner, run.traces, {trace}, {edit.step}, {edit.value!r}, "
        f"address={address!r}, offset={offset}\n)\nedit.table"
    )


def command_of(run: Run, trace: int, edit: Edit, method: str, *, text: bool) -> str:
    """Return the command that makes the same edit."""
    traces = run.path / "traces.parquet"
    if not traces.exists():
        traces = run.path / "store" / "traces.parquet"
    model = str(run.store.meta.get("origin", {}).get("source", run.store.meta["reasoner"]["name"]))
    words = ["cotlens", "causal", "edit", model, str(traces), "--trace", str(trace), "--change", str(edit)]
    if not text:
        address, offset = place_of(run, trace, edit.step, method)
        words += ["--address", address] + (["--offset", str(offset)] if offset else [])
    return shlex.join(words)
