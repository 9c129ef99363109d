"""One evaluation of a sparse autoencoder, beside dictionaries that learned nothing and a model that learned nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource, record
from interp.activations.targets import structures
from interp.errors import UsageError
from interp.models.address import Address
from interp.runtime.progress import StageProgress
from interp.sae.concepts import TARGETS, concepts_of
from interp.sae.dictionaries import Dictionary, SAEDictionary, baseline
from interp.sae.load import address_of
from interp.sae.probing import probe_concepts
from interp.sae.quality import explained_variance, sparsity
from interp.sae.rows import SINK_FACTOR, Mask, select
from interp.sae.settings import SAESettings
from interp.sae.splice import spliced
from interp.sae.train import train_sae
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import Masks, grouped_split
from interp.traces import THINKING

if TYPE_CHECKING:
    from sae_lens import SAE

    from interp.reasoners import Reasoner

TWIN = "random_init"
# Above this share of unmoved answers, replacing an activation by its mean is no test of what replaces it.
_UNMOVED = 0.98


@dataclass(frozen=True)
class Evaluation:
    """What came out, on held-out structures.

    `measures`: one row for each dictionary (`sae`, `random_dictionary`, `pca`, `random_init`: an SAE of an untrained
    twin), with explained_variance and its interval, l0, dead, f1, f1_k5, f1_dense, split, absorption (medians over
    concepts; the mean of split and absorption), and where the model could think again accuracy_ratio, loss_recovered,
    same_answer. `concepts`: one row for each dictionary and concept. `splice`: see `interp.sae.splice.spliced`.
    """

    measures: pd.DataFrame
    concepts: pd.DataFrame
    splice: pd.DataFrame | None
    address: Address
    mask: Mask
    notes: tuple[str, ...] = ()


def evaluate(
    sae: SAE,
    store: ActivationSource,
    address: Address | str | None = None,
    *,
    reasoner: Reasoner | None = None,
    settings: SAESettings | None = None,
    targets: Sequence[str] = TARGETS,
    channels: Sequence[str] = THINKING,
    sink_factor: float = SINK_FACTOR,
    seed: int = 0,
    progress: StageProgress | None = None,
) -> Evaluation:
    """Everything about `sae` on the rows of `store` whose structures are held out by the split of `seed`.

    The SAE must have been trained on the training part of the same split, as `cotlens sae train` does. With `reasoner`
    it is spliced into the latent loop, and with `settings` (those it was trained with) a twin is trained on an untrained
    model. Raises `UsageError` when nothing is selected or no concept is known, `StoreError` on a foreign reasoner.
    """
    place = address_of(sae, store, address)
    rows, mask = select(store, place, channels=channels, sink_factor=sink_factor)
    split = grouped_split(structures(store, rows), seed)
    acts = store.acts(place, rows)
    if sae.cfg.d_in != acts.shape[1]:
        raise UsageError(f"this SAE reads {sae.cfg.d_in} dimensions, but {place} of {store.name} has {acts.shape[1]}.")
    say = progress or (lambda *_: None)
    ours = SAEDictionary(sae)
    k = max(1, round(sparsity(ours.encode(acts[split.test]))["l0"]))
    dictionaries: dict[str, Dictionary] = {"sae": ours}
    for name in ("random_dictionary", "pca"):
        dictionaries[name] = baseline(name, acts[split.train], d_sae=sae.cfg.d_sae, k=k, seed=seed)  # type: ignore[arg-type]
    measures, concepts, notes = {}, [], []
    for number, (name, dictionary) in enumerate(dictionaries.items()):
        say(name, number, len(dictionaries) + 2)
        measures[name], found = _measured(dictionary, store, rows, acts, split, targets)
        concepts.append(found.assign(dictionary=name))
    if reasoner is not None and settings is not None:
        say(TWIN, len(dictionaries), len(dictionaries) + 2)
        measures[TWIN], found = _twin(reasoner, store, place, settings, targets, channels, sink_factor, seed)
        concepts.append(found.assign(dictionary=TWIN))
    else:
        notes.append("no untrained twin: it takes the model and the settings that the SAE was trained with.")
    splice = None
    if reasoner is not None:
        say("splicing", len(dictionaries) + 1, len(dictionaries) + 2)
        splice = spliced(reasoner, store, place, rows[split.test], dictionaries, acts[split.train].mean(axis=0))
        for row in splice.to_dict("records"):
            if row["condition"] in measures:
                measures[row["condition"]] |= {c: row[c] for c in ("accuracy_ratio", "loss_recovered", "same_answer")}
        notes += _idle(splice, place)
    else:
        notes.append("not spliced: it takes the model.")
    table = pd.DataFrame([{"dictionary": name, **found} for name, found in measures.items()])
    return Evaluation(table, pd.concat(concepts, ignore_index=True), splice, place, mask, tuple(notes))


def _idle(splice: pd.DataFrame, address: Address) -> list[str]:
    """A note where losing the activation altogether costs no answers: then no dictionary can be told from another."""
    mean = splice.set_index("condition").loc["mean"]
    if mean["same_answer"] < _UNMOVED:
        return []
    return [
        f"even the mean in place of {address.name} leaves {mean['same_answer']:.3f} of the answers as they were: the "
        "model does not need these positions there, so splicing says nothing of the dictionary; try another address."
    ]


def _measured(
    dictionary: Dictionary,
    store: ActivationSource,
    rows: pd.DataFrame,
    acts: np.ndarray,
    split: Masks,
    targets: Sequence[str],
) -> tuple[dict[str, Any], pd.DataFrame]:
    held_out = acts[split.test]
    features = dictionary.encode(held_out)
    found = probe_concepts(dictionary, concepts_of(store, rows, targets), acts, split.train, split.test)
    residual = ((held_out - dictionary.decode(features)) ** 2).sum(axis=1)
    spread = ((held_out - held_out.mean(axis=0)) ** 2).sum(axis=1).mean()
    low, high = grouped_mean_interval(1 - residual / spread, structures(store, rows)[split.test])
    return {
        "explained_variance": explained_variance(dictionary, held_out),
        "ci_low": low,
        "ci_high": high,
        **sparsity(features),
        "f1": found["f1"].median(),
        "f1_k5": found["f1_k5"].median(),
        "f1_dense": found["f1_dense"].median(),
        "split": found["split"].mean(),
        "absorption": found["absorption"].mean(),
        "n": int(split.test.sum()),
    }, found


def _twin(
    reasoner: Reasoner,
    store: ActivationSource,
    address: Address,
    settings: SAESettings,
    targets: Sequence[str],
    channels: Sequence[str],
    sink_factor: float,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The same training on a model of the same shape that never learned anything, thinking about the same problems."""
    from interp.loading.load import random_init

    fresh = random_init(reasoner)
    seen = store.traces if reasoner.kind == "text" else fresh.think(store.traces.problems, batch_size=256)
    twin = record(fresh, seen, sites=address.name, channels=store.meta["channels"], batch_size=256)
    rows, _ = select(twin, address, channels=channels, sink_factor=sink_factor)
    split = grouped_split(structures(twin, rows), seed)
    sae = train_sae(twin, address, rows[split.train], settings=settings)
    return _measured(SAEDictionary(sae), twin, rows, twin.acts(address, rows), split, targets)
