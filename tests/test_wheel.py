"""The wheel holds what it needs and nothing else, and works in an environment of its own, away from the checkout."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cotlens import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = ("cotlens", "interp", "probes", "dashboards")
MEGABYTES = 45
# Prints the exit code of `--help` of every command and of every command in a group.
EVERY_HELP = """
import contextlib, io, pkgutil, typer
from cotlens.cli import COMMANDS, _run
for name, (place, _) in COMMANDS.items():
    app = pkgutil.resolve_name(place)
    command = typer.main.get_command(app) if isinstance(app, typer.Typer) else app
    for words in [[name], *([name, inner] for inner in getattr(command, "commands", {}))]:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            code = _run([*words, "--help"])
        print(code, "usage" in shown.getvalue().lower(), *words)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, in which setuptools may write."""
    copy = tmp_path_factory.mktemp("source")
    junk = shutil.ignore_patterns("__pycache__", "*.egg-info", "checkpoint.safetensors", ".ipynb_checkpoints")
    for name in (*PACKAGES, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=junk)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", folder]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and with the other packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # Folders that a .pth file names are searched, but .pth files in them are not read: an editable install is not seen.
    (packages / "others.pth").write_text("\n".join(others), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--force-reinstall", wheel], check=True)
    return folder


@pytest.fixture(scope="module")
def run(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of the environment in another folder, and return what it prints."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(program: str, *arguments: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        command = [environment / "bin" / program, *arguments]
        ended = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


def test_it_holds_every_file_of_the_packages_and_nothing_else(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert names == files
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert wheel.stat().st_size < MEGABYTES * 1e6


def test_it_is_what_runs(run: Callable[..., str], environment: Path) -> None:
    program = "import cotlens, importlib.util as u; print(cotlens.__file__, u.find_spec('benchmarks'))"
    file, benchmarks = run("python", "-c", program).split()
    assert Path(file).is_relative_to(environment) and benchmarks == "None"
    assert run("cotlens", "--version") == f"cotlens {__version__}\n"
    assert "chain-coconut" in run("cotlens", "organisms", "ls")


def test_every_command_has_its_help(run: Callable[..., str]) -> None:
    lines = run("python", "-c", EVERY_HELP).splitlines()
    assert len(lines) > 40
    # The benches run from a checkout, and say so.
    assert [line for line in lines if not line.startswith("0 True ")] == ["2 False bench"]


def test_an_organism_thinks(run: Callable[..., str]) -> None:
    run("cotlens", "think", "chain-coconut", "--n", "8", "--out", "traces.parquet")
    program = "from cotlens import TraceSet; print(TraceSet.from_parquet('traces.parquet').accuracy)"
    assert float(run("python", "-c", program)) == 1


def test_the_demo_runs(run: Callable[..., str]) -> None:
    run("cotlens", "demo", "--n", "300", "--out", "runs/demo")
    report = run("python", "-c", "print(open('runs/demo/report.html', encoding='utf-8').read())")
    assert "chain-coconut" in report


def test_the_dashboard_answers(environment: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [environment / "bin" / "cotlens", "dash", "--port", str(port), "--no-token"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert _answer(running, port) == 200
    finally:
        running.terminate()
        running.wait(60)


def _answer(running: subprocess.Popen[bytes], port: int) -> int | None:
    """Return the status of the dashboard's first page; None where it ended before it answered."""
    while running.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except ConnectionError:
            time.sleep(0.2)
        finally:
            connection.close()
    return None
