"""Physics of language models 2.1 (arXiv 2407.20311): the six labels of the mental process, read by V-probes.

An organism that solves iGSM with matched distractors, taught by solutions in which parameters are taken back
(arXiv 2408.16293), its answers and its mistakes; each label beside the majority, untrained models (drawn at random,
and as training began) and a bag of features; what is known before the solution begins, by how far it lies from the
question; and whether wrong steps were read as right beforehand.
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
PLAIN = "igsm"  # what it starts from: the question last, definitions shuffled, nothing taken back
HARDER = "5-6"  # steps, more than were trained on
N_ANSWERS, N_NECESSARY, N_OTHER, N_HARDER = 1000, 1200, 400, 400
FULL_ANSWERS, FULL_NECESSARY, FULL_OTHER, FULL_HARDER = 4000, 5000, 2500, 2000
READ_BEFORE = ("necessary", "can_next", "necessary_next")
UNTRAINED = ("random_init", "start")
CONTROLS = ("random_init", "bag_of_features", "majority")
MEASURE = "papers.igsm.necessary_above_random_init"


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Answers, labels, what is known when, and what stands before a mistake."""
    total, done = len(LABELS) + 4, 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    reasoner = organisms.load(NAME)
    untrained = {"random_init": _random(reasoner), "start": started(reasoner)}
    traces = _thought(reasoner, FULL_ANSWERS if full else N_ANSWERS, SEED)
    harder = _thought(reasoner, FULL_HARDER if full else N_HARDER, SEED + 1, steps=HARDER)
    step()
    found: dict[str, VProbeResult] = {}
    about = traces_for_probing(reasoner, full)
    for label in LABELS:
        few = FULL_OTHER if full else N_OTHER
        items = items_of(about if label == "necessary" else about[:few], label, SEED)
        if label == "necessary":
            found[label] = vprobe(reasoner, items, controls=(*CONTROLS, "shuffled_labels"), untrained=untrained)
            necessary_items = [items[k] for k in found[label].test]
        else:
            drawn = {"random_init": untrained["random_init"]}
            found[label] = vprobe(reasoner, items, controls=CONTROLS, untrained=drawn)
        step()
    before = before_mistakes(reasoner, about, harder)
    step()
    section = Section("igsm", "Physics of language models: the mental process behind iGSM", paper=PAPER)
    section.tables["Held-out problems mod 23, distractors matched"] = answers_table(
        {"as trained": traces, "longer": harder}
    )
    section.tables["Six labels by V-probe, macro-F1 on held-out structures"] = labels_table(found)
    section.tables["Is it necessary? Read after the question, before the first word of the solution"] = known_before(
        found["necessary"], necessary_items
    )
    section.tables["What V-probes said of a step's parameter before the model wrote it, longer problems"] = before
    section.measures = {MEASURE: _measure(found["necessary"])}
    section.notes = _notes(found, before, traces)
    step()
    told = {NAME: (traces.accuracy, found["necessary"])}
    if (plain := organisms.load_or_note(PLAIN, section)) is not None:
        told[PLAIN] = _necessary_alone(plain, full)
    section.tables["Must it be taught so? `necessary` at the end of the question"] = taught_table(told)
    step()
    return section


def _thought(reasoner: Reasoner, n: int, seed: int, **options: str) -> TraceSet:
    """Traces of held-out problems of the organism's own task, or of it with other options."""
    made = task(reasoner.config.task or "igsm", **options)
    return reasoner.think(made.generate(n, seed=seed, split="test"), batch_size=256)


def traces_for_probing(reasoner: Reasoner, full: bool) -> TraceSet:
    """Traces of held-out problems of the organism's own task; the V-probes split them by structure."""
    return _thought(reasoner, FULL_NECESSARY if full else N_NECESSARY, SEED + 2)


def _necessary_alone(reasoner: Reasoner, full: bool) -> tuple[float, VProbeResult]:
    """The share of problems that another organism answers right, and its V-probe for `necessary`."""
    traces = traces_for_probing(reasoner, full)
    return traces.accuracy, vprobe(reasoner, items_of(traces, "necessary", SEED), controls=CONTROLS)


def taught_table(told: dict[str, tuple[float, VProbeResult]]) -> pd.DataFrame:
    """One row for each organism: its task, its answers, and what a V-probe for `necessary` adds to the best control."""
    from interp.organisms.catalog import card, recipe, shipped

    rows = []
    for name, (right, probed) in told.items():
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
    from interp.loading.load import random_init

    return random_init(reasoner, SEED)


def started(reasoner: Reasoner) -> Reasoner:
    """The organism that it starts from as that one's training began, with its hand-made heads and nothing learned."""
    from interp.models.wrapping import weights_hash, wrap
    from interp.organisms.catalog import recipe
    from interp.organisms.training.model import new_model

    model = new_model(recipe(PLAIN), reasoner.embed.weight.shape[0], SEED).eval().to(reasoner.device)
    weights = weights_hash(model)
    wrapped = wrap(model, reasoner.tokenizer)
    return type(reasoner)(wrapped, reasoner.tokenizer, reasoner.config, name=f"{PLAIN} (start)", weights=weights)


def answers_table(arms: dict[str, TraceSet]) -> pd.DataFrame:
    """Answers and whole solutions that are right, by number of steps, and the first mistakes of the others."""
    rows = []
    for arm, traces in arms.items():
        lengths = np.array([trace.problem.n_steps for trace in traces])
        checked = [steps_of(trace) for trace in traces]
        errors = [next((step.error for step in steps if step.error), None) for steps in checked]
        right = np.array([trace.correct for trace in traces])
        sound = np.array([error is None for error in errors]) & right
        groups = np.array([trace.problem.structure for trace in traces])
        for n in np.unique(lengths):
            here = lengths == n
            low, high = grouped_mean_interval(right[here], groups[here])
            first = Counter(error for error, chosen in zip(errors, here, strict=True) if chosen and error)
            answers = Counter(trace.problem.answer for trace, chosen in zip(traces, here, strict=True) if chosen)
            rows.append(
                {
                    "problems": arm,
                    "necessary parameters": int(n),
                    "answer right": float(right[here].mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "every step right": float(sound[here].mean()),
                    "most frequent answer": answers.most_common(1)[0][1] / int(here.sum()),
                    "n": int(here.sum()),
                    "first mistakes": ", ".join(f"{kind} {count}" for kind, count in first.most_common()) or "none",
                }
            )
    return pd.DataFrame(rows)


def labels_table(found: dict[str, VProbeResult]) -> pd.DataFrame:
    """One row for each label: the probe with its interval, every control, and the lead over the best of them."""
    rows = []
    for label, probed in found.items():
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
    """`necessary` before the solution begins, by references from the asked parameter and by whether it is a number."""
    far, given = references(items), constants(items)
    rows = []
    kinds = {"given as a number": given, "computed from others": ~given}
    kinds |= {f"{n} reference{'s' if n > 1 else ''} away": far == n for n in np.unique(far)}
    for kind, here in kinds.items():
        scores = {name: macro_f1(probed.gold[here], read[here]) for name, read in probed.read.items()}
        low, high = f1_interval(probed.gold[here], probed.read["vprobe"][here], probed.groups[here])
        scores = {name.replace("_", " "): score for name, score in scores.items() if name != "majority"}
        rows.append({"parameters": kind, **scores, "ci_low": low, "ci_high": high, "n": int(here.sum())})
    return pd.DataFrame(rows)


def before_mistakes(reasoner: Reasoner, traces: TraceSet, harder: TraceSet) -> pd.DataFrame:
    """V-probes fitted on problems of the organism's own task, asked about what it writes next on longer ones."""
    made = list(decisions(harder))
    read = {}
    for label in READ_BEFORE:
        items = step_items(traces[:N_OTHER], label, Random(f"before|{label}|{SEED}"))
        split = grouped_split(np.array([item.group for item in items]), SEED)
        train, val = ([items[k] for k in np.flatnonzero(part)] for part in (split.train | split.test, split.val))
        read[label] = VProbe(seed=SEED).fit(reasoner, train, val).predict(decision_items(made, label))
    return errors_table(made, read)


def _measure(probed: VProbeResult) -> dict[str, Any]:
    over = [*UNTRAINED, "bag_of_features"]
    lead, interval, best = probed.lead(over)
    scores = probed.table.set_index("reader")["macro_f1"]
    said = ", ".join(f"{name.replace('_', ' ')} {scores[name]:.3f}" for name in ("vprobe", *over))
    return {
        "value": lead,
        "ci": list(interval),
        "n": len(probed.gold),
        "unit": "macro-F1",
        "note": f"over {best.replace('_', ' ')}, the best of the controls; {said}; mod 23, every distractor a twin",
    }


def _notes(found: dict[str, VProbeResult], before: pd.DataFrame, traces: TraceSet) -> list[str]:
    lead = {label: probed.lead() for label, probed in found.items()}
    clear = [label for label, (_, (low, _), _) in lead.items() if low > 0]
    rows = before.set_index("the step written")
    notes = [
        "Solutions with parameters taken back reward telling at a name whether it comes next; nothing asks for "
        "`necessary` itself, and what is probed are solutions without any.",
        f"The organism answers {traces.accuracy:.3f} of held-out problems right.",
        "Read better than by every control (interval of the lead above 0): " + (", ".join(clear) or "none") + ".",
        "`known` asks what the text itself says, so a bag of features has it as well.",
    ]
    wrong = [kind for kind in ("unnecessary", "not ready") if kind in rows.index]
    if "right" in rows.index and wrong:
        said = ", ".join(f"{rows.loc[k, 'necessary_next read as yes']:.2f} of steps that are {k}" for k in wrong)
        notes.append(
            f"Before a right step of a longer problem the probe says necessary_next of "
            f"{rows.loc['right', 'necessary_next read as yes']:.2f} of the parameters then written; it says so of {said}."
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
