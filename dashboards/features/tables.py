"""Tables of an SAE's features on a store: names with evidence, and what random directions reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import Store
from interp.errors import StoreError

if TYPE_CHECKING:
    from interp.models.address import Address
    from interp.sae.dictionaries import Dictionary
    from interp.sae.trained import TrainedSAE

#: The file that `cotlens sae features --out` writes, and columns that it must have.
FEATURES_FILE = "features.parquet"
_COLUMNS = ("feature", "name", "score", "precision", "recall", "q", "closest", "rate", "mean", "top", "random")
# Feature activations that are computed while a person waits: 128 MB of them.
MOST_CELLS = 2**25


@dataclass(frozen=True)
class OpenedSAE:
    """An SAE with the activations that it is shown on.

    Attributes:
        folder: Its folder.
        trained: The SAE and its record.
        store: The activations.
        address: Where it reads them.
        rows: The rows that it is shown on.
        control: Random directions, as many and as sparse.
        quality: One row for the SAE and one for the control: explained variance, active features, share that never fires.
    """

    folder: Path
    trained: TrainedSAE
    store: Store
    address: Address
    rows: pd.DataFrame
    control: Dictionary
    quality: pd.DataFrame

    def encode(self, rows: pd.DataFrame, *, control: bool = False) -> np.ndarray:
        """Return feature activations of rows of the store, shape (rows, features)."""
        from interp.sae.dictionaries import SAEDictionary

        dictionary = self.control if control else SAEDictionary(self.trained.sae)
        return dictionary.encode(self.store.acts(self.address, rows))


def open_sae(folder: Path, store: Path) -> OpenedSAE:
    """Open an SAE beside a store, and check that they belong together.

    Args:
        folder: Folder of the SAE.
        store: Folder of the store.

    Raises:
        StoreError: One of them is damaged, or the activations are of another model.
    """
    from interp.activations.splits import split_rows
    from interp.sae.dictionaries import SAEDictionary, baseline
    from interp.sae.load import address_of
    from interp.sae.quality import explained_variance, sparsity
    from interp.sae.rows import select
    from interp.sae.trained import open_trained

    opened = Store(store)
    trained = open_trained(folder, opened)
    address = address_of(trained.sae, opened, None)
    rows, _ = select(opened, address, **trained.mask_options)
    split = split_rows(opened, rows, trained.split_seed)
    acts = opened.acts(address, rows)
    held_out = acts[split.test]
    own = SAEDictionary(trained.sae)
    k = max(1, round(sparsity(own.encode(held_out)).l0))
    control = baseline(
        "random_dictionary", acts[split.train], d_sae=trained.sae.cfg.d_sae, k=k, seed=trained.split_seed
    )
    quality = []
    for name, dictionary in (("this SAE", own), ("random directions", control)):
        measured = sparsity(dictionary.encode(held_out))
        quality.append(
            {
                "dictionary": name,
                "explained variance": explained_variance(dictionary, held_out),
                "active features": measured.l0,
                "never fire": measured.dead,
                "held-out positions": len(held_out),
            }
        )
    return OpenedSAE(folder, trained, opened, address, rows, control, pd.DataFrame(quality))


def is_quick(config: dict[str, Any], store: Path) -> bool:
    """Return whether features can be named while a person waits.

    Args:
        config: Content of the SAE's cfg.json.
        store: Folder of the store.
    """
    return len(Store(store).index) * int(config.get("d_sae") or 0) <= MOST_CELLS


def saved_features(folder: Path) -> pd.DataFrame | None:
    """Return the features that `cotlens sae features` wrote into the folder of the SAE; None where there are none.

    Raises:
        StoreError: The file is damaged, or another program wrote it.
    """
    path = folder / FEATURES_FILE
    if not path.exists():
        return None
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it, and name the features again.") from None
    missing = [column for column in _COLUMNS if column not in frame]
    if missing:
        raise StoreError(
            f"expected the columns of `cotlens sae features` in {path}, got none called {', '.join(missing)}."
        )
    return frame


def name_features(opened: OpenedSAE) -> pd.DataFrame:
    """Return one row for each feature, as `interp.sae.naming.name_features`; its effects on logits are left out."""
    from interp.sae.naming import name_features as run

    trained = opened.trained
    return run(trained.sae, opened.store, opened.address, opened.rows, seed=trained.split_seed)


@dataclass(frozen=True)
class ControlNames:
    """What random directions reach in the same search for names.

    Attributes:
        n_named: How many of them get a name.
        best: For each concept that a random direction was matched with, its best held-out F1 and that direction.
            Columns: concept, f1, direction.
    """

    n_named: int
    best: pd.DataFrame

    def score(self, concept: str | None) -> float:
        """Return the best held-out F1 of a random direction for a concept; 0 where none was matched with it."""
        scores = self.best.loc[self.best["concept"] == concept, "f1"]
        return float(scores.iloc[0]) if len(scores) else 0.0

    def direction(self, concept: str | None) -> int | None:
        """Return the random direction that detects a concept best; None where none was matched with it."""
        directions = self.best.loc[self.best["concept"] == concept, "direction"]
        return int(directions.iloc[0]) if len(directions) else None


def name_control(opened: OpenedSAE) -> ControlNames:
    """Return what random directions reach: matched, chosen and scored as the features are."""
    from interp.activations.splits import split_rows
    from interp.sae.concepts import TARGETS, concepts_of
    from interp.sae.naming import match_concepts

    rows = opened.rows
    concepts = concepts_of(opened.store, rows, TARGETS, by_step=True)
    split = split_rows(opened.store, rows, opened.trained.split_seed)
    match = match_concepts(opened.encode(rows, control=True), concepts, split)
    frame = pd.DataFrame({"concept": match.names, "f1": match.f1, "direction": range(len(match.f1))})
    best = frame[match.tested].sort_values("f1", ascending=False).drop_duplicates("concept")
    return ControlNames(int(match.named.sum()), best.reset_index(drop=True))
