"""Keep the state of a page in the URL: every control reads its query parameter and writes it back.

Streamlit's `bind="query-params"` drops invalid values silently and writes labels in place of names, so controls are
bound here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboards.views.shared import as_text

OPEN = "open"  # what the page shows
NOT_FOUND = "not_found"  # the path of a page that does not exist, which led here
_MEMORY, _PAGES = "views", "pages_of_app"
_NOW = "view_now"  # page and name of what is shown


class View:
    """The controls of one page. Warnings about the URL are drawn where the view is created."""

    def __init__(self) -> None:
        self._notices = st.container()
        self._known: set[str] = {NOT_FOUND}
        missing = st.query_params.get(NOT_FOUND)
        if missing is not None:
            self._warn(f"There is no page {missing}. Shown instead: this page.")

    def opened(self, names: Sequence[str], default: str, *, nearest: Callable[[str], str], page: str) -> str:
        """Draw the choice of what the page shows, and return its name.

        Args:
            names: What this page can show.
            default: The one without a parameter.
            nearest: Returns the one to show in place of a name that is not among them.
            page: Name of the page, whose other settings are kept for each name.
        """
        given = st.query_params.get(OPEN)
        value = self._read(OPEN, default, lambda name: name in names, "nothing this page can show", str, nearest)
        _remember(page, value)
        if given is None and len(names) > 1:
            st.query_params[OPEN] = value  # so that a copied link names what it shows
        if len(names) > 1:
            st.selectbox("Open", names, key=_widget(OPEN, value), on_change=_switch, args=(page,))
        return value

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
        clears: Sequence[str] = (),
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
            clears: Parameters that belong to the option, and are removed with it.
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
            args=(key, default, clears),
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

    def suggested(self, label: str, key: str, options: Mapping[str, str], *, help: str | None = None) -> str:
        """Draw a list in which any other text can be written too, and return the text; empty for none.

        Args:
            label: Label of the control.
            key: Name of the query parameter.
            options: What the list offers, each with a word on it.
            help: Tooltip.
        """
        value = self._read(key, "", lambda _: True, "", str).strip()
        st.selectbox(
            label,
            [*options, *([value] if value and value not in options else [])],
            index=None,
            key=_widget(key, value or None),
            format_func=lambda name: f"{name} ({options[name]})" if name in options else name,
            accept_new_options=True,
            placeholder="Choose one, or write another",
            help=help,
            on_change=_write,
            args=(key, ""),
        )
        return value

    def entry(
        self,
        label: str,
        key: str,
        default: str,
        is_valid: Callable[[str], bool],
        *,
        why_not: str,
        help: str | None = None,
    ) -> str:
        """Draw a text field whose text must be valid, and return it; the default, with a warning, where it is not."""
        value = self._read(key, default, is_valid, why_not, str)
        st.text_input(label, key=_widget(key, value), help=help, on_change=_write, args=(key, default))
        return value

    def valid(
        self, key: str, default: str, is_valid: Callable[[str], bool], *, why_not: str, shown: str | None = None
    ) -> str:
        """Return a parameter without a control of its own; the default, with a warning, where it is not valid.

        Args:
            key: Name of the query parameter.
            default: Its value where it is not given.
            is_valid: Returns whether a value can be shown.
            why_not: Why an unknown value is not valid, for the warning.
            shown: What is shown in its place, in words; the default itself by default.
        """
        return self._read(key, default, is_valid, why_not, lambda text: text if shown is None else shown)

    def ignore(self, key: str) -> None:
        """Accept the parameter of a control that is not drawn now."""
        self._known.add(key)

    def check_rest(self) -> None:
        """Warn of parameters that belong to no control of this page. Call it last."""
        unknown = [key for key in st.query_params if key not in self._known]
        if unknown:
            self._warn(f"This page has no setting called {', '.join(unknown)}; the URL's value for it is ignored.")

    def _read(
        self,
        key: str,
        default: str,
        valid: Callable[[str], bool],
        why_not: str,
        label_of: Callable[[str], str],
        nearest: Callable[[str], str] | None = None,
    ) -> str:
        """Return the value of a parameter; the nearest valid one or the default, with a warning, where it is not valid."""
        self._known.add(key)
        value = st.query_params.get(key)
        if value is None or valid(value):
            return default if value is None else value
        default = nearest(value) if nearest else default
        shown = label_of(default).rstrip(".")
        self._warn(f"The URL asks for {key}={value}, which is {why_not}. Shown instead: {shown}.")
        return default

    def _warn(self, text: str) -> None:
        self._notices.warning(as_text(text), icon=":material/link_off:")


def link_to(page: str, name: str | None) -> dict[str, str]:
    """Return the parameters of a link to a page: what it shows, and how it looked when it last showed that.

    Args:
        page: Name of the page.
        name: What the page is to show; None leaves it to the page.
    """
    if name is None:
        return {}
    kept: dict[str, str] = st.session_state.get(_MEMORY, {}).get((page, name), {})
    return {OPEN: name} | kept


def register(pages: Mapping[str, Any]) -> None:
    """Keep the pages of the app, by name, for `page_link`."""
    st.session_state[_PAGES] = dict(pages)


def page_link(page: str, name: str | None, label: str, *, is_menu: bool = False, **params: str) -> None:
    """Draw a link to a page; none where a page is drawn without the app around it.

    Args:
        page: Name of the page.
        name: What it is to show; None leaves it to the page.
        label: Text of the link.
        is_menu: Whether it is one of the links to all pages; others have an arrow, so that they are seen to be links.
        **params: Settings of the page, over those that it had when it last showed this.
    """
    target = st.session_state.get(_PAGES, {}).get(page)
    if target is not None:
        icon = None if is_menu else ":material/arrow_forward:"
        st.page_link(target, label=label, icon=icon, query_params=link_to(page, name) | params)


def _remember(page: str, name: str) -> None:
    """Keep the parameters of a page in the session."""
    kept = {key: value for key, value in st.query_params.items() if key not in (OPEN, NOT_FOUND)}
    st.session_state.setdefault(_MEMORY, {})[page, name] = kept
    st.session_state[_NOW] = (page, name)


def _switch(page: str) -> None:
    """Show something else on the page, as it looked when it was last shown."""
    st.query_params.from_dict(link_to(page, st.session_state[f"view_{OPEN}"]))


def go(key: str, value: str | None) -> None:
    """Set a parameter of the URL; None removes it. For callbacks of buttons."""
    if value is not None:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]
    # A callback may be followed by a fragment only, which does not draw the page that would remember.
    if _NOW in st.session_state:
        _remember(*st.session_state[_NOW])


def _widget(key: str, value: str | bool | None) -> str:
    """Set a control to `value` and return its key in the session."""
    name = f"view_{key}"
    # Set only when it differs: a value set by code is sent to the browser and could undo fast typing.
    if st.session_state.get(name) != value:
        st.session_state[name] = value
    return name


def _write(key: str, default: str | bool, clears: Sequence[str] = ()) -> None:
    """Write a control's value to the URL."""
    for other in clears:
        go(other, None)
    value = st.session_state[f"view_{key}"]
    text = ("yes" if value else "no") if isinstance(value, bool) else (value or "").strip()
    go(key, None if value == default or not text else text)
