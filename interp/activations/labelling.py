"""Labels of a user's own tables in a store."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from interp.activations import layout
from interp.activations.store import Store
from interp.runtime.files import commit
from interp.runtime.locks import locked
from interp.text.label_tables import checked_labels, labels_bytes, read_labels


def label_store(path: Path | str, table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Add the labels of a table to a store; those that it has stay.

    Args:
        path: Folder of the store.
        table: The table, see `interp.text.label_tables`.

    Returns:
        The labels that were added, as `checked_labels` returns them, and the number of traces of the store. A store that
        is open already has to be opened again.

    Raises:
        StoreError: There is no store, or another process writes to it.
        UsageError: The table does not fit the store's traces.
    """
    store = Store(path)
    file = store.path / layout.LABELS
    with locked(store.path, "adding labels to"):
        added = checked_labels(table, store.traces)
        known = [read_labels(file)] if file.exists() else []
        commit(file, labels_bytes(pd.concat([*known, added], ignore_index=True)))
    return added, len(store.traces)
