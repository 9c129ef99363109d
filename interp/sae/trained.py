"""A trained SAE's folder: SAELens's files, the reference outputs, and how it was trained.

OUT/cfg.json, sae_weights.safetensors   as SAELens writes them
OUT/reference.safetensors               what it must give again when it is loaded
OUT/training.json                       settings, store, address, mask, split, figures on held-out rows
OUT/checkpoint/                         while it is being trained
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from interp.sae.dictionaries import SAEDictionary
from interp.sae.load import load_sae, save_sae
from interp.sae.quality import explained_variance, sparsity
from interp.sae.rows import SINK_FACTOR, Mask, select
from interp.sae.settings import SAESettings
from interp.sae.train import train_sae
from interp.statistics.splits import grouped_split
from interp.traces import THINKING

if TYPE_CHECKING:
    from sae_lens import SAE

TRAINING = "training.json"


@dataclass(frozen=True)
class Trained:
    """An SAE with what is known of its training; `settings` and `mask` are None for one from elsewhere."""

    sae: SAE
    settings: SAESettings | None
    mask: Mask | None
    split_seed: int
    record: dict[str, Any]


def train_into(
    out: Path,
    store: ActivationSource,
    address: Address | str,
    settings: SAESettings,
    *,
    channels: Sequence[str] = THINKING,
    sink_factor: float = SINK_FACTOR,
    split_seed: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Train an SAE on the training structures of `store` and keep it in `out`; called again, it goes on or is done.

    Raises `StoreError` when `out` holds anything else, `UsageError` when nothing is selected.
    """
    place = store.address(address)
    about = {
        "store": {"path": store.name, "config_hash": store.meta["config_hash"]},
        "reasoner": {key: store.meta["reasoner"][key] for key in ("name", "kind", "weights")},
        "address": place.name,
        "settings": settings.model_dump(),
        "channels": list(map(str, channels)),
        "sink_factor": sink_factor,
        "split_seed": split_seed,
    }
    if (out / TRAINING).exists():
        there = _read(out)
        differ = [key for key in about if key != "store" and there.get(key) != about[key]]
        if there.get("store", {}).get("config_hash") != about["store"]["config_hash"]:  # type: ignore[index]
            differ.append("store")
        if differ:
            raise StoreError(
                f"{out} holds an SAE with another {', '.join(differ)}. Choose another --out, or remove it."
            )
        return open_trained(out)
    foreign = [p.name for p in out.iterdir() if p.name != "checkpoint"] if out.exists() else []
    if "cfg.json" in foreign or (foreign and not (out / "checkpoint").exists()):
        raise StoreError(f"{out} is not empty and holds no unfinished training. Choose another --out.")
    rows, mask = select(store, place, channels=channels, sink_factor=sink_factor)
    split = grouped_split(structures(store, rows), split_seed)
    sae = train_sae(
        store, place, rows[split.train], settings=settings, checkpoint=out / "checkpoint", progress=progress
    )
    sae.cfg.metadata.mask = mask.to_dict()
    held_out = store.acts(place, rows[split.test])
    features = SAEDictionary(sae).encode(held_out)
    about |= {
        "mask": mask.to_dict(),
        "held_out": {"explained_variance": explained_variance(sae, held_out), **sparsity(features), "n": len(held_out)},
    }
    sae.cfg.metadata.explained_variance = about["held_out"]["explained_variance"]  # type: ignore[index]
    save_sae(sae, out, inputs=held_out)
    # Written last: a folder without it is not finished.
    commit(out / TRAINING, (json.dumps(about, indent=2, sort_keys=True) + "\n").encode())
    return Trained(sae, settings, mask, split_seed, about)


def open_trained(
    folder: Path | str, store: ActivationSource | None = None, address: Address | str | None = None
) -> Trained:
    """An SAE from a folder of `train_into` or any in SAELens's format, past its preflight."""
    sae = load_sae(folder, store=store, address=address)
    if not (Path(folder) / TRAINING).exists():
        return Trained(sae, None, None, 0, {})
    record = _read(Path(folder))
    mask = Mask(**{**record["mask"], "channels": tuple(record["mask"]["channels"])})
    return Trained(sae, SAESettings(**record["settings"]), mask, record["split_seed"], record)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / TRAINING
    try:
        found = json.loads(path.read_text())
        found["settings"], found["mask"]["channels"], found["split_seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}). Remove {folder} and train again.") from None
    return found
