"""The card of the locked cell."""

from __future__ import annotations

from html import escape

import streamlit as st

from dashboards.explore import card, opening
from dashboards.explore.choosing import Choice
from dashboards.explore.lenses import Lens
from dashboards.explore.read_outs import Pair, Sources
from dashboards.views import shared
from dashboards.views.shared import as_text, capital
from dashboards.views.url import page_link
from interp.errors import CotlensError
from interp.models.address import Address

_STYLE = """<style>
.cot-facts { display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 15px; }
.cot-facts div { overflow-wrap: anywhere; } .cot-facts span { opacity: .8; font-size: 13px; margin-right: 6px; }
.cot-facts b { font-weight: 600; white-space: pre-wrap; }
</style>"""


def draw_card(choice: Choice, pair: Pair, row: str, position: int) -> None:
    """Draw what is known of a cell.

    Args:
        choice: What was chosen.
        pair: The reading and what it is compared with.
        row: Row of the cell: an address, or what the trace records.
        position: Position of the cell.
    """
    material = choice.material
    with st.container(border=True, key="locked_cell"):
        facts = card.facts(material, row, position)
        items = "".join(
            f"<div><span>{escape(name)}</span><b>{escape(value)}</b></div>" for name, value in facts.items()
        )
        st.html(f"{_STYLE}<div class='cot-facts'>{items}</div>")
        if "." not in row or material.store is None:
            return
        if material.rows[position] < 0:
            st.caption("This position was not captured, so no layer can be read here.")
            return
        _reads(choice, pair.reading, Address(row), position)


def _reads(choice: Choice, sources: Sources, address: Address, position: int) -> None:
    left, right = st.columns(2)
    with left:
        _lens(choice, sources, address, position)
    with right:
        _scores(choice, sources, address, position)
        _nearest(choice, address, position)


def _lens(choice: Choice, sources: Sources, address: Address, position: int) -> None:
    st.markdown("**Logit lens**")
    if sources.reasoner is None:
        st.caption("Choose a read-out of the logit lens above to load the model and read this cell with it.")
        return
    at_other = -1
    caption = "There is no other trace to compare with."
    if len(choice.material.file) > 1:
        row, rows, _ = opening.other_trace(choice.material)
        at_other = int(rows[position])
        number = choice.material.file.ids[row]
        caption = f"Control: the same tokens at the same place of trace {number}."
        if at_other < 0:
            caption = f"Trace {number} has no such place, so this cell has no control."
    frame = card.lens_table(sources, address, position, at_other)
    shared.table(frame, "lens", alt="The likeliest tokens of the lens at the locked cell, beside another trace")
    st.caption(as_text(caption))
    for number, fitted in enumerate(choice.lenses):
        _fitted_lens(fitted, sources, address, position, at_other, key=f"lens-{number + 1}")
    others = card.alternatives(sources, position)
    if others is not None:
        st.markdown("**What the model could have said here**")
        shared.table(others, "alternatives", alt="The model's own probabilities for the token at this position")


def _fitted_lens(lens: Lens, sources: Sources, address: Address, position: int, at_other: int, *, key: str) -> None:
    """Draw what a fitted lens reads, beside the same control as the logit lens."""
    assert sources.reasoner is not None
    st.markdown(f"**{as_text(capital(lens.label))}**")
    try:
        fitted = lens.open(sources.reasoner)
        if not fitted.reads(address):
            st.caption("It was not fitted at this layer.")
            return
        frame = card.lens_table(sources, address, position, at_other, fitted)
    except CotlensError as error:
        st.caption(as_text(str(error)))
        return
    shared.table(frame, key, alt=f"The likeliest tokens of the {lens.label} at the locked cell, beside another trace")


def _scores(choice: Choice, sources: Sources, address: Address, position: int) -> None:
    scores = card.scores_table(choice.saved, sources, address, position)
    if len(scores):
        st.markdown("**Probes and SAE features**")
        shared.table(scores, "scores", alt="Scores of probes and SAE features at the locked cell, beside their control")
    elif not choice.saved:
        st.caption("No saved probe or SAE of this model lies below these folders.")
    else:
        where = ", ".join(sorted({item.address.label for item in choice.saved}))
        st.caption(as_text(f"Probes and SAEs of this model read elsewhere: {where}."))


def _nearest(choice: Choice, address: Address, position: int) -> None:
    near = card.nearest(choice.material, address, position)
    st.markdown("**Nearest states of other traces**")
    if not near.compared:
        st.caption("The store has no other traces.")
        return
    words = "" if near.compared == near.total else f", evenly spread over {near.total:,}"
    shared.table(near.table, "nearest", alt="The states of other traces with the highest cosine")
    st.caption(f"Among {near.compared:,} states{words}; control: the median cosine of all of them is {near.usual:.3f}.")
    best = near.table["trace"].iloc[0]
    page_link(
        "explorer",
        st.query_params.get("open"),
        f"Open trace {best} there",
        trace=str(best),
        position=str(near.table["position"].iloc[0]),
        layer=address.name,
    )
