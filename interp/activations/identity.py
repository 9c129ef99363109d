"""Whether a reasoner made the traces whose activations are to be captured."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from interp.errors import StoreError, counted
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def check_own(reasoner: Reasoner, traces: Sequence[Trace], *, transfer: bool = False) -> None:
    """Check that traces were made by a reasoner, as far as they say who made them.

    Args:
        reasoner: The reasoner.
        traces: The traces.
        transfer: Allow traces of other weights. Their tokens must mean the same all the same.

    Raises:
        StoreError: Another model made them.
    """
    reasoner.check_readable(traces, unknown=True)
    other = next((trace for trace in traces if trace.weights not in ("", reasoner.weights)), None)
    if other is not None and not transfer:
        raise StoreError(
            f"expected traces of {reasoner.name} (weights {reasoner.weights}), got trace {other.id} of {other.reasoner} "
            f"(weights {other.weights}); load the model that made them, in the dtype in which it did, or allow another "
            "model's with transfer=True (--transfer)."
        )
    unknown = sum(not trace.weights for trace in traces)
    if unknown:
        warnings.warn(
            f"{unknown} of {counted(len(traces), 'trace')} do not say which weights made them, so that they were not compared with "
            f"those of {reasoner.name}; their tokens were.",
            stacklevel=3,
        )
