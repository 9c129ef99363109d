"""Hooks of the documentation site: pages of the repository's root, and the options of every command."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from cotlens.cli import COMMANDS

ROOT = Path(__file__).parent.parent
ROOT_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and results that lie outside docs/, and the page of all options."""
    outside = [
        *ROOT_PAGES,
        *(f"benchmarks/results/{file.name}" for file in sorted((ROOT / "benchmarks" / "results").iterdir())),
        *(f"notebooks/{file.name}" for file in sorted((ROOT / "notebooks").glob("*.ipynb"))),
    ]
    for name in outside:
        text = (ROOT / name).read_text(encoding="utf-8")
        depth = "../" * name.count("/")
        # Links into docs/ stay on the site, whose root docs/ is.
        text = re.sub(r"\]\((?:\.\./)*docs/", f"]({depth}", text) if name.endswith(".md") else text
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "options.md", content=_options()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Keep links to files of the repository's root on the site."""
    return re.sub(r"\]\(\.\./(benchmarks/results|notebooks|ARCHITECTURE|CONTRIBUTING|CHANGELOG)", r"](\1", markdown)


def _options() -> str:
    """Return the page with the options of every command, made from the commands themselves."""
    parts = ["# Options of every command\n"]
    for name, (place, _) in COMMANDS.items():
        app = pkgutil.resolve_name("benchmarks.cli:app" if name == "bench" else place)
        command = typer.main.get_command(app)
        context = typer.Context(command, info_name=f"cotlens {name}")
        parts.append(get_docs_for_click(obj=command, ctx=context, name=f"cotlens {name}", indent=1))
    return "\n".join(parts)
