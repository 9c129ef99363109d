"""Nothing depends on the machine: text files name their encoding, and importing needs no module that only Unix has."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cotlens", "interp", "probes", "dashboards", "benchmarks")
FILES = [*(file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))]
FILES += [ROOT / "docs" / "hooks.py", ROOT / "notebooks" / "execute.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# Of the standard library, what Windows does not have.
UNIX = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}


def encodings_missing(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of calls that read or write text in whatever encoding the machine has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        # The encoding is the first argument of `read_text` and the second one of `write_text`.
        if (name == "read_text" and not node.args) or (name == "write_text" and len(node.args) < 2):
            yield node.lineno
        # `open` with a mode of text; paths, and the built-in function with one more argument.
        modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        modes += [
            word.value.value for word in node.keywords if word.arg == "mode" and isinstance(word.value, ast.Constant)
        ]
        written = [
            mode for mode in modes if isinstance(mode, str) and mode in ("r", "w", "a", "x", "rt", "wt", "r+", "a+")
        ]
        if name == "open" and (written or (isinstance(node.func, ast.Name) and not modes)):
            yield node.lineno


def unix_imports(tree: ast.Module) -> Iterator[str]:
    """Yield what a file imports, when it is imported itself, of modules that only Unix has."""
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        yield from UNIX & {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", [*PACKAGES, "docs", "notebooks", "tests"])
def test_text_is_read_and_written_in_a_named_encoding(package: str) -> None:
    files = [file for file in [*FILES, *TESTS] if file.relative_to(ROOT).parts[0] == package]
    missing = {str(file.relative_to(ROOT)): list(encodings_missing(ast.parse(file.read_bytes()))) for file in files}
    assert files and {name: lines for name, lines in missing.items() if lines} == {}


@pytest.mark.parametrize(
    ("code", "is_seen"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, 'utf-8')", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("path.open('w')", True),
        ("path.open('wb')", False),
        ("path.open(mode='a')", True),
        ("path.open('w', encoding='utf-8')", False),
    ],
)
def test_the_check_sees_what_it_looks_for(code: str, is_seen: bool) -> None:
    assert bool(list(encodings_missing(ast.parse(code)))) == is_seen


def test_no_file_needs_a_module_of_unix_when_it_is_imported() -> None:
    needed = {str(file.relative_to(ROOT)): set(unix_imports(ast.parse(file.read_bytes()))) for file in FILES}
    assert {name: modules for name, modules in needed.items() if modules} == {}
    assert set(unix_imports(ast.parse("import resource, json\nfrom fcntl import flock"))) == {"resource", "fcntl"}


def test_a_run_is_written_where_the_system_does_not_tell_the_peak_memory() -> None:
    program = (
        "import sys\nsys.modules['resource'] = None\n"
        "from dashboards.record import peak_rss_mb\nassert peak_rss_mb() is None\n"
        "sys.modules.pop('resource')\nassert 1 < peak_rss_mb() < 1e6"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_one_script_searches_for_interpreters() -> None:
    """Both scripts that run tests on other Pythons ask it."""
    script = ROOT / ".ci" / "interpreter"
    own = "{}.{}".format(*sys.version_info[:2])
    there = subprocess.run(["bash", script, own], capture_output=True, text=True)
    if there.returncode == 0:
        shown = subprocess.run([there.stdout.strip(), "--version"], capture_output=True, text=True)
        assert f"Python {own}." in shown.stdout
    missing = subprocess.run(["bash", script, "9.9"], capture_output=True, text=True)
    assert missing.returncode == 1 and missing.stdout == ""
    others = [file for file in (ROOT / ".ci").iterdir() if file != script]
    assert [file.name for file in others if "PYENV_ROOT" in file.read_text(encoding="utf-8")] == []
    users = {file.name for file in others if ".ci/interpreter" in file.read_text(encoding="utf-8")}
    assert users == {"other_pythons", "python313"}
