"""Imports run one way: dashboards -> probes -> interp, and inside interp the bottom knows no model."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("interp", "probes", "dashboards")
# What each part of interp may never import.
MODELS = {"interp.models", "interp.reasoners", "interp.activations", "interp.decoders", "interp.causal", "interp.sae"}
FORBIDDEN: dict[str, set[str]] = {
    "interp": {"probes", "dashboards"},
    "probes": {"dashboards"},
    "interp.problems": MODELS | {"interp.traces", "torch"},
    "interp.traces": MODELS | {"torch"},
    "interp.errors": MODELS | {"torch"},
    "interp.runtime.files": MODELS | {"torch"},
    "interp.models": {"interp.reasoners", "interp.activations", "interp.decoders", "interp.causal"},
    "interp.reasoners": {"interp.activations", "interp.decoders", "interp.causal", "interp.sae"},
    "interp.activations": {"interp.decoders", "interp.causal", "interp.sae"},
    "interp.sae": {"interp.decoders", "interp.causal"},
    "interp.decoders": {"interp.causal", "interp.causal.evaluation"},
}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def modules() -> list[tuple[str, Path]]:
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_arrows(name: str, path: Path) -> None:
    for part, never in FORBIDDEN.items():
        if name != part and not name.startswith(part + "."):
            continue
        for imported in imports_of(path):
            wrong = [n for n in never if imported == n or imported.startswith(n + ".")]
            assert not wrong, f"{name} imports {imported}, against the arrows"


def test_the_rule_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from probes.solvers.ridge import fit_ridge\n")
    assert "probes.solvers.ridge" in imports_of(bad)


def test_no_private_names_across_packages() -> None:
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                private = [
                    alias.name for alias in node.names if alias.name.startswith("_") and not alias.name.endswith("__")
                ]
                assert not private, f"{name} reaches for {private} of {node.module}"
