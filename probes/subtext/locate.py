"""Location of subtext: the words that carry it, the meaning of their synonyms, the layers that hold it, and a test.

A word carries bits about a label when its choice among synonyms, that word's alone, says something that the meaning of
the whole text does not. The test is a knock-out: with the choice at the carrying words drawn again at random the
channel must close, and with all *other* choices drawn again it must stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.statistics.intervals import q_values
from interp.text.wording import Wording, texts, words
from interp.traces import TraceSet
from probes.subtext.information import information_gain, summary
from probes.subtext.joint import JointGain, joint_gain
from probes.subtext.power import ALPHA
from probes.subtext.targets import labels_of
from probes.subtext.text_features import choice_features, meaning_features, token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_MAX_WORDS = 64


@dataclass(frozen=True)
class LocateResult:
    """Which words carry subtext.

    Attributes:
        cells: Bits at each (place, target), and whether it is `carrying`: q < 0.01 and an interval above 0.
        synonyms: How often each label goes with each choice, at carrying cells.
        layers: Bits about the label in the state that the word was written from, by address.
        knock_out: Total bits as written, with the carrying words neutral, and with the others neutral.
    """

    cells: pd.DataFrame
    synonyms: pd.DataFrame
    layers: pd.DataFrame
    knock_out: dict[str, JointGain]

    @property
    def places(self) -> list[int]:
        """The carrying words, by number from 1."""
        return sorted(int(place) for place in self.cells.loc[self.cells["carrying"], "place"].unique())


def locate(
    traces: TraceSet,
    wording: Wording,
    targets: Sequence[str] | None = None,
    *,
    reasoner: Reasoner | None = None,
    seed: int = 0,
) -> LocateResult:
    """Find the carrying words among the first 64 of each trace.

    Args:
        traces: The traces.
        wording: Which words mean the same.
        targets: As in `measure`.
        reasoner: The reasoner that wrote the traces; with it, the layers that hold each label are found too.
        seed: Seed of folds, bootstrap and neutral choices.

    Raises:
        UsageError: No word of the traces has a synonym.
    """
    labels = labels_of(traces, targets)
    groups = np.array([trace.problem.structure for trace in traces])
    written = texts(traces)
    given = [meaning_features(written, wording)]
    tables = []
    for place in range(1, min(max(map(len, written)), _MAX_WORDS) + 1):
        beyond = choice_features([_only_word(text, place) for text in written], wording)
        if beyond.shape[1]:
            table = summary(information_gain(labels, given, beyond, groups, seed=seed), groups, seed)
            table.insert(0, "place", place)
            tables.append(table)
    if not tables:
        raise UsageError("expected words with synonyms in these traces, got none; give another wording (--synonyms).")
    cells = pd.concat(tables, ignore_index=True)
    cells["q"] = q_values(cells["p"].to_numpy())
    cells["carrying"] = (cells["q"] < ALPHA) & (cells["ci_low"] > 0)
    carrying = cells[cells["carrying"]]
    places = set(carrying["place"])
    synonyms = [
        _synonyms(written, wording, labels[cell.target], int(cell.place), cell.target) for cell in carrying.itertuples()
    ]
    layers = pd.DataFrame()
    if reasoner is not None:
        by_place = [_layers(reasoner, traces, int(place), labels, groups, seed) for place in sorted(places)]
        layers = pd.concat(by_place, ignore_index=True) if by_place else layers
    rng = Random(f"knock-out|{seed}")
    versions = {
        "as written": written,
        "carrying words neutral": [wording.paraphrase(text, rng, places) for text in written],
        "other words neutral": [
            wording.paraphrase(text, rng, set(range(1, len(text) + 1)) - places) for text in written
        ],
    }
    knock_out = {
        name: joint_gain(labels, given, choice_features(version, wording), groups, with_bound=False, seed=seed)
        for name, version in versions.items()
    }
    return LocateResult(
        cells, pd.concat(synonyms, ignore_index=True) if synonyms else pd.DataFrame(), layers, knock_out
    )


def _only_word(text: Sequence[str], place: int) -> list[str]:
    """Return the text with all words but one left empty."""
    return [word if k == place else "" for k, word in enumerate(text, 1)]


def _synonyms(
    written: Sequence[Sequence[str]], wording: Wording, labels: np.ndarray, place: int, target: str
) -> pd.DataFrame:
    """Return how often each label goes with each choice at one place; words without synonyms are no choice."""
    rows = [
        k
        for k, text in enumerate(written)
        if len(text) >= place and labels[k] is not None and len(wording.options(text[place - 1])) > 1
    ]
    choices = pd.DataFrame(
        {
            "choice": [wording.choice(written[k][place - 1]) for k in rows],
            "word": [written[k][place - 1] for k in rows],
            "label": [labels[k] for k in rows],
        }
    )
    counts = choices.groupby(["choice", "label"]).agg(n=("label", "size"), words=("word", _examples)).reset_index()
    counts["share"] = counts["n"] / counts.groupby("choice")["n"].transform("sum")
    counts.insert(0, "place", place)
    counts.insert(1, "target", target)
    return counts


def _examples(column: pd.Series) -> str:
    return ", ".join(column.value_counts().index[:3])


def _layers(
    reasoner: Reasoner, traces: TraceSet, place: int, labels: dict[str, np.ndarray], groups: np.ndarray, seed: int
) -> pd.DataFrame:
    """Return bits about each label in the state that a word was written from, beyond the text before it, by address."""
    from probes.subtext.latent_features import states

    spoken = [words(trace) for trace in traces]
    positions = np.array([text[place - 1].position - 1 if len(text) >= place else -1 for text in spoken])
    rows = np.flatnonzero(positions >= 0)
    before = token_columns([[word.text for word in spoken[k][: place - 1]] for k in rows])
    labels_there = {name: values[rows] for name, values in labels.items()}
    tables = []
    for address, acts in states(reasoner, traces, positions).items():
        gains = information_gain(labels_there, [before], acts[rows], groups[rows], seed=seed)
        table = summary(gains, groups[rows], seed)
        table.insert(0, "place", place)
        table.insert(1, "address", address)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
