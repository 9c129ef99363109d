"""Evaluation of a sparse autoencoder against untrained dictionaries and an SAE of an untrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource, record
from interp.activations.splits import describe_split, split_rows
from interp.activations.targets import structures
from interp.errors import UsageError
from interp.models.address import Address
from interp.runtime.progress import StageProgress
from interp.sae.concepts import TARGETS, concepts_of
from interp.sae.dictionaries import Dictionary, SAEDictionary, baseline
from interp.sae.load import address_of
from interp.sae.probing import probe_concepts
from interp.sae.quality import Sparsity, explained_variance, sparsity
from interp.sae.rows import SINK_FACTOR, Mask, select
from interp.sae.settings import SAESettings
from interp.sae.splice import splice
from interp.sae.train import train_sae
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import Masks
from interp.traces import THINKING

if TYPE_CHECKING:
    from sae_lens import SAE

    from interp.reasoners import Reasoner

TWIN = "random_init"
# Where the mean in place of an activation leaves more answers unchanged than this, splicing there shows nothing.
_UNCHANGED = 0.98


@dataclass(frozen=True)
class SAEResult:
    """The evaluation of an SAE on held-out structures.

    Attributes:
        measures: One row for each dictionary: `sae`, `random_dictionary`, `pca` and `random_init` (an SAE of an untrained
            twin). Columns: dictionary, explained_variance with ci_low and ci_high, l0, dead, f1, f1_k5 and f1_dense
            (medians over concepts), split and absorption (means over concepts), n; and where the model could think again
            accuracy_ratio, loss_recovered, same_answer.
        concepts: One row for each dictionary and concept, see `interp.sae.probing.probe_concepts`.
        splice: See `interp.sae.splice.splice`; None without a reasoner.
        address: Where the activations were read.
        mask: What was left out of the rows.
        notes: What was not measured, and measures that show nothing.
    """

    measures: pd.DataFrame
    concepts: pd.DataFrame
    splice: pd.DataFrame | None
    address: Address
    mask: Mask
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Measures:
    """Measures of one dictionary on held-out rows, and the table of its concepts."""

    explained_variance: Estimate
    sparsity: Sparsity
    concepts: pd.DataFrame

    def columns(self) -> dict[str, Any]:
        """Return the dictionary's row of `SAEResult.measures`, as far as it needs no reasoner."""
        variance, concepts = self.explained_variance, self.concepts
        return {
            "explained_variance": variance.value,
            "ci_low": variance.low,
            "ci_high": variance.high,
            **asdict(self.sparsity),
            "f1": concepts["f1"].median(),
            "f1_k5": concepts["f1_k5"].median(),
            "f1_dense": concepts["f1_dense"].median(),
            "split": concepts["split"].mean(),
            "absorption": concepts["absorption"].mean(),
            "n": variance.n,
        }


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
    trained_split: dict[str, Any] | None = None,
    progress: StageProgress | None = None,
) -> SAEResult:
    """Evaluate an SAE on structures that it was not trained on.

    The SAE must be trained on the training part of the split of `seed`, as `interp.sae.trained.train_into` does.

    Args:
        sae: An SAE of SAELens.
        store: Where the activations come from.
        address: Where to read them; the address it was trained at by default.
        reasoner: The reasoner of the store. With it the dictionaries are spliced into the latent loop.
        settings: Settings that the SAE was trained with. With them and a reasoner, a twin is trained on an untrained
            model.
        targets: Targets whose values are concepts.
        channels: Channels of positions to use.
        sink_factor: See `interp.sae.rows.select`.
        seed: Seed of the split by structure.
        trained_split: The split that the SAE was trained on, as its record says (`describe_split`). A note says where
            another is evaluated, whose test rows may be rows that it was trained on.
        progress: Called with the name of a stage, the number of stages that are done, and of all.

    Returns:
        The measures.

    Raises:
        UsageError: When no rows are selected, no concept is known, or the width differs.
        StoreError: When the reasoner is another.
    """
    read_at = address_of(sae, store, address)
    rows, mask = select(store, read_at, channels=channels, sink_factor=sink_factor)
    split = split_rows(store, rows, seed)
    acts = store.acts(read_at, rows)
    if sae.cfg.d_in != acts.shape[1]:
        raise UsageError(
            f"expected activations {sae.cfg.d_in} wide, which this SAE reads, got {acts.shape[1]} at {read_at} of "
            f"{store.name}; choose an SAE of this model."
        )
    report = progress or (lambda *_: None)
    trained = SAEDictionary(sae)
    k = max(1, round(sparsity(trained.encode(acts[split.test])).l0))
    dictionaries: dict[str, Dictionary] = {"sae": trained}
    for name in ("random_dictionary", "pca"):
        dictionaries[name] = baseline(name, acts[split.train], d_sae=sae.cfg.d_sae, k=k, seed=seed)  # type: ignore[arg-type]
    stages, notes = len(dictionaries) + 2, _split_notes(trained_split, describe_split(store, seed))
    measures: dict[str, _Measures] = {}
    for number, (name, dictionary) in enumerate(dictionaries.items()):
        report(name, number, stages)
        measures[name] = _measure(dictionary, store, rows, acts, split, targets)
    if reasoner is not None and settings is not None:
        report(TWIN, len(dictionaries), stages)
        measures[TWIN] = _measure_twin(reasoner, store, read_at, settings, targets, channels, sink_factor, seed)
    else:
        notes.append("no untrained twin: it needs the model and the settings that the SAE was trained with.")
    columns = {name: measure.columns() for name, measure in measures.items()}
    spliced = None
    if reasoner is not None:
        report("splicing", len(dictionaries) + 1, stages)
        spliced = splice(reasoner, store, read_at, rows[split.test], dictionaries, acts[split.train].mean(axis=0))
        for row in spliced.to_dict("records"):
            if row["condition"] in columns:
                columns[row["condition"]] |= {c: row[c] for c in ("accuracy_ratio", "loss_recovered", "same_answer")}
        notes += _unneeded(spliced, read_at)
    else:
        notes.append("not spliced: it needs the model.")
    table = pd.DataFrame([{"dictionary": name, **values} for name, values in columns.items()])
    concepts = [measure.concepts.assign(dictionary=name) for name, measure in measures.items()]
    return SAEResult(table, pd.concat(concepts, ignore_index=True), spliced, read_at, mask, tuple(notes))


def _split_notes(trained: dict[str, Any] | None, evaluated: dict[str, Any]) -> list[str]:
    """Return a note where an SAE was trained on the other kind of split than the one that it is evaluated on."""
    if trained is None or trained["by"] == evaluated["by"]:
        return []
    words = {"file": "the questions file's own split", "structure": "a split by problem structure"}
    return [
        f"the SAE was trained on {words[trained['by']]} and is evaluated on {words[evaluated['by']]}: rows that it was "
        "trained on may be among those that are tested."
    ]


def _unneeded(spliced: pd.DataFrame, address: Address) -> list[str]:
    """Return a note where losing the activation costs no answers, so that splicing cannot compare dictionaries."""
    unchanged = spliced.set_index("condition").loc["mean", "same_answer"]
    if unchanged < _UNCHANGED:
        return []
    return [
        f"the mean in place of {address.name} leaves {unchanged:.3f} of the answers unchanged: the model does not need "
        "these positions there, so splicing cannot compare dictionaries; try another address."
    ]


def _measure(
    dictionary: Dictionary,
    store: ActivationSource,
    rows: pd.DataFrame,
    acts: np.ndarray,
    split: Masks,
    targets: Sequence[str],
) -> _Measures:
    """Measure a dictionary on the held-out rows."""
    held_out = acts[split.test]
    features = dictionary.encode(held_out)
    concepts = probe_concepts(dictionary, concepts_of(store, rows, targets), acts, split.train, split.test)
    residual = ((held_out - dictionary.decode(features)) ** 2).sum(axis=1)
    spread = ((held_out - held_out.mean(axis=0)) ** 2).sum(axis=1).mean()
    low, high = grouped_mean_interval(1 - residual / spread, structures(store, rows)[split.test])
    variance = Estimate(explained_variance(dictionary, held_out), low, high, int(split.test.sum()))
    return _Measures(variance, sparsity(features), concepts)


def _measure_twin(
    reasoner: Reasoner,
    store: ActivationSource,
    address: Address,
    settings: SAESettings,
    targets: Sequence[str],
    channels: Sequence[str],
    sink_factor: float,
    seed: int,
) -> _Measures:
    """Train an SAE on an untrained model of the same shape and the same problems, and measure it."""
    from interp.loading.load import random_init

    untrained = random_init(reasoner)
    traces = store.traces
    if reasoner.kind != "text":
        traces = untrained.think(store.traces.problems, batch_size=256)
    twin = record(untrained, traces, sites=address.name, channels=store.meta["channels"], batch_size=256, transfer=True)
    rows, _ = select(twin, address, channels=channels, sink_factor=sink_factor)
    split = split_rows(twin, rows, seed)
    sae = train_sae(twin, address, rows[split.train], settings=settings)
    return _measure(SAEDictionary(sae), twin, rows, twin.acts(address, rows), split, targets)
