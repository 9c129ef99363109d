"""Study any reasoner: think, capture, probe, decode, intervene, report, and keep everything in one folder.

RUN/run.json             options of the run, and its figures once it is finished
RUN/traces.parquet       what the reasoner thought
RUN/store, RUN/twin      activations of the reasoner and of its untrained twin
RUN/sweep                the probe sweep
RUN/readouts.parquet     what each decoder reads in each thought
RUN/scores.parquet       held-out scores of the decoders
RUN/interchange.parquet  every edit and the answer after it
RUN/sae                  the sparse autoencoder, in SAELens's format
RUN/report.html          the report

A stage that cannot be done for a model is left out. `skipped` in run.json says which and why.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import interp
import probes
from dashboards import stages as steps_of_study
from dashboards.figures import ablation_figures, accuracy_of, chance_of, interchange_figures, sweep_readings
from dashboards.headline import headline
from dashboards.record import SCHEMA_VERSION, open_run, package_versions, peak_rss_mb, write_run
from dashboards.stage_runner import Skipped, StageRunner
from interp.activations.splits import describe_split, seeds_of_splits
from interp.errors import PartialError, UsageError
from interp.loading.guessing import ChanceCheck
from interp.problems import task as make_task

if TYPE_CHECKING:
    from interp.causal.ablation import AblationResult
    from interp.causal.interchanges.results import InterchangeResult
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.problems import Problem
    from interp.reasoners import Reasoner
    from interp.runtime.console import Bars


@dataclass(frozen=True)
class Study:
    """The results of a study, in memory. What could not be done is None; `skipped` says why.

    Attributes:
        reasoner: The reasoner.
        traces: What it thought.
        store: Its activations.
        sweep: Probes with their controls.
        decoded: What each decoder reads, with held-out scores and controls.
        interchange: Edits of thoughts and the answers after them.
        ablation: Answers with all thoughts replaced; only where no single step could be edited.
        skipped: The stages that were not done.
    """

    reasoner: Reasoner
    traces: interp.TraceSet
    store: interp.Store
    sweep: probes.Sweep | None
    decoded: steps_of_study.Decoded | None
    interchange: InterchangeResult | None
    ablation: AblationResult | None
    skipped: tuple[Skipped, ...]

    @property
    def readouts(self) -> ReadOuts | None:
        """What each decoder reads in each thought, of the first split."""
        return None if self.decoded is None else self.decoded.readouts[0]

    @property
    def scores(self) -> pd.DataFrame:
        """Held-out scores by decoder and step, pooled over the splits; empty where nothing was read."""
        return pd.DataFrame() if self.decoded is None else self.decoded.scores

    @property
    def sae(self) -> dict[str, Any] | None:
        """Facts about the SAE; None without one."""
        return None if self.decoded is None else self.decoded.sae

    @property
    def warning(self) -> str | None:
        """That answers are at chance, and what was assumed on loading; None where they are not."""
        own = make_task(self.traces[0].problem.task).name == "questions"
        at_chance = ChanceCheck.warning_of(self.traces, self.reasoner.loaded, own_questions=own)
        return None if at_chance is None else at_chance["warning"]

    def figures(self) -> dict[str, Any]:
        """Return every figure of the study, as `run.json` keeps them."""
        if self.decoded is None:
            readings = sweep_readings(self.sweep)
            steps, answer = readings["steps"], next(iter(readings["answer"]), None)
            notes = {"controls": {}, "why_not": {}} if self.sweep is None else self.sweep.notes
        else:
            steps, notes, answer = self.decoded.figures.steps, self.decoded.figures.notes, None
        return {
            **accuracy_of(self.traces),
            "chance": chance_of(self.traces),
            "warning": self.warning,
            "split": describe_split(self.store),
            "steps": steps,
            "controls": notes,
            "steps_from": "sweep" if self.decoded is None else "decoders",
            "answer_reading": answer,
            "sae": self.sae,
            "interchange": None if self.interchange is None else interchange_figures(self.interchange),
            "ablation": None if self.ablation is None else ablation_figures(self.ablation),
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }


def study(
    reasoner: Reasoner | str | Path,
    problems: Sequence[Problem] | None = None,
    out: Path | str | None = None,
    bars: Bars | None = None,
    *,
    dictionaries: bool = True,
    twin: bool = True,
    splits: Sequence[int] = (0, 1, 2),
    samples: int = 100_000,
    batch_size: int = 128,
    about: dict[str, Any] | None = None,
) -> Study:
    """Study a reasoner, and keep everything in a folder that `cotlens dash` and `cotlens report` open.

    Args:
        reasoner: The reasoner to study, or what `interp.load` takes: an organism, a folder, a hub id.
        problems: Problems to think about; 1,000 held-out ones of the reasoner's own task by default. At least a few
            hundred give useful intervals.
        out: Folder to write; runs/study-NAME by default. An interrupted study is resumed.
        bars: Where progress is shown; nowhere by default.
        dictionaries: Also train an SAE and read with it, beside a random dictionary, PCA and neurons.
        twin: Also capture an untrained copy of the reasoner, the control `random_init`.
        splits: Seeds of the splits that scores are pooled over. The edits use the first, which is the only one where a
            questions file has splits of its own.
        samples: Rows seen in the training of the SAE.
        batch_size: Problems that are thought about at once.
        about: More fields of `run.json`, such as the options of a command. The same study has the same.

    Returns:
        Traces, sweep, read-outs, scores and edits, in memory.

    Raises:
        UsageError: There are no problems, and the reasoner was made for no task.
        StoreError: `out` holds another study, or something else.
        PartialError: A stage failed unexpectedly; the others are kept.
    """
    from dashboards.describe import slug
    from dashboards.report import build_report

    started = time.monotonic()
    if isinstance(reasoner, str | Path):
        reasoner = interp.load(reasoner)
    problems = default_problems(reasoner) if problems is None else list(problems)
    if not problems:
        raise UsageError("expected problems to think about, got none; give some.")
    folder = Path("runs") / f"study-{slug(reasoner.name)}" if out is None else Path(out)
    options = study_options(reasoner, problems) | (about or {})
    with open_run(folder, options):
        studied = run_stages(
            reasoner,
            problems,
            folder,
            bars,
            dictionaries=dictionaries,
            twin=twin,
            splits=splits,
            samples=samples,
            batch_size=batch_size,
        )
        result = run_record(studied, options, folder)
        result["seconds"] = round(time.monotonic() - started, 1)
        write_run(folder, result)
        build_report(folder)
    raise_for_defects(studied, folder)
    return studied


def run_stages(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    out: Path,
    bars: Bars | None,
    *,
    dictionaries: bool = True,
    twin: bool = True,
    splits: Sequence[int] = (0, 1, 2),
    samples: int = 100_000,
    batch_size: int = 128,
    given: interp.TraceSet | None = None,
) -> Study:
    """Do every stage that can be done, and return the results; the arguments are those of `study`.

    `given` are traces of the reasoner on these problems, which it need not think about again.
    """
    stages = StageRunner(reasoner.name, bars)
    traces = steps_of_study.think(reasoner, problems, out, stages, batch_size, given)
    store = steps_of_study.capture(reasoner, traces, out, stages, batch_size)
    twin_store = steps_of_study.capture_twin(reasoner, traces, out, stages, batch_size) if twin else None
    splits = seeds_of_splits(store, list(splits))
    sweep = steps_of_study.sweep(store, twin_store, splits, out, stages)
    decoded = steps_of_study.decode(
        reasoner, store, twin_store, out, stages, splits=splits, dictionaries=dictionaries, samples=samples
    )
    edits = steps_of_study.interchange(reasoner, traces, decoded, out, stages)
    ablation = None
    if edits is None:
        ablation = steps_of_study.ablate(reasoner, traces, stages, batch_size)
    return Study(reasoner, traces, store, sweep, decoded, edits, ablation, tuple(stages.skipped))


def default_problems(reasoner: Reasoner, n: int | None = None, seed: int = 0) -> list[Problem]:
    """Return held-out problems of the reasoner's own task: `n`, or by default as many of 1,000 as there are."""
    task = reasoner.task
    if n is not None:
        return task.generate(n, seed=seed, split="test")
    for few in (1000, 500, 250, 125):
        try:
            return task.generate(few, seed=seed, split="test")
        except UsageError:
            continue  # a small task has fewer different problems
    return task.generate(60, seed=seed, split="test")


def study_options(reasoner: Reasoner, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what tells one study from another: the model with its weights, and the problems."""
    digest = hashlib.sha256("\n".join(problem.to_json() for problem in problems).encode()).hexdigest()[:16]
    return {
        "name": reasoner.name,
        "model": str(reasoner.origin.get("source", reasoner.name)),
        "weights": reasoner.weights,
        "task": problems[0].task,
        "n_problems": len(problems),
        "problems": digest,
    }


def run_record(studied: Study, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return the content of `run.json` of a finished study."""
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **options,
        "kind": studied.reasoner.kind,
        "complete": True,
        "versions": package_versions(),
        **{key: value for key, value in studied.figures().items() if key != "n"},
        "comparisons": [],
        "measures": [],
        "report": str(out / "report.html"),
        "peak_rss_mb": peak_rss_mb(),
    }
    return result | {"headline": headline(result)}


def raise_for_defects(studied: Study, out: Path) -> None:
    """Raise `PartialError` where a stage failed that should not have."""
    defects = [skipped for skipped in studied.skipped if skipped.is_defect]
    if defects:
        names = ", ".join(skipped.stage for skipped in defects)
        raise PartialError(f"{names} failed ({defects[0].why}); everything else is in {out}.")
