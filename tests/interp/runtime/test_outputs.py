"""An earlier result is refused with one sentence everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from interp.errors import UsageError
from interp.runtime.files import refuse_existing, refuse_results

ROOT = Path(__file__).parents[3]


def test_what_exists_is_refused_and_what_does_not_is_fine(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new")
    refuse_results(None, "*.json")
    refuse_results(tmp_path, "*.json")
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    sentence = (
        r"expected a new file for --out, got .*a\.json, which exists already; choose another --out, or remove it\."
    )
    with pytest.raises(UsageError, match=sentence):
        refuse_existing(tmp_path / "a.json")
    with pytest.raises(UsageError, match=sentence):
        refuse_results(tmp_path, "*.json")


def test_nobody_words_the_sentence_anew() -> None:
    own = ROOT / "interp" / "runtime" / "files.py"
    files = [file for folder in ("cotlens", "interp", "probes", "dashboards") for file in (ROOT / folder).rglob("*.py")]
    again = [file for file in files if file != own and "which exists already" in file.read_text(encoding="utf-8")]
    assert again == []
