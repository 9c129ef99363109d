"""Subtext: what a chain of thought's words, or the latents behind them, say beyond what is written.

Two channels, each a number of bits about a label, held out and with an interval (V-information, `information`):
*words* is what the choice among words of one meaning says beyond the meaning, to somebody who sees the text alone;
*latents* is what a linear reader gets from the activations beyond question and text. Both sides of each difference are
of one family, and against latents the side without them may read an untrained twin's activations instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations.targets import trace_labels
from interp.errors import UsageError
from interp.statistics.intervals import grouped_mean_interval
from interp.text.wording import Wording, texts
from interp.traces import Trace, TraceSet
from probes.subtext.information import Features, InformationGain, information_gain, p_value, summary
from probes.subtext.power import ALPHA, ASKED_BITS, Power, power
from probes.subtext.text_features import choice_features, meaning_features

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

FOUND, ABSENT, UNDECIDED, KNOWN = "subtext", "none", "undecided", "known without"


@dataclass(frozen=True)
class Subtext:
    """Bits about every target by channel (`table`), and of all targets together by the chain rule (`total`).

    The verdict of a row is `subtext` at q < 0.01 with an interval above 0, `none` where the sample has the power to
    have seen 0.1 bit and did not, `known without` where what is given leaves no more than that open, else `undecided`.
    """

    table: pd.DataFrame
    total: dict[str, dict[str, Any]]
    notes: dict[str, Any]


def measure(
    traces: TraceSet,
    targets: Sequence[str] | None = None,
    *,
    wording: Wording | None = None,
    reasoner: Reasoner | None = None,
    places: Sequence[str] = ("question end",),
    addresses: Sequence[str] | None = None,
    with_power: bool = True,
    seed: int = 0,
) -> Subtext:
    """Measure both channels where they can be: words with a `wording`, latents with the `reasoner` that thought.

    `targets` are labels of whole traces, `secret`, `hint:2`, `value_1`, `answer`; by default each of the task's own
    facts that varies. `places` and `addresses` say which activations; the final state and each block's output by
    default, all of a place together. Raises `UsageError` when nothing can be measured.
    """
    labels = labels_of(traces, targets)
    groups = np.array([trace.problem.structure for trace in traces])
    channels: dict[str, tuple[list[Features], Features]] = {}
    if wording is not None:
        said = texts(traces)
        channels["words"] = ([meaning_features(said, wording)], choice_features(said, wording))
    if reasoner is not None:
        from probes.subtext.latent_features import beside_text

        for place in places:
            channels[f"latents at {place}"] = beside_text(reasoner, traces, place, addresses)
    if not channels:
        raise UsageError(
            "nothing to measure: give a wording (which words mean the same), or the reasoner that thought."
        )
    frames, total = [], {}
    for name, (given, beyond) in channels.items():
        found = information_gain(labels, given, beyond, groups, seed=seed)
        if not found:
            raise UsageError(f"no target varies over at least 40 of these {len(traces)} traces; use more of them.")
        table = summary(found, groups, seed)
        shuffled = information_gain(labels, given, _of_others(beyond, seed), groups, seed=seed)
        table.insert(4, "shuffled", [float(shuffled[target].bits.mean()) for target in table["target"]])
        left = dict(zip(table["target"], table["without"], strict=True))
        open_ = [target for target in left if left[target] > ASKED_BITS]
        powers = {t: power(labels[t], given, beyond, groups, seed=seed) for t in open_} if with_power else {}
        table["power"] = [powers[t].share if t in powers else None for t in table["target"]]
        table["verdict"] = [
            KNOWN if left[t] <= ASKED_BITS else verdict(q, low, powers.get(t))
            for t, q, low in table[["target", "q", "ci_low"]].itertuples(index=False)
        ]
        table.insert(0, "channel", name)
        frames.append(table)
        total[name] = jointly(labels, given, beyond, groups, seed=seed)
        if powers:
            weakest = min(powers.values(), key=lambda each: 2.0 if each.share is None else each.share)
            total[name]["power"] = weakest.says()
    notes = {"n": len(traces), "structures": len(np.unique(groups)), "seed": seed, "alpha": ALPHA}
    return Subtext(pd.concat(frames, ignore_index=True), total, notes)


def verdict(q: float, ci_low: float, strength: Power | None) -> str:
    """What may be said: a channel, none, or that this sample cannot tell."""
    if q < ALPHA and ci_low > 0:
        return FOUND
    return ABSENT if strength is not None and strength.enough else UNDECIDED


def labels_of(traces: Sequence[Trace], targets: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The label of every trace for each target; by default the task's facts about single entities, where they vary."""
    names = list(targets) if targets is not None else _own_targets(traces)
    return {name: trace_labels(traces, name) for name in names}


def _own_targets(traces: Sequence[Trace]) -> list[str]:
    from interp.problems import task as make_task

    task = make_task(traces[0].problem.task)
    entities = sorted({entity for trace in traces for entity in task.entities(trace.problem)})
    named = [f"{fact}:{entity}" for fact, about in task.facts.items() if about == 1 for entity in entities]
    steps = max(trace.problem.n_steps for trace in traces)
    found = [*named, *(f"value_{k}" for k in range(1, min(steps, 9) + 1)), "answer"]
    varying = [name for name in found if len({label for label in trace_labels(traces, name) if label is not None}) > 1]
    if not varying:
        raise UsageError("no fact of these problems varies, so there is nothing to look for; name a --target.")
    return varying


def jointly(
    labels: dict[str, np.ndarray],
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Bits about all targets together, by the chain rule: each one given those before it, in the order they come.

    Over the traces that have all of them. What one target says of another is counted once.
    """
    rows = np.flatnonzero(np.all([[label is not None for label in values] for values in labels.values()], axis=0))
    bits, known = np.zeros(len(rows)), [each[rows] for each in given]
    for name, values in labels.items():
        here = {name: values[rows]}
        found: dict[str, InformationGain] = (
            information_gain(here, known, beyond[rows], groups[rows], seed=seed) if len(rows) else {}
        )
        if name not in found:
            continue
        bits += found[name].bits
        classes, codes = np.unique(values[rows].astype(str), return_inverse=True)
        known = [np.concatenate([each, np.eye(len(classes))[codes][:, 1:]], axis=1) for each in known]
    low, high = grouped_mean_interval(bits, groups[rows], seed=seed)
    p = p_value(bits, groups[rows]) if len(rows) > 1 else float("nan")
    return {"bits": float(bits.mean()) if len(rows) else float("nan"), "ci": [low, high], "p": p, "n": len(rows)}


def _of_others(features: Features, seed: int) -> Features:
    """Each row with another one's features: the capacity without the information."""
    return np.roll(features[np.random.default_rng([seed, 77]).permutation(len(features))], 1, axis=0)


def paraphrased(traces: Sequence[Trace], wording: Wording, seed: int = 0) -> list[list[str]]:
    """The words of each trace with every choice among synonyms made anew, at random."""
    rng = Random(f"paraphrase|{seed}")
    return [wording.paraphrase(each, rng) for each in texts(traces)]


def paraphrase(
    traces: TraceSet,
    wording: Wording,
    targets: Sequence[str] | None = None,
    *,
    reasoner: Reasoner | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What is left of the channel after a paraphrase, and with the `reasoner` what is left of its answers.

    One row for the traces as they are written, one for random synonyms, one where every meaning is said by its first
    word: total bits about the targets, accuracy of the answers that are given after that thought, and how many of them
    are what they were.
    """
    from interp.causal.forcing import force

    labels = labels_of(traces, targets)
    groups = np.array([trace.problem.structure for trace in traces])
    said = texts(traces)
    versions = {
        "as written": said,
        "random synonyms": paraphrased(traces, wording, seed),
        "first synonym": [[wording.meaning(word) for word in each] for each in said],
    }
    rows = []
    for name, version in versions.items():
        given, beyond = [meaning_features(version, wording)], choice_features(version, wording)
        total = jointly(labels, given, beyond, groups, seed=seed)
        row = {"version": name, "bits": total["bits"], "ci_low": total["ci"][0], "ci_high": total["ci"][1]}
        if reasoner is not None:
            after = force(reasoner, traces.problems, [" ".join(each) for each in version], batch_size=256)
            right = np.array([trace.correct for trace in after])
            kept = np.array([a.answer == b.answer for a, b in zip(after, traces, strict=True)])
            low, high = grouped_mean_interval(right, groups, seed=seed)
            row |= {"accuracy": right.mean(), "accuracy_low": low, "accuracy_high": high, "same_answer": kept.mean()}
        rows.append(row | {"n": total["n"]})
    return pd.DataFrame(rows)
