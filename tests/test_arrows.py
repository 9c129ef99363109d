"""Imports run one way, from the front down to the problems, and never in a circle.

Type imports, imports inside functions and names in strings ("module:attribute") count like any other import.
"""

from __future__ import annotations

import ast
import builtins
import functools
import re
import symtable
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("interp", "probes", "dashboards", "cotlens", "benchmarks")
# From the bottom up: a room imports from itself and from rooms above it in this list, never from one below.
ROOMS = (
    "interp.errors",
    "interp.runtime",
    "interp.problems",
    "interp.traces",
    "interp.statistics",
    "interp.text",
    "interp.models",
    "interp.reasoners",
    "interp.organisms",
    "interp.loading",
    "interp.transcripts",
    "interp.activations",
    "interp.sae",
    "interp.decoders",
    "interp.decoders.evaluation",
    "interp.causal",
    "interp.organisms.training",
    "interp",
    "interp.commands",
    "probes.solvers",
    "probes.estimators",
    "probes.sweeps",
    "probes.vprobe",
    "probes.subtext",
    "probes.trajectories",
    "probes.decoder",
    "probes",
    "probes.commands",
    "dashboards",
    "cotlens",
    "benchmarks",
    "cotlens.bench",
    "cotlens.cli",
)
# Problems and traces are read by tools that load no model.
WITHOUT_TORCH = ("interp.errors", "interp.runtime.files", "interp.problems", "interp.traces", "interp.statistics")
NAMED = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+:\w+")  # "module:attribute"


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def names_in(tree: ast.AST) -> Iterator[str]:
    """Yield every module or name of a module that a file imports or names."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                assert node.level == 0, "imports are written in full"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.Constant(value=str(text)) if NAMED.fullmatch(text):
                yield text.partition(":")[0]
            case ast.Call(
                func=ast.Name(id="files") | ast.Attribute(attr="files"), args=[ast.Constant(value=str(text))]
            ):
                yield text  # importlib.resources: reading a package's files is an arrow too


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Map every module of the packages to its file."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }


def module_of(name: str, known: Iterable[str]) -> str | None:
    """Return the module that a dotted name lies in."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Return for each module the modules of ours that it imports."""
    return {
        name: {
            module for imported in names_in(tree_of(path)) if (module := module_of(imported, files)) and module != name
        }
        for name, path in files.items()
    }


def room_of(module: str) -> str:
    """Return the innermost room of the list that holds a module."""
    return max((room for room in ROOMS if module == room or module.startswith(f"{room}.")), key=len)


def against_the_arrows(arrows: dict[str, set[str]]) -> list[str]:
    """Return every import that runs upwards."""
    return [
        f"{name} imports {imported}"
        for name, targets in arrows.items()
        for imported in sorted(targets)
        if ROOMS.index(room_of(imported)) > ROOMS.index(room_of(name))
    ]


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    return graph(modules())


def test_every_import_names_a_module_that_is_there() -> None:
    # mypy lets unknown modules pass, and an import inside a function fails only when it runs.
    known = modules()
    for name, path in known.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                assert node.module in known, f"{name} imports from {node.module}, which is not there"


def unbound_names(source: str) -> set[str]:
    """Return the names that code uses and nothing binds; annotations aside."""
    module = symtable.symtable(source, "file", "exec")
    bound = {s.get_name() for s in module.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    bound |= {*dir(builtins), "__file__", "__path__"}

    def used(table: symtable.SymbolTable) -> Iterator[str]:
        is_module = table.get_type() == "module"
        yield from (s.get_name() for s in table.get_symbols() if s.is_referenced() and (s.is_global() or is_module))
        for child in table.get_children():
            yield from used(child)

    return set(used(module)) - bound


def test_every_name_is_bound() -> None:
    # ruff and mypy are told not to look: they take the words of shape strings for names.
    for name, path in modules().items():
        assert not unbound_names(path.read_text(encoding="utf-8")), name
    assert unbound_names("import a\ndef f(b):\n    return a.c(b, d)\n") == {"d"}


def test_imports_run_down_the_list_of_rooms(arrows: dict[str, set[str]]) -> None:
    wrong = against_the_arrows(arrows)
    assert not wrong, "\n".join(wrong)


def test_no_circle(arrows: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_folder_is_in_a_room_and_none_is_a_hallway() -> None:
    for folder in {path.parent for path in modules().values()}:
        here = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(here) <= 21, f"{folder.relative_to(ROOT)} holds {len(here)} modules; make rooms of it"


def missing_rooms(picture: str, folders: Iterable[str]) -> list[str]:
    """Return the folders that a picture does not name."""
    named = set(re.findall(r"([\w-]+)/", picture))
    return sorted(folder for folder in folders if folder.rpartition("/")[2] not in named)


def test_the_picture_of_the_rooms_names_every_folder_and_no_other() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    folders = {str(path.parent.relative_to(ROOT)) for path in modules().values()}
    shown = [folder for folder in folders if not folder.startswith("benchmarks/")]
    assert not missing_rooms(picture, shown)
    assert missing_rooms("interp/  text/", ["interp", "interp/text", "interp/sae"]) == ["interp/sae"]
    leaves = {folder.rpartition("/")[2] for folder in folders}
    assert set(re.findall(r"([\w-]+)/", picture)) <= leaves


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_the_bottom_knows_no_torch(part: str) -> None:
    for name, path in modules().items():
        if name == part or name.startswith(f"{part}."):
            tree = tree_of(path)
            at_import = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef)], [])
            top = {n.split(".")[0] for n in names_in(at_import)}
            assert "torch" not in top, f"{name} imports torch when it is imported"


def test_the_rules_can_fail(tmp_path: Path) -> None:
    def written(files: dict[str, str]) -> dict[str, set[str]]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return graph(modules(tmp_path))

    upwards = {
        "interp/models/inside_a_function.py": "def f():\n    from probes.solvers.ridge import g\n",
        "interp/models/in_a_string.py": 'REGISTRY = {"b": "probes.solvers.ridge:g"}\n',
        "interp/models/in_a_path.py": 'from importlib.resources import files\nfiles("benchmarks")\n',
        "probes/solvers/ridge.py": "",
        "benchmarks/__init__.py": "",
    }
    assert len(against_the_arrows(written(upwards))) == 3
    circle = {
        "interp/text/x.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from interp.text.y import Y\n",
        "interp/text/y.py": "import interp.text.x\n",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(written(circle)).prepare()


def test_no_private_names_across_modules() -> None:
    for name, path in modules().items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                private = [a.name for a in node.names if a.name.startswith("_") and not a.name.endswith("__")]
                assert not private, f"{name} imports {private} of {node.module}"
