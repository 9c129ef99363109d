"""The grid of the trace explorer, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.components.grid import grid
from dashboards.explore import opening, windows
from dashboards.explore.below import draw_below
from dashboards.explore.card_drawing import draw_card
from dashboards.explore.cells import with_lock
from dashboards.explore.choosing import NONE, Choice, identity, sources_of
from dashboards.explore.events import answer
from dashboards.explore.lens import affordable_positions
from dashboards.explore.lenses import can_be_opened
from dashboards.explore.read_outs import READ_OUTS, Pair, ReadOut, Sources
from dashboards.explore.screen import (
    Screen,
    as_table,
    header,
    hidden_positions,
    lock_of,
    packed,
    row_label,
    screen,
)
from dashboards.explore.segments import Segment
from dashboards.explore.windows import Window, usual_zoom, window
from dashboards.views import opened, shared
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.errors import CotlensError, counted

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_BYTES = 256e6  # of activations that a view may read
_VIEWS = 6  # that are kept, for all readers
GRID = "explorer_grid"


@dataclass(frozen=True)
class Drawing:
    """Everything about one view of a trace.

    Attributes:
        choice: What was chosen.
        pair: The reading and what it is compared with.
        part: The window.
        cells: What is on screen.
    """

    choice: Choice
    pair: Pair
    part: Window
    cells: Screen


def draw(artifact: Artifact, choice: Choice, view: View) -> None:
    """Draw the grid and everything below it.

    Args:
        artifact: What is open.
        choice: What the controls chose.
        view: The page's parameters.
    """
    choice, model = _with_model(choice)
    if choice.material.store is None:
        _without_activations(artifact, choice)
    if choice.key.partition("@")[0] == "token":
        _say_token(choice, model)
    part = _window(view, choice, model)
    _cells(artifact, choice, view, model is not None, part)
    view.check_rest()
    draw_below(artifact, choice, model is not None, part)


# A locked cell draws this part again and not the whole page. What it is given is kept as long as the page is open, so the
# model is not among it.
@st.fragment
def _cells(artifact: Artifact, choice: Choice, view: View, needs_model: bool, part: Window) -> None:
    """Draw the grid, what is said of it, and the card of the locked cell."""

    def draw_part() -> None:
        store = choice.material.store
        model = opening.model_of(store) if needs_model and store is not None else None
        if _window(view, choice, model) != part:  # the reader moved or zoomed, which concerns the rest of the page too
            st.rerun()
        _grid_and_card(choice, view, sources_of(choice, model), part)

    opened.guarded(artifact, draw_part)


def _grid_and_card(choice: Choice, view: View, pair: Pair, part: Window) -> None:
    cells = _screen(identity(choice, part), pair, choice, part)
    drawing = Drawing(choice, pair, part, cells)
    position, row = _locked(view, drawing)
    _grid(drawing, position, row)
    st.caption(as_text(_notes(drawing)))
    if view.flag("Show what is on screen as a table", "table"):
        shared.table(as_table(choice.material.trace, cells), "on-screen", alt="The cells on screen, one row a position")
    if position is not None and row is not None:
        draw_card(choice, pair, row, position)


def _with_model(choice: Choice) -> tuple[Choice, opening.Model | None]:
    """Return the choice and the model that it needs; another read-out where the model cannot be had."""
    store = choice.material.store
    if not choice.reads_model or store is None:
        return choice, None
    slot = st.empty()
    if not opening.is_in_memory(store):
        try:
            with slot:
                _meanwhile(choice)
        except CotlensError:
            slot.empty()
            raise
    model = opening.model_of(store)
    slot.empty()
    if model.reasoner is not None:
        return _with_lenses(choice, model.reasoner), model
    st.info(
        as_text(f"The lens needs the model, which cannot be used: {model.why_not} Shown instead: the length of states.")
    )
    versus = choice.versus if choice.versus == "other" else NONE
    return replace(choice, key="norm", read_out=READ_OUTS["norm"], versus=versus, other=None), None


def _with_lenses(choice: Choice, reasoner: Reasoner) -> Choice:
    """Return the choice with the logit lens in place of fitted lenses that cannot be used; say why, and what is assumed."""
    if not _opens(choice.read_out, choice.key, reasoner):
        plain = choice.key.partition("@")[0]
        choice = replace(choice, key=plain, read_out=READ_OUTS[plain])
    if choice.other is not None and not _opens(choice.other, choice.versus, reasoner):
        plain = choice.versus.partition("@")[0]
        choice = replace(choice, versus=plain, other=READ_OUTS[plain])
    return choice


def _opens(read_out: ReadOut, key: str, reasoner: Reasoner) -> bool:
    """Return whether the lens of a read-out can be used, if it has one."""
    instead = READ_OUTS[key.partition("@")[0]].label
    return read_out.lens is None or can_be_opened(read_out.lens, reasoner, instead)


def _meanwhile(choice: Choice) -> None:
    """Draw the transcript beside the length of states, which needs no model, while the model is loaded."""
    plain = replace(choice, key="norm", read_out=READ_OUTS["norm"], versus=NONE, other=None, show="reading")
    total = len(choice.material.trace)
    part = window(total, usual_zoom(total), 0, affordable=_affordable(plain, None))
    pair = sources_of(plain, None)
    with st.container():
        st.caption("The model is being loaded for the lens. Until then: the length of states.")
        _grid(
            Drawing(plain, pair, part, _screen(identity(plain, part), pair, plain, part)), None, None, key="meanwhile"
        )


def _without_activations(artifact: Artifact, choice: Choice) -> None:
    """Say why only the transcript can be shown, and the command for the rest."""
    st.info(as_text(f"Shown: transcript, entropy and surprisal. For layers, {choice.material.why_not}."))
    opened.draw_command_for_activations(artifact)


def _say_token(choice: Choice, model: opening.Model | None) -> None:
    from dashboards.explore.choosing import token_id

    if not choice.token:
        st.info("Write a token above; until then the token that is said next is looked for.")
    elif token_id(choice, model) < 0:
        st.warning(
            as_text(
                f"{choice.token} is no single token of this vocabulary. Shown instead: the token that is said next."
            )
        )


def _window(view: View, choice: Choice, model: opening.Model | None) -> Window:
    """Return the window that the URL asks for."""
    material, total = choice.material, len(choice.material.trace)
    zoom = view.valid("zoom", usual_zoom(total), lambda name: name in windows.ZOOMS, why_not="no zoom")
    captured = np.flatnonzero(material.rows >= 0)
    usual = str(max(int(captured[0]) - 8, 0) if len(captured) and zoom == "tokens" else 0)
    start = view.valid("start", usual, lambda text: _is_position(text, total), why_not="no position of this trace")
    return window(total, zoom, int(start), affordable=_affordable(choice, model))


def _affordable(choice: Choice, model: opening.Model | None) -> int:
    store = choice.material.store
    if store is None or choice.read_out.needs == "trace":
        return len(choice.material.trace)
    if model is not None and model.reasoner is not None:
        return affordable_positions(model.reasoner, len(store.addresses))
    return max(8, int(_BYTES / (4 * store.meta["d_model"] * len(store.addresses))))


def _is_position(text: str, total: int) -> bool:
    return text.isdecimal() and len(text) < 10 and int(text) < total


# A view of a long trace takes some two megabytes, and as much again as bytes for the browser.
@st.cache_resource(max_entries=_VIEWS, show_spinner="Reading …")
def _screen(identity: tuple[Any, ...], _pair: Pair, _choice: Choice, _part: Window) -> Screen:
    lengths = None
    if _choice.sinks and _choice.material.store is not None:
        lengths = _middle_lengths(_pair.reading, _part)
    hidden = hidden_positions(_choice.material.trace, lengths, special=_choice.special, sinks=_choice.sinks)
    return screen(_pair, _choice.show, _part, hidden)


def _middle_lengths(sources: Sources, part: Window) -> np.ndarray:
    """Return how long the states of the middle address are, in doublings over their median; NaN where not on screen."""
    assert sources.store is not None
    ordered = sorted(sources.store.addresses, key=lambda address: address.depth)
    middle = ordered[len(ordered) // 2]
    known = part.positions[sources.at[part.positions] >= 0]
    lengths = np.full(len(sources.trace), np.nan)
    if len(known):
        norms = np.linalg.norm(sources.store.acts(middle, sources.at[known]), axis=1)
        lengths[known] = np.log2(np.maximum(norms, 1e-12) / max(float(np.median(norms)), 1e-12))
    return lengths


def _locked(view: View, drawing: Drawing) -> tuple[int | None, str | None]:
    """Return position and row of the locked cell, as the URL names them."""
    total, rows = len(drawing.choice.material.trace), drawing.cells.rows
    text = view.valid(
        "position", "", lambda text: not text or _is_position(text, total), why_not="no position of this trace"
    )
    usual = rows[0] if rows else ""
    row = view.valid("layer", usual, lambda name: name in rows, why_not="no layer here")
    return (int(text), row) if text and rows else (None, None)


def _grid(drawing: Drawing, position: int | None, row: str | None, *, key: str = GRID) -> None:
    choice, part, cells = drawing.choice, drawing.part, drawing.cells
    parts = opening.segments(choice.material, choice.unit)
    label, unit = _label(drawing), choice.read_out.unit
    lock = None
    if position is not None and row is not None:
        lock = lock_of(choice.material.trace, cells, parts, row, position)
    st.markdown(f"**{as_text(label[:1].upper() + label[1:])}** ({as_text(unit)})")
    content = _packed((*identity(choice, part), choice.unit, choice.number), drawing, parts, label)
    grid(with_lock(content, lock), key=key, on_event=lambda event: answer(event, cells, part))


def _label(drawing: Drawing) -> str:
    """Return what the cells show, in words."""
    read_out, label = drawing.choice.read_out.label, drawing.pair.label
    return {"reading": read_out, "control": label}.get(drawing.choice.show, f"{read_out} minus {label}")


@st.cache_resource(max_entries=_VIEWS, show_spinner=False)
def _packed(identity: tuple[Any, ...], _drawing: Drawing, _parts: list[Segment], _label: str) -> bytes:
    choice, part, cells = _drawing.choice, _drawing.part, _drawing.cells
    head = header(choice.material.trace, cells, part, _parts, label=_label, unit=choice.read_out.unit)
    head["id"] = f"{choice.material.file.path} {choice.number} {choice.unit}"
    head["view"] = f"{part.zoom} {part.start}"
    return packed(cells, head)


def _notes(drawing: Drawing) -> str:
    """Say what a column is, what was not computed and what is hidden."""
    part, cells, material = drawing.part, drawing.cells, drawing.choice.material
    notes = [f"Positions {part.start:,} to {part.stop - 1:,} of {part.total:,}, {counted(len(cells.rows), 'row')}"]
    notes += [part.note()] if part.note() else []
    notes += [f"hidden: {count:,} {why}" for why, count in cells.hidden.items()]
    if material.store is not None and drawing.choice.read_out.needs != "trace":
        missing = int((material.rows[part.start : part.stop] < 0).sum())
        notes += [f"{missing:,} of them were not captured (crossed out)"] if missing else []
    empty = [row_label(name) for name, row in zip(cells.rows, cells.values, strict=True) if not np.isfinite(row).any()]
    if drawing.choice.reads_model and 0 < len(empty) < len(cells.rows):
        notes.append(f"the lens was not fitted at {', '.join(empty)}")
    notes.append(f"one of 255 shades is {2 * cells.scale.error:.2g} wide")
    return "; ".join(notes) + "."
