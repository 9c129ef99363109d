"""Public functions that combine several packages."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from interp.errors import StoreError, UsageError, counted

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations import ActivationSource, Store
    from interp.causal.swap import SwapOptions
    from interp.models.address import Address
    from interp.problems import Problem
    from interp.reasoners import Reasoner
    from interp.runtime.progress import Progress
    from interp.sae.settings import SAEOptions
    from interp.sae.trained import TrainedSAE
    from interp.text.wording import Wording
    from interp.traces import TraceSet
    from probes.subtext.measure import SubtextOptions, SubtextResult

_SHOWN = 5


def questions(path: Path | str) -> list[Problem]:
    """Return the problems of a JSONL file, in the order of its lines.

    Each line is an object with `question` and `answer`, and optionally `steps`, `counterfactuals`, labels of any name
    and more: see docs/questions.md. Lines that cannot be used are left out with a warning.

    Args:
        path: The JSONL file.

    Returns:
        One problem for each line that can be used.

    Raises:
        StoreError: The file cannot be read.
        UsageError: No line of the file can be used.
    """
    from interp.problems.questions.file import read_question_file

    file = read_question_file(path)
    problems, broken = file.problems, file.broken
    shown = "; ".join(map(str, broken[:_SHOWN])) + (f"; and {len(broken) - _SHOWN} more" if broken[_SHOWN:] else "")
    if not problems:
        raise UsageError(
            f'expected lines such as {{"question": ..., "answer": ...}} in {path}, got none that can be used '
            f"({shown or 'the file is empty'})."
        )
    if broken:
        warnings.warn(f"{counted(len(broken), 'line')} of {path} left out: {shown}.", stacklevel=2)
    if file.notes:
        warnings.warn(f"of {path}: {'; '.join(file.notes[:_SHOWN])}.", stacklevel=2)
    return problems


def open_store(path: Path | str) -> Store:
    """Open an activation store.

    Args:
        path: Folder or fsspec URL of a store that `capture` or `cotlens capture run` wrote.

    Returns:
        The store. Activations are read from disk when they are used.

    Raises:
        StoreError: There is no store at `path`, or its description is damaged.
    """
    from interp.activations import Store

    return Store(path)


def train_sae(
    store: ActivationSource,
    address: Address | str | None = None,
    *,
    out: Path | str | None = None,
    channels: Sequence[str] | None = None,
    sink_factor: float | None = None,
    split_seed: int = 0,
    progress: Progress | None = None,
    **settings: Unpack[SAEOptions],
) -> TrainedSAE:
    """Train a sparse autoencoder on the thoughts of a store.

    Args:
        store: Activations to learn from, a store or a recording. Only rows of the training structures are used.
        address: Which activation, such as "blocks.1.hook_out"; the store's only one by default.
        out: Folder to keep the SAE in, in SAELens's format. An interrupted training is resumed from it.
        channels: Positions to use; thoughts and latents by default.
        sink_factor: Rows whose norm is more than this many times the median are left out as attention sinks.
        split_seed: Which problem structures are held out.
        progress: Called with (samples done, samples in all).
        **settings: See `interp.sae.settings.SAESettings`, such as `d_sae=512` and `k=16`.

    Returns:
        The SAE, with its settings, the mask of its rows and, where `out` is given, the figures on held-out rows.

    Raises:
        UsageError: A setting is not valid, or the store has several addresses and none is named.
        StoreError: `out` holds another SAE.
    """
    from interp.activations.splits import split_rows
    from interp.sae.rows import SINK_FACTOR, select
    from interp.sae.train import checked_settings
    from interp.sae.train import train_sae as train
    from interp.sae.trained import TrainedSAE, train_into
    from interp.traces import THINKING

    if address is None and len(store.addresses) != 1:
        names = ", ".join(known.name for known in store.addresses)
        raise UsageError(f"expected one address to train at, got none; name one of {names}.")
    chosen = store.address(store.addresses[0] if address is None else address)
    training_settings = checked_settings(None, settings)
    channels = channels or THINKING
    sink_factor = SINK_FACTOR if sink_factor is None else sink_factor
    if out is not None:
        return train_into(
            Path(out),
            store,
            chosen,
            training_settings,
            channels=channels,
            sink_factor=sink_factor,
            split_seed=split_seed,
            progress=progress,
        )
    rows, mask = select(store, chosen, channels=channels, sink_factor=sink_factor)
    train_rows = rows[split_rows(store, rows, split_seed).train]
    sae = train(store, chosen, train_rows, settings=training_settings, progress=progress)
    return TrainedSAE(sae, training_settings, mask, split_seed, {})


def swap(
    reader: Reasoner,
    writer: Reasoner,
    problems: Sequence[Problem],
    *,
    through: Literal["text", "latents"] = "text",
    fit_on: Sequence[Problem] | None = None,
    **options: Unpack[SwapOptions],
) -> pd.DataFrame:
    """Let one reasoner answer after another one's chain of thought.

    Args:
        reader: The reasoner that answers.
        writer: The reasoner whose thoughts the reader gets.
        problems: Problems to think about.
        through: "text" forces the writer's text; "latents" maps the writer's final states to the reader's thoughts
            with a ridge regression.
        fit_on: Problems of other structures that the ridge map is fitted on; needed for "latents".
        **options: Passed to `interp.causal.swap_text` or `interp.causal.swap_latents`, such as `seed`.

    Returns:
        One row for each arm and problem; `interp.causal.swap_summary` gives accuracy and agreement for each arm.

    Raises:
        UsageError: The two reasoners cannot be swapped this way, or `fit_on` is missing.
    """
    from interp.causal.swap import swap_latents, swap_text

    if through == "text":
        return swap_text(reader, writer, problems, **options)
    if through != "latents":
        raise UsageError(f"expected through='text' or through='latents', got {through!r}; choose one of them.")
    if fit_on is None:
        raise UsageError("expected fit_on=problems to fit the map on, got None; give problems of other structures.")
    if "prefixes" in options:
        raise UsageError("expected prefixes with through='text' alone, got them with 'latents'; leave them out.")
    return swap_latents(reader, writer, fit_on, problems, **options)  # type: ignore[misc]  # without prefixes


@dataclass(frozen=True)
class FaithfulnessResult:
    """The result of `faithfulness`: whether answers depend on the visible reasoning.

    Attributes:
        tests: One row for each test: the fraction of answers that stay the same, its interval, and what a faithful
            reasoner would do.
        early_answers: Answers given after the first k steps.
        conclusion: What the tests show together, in a sentence.
    """

    tests: pd.DataFrame
    early_answers: pd.DataFrame
    conclusion: str


def faithfulness(
    reasoner: Reasoner, traces: TraceSet, wording: Wording | None = None, *, seed: int = 0
) -> FaithfulnessResult:
    """Test whether answers depend on the visible reasoning: early answers, mistakes, filler, paraphrases.

    Args:
        reasoner: A reasoner that thinks in text.
        traces: What it thought. After the thoughts of imported traces it answers first, and these answers are compared;
            imported ones without a thought are left out with a warning.
        wording: Which words mean the same, for paraphrases; the task's own synonyms by default, where it has some.
        seed: Seed of mistakes, donors and paraphrases.

    Returns:
        The tests, the early answers, and a conclusion.

    Raises:
        UsageError: A trace has no visible thought.

    References:
        Lanham et al., "Measuring Faithfulness in Chain-of-Thought Reasoning", arXiv 2307.13702.
    """
    from interp.causal.visible_text.faithfulness import battery, early_answering, post_hoc
    from interp.causal.visible_text.forcing import own_answers

    traces, note = own_answers(reasoner, traces)
    if note:
        warnings.warn(f"{note}.", stacklevel=2)
    tests = battery(reasoner, traces, wording or _task_wording(traces), seed)
    return FaithfulnessResult(tests, early_answering(reasoner, traces), post_hoc(tests))


def subtext(
    traces: TraceSet,
    targets: Sequence[str] | None = None,
    *,
    wording: Wording | None = None,
    reasoner: Reasoner | None = None,
    **options: Unpack[SubtextOptions],
) -> SubtextResult:
    """Measure the information in a chain of thought beyond its text, in bits about each target.

    Args:
        traces: Sampled traces; at temperature 0 there is no choice of words to measure.
        targets: Labels of whole traces, such as "secret", "hint:2" or "answer"; the task's varying facts by default.
        wording: Which words mean the same; the task's own synonyms by default, where it has some.
        reasoner: The reasoner that thought, where latents are measured too.
        **options: Passed to `probes.subtext.measure.measure`: `places`, `addresses`, `with_power`, `seed`.

    Returns:
        Bits for each target and channel with intervals and verdicts, and the total by the chain rule.

    Raises:
        UsageError: There is nothing to measure: no synonyms are known and no reasoner is given.
    """
    from probes.subtext.measure import measure

    return measure(traces, targets, wording=wording or _task_wording(traces), reasoner=reasoner, **options)


def faithfulness_scores(reasoner: Reasoner, traces: TraceSet, metrics: str = "all", *, seed: int = 0) -> pd.DataFrame:
    """Score each chain of thought and each of its steps with metrics of faithfulness.

    Args:
        reasoner: A reasoner that thinks in text, or in latents of which each belongs to a step.
        traces: What it thought.
        metrics: Names separated by commas, such as "early answering, adding mistakes", or "all". Of latents, those that
            have a meaning there (`interp.causal.metrics.latents.registry`).
        seed: Seed of everything that metrics draw.

    Returns:
        One row for each metric and chain (step 0) and for each of its steps (from 1). Columns: metric, source, trace
        (its number in `traces`), structure, step, score (higher is more faithful; NaN where the metric says nothing),
        passes (texts that were run for each chain).

    Raises:
        UsageError: A metric is unknown or cannot be run on these chains, or a trace has no thought.
    """
    import pandas as pd

    from interp.causal.metrics.base import Chains
    from interp.causal.metrics.battery import metrics_named
    from interp.causal.metrics.latents.chains import LatentChains
    from interp.causal.metrics.latents.registry import LATENT_METRICS
    from interp.causal.metrics.registry import METRICS

    visible = reasoner.thinks_in_text
    chains = Chains(reasoner, traces, seed=seed) if visible else LatentChains(reasoner, traces, seed=seed)
    rows = []
    for metric in metrics_named(metrics, METRICS if visible else LATENT_METRICS):
        result = metric.measure(chains)
        for number, (whole, steps) in enumerate(zip(result.chain, result.steps, strict=True)):
            about = (metric.name, metric.source, number, traces[number].problem.structure)
            rows += [(*about, step, float(score), result.passes) for step, score in enumerate([whole, *steps])]
    return pd.DataFrame(rows, columns=["metric", "source", "trace", "structure", "step", "score", "passes"])


def _task_wording(traces: TraceSet) -> Wording | None:
    """Return the synonyms of the traces' task; None where it has none."""
    from interp.problems import task
    from interp.text.wording import Wording

    try:
        return Wording.of_task(task(traces[0].problem.task))
    except (UsageError, StoreError, IndexError):
        return None
