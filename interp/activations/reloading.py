"""The model of a store, loaded again: by the engines' workers, by `resume`, and by whatever reads a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def reload(meta: dict[str, Any], **changes: Any) -> Reasoner:
    """The reasoner that a store's description names, loaded as it was when it was captured.

    That is its source, configuration and dtype, and whether pickle was trusted; the device is for `interp.load` to
    choose. `changes` are options of `interp.load` that differ this time. Raises `UsageError` where it cannot be loaded, and `StoreError` where its
    weights are others by now.
    """
    import torch

    from interp.loading.load import load

    said, computed = meta["reasoner"], meta.get("computed", {})
    options: dict[str, Any] = {"reasoner": said["config"] or None, "dtype": computed.get("dtype")}
    options |= meta.get("origin", {}) | changes
    source = options.pop("source", said["name"])
    try:
        found = load(source, **options)
    except UsageError as error:
        if str(options.get("device", "")).startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(
                f"{error} The store was begun on one: go on where one is, or with --device cpu, which rounds otherwise. A job of "
                "an engine sees one where it asks for it: --engine slurm:gpus_per_node=1, --engine ray:num_gpus=1."
            ) from None
        raise UsageError(
            f"{error} The store was made by {said['name']!r}, which has to be loaded by that name for this; what exists "
            "in one process only is captured there, with engine inline."
        ) from None
    found.name = said["name"]  # which may be a path as it was given in another folder
    # Read in another dtype, the same weights are other numbers.
    if computed and options["dtype"] == computed["dtype"] and found.weights != said["weights"]:
        raise StoreError(f"{said['name']} has other weights than the store was begun with; capture into a new folder.")
    return found
