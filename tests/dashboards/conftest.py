"""What the tests of pages share."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards.launch import APP, ROOTS_VARIABLE
from dashboards.serving.collecting import settle

_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Take Streamlit's page back out of `__main__`: workers that later tests spawn would run it."""
    yield
    sys.modules["__main__"] = _MAIN


@functools.cache
def settle_once() -> None:
    """Keep what the first page imported out of the garbage collections with which Streamlit ends every drawing."""
    settle()


@pytest.fixture
def open_view(demo_run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Open a page over files and folders (the shared run by default) with these query parameters."""

    def draw(page: str, *roots: Path, **params: str) -> AppTest:
        monkeypatch.setenv(ROOTS_VARIABLE, json.dumps([str(root) for root in roots or (demo_run,)]))
        at = (
            AppTest.from_file(str(APP), default_timeout=120)
            if page == "home"
            else AppTest.from_string(f"from dashboards.views import {page}\n{page}.show()", default_timeout=120)
        )
        at.query_params.update(params)
        st.cache_resource.clear()  # what lies below a folder is kept for some seconds
        at.run()
        settle_once()
        assert not at.exception, at.exception
        return at

    return draw
