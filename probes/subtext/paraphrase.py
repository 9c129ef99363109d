"""Paraphrases: what of the bits in the words, and of the answers, is left when the words are chosen again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.problems import task as make_task
from interp.statistics.estimates import Estimate
from interp.text.wording import Wording, texts
from interp.traces import Trace, TraceSet
from probes.subtext.joint import joint_gain
from probes.subtext.targets import labels_of
from probes.subtext.text_features import choice_features, meaning_features

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_AS_WRITTEN = "as written"
_LOAD_BEARING = 0.1  # the share of answers that must be lost before the choice of words is called load-bearing


def paraphrase_words(traces: Sequence[Trace], wording: Wording, seed: int = 0) -> list[list[str]]:
    """Return the words of each trace with every choice among synonyms drawn again at random.

    Args:
        traces: The traces.
        wording: Which words mean the same.
        seed: Seed of the choices.
    """
    rng = Random(f"paraphrase|{seed}")
    return [wording.paraphrase(words, rng) for words in texts(traces)]


def paraphrase(
    traces: TraceSet,
    wording: Wording,
    targets: Sequence[str] | None = None,
    *,
    reasoner: Reasoner | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the bits in the words, and the answers, that remain after a paraphrase.

    With the reasoner, the answers are counted twice. *Forced*, the whole rewritten text is put into its mouth. *Free*,
    words are replaced one after another, and after each the reasoner goes on by itself, greedily. A reasoner that reads
    its own choice of words later is put back on its rails by a forced text, so the verdict uses the free answers.

    Args:
        traces: The traces.
        wording: Which words mean the same.
        targets: As in `measure`.
        reasoner: The reasoner that wrote the traces; with it, the answers after each version are counted.
        seed: Seed of choices, folds and bootstrap.

    Returns:
        One row each for the traces as written, which is the control (every word is put back as the trace has it), for random synonyms, and for the first synonym of
        every meaning: total bits about the targets in the forced text with their interval, and n. With the reasoner
        also, for both ways, accuracy and the share of answers that stay, with intervals (columns `accuracy` and
        `same_answer` are the forced ones, `free_accuracy` and `free_same_answer` the free ones); `free_lost`, how much
        less often free answers stay than those of the control; and the verdict: `load-bearing` where that is above a
        tenth, `not load-bearing` where it is below, `undecided` where its interval holds a tenth.
    """
    from interp.causal.visible_text.forcing import force
    from interp.causal.visible_text.rewording import reword_freely, reworded_ids

    labels = labels_of(traces, targets)
    groups = np.array([trace.problem.structure for trace in traces])
    written = texts(traces)
    rng = Random(f"free paraphrase|{seed}")
    choose: dict[str, Callable[[str, str], str]] = {
        _AS_WRITTEN: lambda word, written: written,
        "random synonyms": lambda word, written: rng.choice(wording.options(word)),
        "first synonym": lambda word, written: wording.meaning(word),
    }
    versions = {
        _AS_WRITTEN: written,
        "random synonyms": paraphrase_words(traces, wording, seed),
        "first synonym": [[wording.meaning(word) for word in words] for words in written],
    }
    records = []
    kept: dict[str, np.ndarray] = {}
    for name, version in versions.items():
        given, beyond = [meaning_features(version, wording)], choice_features(version, wording)
        bits = joint_gain(labels, given, beyond, groups, with_bound=False, seed=seed).bits
        record: dict[str, Any] = {"version": name, "bits": bits.value, "ci_low": bits.low, "ci_high": bits.high}
        if reasoner is not None:
            ids = [reworded_ids(reasoner, trace, words) for trace, words in zip(traces, version, strict=True)]
            answered = {
                "": force(reasoner, traces.problems, ids, batch_size=256),
                "free_": reword_freely(reasoner, traces, wording, choose[name]),
            }
            for way, after in answered.items():
                same = np.array([_says_the_same(new, old) for new, old in zip(after, traces, strict=True)])
                right = np.array([trace.correct for trace in after])
                for column, shares in ((f"{way}accuracy", right), (f"{way}same_answer", same)):
                    share = Estimate.of_mean(shares, groups, seed=seed)
                    record |= {column: share.value, f"{column}_low": share.low, f"{column}_high": share.high}
            kept[name] = same.astype(float)
            lost = Estimate.of_mean(kept[_AS_WRITTEN] - kept[name], groups, seed=seed)
            record |= {"free_lost": lost.value, "free_lost_low": lost.low, "free_lost_high": lost.high}
            record["verdict"] = "control" if name == _AS_WRITTEN else _words_verdict(lost)
        records.append(record | {"n": bits.n})
    return pd.DataFrame(records)


def _words_verdict(lost: Estimate) -> str:
    """Return whether the choice of words bears load, from the share of answers that are lost without it."""
    if lost.low > _LOAD_BEARING:
        return "load-bearing"
    return "not load-bearing" if lost.high < _LOAD_BEARING else "undecided"


def _says_the_same(new: Trace, old: Trace) -> bool:
    return make_task(old.problem.task).same_answer(old.problem, new.answer, old.answer)
