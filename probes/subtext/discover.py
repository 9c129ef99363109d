"""Discovering subtext without being told what it says: does the choice of words depend on hidden state?

Whoever chooses among synonyms at random writes words that nothing in the state predicts. So a probe, fitted on other
problems, reads from the state before each word which of its synonyms comes, and is scored on the words that came. The
same score on words drawn from *other* traces that mean the same there (a permutation within place and meaning) is what
chance gives. A word that follows from the visible
text before it is no subtext, so the state must also say more about it than that text does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.errors import UsageError
from interp.statistics.intervals import grouped_mean_interval, q_values
from interp.text.wording import Wording, words
from interp.traces import TraceSet
from probes.subtext.information import class_costs, information_gain, p_value
from probes.subtext.latent_features import states
from probes.subtext.power import ALPHA, power
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_DRAWS = 9999
_FEWEST = 40


@dataclass(frozen=True)
class Discovered:
    """`words`: for each place, bits of the choice that the state tells beyond the visible text, p, q, `flagged` at
    q < 0.01, and the power to have seen 0.1 bit. `traces`: each trace's evidence at flagged places, in bits, and how
    often a meaning-matched resampling of its words has as much (`p`, `q`)."""

    words: pd.DataFrame
    traces: pd.DataFrame
    notes: dict[str, Any]

    @property
    def flagged(self) -> bool:
        return bool(self.words["flagged"].any())

    @property
    def least_q(self) -> float:
        return float(self.words["q"].min())

    @property
    def bits(self) -> float:
        """Bits over all places, those that say nothing as they came."""
        return float(self.words["bits"].sum())


def discover(
    reasoner: Reasoner,
    traces: TraceSet,
    wording: Wording,
    *,
    address: str = "ln_final.hook_out",
    with_power: bool = False,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Discovered:
    """Test every word place at which there is a choice, in traces that were *sampled* (temperature 1).

    A greedy reasoner's words follow from its state whatever they say; its traces are refused. Raises `UsageError` too
    where no place has a choice in at least 40 traces.
    """
    _refuse_greedy(traces)
    groups = np.array([trace.problem.structure for trace in traces])
    spoken = [words(trace) for trace in traces]
    rows, evidence = [], []
    for place in range(1, max(map(len, spoken)) + 1):
        has = np.array([len(each) >= place and len(wording.options(each[place - 1].text)) > 1 for each in spoken])
        here = np.flatnonzero(has)
        if len(here) < _FEWEST:
            continue
        said = [spoken[k][place - 1].text for k in here]
        choice = np.array([str(wording.choice(word)) for word in said], dtype=object)
        meaning = np.array([wording.meaning(word) for word in said])
        at = np.array([each[place - 1].position - 1 if ok else -1 for each, ok in zip(spoken, has, strict=True)])
        acts = states(reasoner, traces, at, [address])[address][here]
        before = [[word.text for word in spoken[k][: place - 1]] for k in here]
        text = token_columns([[*each, own] for each, own in zip(before, meaning, strict=True)])
        found = information_gain({"choice": choice}, [text], acts, groups[here], seed=seed).get("choice")
        if found is None:
            continue
        with_meaning = np.concatenate([token_columns([[each] for each in meaning]), acts], axis=1)
        costs, choices = class_costs(with_meaning, choice, groups[here], seed=seed)
        codes = np.searchsorted(choices, choice.astype(str))
        drawn = _resampled(costs, codes, meaning, draws, seed + place)
        score = costs[np.arange(len(codes)), codes].sum()
        by_chance = (1 + int((drawn <= score + 1e-9).sum())) / (draws + 1)
        low, high = grouped_mean_interval(found.bits, groups[here], seed=seed)
        rows.append(
            {
                "place": place,
                "bits": float(found.bits.mean()),
                "ci_low": low,
                "ci_high": high,
                "p": max(by_chance, p_value(found.bits, groups[here])),
                "p_resampling": by_chance,
                "n": len(here),
                "power": power(choice, [text], acts, groups[here], seed=seed).share if with_power else None,
            }
        )
        evidence.append(_Evidence(here, costs, codes, meaning))
    if not rows:
        raise UsageError(f"no place has a choice of words in at least {_FEWEST} of these {len(traces)} traces.")
    table = pd.DataFrame(rows)
    table.insert(5, "q", q_values(table["p"].to_numpy()))
    table["flagged"] = (table["q"] < ALPHA) & (table["ci_low"] > 0)
    flagged = [each for each, yes in zip(evidence, table["flagged"], strict=True) if yes]
    notes = {"address": address, "draws": draws, "seed": seed, "n": len(traces), "alpha": ALPHA}
    return Discovered(table, _by_trace(flagged, len(traces), seed), notes)


def _refuse_greedy(traces: TraceSet) -> None:
    from interp.traces import Channel

    chances = [
        p
        for trace in traces
        for p, channel in zip(trace.logprob, trace.channel, strict=True)
        if channel == Channel.THOUGHT and not np.isnan(p)
    ]
    if chances and np.min(chances) > np.log(0.5):
        raise UsageError(
            "these traces look greedily written: no word had a probability below one half. A greedy choice follows from "
            "the state whatever it says; think again at temperature 1 (--temperature 1)."
        )


def _resampled(
    costs: Float[np.ndarray, "rows choices"], codes: np.ndarray, meaning: np.ndarray, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    """The total cost when every word is exchanged for that of another trace of the same meaning there, `draws` times."""
    rng, total = np.random.default_rng([seed, 31]), np.zeros(draws)
    for each in np.unique(meaning):
        rows = np.flatnonzero(meaning == each)
        exchanged = rng.permuted(np.broadcast_to(codes[rows], (draws, len(rows))), axis=1)
        total += costs[rows][np.arange(len(rows)), exchanged].sum(axis=1)
    return total


@dataclass(frozen=True)
class _Evidence:
    """One flagged place: the rows that have it, costs of every choice with and without the state, choice, meaning."""

    rows: np.ndarray
    costs: Float[np.ndarray, "rows choices"]
    codes: np.ndarray
    meaning: np.ndarray


def _by_trace(flagged: list[_Evidence], n: int, seed: int, draws: int = 999) -> pd.DataFrame:
    """How well each trace's words follow the state at flagged places, beside words drawn from others of that meaning."""
    rng = np.random.default_rng([seed, 32])
    own, drawn, had = np.zeros(n), np.zeros((draws, n)), np.zeros(n, bool)
    for each in flagged:
        had[each.rows] = True
        for meaning in np.unique(each.meaning):
            here = np.flatnonzero(each.meaning == meaning)
            usual = -np.log2(np.bincount(each.codes[here], minlength=each.costs.shape[1]).clip(1) / len(here))
            gain = usual[None, :] - each.costs[here]  # bits by which the state tells a choice better than the meaning
            own[each.rows[here]] += gain[np.arange(len(here)), each.codes[here]]
            others = each.codes[rng.choice(here, size=(draws, len(here)))]
            drawn[:, each.rows[here]] += gain[np.arange(len(here)), others]
    p = np.where(had, (1 + (drawn >= own - 1e-9).sum(axis=0)) / (draws + 1), np.nan)
    return pd.DataFrame({"trace": np.arange(n), "bits": np.where(had, own, np.nan), "p": p, "q": q_values(p)})
