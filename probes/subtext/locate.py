"""Where subtext sits: which words of a trace carry it, which synonyms say what, which layers hold it; and the proof.

A word carries bits about a label when its choice among synonyms, that word's alone, says something that the meaning of
the whole text does not. The proof is a knock-out: with the choice at the carrying words made anew at random the channel
must close, and with all *other* choices made anew it must stay as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.statistics.intervals import q_values
from interp.text.wording import Wording, texts, words
from interp.traces import TraceSet
from probes.subtext.information import information_gain, summary
from probes.subtext.measure import jointly, labels_of
from probes.subtext.power import ALPHA
from probes.subtext.text_features import choice_features, meaning_features, token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_WORDS_AT_MOST = 64


@dataclass(frozen=True)
class Located:
    """`cells`: bits at each (place, target), whether it is `carrying` (q < 0.01, interval above 0); `synonyms`: how often
    each label goes with each choice at carrying cells; `layers`: bits about the label in the state that the word was
    written from, by address; `knock_out`: total bits as written, with the carrying words neutral, with the others neutral.
    """

    cells: pd.DataFrame
    synonyms: pd.DataFrame
    layers: pd.DataFrame
    knock_out: dict[str, dict[str, Any]]

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
) -> Located:
    """Find the carrying words of traces, at most the first 64; with the `reasoner` that thought them also the layers.

    Raises `UsageError` where no word of the traces has a synonym.
    """
    labels = labels_of(traces, targets)
    groups = np.array([trace.problem.structure for trace in traces])
    said = texts(traces)
    given = [meaning_features(said, wording)]
    frames = []
    for place in range(1, min(max(map(len, said)), _WORDS_AT_MOST) + 1):
        beyond = choice_features([_only(each, place) for each in said], wording)
        if beyond.shape[1]:
            found = summary(information_gain(labels, given, beyond, groups, seed=seed), groups, seed)
            found.insert(0, "place", place)
            frames.append(found)
    if not frames:
        raise UsageError("no word of these traces has a synonym, so there is no choice that could say anything.")
    cells = pd.concat(frames, ignore_index=True)
    cells["q"] = q_values(cells["p"].to_numpy())
    cells["carrying"] = (cells["q"] < ALPHA) & (cells["ci_low"] > 0)
    carrying = cells[cells["carrying"]]
    places = set(carrying["place"])
    synonyms = [
        _synonyms(said, wording, labels[row.target], int(row.place), row.target) for row in carrying.itertuples()
    ]
    layers = pd.DataFrame()
    if reasoner is not None:
        by_layer = [_layers(reasoner, traces, int(place), labels, groups, seed) for place in sorted(places)]
        layers = pd.concat(by_layer, ignore_index=True) if by_layer else layers
    rng = Random(f"knock-out|{seed}")
    versions = {
        "as written": said,
        "carrying words neutral": [wording.paraphrase(each, rng, places) for each in said],
        "other words neutral": [wording.paraphrase(each, rng, set(range(1, len(each) + 1)) - places) for each in said],
    }
    knock_out = {
        name: jointly(labels, given, choice_features(version, wording), groups, seed=seed)
        for name, version in versions.items()
    }
    return Located(cells, pd.concat(synonyms, ignore_index=True) if synonyms else pd.DataFrame(), layers, knock_out)


def _only(said: Sequence[str], place: int) -> list[str]:
    """A text in which only one word is left, at its place."""
    return [word if k == place else "" for k, word in enumerate(said, 1)]


def _synonyms(
    said: Sequence[Sequence[str]], wording: Wording, labels: np.ndarray, place: int, target: str
) -> pd.DataFrame:
    """How often each label goes with each choice at one place."""
    rows = [k for k, each in enumerate(said) if len(each) >= place and labels[k] is not None]
    found = pd.DataFrame(
        {
            "choice": [wording.choice(said[k][place - 1]) for k in rows],
            "word": [said[k][place - 1] for k in rows],
            "label": [labels[k] for k in rows],
        }
    )
    counts = found.groupby(["choice", "label"]).agg(n=("label", "size"), words=("word", _examples)).reset_index()
    counts["share"] = counts["n"] / counts.groupby("choice")["n"].transform("sum")
    counts.insert(0, "place", place)
    counts.insert(1, "target", target)
    return counts


def _examples(column: pd.Series) -> str:
    return ", ".join(column.value_counts().index[:3])


def _layers(
    reasoner: Reasoner, traces: TraceSet, place: int, labels: dict[str, np.ndarray], groups: np.ndarray, seed: int
) -> pd.DataFrame:
    """Bits about each label in the state that word `place` was written from, beyond the text before it, by address."""
    from probes.subtext.latent_features import states

    spoken = [words(trace) for trace in traces]
    at = np.array([each[place - 1].position - 1 if len(each) >= place else -1 for each in spoken])
    rows = np.flatnonzero(at >= 0)
    before = token_columns([[word.text for word in spoken[k][: place - 1]] for k in rows])
    here = {name: values[rows] for name, values in labels.items()}
    frames = []
    for address, acts in states(reasoner, traces, at).items():
        found = summary(information_gain(here, [before], acts[rows], groups[rows], seed=seed), groups[rows], seed)
        found.insert(0, "place", place)
        found.insert(1, "address", address)
        frames.append(found)
    return pd.concat(frames, ignore_index=True)
