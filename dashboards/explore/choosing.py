"""The controls of the trace explorer, and what they choose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.explore import controls, opening, pins
from dashboards.explore.lenses import Lens, lens_name, lenses_for, not_offered
from dashboards.explore.opening import Material
from dashboards.explore.read_outs import READ_OUTS, Pair, ReadOut, Sources
from dashboards.explore.saved import Saved, read_out_of, saved_for
from dashboards.explore.screen import SHOWS
from dashboards.explore.segments import UNITS
from dashboards.explore.windows import Window
from dashboards.views import opened
from dashboards.views.shared import as_text
from dashboards.views.url import View, go
from interp.errors import counted

NONE = "none"
# Cells up to which the lens is shown at once; longer traces begin with a read-out that needs no model.
SMALL = 20_000
_SHOW_LABELS = {"reading": "the reading", "control": "what it is compared with", "difference": "the difference"}


@dataclass(frozen=True)
class Choice:
    """What the explorer is to show.

    Attributes:
        material: The trace, with its activations where there are any.
        number: Number of the trace, as the URL names it.
        unit: What the transcript is cut into.
        key: Name of the read-out.
        read_out: The read-out.
        versus: What it is compared with: a control, a read-out of the same unit, or `NONE`.
        show: One of `SHOWS`.
        special: Whether special tokens are left out.
        sinks: Whether sinks are left out.
        saved: Probes and SAEs of the same model.
        lenses: Fitted lenses of the same model.
        other: The read-out that it is compared with; None for a control or nothing.
        token: Text of the token that is looked for; empty for none.
        feature: Number of an SAE's feature; None for the most active one.
    """

    material: Material
    number: str
    unit: str
    key: str
    read_out: ReadOut
    versus: str
    show: str
    special: bool
    sinks: bool
    saved: list[Saved]
    token: str
    feature: int | None
    lenses: list[Lens] = field(default_factory=list)
    other: ReadOut | None = None

    @property
    def reads_model(self) -> bool:
        """Whether the model is needed for what is shown."""
        return self.read_out.needs == "model" or self.other is not None


def choose(artifact: Artifact, view: View) -> Choice:
    """Draw the controls and return what they choose."""
    first, second = st.container(), st.container()
    with first:
        columns = st.columns([1, 2, 1, 3, 5], vertical_alignment="bottom")
    number, row = _trace(artifact, view, columns)
    material = opening.material(artifact, row)
    with columns[3]:
        unit = view.choice("Transcript in", UNITS, "unit", why_not="neither sentences nor steps")
    saved, notes = saved_for(material.store) if material.store else ([], [])
    lenses, refused = lenses_for(material.store) if material.store else ([], {})
    options = _options(material, saved, lenses)
    why_not = material.why_not or refused.get(lens_name(st.query_params.get("readout", "")), "")
    with second:
        columns = st.columns([4, 4, 3, 3], vertical_alignment="bottom")
    with columns[0]:
        key = view.choice(
            "Read-out",
            list(options),
            "readout",
            default=_usual(material),
            label_of=lambda name: options[name].label,
            why_not="no read-out that this has" + (f" ({why_not})" if why_not else ""),
        )
    read_out = options[key]
    versus, show = _versus(view, columns, material, options, key)
    with columns[3]:
        special = view.flag("Hide special tokens", "special")
        sinks = view.flag("Hide sinks", "sinks", help="The first position, and states far longer than usual.")
    token, feature = _details(view, key)
    for note in filter(None, [*notes, not_offered(refused)]):
        st.caption(as_text(note))
    chosen = Choice(material, number, unit, key, read_out, versus, show, special, sinks, saved, token, feature)
    return replace(chosen, lenses=lenses, other=options.get(versus))


def _trace(artifact: Artifact, view: View, columns: list[st.delta_generator.DeltaGenerator]) -> tuple[str, int]:
    """Draw the choice of the trace, and return its number and its row in the file."""
    ids = opened.traces_of(artifact).ids
    names = {str(number): row for row, number in enumerate(ids.tolist())} if len(ids) < 1000 else None

    def row_of(text: str) -> int | None:
        if names is not None:
            return names.get(text)
        if not text.isdecimal() or len(text) > 18:
            return None
        rows = np.flatnonzero(ids == int(text))
        return int(rows[0]) if len(rows) else None

    with columns[1]:
        number = view.entry(
            "Trace",
            "trace",
            str(ids[0]),
            lambda text: row_of(text) is not None,
            why_not="no trace here",
            help=f"{counted(len(ids), 'trace')}, numbered {ids.min()} to {ids.max()}.",
        )
    row = row_of(number)
    assert row is not None
    for column, label, by in ((columns[0], "Previous", -1), (columns[2], "Next", 1)):
        there = 0 <= row + by < len(ids)
        target = str(ids[row + by]) if there else number
        column.button(label, disabled=not there, on_click=_go_to, args=(target,), width="stretch", key=f"to_{label}")
    return number, row


def _go_to(number: str) -> None:
    """Show another trace; a part and a cell of this one mean nothing there."""
    go("trace", number)
    for key in ("start", "position", "layer"):
        go(key, None)


def _options(material: Material, saved: list[Saved], lenses: list[Lens]) -> dict[str, ReadOut]:
    """Return the read-outs that this trace can have."""
    if material.store is None:
        return {"said": READ_OUTS["said"]}
    fitted = {key: read_out for lens in lenses for key, read_out in lens.read_outs().items()}
    return READ_OUTS | fitted | {item.key: read_out_of(item) for item in saved}


def _usual(material: Material) -> str:
    if material.store is None:
        return "said"
    return "top1" if len(material.trace) * len(material.store.addresses) <= SMALL else "norm"


def _versus(
    view: View,
    columns: list[st.delta_generator.DeltaGenerator],
    material: Material,
    options: dict[str, ReadOut],
    key: str,
) -> tuple[str, str]:
    """Draw what the read-out is compared with, and which of both is shown."""
    read_out = options[key]
    names = [controls.OTHER] if len(material.file) > 1 else []
    names += [controls.RANDOM] if read_out.random_control else []
    same = [name for name in options if name != key and options[name].unit == read_out.unit]
    # A probe reads one address, and what was said none: they have other rows.
    same = [name for name in same if options[name].needs == "model"] if read_out.needs == "model" else []
    labels = controls.LABELS | {name: options[name].label for name in same} | {NONE: "nothing: this trace is alone"}
    with columns[1]:
        versus = view.choice(
            "Compared with",
            [*names, *same] or [NONE],
            "versus",
            label_of=labels.__getitem__,
            why_not="nothing that this read-out can be compared with",
        )
    with columns[2]:
        show = view.choice(
            "Show", SHOWS, "show", label_of=_SHOW_LABELS.__getitem__, why_not="neither reading, control nor difference"
        )
    return versus, show


def _details(view: View, key: str) -> tuple[str, int | None]:
    """Draw the choice of a token or a feature, where the read-out has one."""
    token, feature = "", None
    if key.partition("@")[0] == "token":
        token = view.text("Token", "token", placeholder="a token of the vocabulary, such as 7")
    else:
        view.ignore("token")
    if key.startswith("sae:"):
        text = view.entry(
            "Feature",
            "feature",
            "",
            lambda text: not text or text.isdecimal(),
            why_not="no number of a feature",
            help="Empty for the most active feature of each position.",
        )
        feature = int(text) if text else None
    else:
        view.ignore("feature")
    return token, feature


def sources_of(choice: Choice, model: opening.Model | None) -> Pair:
    """Return what the chosen read-out and its comparison are computed from."""
    material = choice.material
    reading = Sources(
        material.trace,
        material.rows,
        material.store,
        model.reasoner if model else None,
        opening.lens_cache(),
        token=token_id(choice, model),
        feature=choice.feature,
    )
    if choice.versus == NONE:
        return Pair(reading, None, choice.read_out, choice.read_out, "")
    if choice.other is not None:
        return Pair(reading, reading, choice.read_out, choice.other, choice.other.label)
    label = controls.LABELS[choice.versus]
    if choice.versus == controls.RANDOM:
        return Pair(reading, replace(reading, random=True), choice.read_out, choice.read_out, label)
    row, rows, recorded = opening.other_trace(material)
    label = f"trace {material.file.ids[row]}, same place"
    other_sources = replace(reading, at=rows, recorded=recorded)
    return Pair(reading, other_sources, choice.read_out, choice.read_out, label)


def token_id(choice: Choice, model: opening.Model | None) -> int:
    """Return the id of the chosen token; -1 where there is none, or none of that text."""
    if not choice.token or model is None or model.reasoner is None:
        return -1
    return pins.token_id(model.reasoner, choice.token)


def identity(choice: Choice, part: Window) -> tuple[Any, ...]:
    """Return what the cells of a window depend on."""
    store, path = choice.material.store, choice.material.file.path
    return (
        str(path),
        last_written(path),
        "" if store is None else f"{store.name} {store.meta['config_hash']}",
        choice.material.row,
        *(choice.key, choice.versus, choice.show, choice.special, choice.sinks, choice.token, choice.feature, part),
        *((lens.name, last_written(lens.path)) for lens in choice.lenses),
    )
