"""A task of another package: chains of one or two steps."""

from __future__ import annotations

from interp.problems.chain import ChainTask
from interp.problems.options import spec_of


class ShortChainTask(ChainTask):
    """Chains of one or two steps.

    Args:
        values: Number of values.
    """

    name = "short-chain"

    def __init__(self, values: int | str = 10) -> None:
        super().__init__(steps="1-2", values=values)
        self.spec = spec_of(self.name, [("values", self.n_values, 10)])
