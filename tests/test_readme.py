"""The README is true: its ten lines run, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cotlens.cli import COMMANDS

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.slow
def test_the_ten_lines_run(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    output = code + "\nassert sweep.table()['accuracy'].min() > 0.95\nprint(len(readouts.table()))\n"
    done = subprocess.run([sys.executable, "-c", output], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1]) > 1000
    assert (tmp_path / "runs" / "first" / "meta.json").exists()


def test_the_readme_names_every_command_and_no_other() -> None:
    output = set(re.findall(r"`cotlens (\w+)", README))
    assert output == set(COMMANDS)


def test_the_two_commands_and_the_pictures_exist() -> None:
    root = Path(__file__).parent.parent
    makefile = (root / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in README and re.search(rf"^{target}:", makefile, re.MULTILINE)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (root / picture).exists()
    assert "make test" in (root / ".ci" / "run").read_text()
