"""The stages of a study: thinking, capture, probes, decoders, edits and ablation, each a function that returns what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import interp
import probes
from dashboards.stage_runner import StageRunner
from dashboards.steps import READER, StepFigures, step_figures
from interp.activations.store import parquet_bytes
from interp.activations.targets import label_names, trace_labels
from interp.causal.patching.donors import alternatives
from interp.decoders.evaluation.read_outs import pooled_scores
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from probes.sweeps.run import places_of

if TYPE_CHECKING:
    from interp.activations import ActivationSource
    from interp.causal.ablation import AblationResult
    from interp.causal.interchanges.results import InterchangeResult
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.problems import Problem
    from interp.reasoners import Reasoner

DICTIONARIES = ("sae", "random_dictionary", "pca", "neurons")
# A sweep of every token of a long text would take hours: that many thoughts and values are swept, evenly spaced.
# And of a deep model that many addresses, evenly spaced, in the sweep and by the decoders.
MAX_PLACES, MAX_VALUES, MAX_ADDRESSES = 24, 9, 12
MAX_ABLATED = 200


@dataclass(frozen=True)
class Decoded:
    """What the decoders read.

    Attributes:
        readouts: One entry for each split.
        scores: Held-out scores, pooled over the splits.
        figures: The figures of every step, with their controls.
        sae: Facts about the SAE; None without one.
    """

    readouts: list[ReadOuts]
    scores: pd.DataFrame
    figures: StepFigures
    sae: dict[str, Any] | None


def think(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    out: Path,
    stages: StageRunner,
    batch_size: int,
    given: interp.TraceSet | None = None,
) -> Any:
    """Return the traces: the given ones, those that an interrupted study has finished, or new ones."""
    from interp.reasoners.resumable import think_to_file

    def body(report: Progress | None) -> interp.TraceSet:
        path = out / "traces.parquet"
        if path.exists():
            traces = interp.TraceSet.from_parquet(path)
            if traces.problems == list(problems):
                return traces
            path.unlink()  # of other problems, which an earlier version thought about
        if given is not None:
            given.to_parquet(path)
            return given
        return think_to_file(reasoner, problems, path, batch_size=batch_size, progress=report)

    return stages.run("thinking", body)


def capture(
    reasoner: Reasoner, traces: interp.TraceSet, out: Path, stages: StageRunner, batch_size: int
) -> interp.Store:
    """Return the store of the traces; an unfinished one is resumed."""
    return stages.run(
        "capturing activations",
        lambda report: interp.capture(reasoner, traces, out=out / "store", batch_size=batch_size, progress=report),
    )


def capture_twin(
    reasoner: Reasoner, traces: interp.TraceSet, out: Path, stages: StageRunner, batch_size: int
) -> interp.Store | None:
    """Capture an untrained twin: its own latents, or the trained reasoner's words where nothing is thought silently.

    An untrained model writes to the end of its room, which takes minutes and compares nothing.
    """

    def body(report: Progress | None) -> interp.Store:
        fresh = interp.random_init(reasoner)
        written = any("thought" in trace.channel or "latent" not in trace.channel for trace in traces)
        seen = traces if written else fresh.think(traces.problems, batch_size=batch_size)
        return interp.capture(fresh, seen, out=out / "twin", batch_size=batch_size, transfer=True, progress=report)

    return stages.attempt("untrained twin", "the untrained twin", body)


def sweep(
    store: interp.Store, twin: interp.Store | None, splits: Sequence[int], out: Path, stages: StageRunner
) -> probes.Sweep | None:
    """Sweep probes over places and addresses, and keep the sweep; finished parts of it are read again."""

    def body(report: Progress | None) -> probes.Sweep:
        targets, places, notes = _swept(store)
        swept = probes.sweep(
            store,
            targets,
            places=places,
            addresses=_read_addresses(store),
            splits=list(splits),
            random_init=twin,
            out=out / "sweep",
            progress=report,
        )
        swept.notes.update(notes)
        return swept

    swept = stages.attempt("probe sweep", "sweeping probes and controls", body)
    if swept is not None:
        swept.save(out / "sweep")
    return swept


def _read_addresses(store: ActivationSource) -> list[str] | None:
    """Return `MAX_ADDRESSES` addresses of a deep model, the first and the last among them; None for all of fewer."""
    names = [address.name for address in store.addresses]
    if len(names) <= MAX_ADDRESSES:
        return None
    return [names[k] for k in np.linspace(0, len(names) - 1, MAX_ADDRESSES).round().astype(int)]


def _is_label(values: np.ndarray) -> bool:
    """Return whether labels can be learned: two or more different ones, most of which repeat."""
    known = [value for value in values if value is not None]
    return 2 <= len(set(known)) <= len(known) / 2


def _swept(store: interp.Store) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the targets and the places of the sweep, and notes on what is left out of a long one."""
    notes = {}
    longest = max(trace.problem.n_steps for trace in store.traces)
    targets = [f"value_{k}" for k in range(1, min(longest, MAX_VALUES) + 1)]
    if longest > MAX_VALUES:
        notes["targets"] = f"the values after the first {MAX_VALUES} of up to {longest} steps"
    own = [name for name in label_names(store.traces) if _is_label(trace_labels(store.traces, name))]
    targets += own[:MAX_VALUES]
    if len(own) > MAX_VALUES:
        notes["labels"] = f"{MAX_VALUES} of {len(own)} labels"
    if not longest:
        answers = [trace.problem.answer for trace in store.traces]
        if _is_label(np.array(answers, dtype=object)):
            targets.append("answer")
        if len({trace.correct for trace in store.traces}) > 1:
            targets.append("correct")
    if not targets:
        raise UsageError(
            "the problems have no gold steps, and their answers are nearly all different, so there is no label to "
            "probe for. Add `steps` or labels to the questions."
        )
    places = [place for place in places_of(store) if place != "question"]
    thoughts = [place for place in places if place.split(" ")[0] in ("thought", "sentence") and place[-1].isdigit()]
    if len(thoughts) > MAX_PLACES:
        chosen = {thoughts[round(k * (len(thoughts) - 1) / (MAX_PLACES - 1))] for k in range(MAX_PLACES)}
        places = [place for place in places if place not in thoughts or place in chosen]
        notes["places"] = f"{len(chosen)} of {len(thoughts)} thoughts, evenly spaced"
    chosen_addresses = _read_addresses(store)
    if chosen_addresses is not None:
        notes["addresses"] = f"{len(chosen_addresses)} of {len(store.addresses)}, evenly spaced"
    answers_kept = [place for place in places if place.startswith("answer ")]
    return targets, [place for place in places if place not in answers_kept], notes


def decode(
    reasoner: Reasoner,
    store: interp.Store,
    twin: ActivationSource | None,
    out: Path,
    stages: StageRunner,
    *,
    splits: Sequence[int],
    dictionaries: bool,
    samples: int,
) -> Decoded | None:
    """Read every step with decoders, score them with controls, and keep the tables."""
    quick = ("logit_lens", READER)

    def read(methods: Sequence[str], report: Progress | None) -> list[ReadOuts]:
        readouts = []
        for number, seed in enumerate(splits):
            readouts.append(
                interp.decode(
                    store, methods, reasoner=reasoner, seed=seed, samples=samples, addresses=_read_addresses(store)
                )
            )
            if report:
                report(number + 1, len(splits))
        return readouts

    if not any(trace.problem.n_steps for trace in store.traces):
        stages.skip("decoders", "the problems have no gold steps to read. Add `steps` to the questions.")
        return None
    if not any(any(trace.step) for trace in store.traces):
        stages.skip("decoders", _why_no_steps(reasoner, store.traces))
        return None
    readouts = None
    if dictionaries:
        readouts = stages.attempt(
            "dictionaries", "decoding thoughts", lambda report: read((*quick, *DICTIONARIES), report)
        )
    if readouts is None:
        readouts = stages.attempt("decoders", "decoding thoughts", lambda report: read(quick, report))
    if readouts is None:
        return None
    scores = pooled_scores(readouts)
    commit(out / "scores.parquet", parquet_bytes(scores))
    commit(out / "readouts.parquet", parquet_bytes(readouts[0].table()))
    figures = stages.run("measuring controls where steps are read", lambda _: step_figures(readouts, scores, twin))
    sae = keep_sae(readouts[0], out) if "sae" in readouts[0].methods else None
    return Decoded(readouts, scores, figures, sae)


def _why_no_steps(reasoner: Reasoner, traces: interp.TraceSet) -> str:
    if not any(any(trace.thought) for trace in traces):
        return f"{reasoner.name} thinks at no position of its own, so there is no thought to read a step from."
    return "no thought of these traces belongs to a known step; check the gold steps against the text."


def keep_sae(readouts: ReadOuts, out: Path) -> dict[str, Any]:
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


def interchange(
    reasoner: Reasoner, traces: interp.TraceSet, decoded: Decoded | None, out: Path, stages: StageRunner
) -> InterchangeResult | None:
    """Swap what the probe read for a donor's, and keep every edit with the answer after it."""
    if decoded is None:
        stages.skip("interchange", "no step was read, so it is not known what to edit.")
        return None
    if not has_counterfactuals(traces):
        stages.skip(
            "interchange",
            "no answer is known to follow from another value of a step. Add `counterfactuals` to the questions, or use a "
            "task that computes them.",
        )
        return None
    edits = stages.attempt(
        "interchange",
        "editing thoughts",
        lambda report: interp.interchange(reasoner, traces, decoded.readouts[0], progress=report),
    )
    if edits is not None:
        commit(out / "interchange.parquet", parquet_bytes(edits.table()))
    return edits


def has_counterfactuals(traces: interp.TraceSet) -> bool:
    """Return whether some other value of some step implies another answer."""
    task = make_task(traces[0].problem.task)
    tried = [trace.problem for trace in traces[:50]]
    return any(alternatives(task, problem, step) for problem in tried for step in range(1, problem.n_steps + 1))


def ablate(reasoner: Reasoner, traces: interp.TraceSet, stages: StageRunner, batch_size: int) -> AblationResult | None:
    """Replace all thoughts of a problem by another problem's: what can be done where no single step can be edited."""
    from interp.causal import ablate as run_ablation

    return stages.attempt(
        "ablation",
        "replacing all thoughts",
        lambda report: run_ablation(
            reasoner,
            traces[:MAX_ABLATED].problems,
            arms=["other problem", "dropped"],
            batch_size=batch_size,
            progress=report,
        ),
    )
