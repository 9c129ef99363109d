"""Keep the state of a page in the URL: every control reads its query parameter and writes it back.

Streamlit's `bind="query-params"` drops invalid values silently and writes labels in place of names, so controls are
bound here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from dashboards.views.shared import as_text


class View:
    """The controls of one page. Warnings about the URL are drawn where the view is created."""

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
        label_of: Callable[[str], str] = str,
        why_not: str = "not known here",
        help: str | None = None,
    ) -> str:
        """Draw a choice of one option and return the chosen one.

        Args:
            label: Label of the control.
            options: Names; at least one.
            key: Name of the query parameter.
            default: The option without a parameter; the first by default.
            label_of: Returns the text to show for a name.
            why_not: Why an unknown value is not valid, for the warning.
            help: Tooltip.
        """
        default = options[0] if default is None else default
        value = self._read(key, default, lambda text: text in options, why_not, label_of)
        st.selectbox(
            label,
            options,
            key=_widget(key, value),
            format_func=label_of,
            help=help,
            on_change=_write,
            args=(key, default),
        )
        return value

    def flag(self, label: str, key: str, *, help: str | None = None) -> bool:
        """Draw a switch and return whether it is on; `key=yes` in the URL is on, and off is the default."""
        value = self._read(key, "no", lambda text: text in ("yes", "no"), "neither yes nor no", str) == "yes"
        st.toggle(label, key=_widget(key, value), help=help, on_change=_write, args=(key, False))
        return value

    def text(self, label: str, key: str, *, placeholder: str = "", help: str | None = None) -> str:
        """Draw a text field and return its text without surrounding blanks."""
        value = self._read(key, "", lambda _: True, "", str).strip()
        st.text_input(
            label, key=_widget(key, value), placeholder=placeholder, help=help, on_change=_write, args=(key, "")
        )
        return value

    def ignore(self, key: str) -> None:
        """Accept the parameter of a control that is not drawn now."""
        self._known.add(key)

    def check_rest(self) -> None:
        """Warn of parameters that belong to no control of this page. Call it last."""
        unknown = [key for key in st.query_params if key not in self._known]
        if unknown:
            self._warn(f"This page has no setting called {', '.join(unknown)}; the URL's value for it is ignored.")

    def _read(
        self, key: str, default: str, valid: Callable[[str], bool], why_not: str, label_of: Callable[[str], str]
    ) -> str:
        """Return the value of a parameter; the default, with a warning, where it is not valid."""
        self._known.add(key)
        value = st.query_params.get(key)
        if value is None or valid(value):
            return default if value is None else value
        shown = label_of(default).rstrip(".")
        self._warn(f"The URL asks for {key}={value}, which is {why_not}. Shown instead: {shown}.")
        return default

    def _warn(self, text: str) -> None:
        self._notices.warning(as_text(text), icon=":material/link_off:")


def go(key: str, value: str | None) -> None:
    """Set a parameter of the URL; None removes it. For callbacks of buttons."""
    if value is not None:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]


def _widget(key: str, value: str | bool) -> str:
    """Set a control to `value` and return its key in the session."""
    name = f"view_{key}"
    # Set only when it differs: a value set by code is sent to the browser and could undo fast typing.
    if st.session_state.get(name) != value:
        st.session_state[name] = value
    return name


def _write(key: str, default: str | bool) -> None:
    """Write a control's value to the URL."""
    value = st.session_state[f"view_{key}"]
    text = ("yes" if value else "no") if isinstance(value, bool) else (value or "").strip()
    go(key, None if value == default or not text else text)
