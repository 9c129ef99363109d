"""What a parameter's own words give away without following any reference: the features of the fair baseline.

A probe that reads `necessary` no better than these has found nothing: in a question whose distractors are not
matched, being a constant or being used as an operand already tells what is necessary.
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
    """The features of `SURFACE` for one parameter, when the steps of the parameters `written` have been written."""
    definitions = definitions_of(problem)
    formula = definitions[name]
    users = [other for other, said in definitions.items() for each in operands(said) if each == name]
    own = operands(formula)
    at = list(definitions).index(name)
    return np.array(
        [
            *(len(own) == k for k in range(3)),
            *(operation in formula for operation in OPERATIONS),
            *(len(users), len(users) == 1, not users, name == problem.meta["asked"], at, len(definitions) - at),
            *(len(definitions), len(written), name in written, sum(each in written for each in own)),
            *(sum(each in written for each in users), all(each in written for each in own)),
        ],
        dtype=np.float32,
    )
