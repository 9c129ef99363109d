"""What the tests of pages share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Take Streamlit's page back out of `__main__`: workers that later tests spawn would run it."""
    yield
    sys.modules["__main__"] = _MAIN
