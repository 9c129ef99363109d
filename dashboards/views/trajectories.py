"""Layer trajectories: pinned tokens over the layers at one place, over all traces that have the place."""

from __future__ import annotations

import shlex

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.explore import opening, pins
from dashboards.explore.lenses import Lens, can_be_opened, lenses_for, not_offered
from dashboards.views import opened, shared
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.activations import Store
from interp.errors import counted
from interp.traces import THINKING

_LOGIT = "logit"  # what the URL calls the logit lens


def show() -> None:
    """Draw the page."""
    st.title("Layer trajectories")
    view = View()
    opened.with_artifact(view, "trajectories", lambda artifact: _page(artifact, view))


def _page(artifact: Artifact, view: View) -> None:
    store, why_not = opening.store_of(artifact)
    if store is None:
        _no_activations(artifact, view, why_not)
        return
    file = opened.traces_of(artifact)
    st.caption(as_text(f"{store.meta['reasoner']['name']} · {counted(len(file), 'trace')} · {store.name}"))
    columns = st.columns([2, 2, 3])
    with columns[0]:
        place = view.choice(
            "Place", store.places, "place", default=_usual_place(store), why_not="no place that was captured"
        )
    with columns[1]:
        lens, note = _lens(store, view)
    with columns[2]:
        text = view.text(
            "Pins",
            "pins",
            placeholder="answer, value 1, value 2",
            help="Tokens, separated by commas. answer and value 2 mean each trace's own answer, and its own value after "
            f"step 2; {pins.NEXT} means what it says after the place.",
        )
    view.check_rest()
    if note:
        st.caption(as_text(note))
    wanted, left_out = _pins(text, file.steps)
    if left_out:
        st.warning(as_text(f"At most {pins.MOST_PINS} pins are drawn; left out: {', '.join(left_out)}."))
    model = opening.model_of(store)
    if model.reasoner is None:
        st.info(as_text(f"The lens needs the model, which cannot be used: {model.why_not}"))
        return
    if lens is not None and not can_be_opened(lens.open, model.reasoner, pins.LOGIT_LENS):
        lens = None
    where = pins.sample(store, model.reasoner, place)
    table = _read_pins(artifact, store, place, where, wanted, lens)
    if not text and not len(table):
        table = _read_pins(artifact, store, place, where, [pins.NEXT], lens)
        if len(table):
            st.caption(as_text(f"Drawn instead: the {pins.NEXT}, in each trace its own."))
    if len(table):
        unread = [address.label for address in store.addresses if address.name not in set(table["address"])]
        if lens is not None and unread:
            st.caption(as_text(f"Layers without a line, as the lens was not fitted there: {', '.join(unread)}."))
        _draw(table, place, where, lens)
    _code(artifact, store, place)


def _lens(store: Store, view: View) -> tuple[Lens | None, str]:
    """Draw the choice of the lens. Return it, None for the logit lens, and a note on those that are not offered."""
    fit, refused = lenses_for(store)
    by_name = {lens.name: lens for lens in fit}
    reason = refused.get(st.query_params.get("lens", ""), "")
    name = view.choice(
        "Lens",
        [_LOGIT, *by_name],
        "lens",
        default=_LOGIT,
        label_of=lambda name: by_name[name].label if name in by_name else pins.LOGIT_LENS,
        why_not="no lens that this has" + (f" ({reason})" if reason else ""),
    )
    return by_name.get(name), not_offered(refused)


def _read_pins(
    artifact: Artifact, store: Store, place: str, where: pins.Sample, wanted: list[str], lens: Lens | None
) -> pd.DataFrame:
    """Return what a lens reads of each pin, and draw which pins it cannot read."""
    identity = f"{store.name} {store.meta['config_hash']}"
    if lens is not None:
        identity += f" {lens.path} {last_written(lens.path)}"
    table = _read(identity, place, tuple(wanted), artifact, store, where, lens)
    missing = [pin for pin in wanted if pin not in set(table["pin"])]
    if missing:
        few = "" if lens is None else ", or not among the tokens that the lens was fitted to"
        st.warning(as_text(f"No single token{few}, or in fewer than two traces at {place}: {', '.join(missing)}."))
    return table


def _no_activations(artifact: Artifact, view: View, why_not: str) -> None:
    for key in ("place", "lens", "pins"):
        view.ignore(key)
    view.check_rest()
    st.info(as_text(f"Layers cannot be read: {why_not}."))
    opened.draw_command_for_activations(artifact)


def _usual_place(store: Store) -> str:
    """Return the place of the first thought; the first place where nothing thinks."""
    thinking = store.index[store.index["channel"].isin(list(THINKING))]
    places = set(thinking["place"].unique())
    return next((place for place in store.places if place in places), store.places[0])


def _pins(text: str, steps: int) -> tuple[list[str], list[str]]:
    """Return the pins that are drawn, and those that are too many."""
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    names = names or ["answer", *(f"value {k}" for k in range(1, min(steps, 3) + 1))]
    return names[: pins.MOST_PINS], names[pins.MOST_PINS :]


@st.cache_resource(max_entries=16, show_spinner="Reading every layer …")
def _read(
    identity: str,
    place: str,
    wanted: tuple[str, ...],
    _artifact: Artifact,
    _store: Store,
    _where: pins.Sample,
    _lens: Lens | None,
) -> pd.DataFrame:
    file, reasoner = opened.traces_of(_artifact), opening.model_of(_store).reasoner
    assert reasoner is not None
    ids = pins.targets(file, _store, reasoner, _where, wanted)
    groups = np.array([problem.structure for problem in file.problems(_where.traces)])
    opened_lens = None if _lens is None else _lens.open(reasoner)
    return pins.read(_store, reasoner, _where, ids, wanted, groups, opened_lens)


def _draw(table: pd.DataFrame, place: str, where: pins.Sample, lens: Lens | None) -> None:
    for pin, part in table.groupby("pin", sort=False):
        best = part.loc[part["probability"].idxmax()]
        words = (
            f"{pin}: highest at {best['label']}, {best['probability']:.3f} [{best['low']:.3f}, {best['high']:.3f}]; "
            f"in another trace {best['control']:.3f} [{best['control_low']:.3f}, {best['control_high']:.3f}]."
        )
        if best["low"] <= best["control_high"]:
            as_good = best["probability"] <= best["control"]
            why = "Its control is as high" if as_good else "The interval reaches into that of its control"
            st.warning(as_text(f"{words} {why}: the lens is not shown to read it here."), icon=":material/balance:")
        else:
            st.markdown(as_text(words))
    spread = "" if len(where.rows) == where.total else f", evenly spread over the {where.total:,} that have it"
    st.caption(
        as_text(
            f"At {place}, over {counted(len(where.rows), 'trace')}{spread}. Bands and bars are 95 % intervals over problems of different "
            "structure. Control (dotted): the same token at the same place of another trace. The highest layer was chosen "
            "on the same traces."
        )
    )
    shared.chart(
        pins.probability_chart(table, pins.LOGIT_LENS if lens is None else lens.label),
        key="probabilities",
        alt="Probability of each pin over layers, with intervals",
    )
    shared.chart(pins.rank_chart(table), key="ranks", alt="Rank of each pin over layers, with intervals")
    shown = table.drop(columns="address").rename(
        columns=lambda name: "layer" if name == "label" else name.replace("_", " ")
    )
    shared.table(shown, "trajectories", alt="Probability, control and rank of each pin at each layer")


def _code(artifact: Artifact, store: Store, place: str) -> None:
    st.header("Code")
    shared.copy_as(
        f"import cotlens\n\nstore = cotlens.Store({store.name!r})\nrows = store.rows(place={place!r})",
        shlex.join(["cotlens", "dash", str(artifact.path)]),
    )
