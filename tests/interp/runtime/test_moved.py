"""Modules that moved can be imported by their old names."""

from __future__ import annotations

import importlib
import sys

import pytest

from interp.runtime.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_module_with_a_warning(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop(old, None)
    module = importlib.import_module(old)
    new = importlib.import_module(MOVED[old])
    assert module is new and new.__spec__.name == new.__name__ == MOVED[old]
    assert capsys.readouterr().err == (
        f"warning: the module {old} is now {MOVED[old]}; the old name works until version 0.3\n"
    )


def test_a_name_that_never_was_is_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"interp\.causal\.nothing"):
        importlib.import_module("interp.causal.nothing")
