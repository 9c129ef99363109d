"""Reading pages that are drawn without a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest


@pytest.fixture(scope="session")
def said() -> Callable[[AppTest], str]:
    """Return all text of a page, as it is read."""

    def text(at: AppTest) -> str:
        kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
        words = [str(element.value) for kind in kinds for element in getattr(at, kind)]
        words += [element.proto.body for element in at.get("html")]
        return "\n".join(words).replace("\\", "").replace("\u2060", "")

    return text
