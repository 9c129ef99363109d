"""Modules that moved can be imported by their old names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from interp.runtime.moved import MOVED

CHANGELOG = Path(__file__).parents[3] / "CHANGELOG.md"


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_module_with_a_warning(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop(old, None)
    module = importlib.import_module(old)
    new = importlib.import_module(MOVED[old])
    assert module is new and new.__spec__.name == new.__name__ == MOVED[old]
    assert capsys.readouterr().err == (
        f"warning: the module {old} is now {MOVED[old]}; the old name works until version 0.3\n"
    )


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_the_changelog_lists_each_module_that_moved(old: str, new: str) -> None:
    lines = CHANGELOG.read_text(encoding="utf-8").splitlines()
    assert any(f"`{old}`" in line and f"`{new}`" in line for line in lines)


def test_a_name_that_never_was_is_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"interp\.causal\.nothing"):
        importlib.import_module("interp.causal.nothing")
