"""Functions that users call keep their old names for one version, with a warning that names the new one."""

from __future__ import annotations

import pytest

import interp
from interp.problems.answers import answer_is_right, answers


def test_old_names_work_and_name_the_new_one(coconut: interp.Reasoner) -> None:
    with pytest.warns(DeprecationWarning, match=r"Reasoner\.but is now Reasoner\.with_config; .* version 0\.3"):
        changed = coconut.but(max_answer_tokens=3)
    assert changed.config == coconut.with_config(max_answer_tokens=3).config
    with pytest.warns(DeprecationWarning, match="answers is now answer_is_right"):
        assert answers("So 4.", "4") is answer_is_right("So 4.", "4") is True
