"""Loading the reasoner of a store again, for workers, `resume` and readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from interp.errors import StoreError, UsageError

if TYPE_CHECKING:
    from interp.loading.load import LoadArguments
    from interp.reasoners import Reasoner


def reload(meta: dict[str, Any], **changes: Unpack[LoadArguments]) -> Reasoner:
    """Load the reasoner that a store was captured from.

    Source, configuration, dtype and trust in pickle are those of the capture; `interp.load` chooses the device.

    Args:
        meta: Description of the store.
        **changes: Options of `interp.load` that replace those of the capture.

    Returns:
        The reasoner.

    Raises:
        UsageError: When it cannot be loaded.
        StoreError: When its weights have changed.
    """
    import torch

    from interp.loading.load import load

    described, computed = meta["reasoner"], meta.get("computed", {})
    options: dict[str, Any] = {"reasoner": described["config"] or None, "dtype": computed.get("dtype")}
    options |= meta.get("origin", {}) | changes
    source = options.pop("source", described["name"])
    try:
        reasoner = load(source, **options)
    except UsageError as error:
        if str(options.get("device", "")).startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(
                f"{error} The store was begun on a GPU: resume it where there is one, or with --device cpu, which rounds "
                "differently. Jobs of an engine must ask for one: --engine slurm:gpus_per_node=1, --engine ray:num_gpus=1."
            ) from None
        raise UsageError(
            f"{error} The store was made by {described['name']!r}, which has to be loaded by that name for this; capture a "
            "model that exists only in one process there, with engine inline."
        ) from None
    reasoner.name = described["name"]  # may be a path relative to another folder
    # Weights loaded in another dtype have another hash.
    if computed and options["dtype"] == computed["dtype"] and reasoner.weights != described["weights"]:
        raise StoreError(
            f"{described['name']} has other weights than the store was begun with; capture to a new folder."
        )
    return reasoner
