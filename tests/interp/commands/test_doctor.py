"""`cotlens doctor`: every check, and the exit code where one fails."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from interp.commands import doctor


def test_this_machine_is_ready(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    result = cotlens("doctor", "--json")
    assert result.code == 0 and result.json["ok"] is True
    checked = {check["what"] for check in result.json["checks"]}
    assert {"python", "torch", "transformer-lens", "sae-lens", "lens packages", "threads", "device", "disk"} <= checked


@pytest.mark.parametrize(
    ("versions", "ok"),
    [("3.9.0", True), ("3.10.2", True), ("3.8.9", False), ("4.0.0", False), ("3.9.0+local", True)],
)
def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch, versions: str, ok: bool) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: versions)
    result = doctor._package("transformer-lens")
    assert result["ok"] is ok and versions in result["found"] and ">=3.9, <4" in result["found"]


def test_the_ranges_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {wanted.name: wanted.specifier for wanted in map(Requirement, project["dependencies"])}
    assert {name: SpecifierSet(wanted) for name, wanted in doctor.WANTED.items()} == {
        name: ranges[name] for name in doctor.WANTED
    }


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.WANTED, "no-such-package-here", ">=1,<2")
    result = doctor._package("no-such-package-here")
    assert result == {"what": "no-such-package-here", "ok": False, "found": "not installed (>=1, <2 is needed)"}


def test_spinning_threads_fail_with_what_to_set(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    result = cotlens("doctor")
    assert result.code == 1
    line = next(line for line in result.out.splitlines() if line.startswith("FAIL"))
    assert "threads" in line and "OMP_WAIT_POLICY=PASSIVE" in line
    assert "FAIL" in result.error


def test_a_full_disk_fails(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
    result = cotlens("doctor", "--json")
    assert result.code == 1
    assert [c["what"] for c in result.json["checks"] if not c["ok"]] == ["disk"]


def test_packages_that_do_not_import_together_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sae_lens", None)
    result = doctor._together()
    assert result["ok"] is False and "do not import together" in result["found"]
