"""Compare: two traces, of one artifact or of two, aligned by place, with one of them as the baseline."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.components.grid import grid
from dashboards.explore import comparing, opening, windows
from dashboards.explore.cells import Scale, pool, with_lock
from dashboards.explore.controls import SAMPLE, beside, spread_over
from dashboards.explore.events import answer
from dashboards.explore.opening import Material
from dashboards.explore.screen import Screen, header, lock_of, packed, row_label
from dashboards.pages import pages_of
from dashboards.views import opened, shared
from dashboards.views.cards import question_html
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.errors import counted
from interp.runtime import palette

_SHOWN = 300  # positions of the table that the page draws


def show() -> None:
    """Draw the page."""
    st.title("Compare")
    view = View()
    opened.with_artifact(view, "compare", lambda artifact: _page(artifact, view))


def _page(artifact: Artifact, view: View) -> None:
    able = [item for item in opened.found().artifacts.values() if "compare" in pages_of(item.kind)]
    able = [item for item in able if item == artifact or opened.facts(item).can_be_shown]
    columns = st.columns([3, 1, 1, 2], vertical_alignment="bottom")
    with columns[0]:
        name = view.choice(
            "Compared with",
            [artifact.name, *(item.name for item in able if item != artifact)],
            "with",
            why_not="nothing that can be compared",
        )
    second = next(item for item in able if item.name == name)
    first_row = _trace(view, columns[1], "Trace", "trace", artifact, 0)
    first = opening.material(artifact, first_row)
    second_row = _trace(view, columns[2], "Other trace", "other", second, _counterpart(first, second, artifact))
    with columns[3]:
        pinned = view.choice(
            "Baseline",
            ["first", "second"],
            "baseline",
            label_of={"first": "the first", "second": "the second"}.__getitem__,
            why_not="neither first nor second",
        )
    pair = ((artifact, first), (second, opening.material(second, second_row)))
    (base_artifact, baseline), (other_artifact, other) = pair if pinned == "first" else pair[::-1]
    _answers(baseline, other)
    _entropies(baseline, other)
    _values(view, base_artifact, other_artifact, baseline, other)
    _states(view, baseline, other)
    view.check_rest()
    _code(artifact, first, second, pair[1][1])


def _trace(view: View, column: Any, label: str, key: str, artifact: Artifact, usual: int) -> int:
    """Draw the choice of a trace and return its row in the file."""
    ids = opened.traces_of(artifact).ids
    rows = {str(number): row for row, number in enumerate(ids.tolist())}
    with column:
        number = view.entry(label, key, str(ids[usual]), lambda text: text in rows, why_not="no trace there")
    return rows[number]


def _counterpart(first: Material, second: Artifact, artifact: Artifact) -> int:
    """Return the row of the trace to compare with: the same problem elsewhere, or the next trace of the same file."""
    file = opened.traces_of(second)
    if second == artifact:
        return (first.row + 1) % len(file)
    return file.row_of_problem(first.trace.problem) or 0


def _answers(baseline: Material, other: Material) -> None:
    left, right = st.columns(2)
    for column, title, material in ((left, "Baseline", baseline), (right, "Other", other)):
        with column:
            st.header(title)
            trace = material.trace
            st.caption(as_text(f"{trace.reasoner}, trace {material.file.ids[material.row]} of {material.file.path}"))
            st.html(question_html(trace))
    if baseline.trace.problem.question != other.trace.problem.question:
        st.info("These are two problems: places are aligned by name, and a difference may be one of the problems.")
    same = baseline.trace.answer == other.trace.answer
    st.markdown(
        as_text(
            f"Answers: {baseline.trace.answer} and {other.trace.answer}, {'the same' if same else 'not the same'}. "
            f"Right: {'yes' if baseline.trace.correct else 'no'} and {'yes' if other.trace.correct else 'no'}."
        )
    )


def _entropies(baseline: Material, other: Material) -> None:
    table = comparing.aligned(baseline, other)
    st.header("What was said at the same places")
    gap = comparing.entropy_gap(table)
    words = [f"Entropy before a token, other minus baseline: {gap}." if gap.n else "No place has an entropy in both."]
    control = _control(baseline, other)
    if gap.n and control is not None:
        usual = comparing.entropy_gap(comparing.aligned(baseline, control))
        words.append(
            f"Control, trace {baseline.file.ids[control.row]} of the baseline's own file minus baseline: {usual}."
        )
        if gap.low <= usual.high and usual.low <= gap.high:
            words.append("The intervals overlap: the two differ no more than two problems do.")
    st.markdown(as_text(" ".join(words)))
    if len(table) > _SHOWN:
        st.caption(
            f"Drawn: the first {_SHOWN} of {counted(len(table), 'position')}. The difference above is over all of them."
        )
    shared.table(table.head(_SHOWN), "aligned", alt="Both traces at the same places, with their entropies")


def _control(baseline: Material, other: Material) -> Material | None:
    """Return a third trace, of the baseline's own file; None where there is none."""
    taken = {baseline.row, other.row if other.file.path == baseline.file.path else baseline.row}
    row = next((k for k in range(min(3, len(baseline.file))) if k not in taken), None)
    return None if row is None else Material(baseline.file, row, opening.trace_of(baseline.file, row), baseline.store)


def _values(view: View, first: Artifact, second: Artifact, baseline: Material, other: Material) -> None:
    """Draw what decoders read at each step, where both are runs that a common decoder read."""
    st.header("What was read at each step")
    if first.kind != "run" or second.kind != "run":
        view.ignore("method")
        missing = first if first.kind != "run" else second
        st.caption(as_text(f"{missing.name} is no run, so no decoder has read it yet. A study reads it:"))
        commands = [
            command for what, command in opened.facts(missing).next if what in ("a study", "a table of decoders")
        ]
        st.code(
            "\n".join(commands) or shlex.join(["cotlens", "study", baseline.trace.reasoner]),
            language="bash",
            wrap_lines=True,
        )
        return
    runs = opened.run_of(first.path), opened.run_of(second.path)
    methods = [method for method in runs[0].methods if method in runs[1].methods]
    if not methods:
        view.ignore("method")
        st.caption("No decoder has read both runs.")
        return
    method = view.choice("Decoder", methods, "method", label_of=palette.label, why_not="no decoder of both")
    numbers = (int(baseline.file.ids[baseline.row]), int(other.file.ids[other.row]))
    table = comparing.read_values(*runs, method, numbers)
    shared.table(table, "values", alt="What the decoder reads at each step of both traces, beside its control")


def _states(view: View, baseline: Material, other: Material) -> None:
    """Draw how close the states are at each layer and place, where they can be compared."""
    st.header("How close their states are")
    why_not = comparing.why_not_comparable(baseline.store, other.store)
    total = len(baseline.trace)
    usual = windows.usual_zoom(total)
    zoom = view.valid("zoom", usual, lambda name: name in windows.ZOOMS, why_not="no zoom")
    start = view.valid(
        "start", "0", lambda text: text.isdecimal() and len(text) < 10 and int(text) < total, why_not="no position"
    )
    text = view.valid(
        "position", "", lambda t: not t or (t.isdecimal() and len(t) < 10 and int(t) < total), why_not="no position"
    )
    layer = view.valid("layer", "", lambda name: len(name) < 200, why_not="no layer here")
    if why_not:
        st.warning(as_text(f"Not drawn: {why_not}."), icon=":material/block:")
        return
    rows, values = comparing.cosines(baseline, other)
    part = windows.window(total, zoom, int(start), affordable=total)
    drawn = _screen(rows, values[:, part.start : part.stop], part)
    segments = opening.segments(baseline, "sentences")
    head = header(baseline.trace, drawn, part, segments, label="cosine of the two states", unit="cosine")
    head["id"], head["view"] = f"{baseline.file.path} {baseline.row} compare", f"{part.zoom} {part.start}"
    lock = lock_of(baseline.trace, drawn, segments, layer, int(text)) if text and layer in rows else None
    grid(with_lock(packed(drawn, head), lock), key="compare_grid", on_event=lambda event: answer(event, drawn, part))
    st.caption(as_text(f"Positions of the baseline. {part.note()}"))
    _state_table(baseline, _control(baseline, other), rows, values)


def _screen(rows: list[str], values: np.ndarray, part: windows.Window) -> Screen:
    pooled, columns = pool(values, part.factor, "farthest")
    first = np.arange(part.start, part.stop, part.factor)
    return Screen(
        rows, pooled, None, part.start + np.minimum(columns, values.shape[1] - 1), first, Scale(-1, 1, True), {}
    )


def _state_table(baseline: Material, control: Material | None, rows: list[str], values: np.ndarray) -> None:
    """Draw the mean cosine of each layer beside that with a third trace, of the baseline's own file."""
    labels, some = [row_label(name) for name in rows], spread_over(np.arange(values.shape[1]))
    if control is None:
        frame = pd.DataFrame(values[:, some], index=labels)
        frame = pd.DataFrame({"mean": frame.mean(axis=1), "positions": frame.notna().sum(axis=1)})
        frame = frame.rename_axis("row").reset_index()
        st.caption("There is no third trace in the baseline's file, so these cosines have no control here.")
    else:
        frame = beside(labels, values[:, some], comparing.cosines(baseline, control)[1][:, some])
        number = baseline.file.ids[control.row]
        st.caption(
            as_text(
                f"Mean cosine over the places that all three traces have (at most {SAMPLE}, evenly spread). Control: trace "
                f"{number} of the baseline's file in place of the other trace. Low and high: 95 % interval of the "
                "difference, over places of these traces."
            )
        )
    shared.table(frame, "cosines", alt="Mean cosine of the two traces at each layer, beside another trace")


def _code(first: Artifact, one: Material, second: Artifact, two: Material) -> None:
    st.header("Code")
    lines = [
        f"{name} = cotlens.TraceSet.part({str(material.file.path)!r}, {material.row}, {material.row + 1})[0]"
        for name, material in (("first", one), ("second", two))
    ]
    shared.copy_as(
        "\n".join(["import cotlens", "", *lines]), shlex.join(["cotlens", "dash", str(first.path), str(second.path)])
    )
