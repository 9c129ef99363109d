"""Fitted lenses that lie below the dashboard's folders: those of a store's model, and why others are not offered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.explore.read_outs import OpenLens, ReadOut, lens_read_outs
from dashboards.views import opened
from dashboards.views.shared import as_text
from interp.activations import Store
from interp.errors import CotlensError

if TYPE_CHECKING:
    from interp.decoders.saved_lens import LensDescription, SavedLens
    from interp.reasoners import Reasoner

MOST = 4  # lenses that are offered, each with five read-outs and a table on the card
_WORDS = {"tuned_lens": "tuned lens", "jacobian_lens": "Jacobian lens"}
_MARK = "@"
_NAMED = 3  # lenses that are not offered and named with the reason


@dataclass(frozen=True)
class Lens:
    """A fitted lens of a store's model.

    Attributes:
        name: Its name below the dashboard's folders.
        path: Its folder or file.
        label: What menus call it.
    """

    name: str
    path: Path
    label: str

    def open(self, reasoner: Reasoner) -> SavedLens:
        """Return the lens of a model, opened once.

        Raises:
            StoreError: It is damaged, or one of another model.
        """
        return _open_lenses().get(self.path, reasoner)

    def read_outs(self) -> dict[str, ReadOut]:
        """Return what can be read with it, by the key of the read-out."""
        return {f"{name}{_MARK}{self.name}": item for name, item in lens_read_outs(self.label, self.open).items()}


def lens_name(key: str) -> str:
    """Return the name of the lens that a key of a read-out names; empty where it names none."""
    return key.partition(_MARK)[2]


def lenses_for(store: Store) -> tuple[list[Lens], dict[str, str]]:
    """Return the lenses that fit a store, and why each of the others does not.

    Args:
        store: The activations.

    Returns:
        The lenses that are offered, and a reason for each name of another.
    """
    fit: list[Lens] = []
    refused: dict[str, str] = {}
    for item in opened.found().artifacts.values():
        if item.kind != "lens":
            continue
        described = _described(str(item.path), last_written(item.path))
        reason = described if isinstance(described, str) else _why_not(described, store)
        if reason:
            refused[item.name] = reason
        elif len(fit) == MOST:
            refused[item.name] = f"{MOST} lenses are offered at most; start the dashboard on a smaller folder"
        elif not isinstance(described, str):
            tokens = f" (among {described.n_tokens} tokens)" if described.n_tokens is not None else ""
            fit.append(Lens(item.name, item.path, f"{_WORDS[described.method]} {item.name}{tokens}"))
    return fit, refused


def not_offered(refused: dict[str, str]) -> str:
    """Return the lenses that are not offered, with the reasons, as a sentence; empty where there are none."""
    if not refused:
        return ""
    listed = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    return f"Lenses that are not offered: {listed}{more}."


def can_be_opened(open_lens: OpenLens, reasoner: Reasoner, instead: str) -> bool:
    """Return whether a lens can be opened; draw what about its identity is an assumption, or why it cannot.

    Args:
        open_lens: Returns the lens of a model.
        reasoner: The model.
        instead: What is shown where it cannot.
    """
    try:
        for note in open_lens(reasoner).notes:
            st.caption(as_text(note))
    except CotlensError as error:
        st.warning(as_text(f"{error} Shown instead: {instead}."))
        return False
    return True


def _why_not(lens: LensDescription, store: Store) -> str:
    """Return why a lens cannot be read in a store; empty where it can."""
    own, model = store.meta["reasoner"]["weights"], store.meta["reasoner"]["name"]
    if lens.weights is not None and lens.weights != own:
        same = lens.model == model
        return f"it was fitted to {'other weights of ' if same else ''}{lens.model or 'another model'}, not to this {model}"
    if lens.d_model is not None and lens.d_model != store.meta["d_model"]:
        return f"it is of width {lens.d_model}, and {model} of width {store.meta['d_model']}"
    if not set(lens.addresses) & {address.name for address in store.addresses}:
        return "it was fitted at no address that was captured"
    return ""


@st.cache_resource(max_entries=200, show_spinner=False)
def _described(path: str, written: int) -> LensDescription | str:
    """Return what a lens says of itself; where it cannot be read, why."""
    from interp.decoders.saved_lens import describe_lens

    try:
        return describe_lens(path)
    except CotlensError as error:
        return str(error).rstrip(".")


class _OpenLenses:
    """The lenses of one model that are open; those of another are dropped, as they hold their model."""

    def __init__(self) -> None:
        self._lenses: dict[tuple[str, int], SavedLens] = {}

    def get(self, path: Path, reasoner: Reasoner) -> SavedLens:
        """Return a lens of a model, read from disk where it is not open or was written again."""
        from interp.decoders.saved_lens import SavedLens

        key = (str(path), last_written(path))
        lens = self._lenses.get(key)
        if lens is None or lens.reasoner is not reasoner:
            lens = SavedLens(path, reasoner)
            kept = {k: other for k, other in self._lenses.items() if other.reasoner is reasoner and k[0] != key[0]}
            self._lenses = {**kept, key: lens}
        return lens


@st.cache_resource(max_entries=1, show_spinner=False)
def _open_lenses() -> _OpenLenses:
    return _OpenLenses()
