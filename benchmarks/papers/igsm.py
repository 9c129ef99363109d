"""Physics of language models 2.1 (arXiv 2407.20311): the six labels of the mental process, read by V-probes.

The organism solves iGSM with matched distractors. It was trained on solutions with retracted parameters
(arXiv 2408.16293). Measured are:

- its answers and its first mistakes;
- each label beside controls: majority, untrained models (random, and as training began) and a bag of features;
- `necessary` before the solution begins, by distance from the asked parameter;
- what the probes predict before a wrong step.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.mental_process import (
    LABELS,
    constants,
    decision_items,
    decisions,
    errors_table,
    items_of,
    references,
    step_items,
    steps_of,
)
from interp.problems import task
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.metrics import f1_interval, macro_f1
from interp.statistics.splits import grouped_split
from probes.vprobe.controls import VProbeResult, vprobe
from probes.vprobe.fit import VProbe
from probes.vprobe.packing import Item

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

SEED = 53
NAME = "igsm-retries"
# The organism that it starts from: question last, definitions shuffled, no retractions.
PLAIN = "igsm"
HARDER = "5-6"  # numbers of steps beyond training
N_ANSWERS, N_NECESSARY, N_OTHER, N_HARDER = 1000, 1200, 400, 400
FULL_ANSWERS, FULL_NECESSARY, FULL_OTHER, FULL_HARDER = 4000, 5000, 2500, 2000
READ_BEFORE = ("necessary", "can_next", "necessary_next")
UNTRAINED = ("random_init", "start")
CONTROLS = ("random_init", "bag_of_features", "majority")
MEASURE = "papers.igsm.necessary_above_random_init"


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure answers, labels with controls, what is known before the solution, and what precedes a mistake."""
    total, done = len(LABELS) + 4, 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    reasoner = organisms.load(NAME)
    untrained = {"random_init": _random(reasoner), "start": model_at_start(reasoner)}
    traces = _think(reasoner, FULL_ANSWERS if full else N_ANSWERS, SEED)
    harder = _think(reasoner, FULL_HARDER if full else N_HARDER, SEED + 1, steps=HARDER)
    step()
    results: dict[str, VProbeResult] = {}
    probed_traces = traces_for_probing(reasoner, full)
    for label in LABELS:
        n_other = FULL_OTHER if full else N_OTHER
        items = items_of(probed_traces if label == "necessary" else probed_traces[:n_other], label, SEED)
        if label == "necessary":
            results[label] = vprobe(reasoner, items, controls=(*CONTROLS, "shuffled_labels"), untrained=untrained)
            necessary_items = [items[k] for k in results[label].test]
        else:
            random_only = {"random_init": untrained["random_init"]}
            results[label] = vprobe(reasoner, items, controls=CONTROLS, untrained=random_only)
        step()
    mistakes = before_mistakes(reasoner, probed_traces, harder)
    step()
    section = Section("igsm", "Physics of language models: the mental process behind iGSM", paper=PAPER)
    section.tables["Held-out problems mod 23, distractors matched"] = answers_table(
        {"as trained": traces, "longer": harder}
    )
    section.tables["Six labels by V-probe, macro-F1 on held-out structures"] = labels_table(results)
    section.tables["Is it necessary? Read after the question, before the first word of the solution"] = known_before(
        results["necessary"], necessary_items
    )
    section.tables["What V-probes said of a step's parameter before the model wrote it, longer problems"] = mistakes
    section.measures = {MEASURE: _measure(results["necessary"], traces.accuracy)}
    section.notes = _notes(results, mistakes, traces)
    step()
    by_organism = {NAME: (traces.accuracy, results["necessary"])}
    if (plain := organisms.load_or_note(PLAIN, section)) is not None:
        by_organism[PLAIN] = _necessary_alone(plain, full)
    section.tables["Must it be taught so? `necessary` at the end of the question"] = taught_table(by_organism)
    step()
    return section


def _think(reasoner: Reasoner, n: int, seed: int, **options: str) -> TraceSet:
    """Return traces of held-out problems of the organism's task, with other options if asked for."""
    made = task(reasoner.config.task or "igsm", **options)
    return reasoner.think(made.generate(n, seed=seed, split="test"), batch_size=256)


def traces_for_probing(reasoner: Reasoner, full: bool) -> TraceSet:
    """Return traces of held-out problems of the organism's task; the V-probes split them by structure."""
    return _think(reasoner, FULL_NECESSARY if full else N_NECESSARY, SEED + 2)


def _necessary_alone(reasoner: Reasoner, full: bool) -> tuple[float, VProbeResult]:
    """Return the accuracy of another organism and its V-probe for `necessary`."""
    traces = traces_for_probing(reasoner, full)
    return traces.accuracy, vprobe(reasoner, items_of(traces, "necessary", SEED), controls=CONTROLS)


def taught_table(by_organism: dict[str, tuple[float, VProbeResult]]) -> pd.DataFrame:
    """Return one row for each organism: its task, its accuracy, and the lead of its V-probe for `necessary`."""
    from interp.organisms.catalog import card, recipe, shipped

    rows = []
    for name, (right, probed) in by_organism.items():
        made = card(name)["recipe"] if name in shipped() else recipe(name).to_dict()
        scores = probed.table.set_index("reader")["macro_f1"]
        lead, (low, high), best = probed.lead()
        rows.append(
            {
                "organism": name,
                "trained on": "; ".join(dict.fromkeys(stage.get("task", made["task"]) for stage in made["stages"])),
                "answer right": right,
                "v-probe": scores["vprobe"],
                "best control": best.replace("_", " "),
                "of it": scores[best],
                "lead": lead,
                "lead_low": low,
                "lead_high": high,
                "n": len(probed.gold),
            }
        )
    return pd.DataFrame(rows)


def _random(reasoner: Reasoner) -> Reasoner:
    """Return the untrained twin."""
    from interp.loading.load import random_init

    return random_init(reasoner, SEED)


def model_at_start(reasoner: Reasoner) -> Reasoner:
    """Return the organism that it starts from, as it was before training: with its hand-made heads."""
    from interp.models.wrapping import weights_hash, wrap
    from interp.organisms.catalog import recipe
    from interp.organisms.training.model import new_model

    model = new_model(recipe(PLAIN), reasoner.embed.weight.shape[0], SEED).eval().to(reasoner.device)
    weights = weights_hash(model)
    wrapped = wrap(model, reasoner.tokenizer)
    return type(reasoner)(wrapped, reasoner.tokenizer, reasoner.config, name=f"{PLAIN} (start)", weights=weights)


def answers_table(arms: dict[str, TraceSet]) -> pd.DataFrame:
    """Return the fractions of right answers and right solutions by number of steps, and the first mistakes of the rest."""
    rows = []
    for arm, traces in arms.items():
        lengths = np.array([trace.problem.n_steps for trace in traces])
        checked = [steps_of(trace) for trace in traces]
        errors = [next((step.error for step in steps if step.error), None) for steps in checked]
        right = np.array([trace.correct for trace in traces])
        all_right = np.array([error is None for error in errors]) & right
        groups = np.array([trace.problem.structure for trace in traces])
        for n in np.unique(lengths):
            mask = lengths == n
            low, high = grouped_mean_interval(right[mask], groups[mask])
            first = Counter(error for error, chosen in zip(errors, mask, strict=True) if chosen and error)
            answers = Counter(trace.problem.answer for trace, chosen in zip(traces, mask, strict=True) if chosen)
            rows.append(
                {
                    "problems": arm,
                    "necessary parameters": int(n),
                    "answer right": float(right[mask].mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "every step right": float(all_right[mask].mean()),
                    "most frequent answer": answers.most_common(1)[0][1] / int(mask.sum()),
                    "n": int(mask.sum()),
                    "first mistakes": ", ".join(f"{kind} {count}" for kind, count in first.most_common()) or "none",
                }
            )
    return pd.DataFrame(rows)


def labels_table(results: dict[str, VProbeResult]) -> pd.DataFrame:
    """Return one row for each label: the probe with its interval, every control, and the lead over the best control."""
    rows = []
    for label, probed in results.items():
        scores = probed.table.set_index("reader")
        lead, (low, high), best = probed.lead()
        rows.append(
            {
                "label": label,
                "v-probe": scores.loc["vprobe", "macro_f1"],
                "ci_low": scores.loc["vprobe", "ci_low"],
                "ci_high": scores.loc["vprobe", "ci_high"],
                **{name.replace("_", " "): scores.loc[name, "macro_f1"] for name in scores.index.drop("vprobe")},
                "lead": lead,
                "lead_low": low,
                "lead_high": high,
                "best control": best.replace("_", " "),
                "n": len(probed.gold),
            }
        )
    return pd.DataFrame(rows)


def known_before(probed: VProbeResult, items: list[Item]) -> pd.DataFrame:
    """Return `necessary` before the solution, by distance from the asked parameter and by whether it is a number."""
    distance, constant = references(items), constants(items)
    rows = []
    groups = {"given as a number": constant, "computed from others": ~constant}
    groups |= {f"{n} reference{'s' if n > 1 else ''} away": distance == n for n in np.unique(distance)}
    for name, mask in groups.items():
        scores = {reader: macro_f1(probed.gold[mask], read[mask]) for reader, read in probed.read.items()}
        low, high = f1_interval(probed.gold[mask], probed.read["vprobe"][mask], probed.groups[mask])
        scores = {reader.replace("_", " "): score for reader, score in scores.items() if reader != "majority"}
        rows.append({"parameters": name, **scores, "ci_low": low, "ci_high": high, "n": int(mask.sum())})
    return pd.DataFrame(rows)


def before_mistakes(reasoner: Reasoner, traces: TraceSet, harder: TraceSet) -> pd.DataFrame:
    """Fit V-probes on problems of the organism's task and read them before each step of longer problems."""
    steps_written = list(decisions(harder))
    readings = {}
    for label in READ_BEFORE:
        items = step_items(traces[:N_OTHER], label, Random(f"before|{label}|{SEED}"))
        split = grouped_split(np.array([item.group for item in items]), SEED)
        train, val = ([items[k] for k in np.flatnonzero(part)] for part in (split.train | split.test, split.val))
        readings[label] = VProbe(seed=SEED).fit(reasoner, train, val).predict(decision_items(steps_written, label))
    return errors_table(steps_written, readings)


def _measure(probed: VProbeResult, accuracy: float) -> dict[str, Any]:
    """Return the lead of the V-probe; its note has the organism's share of right answers, for every training seed."""
    controls = [*UNTRAINED, "bag_of_features"]
    lead, interval, best = probed.lead(controls)
    scores = probed.table.set_index("reader")["macro_f1"]
    scores_text = ", ".join(f"{name.replace('_', ' ')} {scores[name]:.3f}" for name in ("vprobe", *controls))
    return {
        "value": lead,
        "ci": list(interval),
        "n": len(probed.gold),
        "unit": "macro-F1",
        "note": f"over {best.replace('_', ' ')}, the best of the controls; {scores_text}; answers right {accuracy:.3f}; "
        "mod 23, every distractor a twin",
    }


def _notes(results: dict[str, VProbeResult], mistakes: pd.DataFrame, traces: TraceSet) -> list[str]:
    lead = {label: probed.lead() for label, probed in results.items()}
    above_controls = [label for label, (_, (low, _), _) in lead.items() if low > 0]
    rows = mistakes.set_index("the step written")
    notes = [
        "Retracted parameters reward knowing, at each name, whether it comes next. `necessary` is never trained "
        "directly, and the probed solutions contain no retractions.",
        f"The organism answers {traces.accuracy:.3f} of held-out problems right.",
        "Read better than by every control (interval of the lead above 0): "
        + (", ".join(above_controls) or "none")
        + ".",
        "`known` is stated in the text, so a bag of features reads it as well.",
    ]
    wrong = [kind for kind in ("unnecessary", "not ready") if kind in rows.index]
    if "right" in rows.index and wrong:
        wrong_text = ", ".join(f"{rows.loc[k, 'necessary_next read as yes']:.2f} of steps that are {k}" for k in wrong)
        notes.append(
            f"On longer problems the probe reads necessary_next as yes, before the step is written, for "
            f"{rows.loc['right', 'necessary_next read as yes']:.2f} of right steps and for {wrong_text}."
        )
    return notes


PAPER = [
    PaperFigure(
        "labels probed",
        "necessary, depends, known, value (24-way), can_next, necessary_next; V-probing with a rank-8 embedding update",
        "arXiv 2407.20311, sections 4.1 and 4.2",
    ),
    PaperFigure(
        "mistakes that are taken back in training",
        "steps that are wrong and corrected at once: higher accuracy than after as much data free of mistakes",
        "arXiv 2408.16293, abstract",
    ),
    PaperFigure(
        "controls probed", "majority guess and a randomly initialised transformer", "arXiv 2407.20311, section 4"
    ),
]
