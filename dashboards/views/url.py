"""The state of a view lives in the URL: every control is set from its query parameter and writes it back.

Streamlit's own `bind="query-params"` drops invalid values without a word and writes labels instead of names,
so controls are bound here: the URL is the truth, and a change of the control changes the URL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from dashboards.views.shared import as_text


class View:
    """The controls of one page. What is wrong with the URL is said where the view was made."""

    def __init__(self) -> None:
        self._notices = st.container()
        self._known: set[str] = set()

    def choice(
        self,
        label: str,
        options: Sequence[str],
        key: str,
        *,
        default: str | None = None,
        said: Callable[[str], str] = str,
        why_not: str = "not known here",
        help: str | None = None,
    ) -> str:
        """One of `options`, which must not be empty; `said` turns a name into what people read."""
        default = options[0] if default is None else default
        value = self._given(key, default, lambda given: given in options, why_not, said)
        st.selectbox(
            label,
            options,
            key=_widget(key, value),
            format_func=said,
            help=help,
            on_change=_write,
            args=(key, default),
        )
        return value

    def flag(self, label: str, key: str, *, help: str | None = None) -> bool:
        """A switch that is off by default and `key=yes` in the URL when it is on."""
        value = self._given(key, "no", lambda given: given in ("yes", "no"), "neither yes nor no", str) == "yes"
        st.toggle(label, key=_widget(key, value), help=help, on_change=_write, args=(key, False))
        return value

    def text(self, label: str, key: str, *, placeholder: str = "", help: str | None = None) -> str:
        """Free text, without blanks around it."""
        value = self._given(key, "", lambda _: True, "", str).strip()
        st.text_input(
            label, key=_widget(key, value), placeholder=placeholder, help=help, on_change=_write, args=(key, "")
        )
        return value

    def ignore(self, key: str) -> None:
        """A parameter of a control that is not drawn now."""
        self._known.add(key)

    def check_rest(self) -> None:
        """Say which parameters of the URL belong to no control of this page."""
        rest = [key for key in st.query_params if key not in self._known]
        if rest:
            self._warn(f"This page has no setting called {', '.join(rest)}; the URL's value for it does nothing.")

    def _given(
        self, key: str, default: str, valid: Callable[[str], bool], why_not: str, said: Callable[[str], str]
    ) -> str:
        self._known.add(key)
        given = st.query_params.get(key)
        if given is None or valid(given):
            return default if given is None else given
        self._warn(f"The URL asks for {key}={given}, which is {why_not}. Shown instead: {said(default).rstrip('.')}.")
        return default

    def _warn(self, text: str) -> None:
        self._notices.warning(as_text(text), icon=":material/link_off:")


def go(key: str, value: str | None) -> None:
    """Set a parameter of the URL, or remove it with None. For callbacks of buttons."""
    if value is not None:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]


def _widget(key: str, value: str | bool) -> str:
    """The control's key in the session, after it was set to `value`."""
    name = f"view_{key}"
    # Set only when it differs: what is set by code is sent back to the browser and could undo fast typing.
    if st.session_state.get(name) != value:
        st.session_state[name] = value
    return name


def _write(key: str, default: str | bool) -> None:
    value = st.session_state[f"view_{key}"]
    text = ("yes" if value else "no") if isinstance(value, bool) else (value or "").strip()
    go(key, None if value == default or not text else text)
