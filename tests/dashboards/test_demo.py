"""The demo's comparisons, in a process of their own or one after the other."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

import interp
from dashboards import demo
from interp.errors import StoreError
from interp.runtime.console import Bars

# Each starts a process, which imports for seconds.
pytestmark = pytest.mark.slow


@pytest.fixture
def spec(tmp_path: Path) -> demo._Comparisons:
    problems = interp.load("chain-direct").task.generate(30, seed=0, split="test")
    return demo._Comparisons(("chain-direct",), problems, tmp_path)


def test_comparisons_beside_the_study_are_those_after_it(
    spec: demo._Comparisons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "limit_threads", Mock())
    monkeypatch.setattr(demo, "cores", lambda: 2)
    with demo._compared(spec, Bars()) as waited:
        beside, memory = waited()
    monkeypatch.setattr(demo, "cores", lambda: 1)
    with demo._compared(spec, Bars()) as called:
        after, none = called()
    assert beside == after and beside[0]["organism"] == "chain-direct" and beside[0]["n"] == 30
    assert memory > 100 and none == 0
    assert [call.args for call in demo.limit_threads.call_args_list] == [(1,), (2,)]  # type: ignore[attr-defined]


def test_an_error_of_the_comparisons_is_that_of_the_demo(
    spec: demo._Comparisons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "limit_threads", Mock())
    monkeypatch.setattr(demo, "cores", lambda: 2)
    missing = demo._Comparisons(("chain-without-thoughts",), spec.problems, spec.out)
    with pytest.raises(StoreError, match="not shipped"), demo._compared(missing, Bars()) as waited:
        waited()
