"""Labels of a problem's parameters (arXiv 2407.20311, section 4).

Each label is a function of the definitions, the parameter `asked` for, and the parameters `known` so far, so it applies
to gold solutions and to what a model writes.
"""

from __future__ import annotations

from collections.abc import Collection

from interp.problems.igsm.graph import Definitions, closure, operands


def necessary(definitions: Definitions, asked: str, name: str) -> bool:
    """Return whether the answer depends on the parameter; the asked one is necessary too."""
    return name in closure(definitions, asked)


def depends(definitions: Definitions, name: str, on: str) -> bool:
    """Return whether `name` depends on the other parameter `on`, directly or not."""
    return name != on and on in closure(definitions, name)


def can_next(definitions: Definitions, known: Collection[str], name: str) -> bool:
    """Return whether the next step can compute the parameter: it is not known yet and all its operands are."""
    return name not in known and all(operand in known for operand in operands(definitions[name]))


def necessary_next(definitions: Definitions, asked: str, known: Collection[str], name: str) -> bool:
    """Return whether a shortest solution can compute the parameter next: it is necessary and can be computed."""
    return can_next(definitions, known, name) and necessary(definitions, asked, name)
