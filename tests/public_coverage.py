"""A pytest plugin that prints how much of each public name of cotlens the tests executed: `make coverage`.

A name of `cotlens.__all__` counts by the statements of its function, or of its class and methods. Commands that tests
start in processes of their own, such as the demo with `study`, do not count.

coverage.py would have Python 3.11 call it for every line of every package, which makes the tests half slower. Here the
files of `FILES` alone are compiled with a mark before each statement, and the rest runs as it is.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
#: The files that define the names of `cotlens.__all__`.
FILES = (
    "cotlens/functions.py",
    "dashboards/figures.py",
    "dashboards/runs.py",
    "dashboards/study.py",
    "interp/activations/capturing.py",
    "interp/activations/recording.py",
    "interp/activations/store.py",
    "interp/causal/ablation.py",
    "interp/causal/evaluation.py",
    "interp/causal/interchanges/run.py",
    "interp/causal/steering.py",
    "interp/causal/swap.py",
    "interp/decoders/evaluation/decoding.py",
    "interp/decoders/evaluation/read_outs.py",
    "interp/errors.py",
    "interp/loading/load.py",
    "interp/models/address.py",
    "interp/problems/__init__.py",
    "interp/problems/base.py",
    "interp/reasoners/base.py",
    "interp/reasoners/interventions.py",
    "interp/reasoners/monitor.py",
    "interp/statistics/estimates.py",
    "interp/text/wording.py",
    "interp/traces/trace.py",
    "interp/traces/trace_set.py",
    "probes/estimators/saved.py",
    "probes/subtext/commitment.py",
    "probes/subtext/discover.py",
    "probes/subtext/locate.py",
    "probes/subtext/paraphrase.py",
    "probes/sweeps/results.py",
    "probes/sweeps/run.py",
)
RAN = "__ran__"  # what a module calls its marks
marks: dict[str, bytearray] = {}  # file -> for each line, 1 once its statement has run


def statements(source: str) -> tuple[ast.Module, list[int]]:
    """Return the tree of a file with a mark before each statement, and the lines of these statements.

    Docstrings, `...` and what is under `if TYPE_CHECKING` are not statements that a test can execute.
    """
    tree, lines = ast.parse(source), []

    def mark(block: list[ast.stmt]) -> list[ast.stmt]:
        marked: list[ast.stmt] = []
        for node in block:
            if _runs(node):
                lines.append(_first_line(node))
                (line,) = ast.parse(f"{RAN}[{lines[-1]}] = 1").body
                for part in ast.walk(line):
                    ast.copy_location(part, node)
                marked.append(line)
            marked.append(node)
        return marked

    for node in list(ast.walk(tree)):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and not _is_for_types(node):
                setattr(node, field, mark(block))
    return tree, lines


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _runs(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef) and len(node.body) == 1 and _is_constant(node.body[0]):
        return False
    is_declaration = isinstance(node, ast.Global | ast.Nonlocal)
    is_first = isinstance(node, ast.ImportFrom) and node.module == "__future__"  # nothing may stand before it
    return not (is_declaration or is_first or _is_constant(node) or _is_for_types(node))


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


class MarkingLoader(SourceFileLoader):
    """Compile a file with a mark before each statement; nothing of it is cached."""

    def get_code(self, fullname: str) -> CodeType:
        tree, _ = statements(Path(self.path).read_text(encoding="utf-8"))
        return compile(tree, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        lines = len(Path(self.path).read_bytes().splitlines())
        setattr(module, RAN, marks.setdefault(self.path, bytearray(lines + 1)))
        super().exec_module(module)


class MarkingFinder(MetaPathFinder):
    """Find the modules of `FILES`, to be loaded with marks."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        file = name.replace(".", "/")
        if f"{file}.py" not in FILES and f"{file}/__init__.py" not in FILES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = MarkingLoader(name, spec.origin)
        return spec


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    # Before tests/conftest.py imports the packages.
    sys.meta_path.insert(0, MarkingFinder())


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist hands over what it ran.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[RAN] = {file: bytes(ran) for file, ran in marks.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for file, ran in getattr(node, "workeroutput", {}).get(RAN, {}).items():
        merged = marks.setdefault(file, bytearray(len(ran)))
        merged[:] = bytes(old | new for old, new in zip(merged, ran, strict=True))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("statements of the public names that ran")
    # The report imports what it reports on; what runs then is no test's.
    for line in report({file: bytes(ran) for file, ran in marks.items()}):
        terminalreporter.write_line(line)


def report(marks: Mapping[str, bytes]) -> list[str]:
    """Return a line for each public name, least covered first, and one for all of them.

    Args:
        marks: For each file, a byte for each line, 1 where a statement that begins there has run.

    Raises:
        UsageError: A file that defines a public name is not in `FILES`.
    """
    import cotlens

    rows = []
    for name in sorted(cotlens.__all__):
        thing = getattr(cotlens, name)
        try:
            source, first = inspect.getsourcelines(thing)
            path = Path(inspect.getsourcefile(thing) or "")
        except TypeError:  # a constant or an alias of a type
            continue
        if path.relative_to(ROOT).as_posix() not in FILES:
            raise pytest.UsageError(f"{name} is defined in {path}; list that file in FILES of {__file__}")
        _, lines = statements(path.read_text(encoding="utf-8"))
        # The lines of `def` and of defaults run on import, so only bodies count.
        inside = [line for line in lines if first < line < first + len(source)]
        if inside:
            ran = sum(marks[str(path)][line] for line in inside) if str(path) in marks else 0
            rows.append((ran / len(inside), name, ran, len(inside)))
    table = [f"{share:6.1%}  {name} ({ran} of {n} statements)" for share, name, ran, n in sorted(rows)]
    ran, n = sum(row[2] for row in rows), sum(row[3] for row in rows)
    return [*table, f"public surface: {ran / n:.1%} of {len(rows)} names' statements"]
