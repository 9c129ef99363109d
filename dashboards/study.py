"""Study one reasoner: think, capture, sweep, decode, intervene, and keep everything in one folder.

RUN/run.json             options of the run, and its figures once it is finished
RUN/store, RUN/twin      activations of the reasoner and of its untrained twin
RUN/sweep                the probe sweep
RUN/readouts.parquet     what each decoder reads in each thought
RUN/scores.parquet       held-out scores of the decoders
RUN/interchange.parquet  every edit and the answer after it
RUN/sae                  the sparse autoencoder, in SAELens's format
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import interp
import probes
from interp.activations.store import parquet_bytes
from interp.decoders.evaluation.read_outs import pooled_scores
from interp.errors import UsageError
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.causal.interchange_result import InterchangeResult
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.problems import Problem
    from interp.reasoners import Reasoner
    from interp.runtime.console import Bars

DICTIONARIES = ("sae", "random_dictionary", "pca", "neurons")


@dataclass(frozen=True)
class Study:
    """The results of a study, in memory.

    Attributes:
        reasoner: The reasoner.
        traces: What it thought.
        sweep: Probes with their controls.
        readouts: What each decoder reads in each thought, of the first split.
        scores: Held-out scores by decoder and step, pooled over the splits.
        interchange: Edits of thoughts and the answers after them.
        sae: Facts about the SAE; None without one.
    """

    reasoner: Reasoner
    traces: interp.TraceSet
    sweep: probes.Sweep
    readouts: ReadOuts
    scores: pd.DataFrame
    interchange: InterchangeResult
    sae: dict[str, Any] | None


def require_thoughts(name: str, kind: str) -> None:
    """Raise `UsageError` for a reasoner that answers without thinking."""
    if kind == "direct":
        raise UsageError(f"{name} answers without thinking, so it has no thoughts to read. Choose another organism.")


def study(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    out: Path | str,
    bars: Bars | None = None,
    *,
    dictionaries: bool = True,
    twin: bool = True,
    splits: Sequence[int] = (0, 1, 2),
    samples: int = 100_000,
) -> Study:
    """Think, capture, sweep probes, decode, edit thoughts, and keep everything in a folder.

    Args:
        reasoner: The reasoner to study.
        problems: Problems to think about; at least a few hundred give useful intervals.
        out: Folder to write. An interrupted study is resumed.
        bars: Where progress is shown; nowhere by default.
        dictionaries: Also train an SAE and read with it, beside a random dictionary, PCA and neurons.
        twin: Also capture an untrained copy of the reasoner, the control `random_init`.
        splits: Seeds of the splits that scores are pooled over. The edits use the first.
        samples: Rows seen in the training of the SAE.

    Returns:
        Traces, sweep, read-outs, scores and edits, in memory.

    Raises:
        UsageError: The reasoner has no thoughts to read.
    """
    name, out = reasoner.name, Path(out)
    require_thoughts(name, reasoner.kind)
    with _stage(bars, f"{name}: thinking") as report:
        traces = reasoner.think(problems, batch_size=128, progress=report)
    with _stage(bars, f"{name}: capturing activations") as report:
        store = interp.capture(reasoner, traces, out=out / "store", batch_size=128, progress=report)
    twin_store = _capture_twin(reasoner, traces, out / "twin", bars) if twin else None
    with _stage(bars, f"{name}: sweeping probes and controls") as report:
        sweep = probes.sweep(store, splits=list(splits), random_init=twin_store, progress=report)
    sweep.save(out / "sweep")
    methods = ["logit_lens", "probe", *(DICTIONARIES if dictionaries else ())]
    with _stage(bars, f"{name}: decoding thoughts") as report:
        readouts = []
        for number, seed in enumerate(splits):
            readouts.append(interp.decode(store, methods, reasoner=reasoner, seed=seed, samples=samples))
            if report:
                report(number + 1, len(splits))
    scores = pooled_scores(readouts)
    commit(out / "scores.parquet", parquet_bytes(scores))
    commit(out / "readouts.parquet", parquet_bytes(readouts[0].table()))
    sae = _keep_sae(readouts[0], out) if dictionaries else None
    with _stage(bars, f"{name}: editing thoughts") as report:
        edits = interp.interchange(reasoner, traces, readouts[0], progress=report)
    commit(out / "interchange.parquet", parquet_bytes(edits.table()))
    return Study(reasoner, traces, sweep, readouts[0], scores, edits, sae)


def _capture_twin(reasoner: Reasoner, traces: interp.TraceSet, out: Path, bars: Bars | None) -> interp.Store:
    """Capture an untrained twin: its own latents, or the trained reasoner's words where thoughts are visible."""
    fresh = interp.random_init(reasoner)
    with _stage(bars, f"{reasoner.name}: the untrained twin") as report:
        seen = traces if reasoner.kind == "text" else fresh.think(traces.problems, batch_size=128)
        return interp.capture(fresh, seen, out=out, batch_size=128, transfer=True, progress=report)


def _stage(bars: Bars | None, title: str) -> AbstractContextManager[Progress | None]:
    """Return a stage of `bars` that reports progress; without bars, a context that does nothing."""
    return nullcontext() if bars is None else bars.stage(title)


def _keep_sae(readouts: ReadOuts, out: Path) -> dict[str, Any]:
    """Write the SAE of the read-outs, and return facts about it."""
    from interp.decoders.features import FeatureReadout
    from interp.sae import explained_variance, save_sae

    decoder, location = readouts.decoders["sae"], readouts.locations["sae"]
    assert isinstance(decoder, FeatureReadout) and decoder.sae_ is not None
    save_sae(decoder.sae_, out / "sae")
    rows = readouts.inputs.step_rows(location.offset)
    acts = readouts.store.acts(location.address, rows.rows[rows.split().test])
    return {
        "d_sae": decoder.d_sae,
        "k": decoder.k,
        "site": location.label,
        "address": location.address.name,
        "explained_variance": explained_variance(decoder.sae_, acts),
        "features": {value: {"feature": f, "auroc": area} for value, (f, area) in decoder.chosen_.items()},
    }


def accuracy_of(traces: interp.TraceSet) -> dict[str, Any]:
    """Return the accuracy of traces with its 95 % interval, resampled by problem structure."""
    table = traces.table()
    low, high = grouped_mean_interval(table["correct"].to_numpy(), table["structure"].to_numpy())
    return {"accuracy": traces.accuracy, "ci": [low, high], "n": len(table)}


def step_figures(studied: Study) -> list[dict[str, Any]]:
    """Return one entry for each step: the probe at the matched position, its controls, and the other decoders."""
    top1 = studied.scores.pivot(index="step", columns="method", values="top1")
    low = studied.scores.pivot(index="step", columns="method", values="ci_low")
    high = studied.scores.pivot(index="step", columns="method", values="ci_high")
    steps = []
    for cell in studied.sweep.matched().to_dict("records"):
        step = int(cell["step"])
        entry = {
            "step": step,
            "position": cell["place"],
            "layer": cell["label"],
            "address": cell["address"],
            "probe_top1": cell["accuracy"],
            "ci": [cell["ci_low"], cell["ci_high"]],
            "q": cell["q"],
            "n": cell["n"],
        }
        entry |= {c: cell[c] for c in studied.sweep.notes["controls"] if c in cell}
        for method in top1.columns:
            if method != "probe":
                entry[f"{method}_top1"] = top1.loc[step, method]
                entry[f"{method}_ci"] = [low.loc[step, method], high.loc[step, method]]
        steps.append(entry)
    return steps


def interchange_figures(edits: InterchangeResult) -> dict[str, Any]:
    """Return the follow rate over all steps, with same-value donors and random vectors as controls."""
    summary = edits.summary()

    def row(edit: str) -> dict[str, Any]:
        rows = summary[(summary["edit"] == edit) & (summary["step"] == 0)]
        return rows.iloc[0].to_dict() if len(rows) else {}

    other, same, noise = row("other value"), row("same value"), row("random vector")
    verdict = edits.verdict()
    return {
        "method": edits.method,
        "site": edits.location,
        "follow_rate": other.get("follow_rate"),
        "ci": [other.get("ci_low"), other.get("ci_high")],
        "n": other.get("n"),
        "same_value_change_rate": same.get("change_rate"),
        "same_value_ci": [same.get("change_low"), same.get("change_high")],
        "n_same_value": same.get("n"),
        "random_change_rate": noise.get("change_rate"),
        "verdict": verdict.name,
        "why": verdict.why,
        "by_step": summary[summary["step"] > 0].to_dict("records"),
    }
