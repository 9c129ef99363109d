"""Surface features of a parameter, read without following any reference: a baseline for probes.

A probe of `necessary` must beat these features. In a question whose distractors are not matched, being a constant or
being used as an operand already predicts what is necessary.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Float

from interp.problems.base import Problem
from interp.problems.igsm.checking import definitions_of
from interp.problems.igsm.graph import OPERATIONS, operands

SURFACE: tuple[str, ...] = (
    *("constant", "one operand", "two operands", *OPERATIONS),
    *("uses", "used once", "never used", "asked", "sentence from the front", "sentence from the back"),
    *("parameters in all", "steps so far", "written", "operands written", "users written", "all operands written"),
)


def surface(problem: Problem, name: str, written: Collection[str] = ()) -> Float[np.ndarray, " features"]:
    """Return the features of `SURFACE` for one parameter.

    Args:
        problem: The problem.
        name: The parameter.
        written: Parameters whose steps have been written.

    Returns:
        Array of shape (features,).
    """
    definitions = definitions_of(problem)
    formula = definitions[name]
    users = [other for other, uses in definitions.items() for operand in operands(uses) if operand == name]
    used = operands(formula)
    sentence = list(definitions).index(name)
    return np.array(
        [
            *(len(used) == k for k in range(3)),
            *(operation in formula for operation in OPERATIONS),
            *(len(users), len(users) == 1, not users, name == problem.meta["asked"]),
            *(sentence, len(definitions) - sentence),
            *(len(definitions), len(written), name in written, sum(operand in written for operand in used)),
            *(sum(user in written for user in users), all(operand in written for operand in used)),
        ],
        dtype=np.float32,
    )
