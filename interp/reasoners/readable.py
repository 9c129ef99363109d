"""Whether a reasoner can read traces that it did not make."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from interp.errors import StoreError
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import Trace


def check_readable(traces: Sequence[Trace], vocabulary: Vocabulary, width: int, trusted: Collection[str]) -> None:
    """Check that the tokens of traces mean the same to a reasoner, and that their thoughts are as wide as its own.

    Args:
        traces: The traces.
        vocabulary: The reasoner's vocabulary.
        width: Width of its embeddings.
        trusted: Hashes of tokenizers whose traces are not read token by token.

    Raises:
        StoreError: The tokens are of another vocabulary, or the continuous thoughts of another width.
    """
    for trace in traces:
        if trace.latents is not None and trace.latents.shape[1] != width:
            raise StoreError(
                f"expected thoughts {width} wide, as {vocabulary.name} has, got thoughts {trace.latents.shape[1]} wide in "
                f"trace {trace.id} of {trace.reasoner}; load the model that made the traces."
            )
        if trace.tokenizer not in trusted and trace.tokens:
            vocabulary.check_trace(trace)
