"""The folder of a trained SAE: SAELens's files, reference outputs, and a record of the training.

OUT/cfg.json, sae_weights.safetensors   as SAELens writes them
OUT/reference.safetensors               outputs that it must reproduce when it is loaded
OUT/training.json                       settings, store, address, mask, split, figures on held-out rows
OUT/checkpoint/                         during training
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.activations import ActivationSource
from interp.activations.splits import describe_split, split_rows
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.files import commit
from interp.runtime.locks import LOCK, locked
from interp.runtime.progress import Progress
from interp.sae.dictionaries import SAEDictionary
from interp.sae.load import load_sae, save_sae
from interp.sae.quality import explained_variance, sparsity
from interp.sae.rows import SINK_FACTOR, Mask, MaskOptions, select
from interp.sae.settings import SAESettings
from interp.sae.train import train_sae
from interp.traces import THINKING

if TYPE_CHECKING:
    from sae_lens import SAE

TRAINING = "training.json"


@dataclass(frozen=True)
class TrainedSAE:
    """An SAE and the record of its training.

    Attributes:
        sae: An SAE of SAELens.
        settings: Its settings; None for an SAE from elsewhere.
        mask: What was left out of its rows; None for an SAE from elsewhere.
        split_seed: Seed of the split whose training part it was trained on.
        record: The content of `training.json`; empty for an SAE from elsewhere.
    """

    sae: SAE
    settings: SAESettings | None
    mask: Mask | None
    split_seed: int
    record: dict[str, Any]

    @property
    def mask_options(self) -> MaskOptions:
        """How its rows were selected; the defaults for an SAE from elsewhere."""
        if self.mask is None:
            return MaskOptions(channels=THINKING, sink_factor=SINK_FACTOR)
        return MaskOptions(channels=self.mask.channels, sink_factor=self.mask.sink_factor)


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
) -> TrainedSAE:
    """Train an SAE on the training structures of a store and save it in a folder.

    Calling it again resumes an interrupted training, and opens a finished one.

    Args:
        out: Folder of the SAE.
        store: Where the activations come from.
        address: Where to read them.
        settings: Settings of the training.
        channels: Channels of positions to train on.
        sink_factor: See `interp.sae.rows.select`.
        split_seed: Seed of the split by structure.
        progress: Called with the number of updates that are done, and of all.

    Returns:
        The SAE with its record.

    Raises:
        StoreError: When `out` holds something else.
        UsageError: When no rows are selected.
    """
    trained_at = store.address(address)
    record: dict[str, Any] = {
        "store": {"path": store.name, "config_hash": store.meta["config_hash"]},
        "reasoner": {key: store.meta["reasoner"][key] for key in ("name", "kind", "weights")},
        "address": trained_at.name,
        "settings": settings.model_dump(),
        "channels": list(map(str, channels)),
        "sink_factor": sink_factor,
        "split_seed": split_seed,
    }
    if (out / TRAINING).exists():
        return _open_finished(out, record)
    with locked(out, "training an SAE in"):
        if (out / TRAINING).exists():  # another process trained it meanwhile
            return _open_finished(out, record)
        return _train(out, store, trained_at, settings, record, progress)


def _open_finished(out: Path, record: dict[str, Any]) -> TrainedSAE:
    """Open the SAE in a folder; raise `StoreError` unless it was trained as `record` says."""
    saved = _read(out)
    differ = [key for key in record if key != "store" and saved.get(key) != record[key]]
    if saved.get("store", {}).get("config_hash") != record["store"]["config_hash"]:
        differ.append("store")
    if differ:
        raise StoreError(f"{out} holds an SAE with another {', '.join(differ)}. Choose another --out, or remove it.")
    return open_trained(out)


def _train(
    out: Path,
    store: ActivationSource,
    trained_at: Address,
    settings: SAESettings,
    record: dict[str, Any],
    progress: Progress | None,
) -> TrainedSAE:
    """Train an SAE as `record` says and write its folder."""
    channels, sink_factor, split_seed = record["channels"], record["sink_factor"], record["split_seed"]
    foreign = [p.name for p in out.iterdir() if p.name not in ("checkpoint", LOCK)]
    if "cfg.json" in foreign or (foreign and not (out / "checkpoint").exists()):
        raise StoreError(f"{out} is not empty and holds no unfinished training. Choose another --out.")
    rows, mask = select(store, trained_at, channels=channels, sink_factor=sink_factor)
    split = split_rows(store, rows, split_seed)
    sae = train_sae(
        store, trained_at, rows[split.train], settings=settings, checkpoint=out / "checkpoint", progress=progress
    )
    sae.cfg.metadata.mask = mask.to_dict()
    held_out = store.acts(trained_at, rows[split.test])
    features = SAEDictionary(sae).encode(held_out)
    record |= {
        "mask": mask.to_dict(),
        "split": describe_split(store, split_seed),
        "held_out": {
            "explained_variance": explained_variance(sae, held_out),
            **asdict(sparsity(features)),
            "n": len(held_out),
        },
    }
    sae.cfg.metadata.explained_variance = record["held_out"]["explained_variance"]
    save_sae(sae, out, inputs=held_out)
    # Written last: a folder without it is unfinished.
    commit(out / TRAINING, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
    return TrainedSAE(sae, settings, mask, split_seed, record)


def open_trained(
    folder: Path | str,
    store: ActivationSource | None = None,
    address: Address | str | None = None,
    *,
    transfer: bool = False,
) -> TrainedSAE:
    """Load an SAE from a folder of `train_into`, or any folder in SAELens's format, and check it.

    Args:
        folder: Folder of the SAE.
        store: Activations that it must fit.
        address: Where to read them; the address it was trained at by default.
        transfer: Allow activations of another model than it was trained on.

    Returns:
        The SAE with its record, as far as there is one.

    Raises:
        StoreError: When it does not exist, is damaged, or fails a check.
    """
    sae = load_sae(folder, store=store, address=address, transfer=transfer)
    if not (Path(folder) / TRAINING).exists():
        return TrainedSAE(sae, None, None, 0, {})
    record = _read(Path(folder))
    mask = Mask(**{**record["mask"], "channels": tuple(record["mask"]["channels"])})
    return TrainedSAE(sae, SAESettings(**record["settings"]), mask, record["split_seed"], record)


def _read(folder: Path) -> dict[str, Any]:
    """Read `training.json`, its settings with their present names."""
    path = folder / TRAINING
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["mask"]["channels"], record["split_seed"]
        record["settings"] = SAESettings.from_saved(record["settings"]).model_dump()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise StoreError(f"{path} is damaged ({reason}). Remove {folder} and train again.") from None
    return record
