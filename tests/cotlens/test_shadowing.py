"""A user's own probes.py, interp/ or dashboards.py beside the notebook is noticed and named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )


@pytest.fixture(params=["probes.py", "interp/__init__.py", "dashboards.py"])
def in_the_way(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of the user that has a name of ours, in the working directory."""
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    path.write_text("print('the wrong one')\n", encoding="utf-8")
    return path


def test_import_names_the_file_in_one_line(in_the_way: Path, tmp_path: Path) -> None:
    ended = python("-c", "import cotlens", cwd=tmp_path)
    shown = in_the_way if in_the_way.name != "__init__.py" else f"{in_the_way.parent}/"
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1 and "the wrong one" not in ended.stdout
    assert (
        last.startswith("cotlens.shadowing.ShadowedPackageError: expected the package")
        and f"got {shown}; rename" in last
    )


def test_a_module_that_is_already_imported_is_noticed(in_the_way: Path, tmp_path: Path) -> None:
    name = in_the_way.relative_to(tmp_path).parts[0].removesuffix(".py")
    program = f"import {name}\ntry: import cotlens\nexcept ImportError as error: print(error)"
    assert "rename that file" in python("-c", program, cwd=tmp_path).stdout


def test_the_command_prints_one_line_and_exits_with_2(in_the_way: Path, tmp_path: Path) -> None:
    ended = python("-m", "cotlens.cli", "--version", cwd=tmp_path)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: expected the package") and ended.stderr.count("\n") == 1


def test_the_installed_script_is_not_disturbed_by_the_working_directory(in_the_way: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "cotlens"
    ended = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ended = subprocess.run(
        [script, "--version"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "rename" in ended.stderr


def test_other_files_are_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "probe.py").touch()
    (tmp_path / "data").mkdir()
    ended = python("-c", "import cotlens; print(cotlens.__version__)", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
