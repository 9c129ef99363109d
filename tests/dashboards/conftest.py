"""One small finished run that all tests of the dashboard read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.demo import run_demo
from interp.runtime.console import Bars


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 300 problems; tests must not write into it."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    with Bars() as bars:
        run_demo(out, "chain-coconut", n=300, seed=1, bars=bars)
    return out
