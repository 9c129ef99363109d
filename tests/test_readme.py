"""README and docs are true: the ten lines run, commands and links exist, and the front page is short."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cotlens.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def _click_command(name: str) -> Any:
    place = "benchmarks.cli:app" if name == "bench" else COMMANDS[name][0]
    return typer.main.get_command(pkgutil.resolve_name(place))


# Their blocks are files of an example or code of the package, which other tests compare.
TESTED_ELSEWHERE = {"README.md", "CONTRIBUTING.md", "extending.md", "questions.md"}


def _python(page: Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))


WITH_PYTHON = [page for page in PAGES if page.name not in TESTED_ELSEWHERE and _python(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """The blocks of a page are one program."""
    code = _python(page)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_code_of_other_tools_runs_where_they_are_installed(tmp_path: Path) -> None:
    pytest.importorskip("nnsight", reason="the code of nnsight and tuned-lens on the page needs both")
    pytest.importorskip("tuned_lens", reason="the code of nnsight and tuned-lens on the page needs both")
    page = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python title=[^\n]*\n(.*?)```", page, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "nnsight" in code and "tuned_lens" in code, done.stderr[-2000:]


def test_the_error_messages_of_the_faq_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    texts = [
        node.value
        for folder in ("cotlens", "interp", "probes", "dashboards")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(quoted) >= 10
    assert [message for message in quoted if not any(message in text for text in texts)] == []


@pytest.mark.slow
def test_the_ten_lines_run(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    output = code + "\nassert sweep.table()['accuracy'].min() > 0.95\nprint(len(readouts.table()))\n"
    done = subprocess.run([sys.executable, "-c", output], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1]) > 1000
    assert (tmp_path / "runs" / "first" / "meta.json").exists()


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_the_commands_page_names_every_command_and_no_other() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`cotlens (\w+)", page)) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """`cotlens NAME SUBCOMMAND` in code names a command; a first argument in capitals is a placeholder."""
    if page.name == "CHANGELOG.md":
        pytest.skip("the changelog names commands of earlier versions")
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)cotlens ([a-z]+)(?: ([a-z-]+))?([^`\n]*)", text, re.MULTILINE)
    for name, second, rest in named:
        assert name in COMMANDS, f"{page.name} names `cotlens {name}`"
        command = _click_command(name)
        if second and hasattr(command, "commands"):
            assert second in command.commands, f"{page.name} names `cotlens {name} {second}`"
            command = command.commands[second]
        # After a comment, a pipe or `&&`, options are those of something else.
        options = re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", re.split(r"[#|&]", rest)[0])
        # An option of a group may stand where the page speaks of all its commands.
        known = {option for one in (command, *getattr(command, "commands", {}).values()) for option in _options(one)}
        missing = [option for option in options if option not in known]
        assert not missing, f"{page.name} gives `cotlens {name} {second}` {missing}"


def _options(command: Any) -> set[str]:
    """Return the options of a command, and what every command has."""
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{page.name} links to {target}, and {file.name} has no such heading"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_two_commands_and_the_pictures_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README and re.search(rf"^{target}:", makefile, re.MULTILINE)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).exists()
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
