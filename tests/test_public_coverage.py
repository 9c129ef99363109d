"""The report on public names counts a statement when it has run, and no other line."""

from __future__ import annotations

from tests.public_coverage import RAN, report, statements

SOURCE = '''"""A module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sized(Protocol):
    """Things with a size."""

    def size(self) -> int: ...


def largest(
    numbers: Sequence[int],
    default: int = 0,
) -> int:
    """Return the largest number."""
    try:
        if not numbers:
            return default
        elif len(numbers) == 1:
            return numbers[
                0
            ]
        best, *rest = numbers
        for number in rest:
            best = max(
                best,
                number,
            )
    except TypeError:
        raise
    finally:
        total = 1
    return best
'''
LOADED = {5, 11, 17}  # the import, the class and the function
TAKEN = {22, 23, 25, 29, 30, 31, 38, 39}


def test_statements_count_when_they_have_run() -> None:
    tree, lines = statements(SOURCE)
    assert set(lines) == LOADED | TAKEN | {24, 26, 36} and len(lines) == len(set(lines))
    ran = bytearray(len(SOURCE.splitlines()) + 1)
    module = {"__name__": "made", RAN: ran}
    exec(compile(tree, "made.py", "exec", dont_inherit=True), module)
    assert {line for line, once in enumerate(ran) if once} == LOADED
    assert module["largest"]([3, 5, 4]) == 5 and module["__doc__"] == "A module."
    assert {line for line, once in enumerate(ran) if once} == LOADED | TAKEN
    assert module["largest"].__doc__ == "Return the largest number."


def test_every_public_name_has_a_line_though_nothing_ran() -> None:
    *names, whole = report({})
    assert len(names) > 40 and all(line.startswith("  0.0%") for line in names)
    assert whole == f"public surface: 0.0% of {len(names)} names' statements"
