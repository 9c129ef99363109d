"""The readme and the addresses of a distribution; everything else is in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)")


def published() -> dict[str, str]:
    """Return the field `tool.cotlens.published` of pyproject.toml, with the version in its addresses."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
    front = (HERE / "cotlens" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'^__version__ = "(.+)"$', front, re.MULTILINE)[0]
    fields: dict[str, str] = project["tool"]["cotlens"]["published"]
    known = {"repository": fields["repository"].rstrip("/"), "version": version, "path": "{path}"}
    return {name: text.format(**known).rstrip("/") for name, text in fields.items()}


def readme(addresses: dict[str, str]) -> str:
    """Return README.md. On a package index no file lies beside it, so links to files become addresses."""

    def absolute(link: re.Match[str]) -> str:
        address = addresses["pictures" if link["picture"] else "pages"].format(path=link["path"])
        return f"{link['picture']}[{link['text']}]({address}{link['anchor'] or ''})"

    text = (HERE / "README.md").read_text(encoding="utf-8")
    return LINK.sub(absolute, text) if addresses["repository"] else text


def project_urls(addresses: dict[str, str]) -> dict[str, str]:
    """Return the addresses that a package index shows beside the project; none where the repository's is not known."""
    if not addresses["repository"]:
        return {}
    return {
        "Repository": addresses["repository"],
        "Documentation": addresses["pages"].format(path="docs/index.md"),
        "Changelog": addresses["pages"].format(path="CHANGELOG.md"),
    }


if __name__ == "__main__":
    addresses = published()
    setup(
        long_description=readme(addresses),
        long_description_content_type="text/markdown",
        project_urls=project_urls(addresses),
    )
