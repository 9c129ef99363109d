"""What a package index gets: pictures and links that lead somewhere once the repository's address is filled in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from cotlens import __version__

ROOT = Path(__file__).parent.parent
ADDRESS = "https://forge.example/owner/cotlens"


def metadata(folder: Path, address: str) -> Message:
    """Return the metadata that is built with this address in the one field that asks for it."""
    for inner in ("cotlens", "out"):
        (folder / inner).mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "cotlens/__init__.py"):
        shutil.copy(ROOT / name, folder / name)
    project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    filled, count = re.subn(r'^repository = ".*"$', f'repository = "{address}"', project, flags=re.MULTILINE)
    assert count == 1
    (folder / "pyproject.toml").write_text(filled, encoding="utf-8")
    program = "import setuptools.build_meta as b; b.prepare_metadata_for_build_wheel('out')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (built,) = (folder / "out").glob("*.dist-info/METADATA")
    return message_from_string(built.read_text(encoding="utf-8"))


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/"])
def test_pictures_and_links_lead_to_the_repository(tmp_path: Path, address: str) -> None:
    built = metadata(tmp_path, address)
    text = built.get_payload()
    assert isinstance(text, str) and built["Description-Content-Type"] == "text/markdown"
    assert f"]({ADDRESS}/raw/v{__version__}/docs/readable.png)" in text
    assert f"]({ADDRESS}/blob/v{__version__}/docs/figures.md#readable-is-not-used)" in text
    assert all(link.startswith("https://") for link in links(text))
    paths = [link.removeprefix(f"{ADDRESS}/").split("/", 2)[2] for link in links(text) if link.startswith(ADDRESS)]
    assert len(paths) > 10 and all((ROOT / path.partition("#")[0]).exists() for path in paths)


def test_the_addresses_of_the_project_come_from_the_same_field(tmp_path: Path) -> None:
    pages = f"{ADDRESS}/blob/v{__version__}"
    assert metadata(tmp_path, ADDRESS).get_all("Project-URL") == [
        f"Repository, {ADDRESS}",
        f"Documentation, {pages}/docs/index.md",
        f"Changelog, {pages}/CHANGELOG.md",
    ]


def test_without_an_address_nothing_is_invented(tmp_path: Path) -> None:
    built = metadata(tmp_path, "")
    assert built.get_all("Project-URL") is None and built["Home-page"] is None
    assert built.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert built["Version"] == __version__
