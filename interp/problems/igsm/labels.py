"""What is true of a problem's parameters: the six labels of the paper's section 4 (arXiv 2407.20311).

Each is a function of the definitions, the parameter that is asked for, and the set of parameters that have been
computed so far, so it holds for gold solutions and for whatever a model wrote.
"""

from __future__ import annotations

from collections.abc import Collection

from interp.problems.igsm.graph import Definitions, closure, operands


def necessary(definitions: Definitions, asked: str, name: str) -> bool:
    """Whether the answer depends on the parameter; the asked one is necessary too."""
    return name in closure(definitions, asked)


def depends(definitions: Definitions, name: str, on: str) -> bool:
    """Whether `name` depends on the other parameter `on`, however indirectly."""
    return name != on and on in closure(definitions, name)


def can_next(definitions: Definitions, known: Collection[str], name: str) -> bool:
    """Whether the next step could compute it: it is not known yet and all its operands are."""
    return name not in known and all(operand in known for operand in operands(definitions[name]))


def necessary_next(definitions: Definitions, asked: str, known: Collection[str], name: str) -> bool:
    """Whether a shortest solution could compute it next: necessary, and possible."""
    return can_next(definitions, known, name) and necessary(definitions, asked, name)
