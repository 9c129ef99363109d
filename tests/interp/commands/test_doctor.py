"""`cotlens doctor`: every check, and the exit code where one fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from interp.commands import doctor


def test_this_machine_is_ready(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    found = cotlens("doctor", "--json")
    assert found.code == 0 and found.json["ok"] is True
    checked = {check["what"] for check in found.json["checks"]}
    assert {"python", "torch", "transformer-lens", "sae-lens", "lens packages", "threads", "device", "disk"} <= checked


@pytest.mark.parametrize(
    ("versions", "ok"),
    [("3.9.0", True), ("3.10.2", True), ("3.8.9", False), ("4.0.0", False), ("3.9.0+local", True)],
)
def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch, versions: str, ok: bool) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: versions)
    found = doctor._package("transformer-lens")
    assert found["ok"] is ok and versions in found["found"] and ">=3.9, <4" in found["found"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.WANTED, "no-such-package-here", ((1,), (2,)))
    found = doctor._package("no-such-package-here")
    assert found == {"what": "no-such-package-here", "ok": False, "found": "not installed (>=1, <2 is needed)"}


def test_spinning_threads_fail_with_what_to_set(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    found = cotlens("doctor")
    assert found.code == 1
    line = next(line for line in found.out.splitlines() if line.startswith("FAIL"))
    assert "threads" in line and "OMP_WAIT_POLICY=PASSIVE" in line
    assert "FAIL" in found.error


def test_a_full_disk_fails(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
    found = cotlens("doctor", "--json")
    assert found.code == 1
    assert [c["what"] for c in found.json["checks"] if not c["ok"]] == ["disk"]


def test_packages_that_do_not_import_together_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sae_lens", None)
    found = doctor._together()
    assert found["ok"] is False and "do not import together" in found["found"]
