"""Opening pages without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards.launch import ROOTS_VARIABLE


@pytest.fixture
def open_view(demo_run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Open a page over files and folders (the shared run by default) with these query parameters."""

    def draw(page: str, *roots: Path, **params: str) -> AppTest:
        monkeypatch.setenv(ROOTS_VARIABLE, json.dumps([str(root) for root in roots or (demo_run,)]))
        at = AppTest.from_string(f"from dashboards.views import {page}\n{page}.show()", default_timeout=90)
        at.query_params.update(params)
        st.cache_resource.clear()  # what lies below a folder is kept for some seconds
        at.run()
        assert not at.exception, at.exception
        return at

    return draw


@pytest.fixture(scope="session")
def said() -> Callable[[AppTest], str]:
    """Return all text of a page, as it is read."""

    def text(at: AppTest) -> str:
        kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
        words = [str(element.value) for kind in kinds for element in getattr(at, kind)]
        words += [element.proto.body for element in at.get("html")]
        return "\n".join(words).replace("\\", "").replace("\u2060", "")

    return text
