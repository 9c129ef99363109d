"""Discover subtext without knowing what it carries: does the choice of words depend on hidden state?

A writer that chooses among synonyms at random writes words that nothing in its state predicts. So a probe, fitted on
other problems, predicts from the state before each word which synonym comes, and is scored on the words written. The
same score on words of *other* traces with the same meaning there (a permutation within place and meaning) is what
chance gives. A word that follows from the visible text before it is no subtext, so the state must also say more about
it than that text does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.errors import UsageError
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import q_values
from interp.text.wording import Wording, words
from interp.traces import Channel, TraceSet
from probes.subtext.information import class_costs, information_gain, p_value
from probes.subtext.latent_features import states
from probes.subtext.power import ALPHA, power
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_DRAWS = 9999
_MIN_TRACES = 40


@dataclass(frozen=True)
class DiscoverResult:
    """Which words depend on hidden state.

    Attributes:
        words: One row a place: bits of the choice that the state tells beyond the visible text, p, q, `flagged` at
            q < 0.01, and the power to detect 0.1 bit.
        traces: One row a trace: its evidence at flagged places, in bits, and how often words of the same meaning drawn
            from other traces have as much (`p`, `q`).
        notes: Address, draws, seed, sample size and significance level.
    """

    words: pd.DataFrame
    traces: pd.DataFrame
    notes: dict[str, Any]

    @property
    def flagged(self) -> bool:
        """Whether any place is flagged."""
        return bool(self.words["flagged"].any())

    @property
    def least_q(self) -> float:
        """The smallest q-value of any place."""
        return float(self.words["q"].min())

    @property
    def bits(self) -> float:
        """Bits summed over all places; places that say nothing are not cut off at 0."""
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
) -> DiscoverResult:
    """Test every word place at which there is a choice.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: Traces sampled at temperature 1. Greedy traces are refused: a greedy choice follows from the state
            whatever it says.
        wording: Which words mean the same.
        address: Where the state before each word is read.
        with_power: Whether to compute the power to detect 0.1 bit at each place.
        draws: Number of permutations behind each p-value.
        seed: Seed of folds, permutations and bootstrap.

    Raises:
        UsageError: The traces look greedy, or no place has a choice in at least 40 of them.
    """
    _refuse_greedy(traces)
    groups = np.array([trace.problem.structure for trace in traces])
    spoken = [words(trace) for trace in traces]
    records, evidence = [], []
    for place in range(1, max(map(len, spoken)) + 1):
        has_choice = np.array(
            [len(text) >= place and len(wording.options(text[place - 1].text)) > 1 for text in spoken]
        )
        rows = np.flatnonzero(has_choice)
        if len(rows) < _MIN_TRACES:
            continue
        written = [spoken[k][place - 1].text for k in rows]
        choice = np.array([str(wording.choice(word)) for word in written], dtype=object)
        meaning = np.array([wording.meaning(word) for word in written])
        positions = np.array(
            [text[place - 1].position - 1 if chosen else -1 for text, chosen in zip(spoken, has_choice, strict=True)]
        )
        acts = states(reasoner, traces, positions, [address])[address][rows]
        before = [[word.text for word in spoken[k][: place - 1]] for k in rows]
        text_columns = token_columns([[*words_before, own] for words_before, own in zip(before, meaning, strict=True)])
        gain = information_gain({"choice": choice}, [text_columns], acts, groups[rows], seed=seed).get("choice")
        if gain is None:
            continue
        with_meaning = np.concatenate([token_columns([[word] for word in meaning]), acts], axis=1)
        costs, choices = class_costs(with_meaning, choice, groups[rows], seed=seed)
        codes = np.searchsorted(choices, choice.astype(str))
        permuted = _permuted_costs(costs, codes, meaning, draws, seed + place)
        cost = costs[np.arange(len(codes)), codes].sum()
        by_chance = (1 + int((permuted <= cost + 1e-9).sum())) / (draws + 1)
        bits = Estimate.of_mean(gain.bits, groups[rows], seed=seed)
        records.append(
            {
                "place": place,
                "bits": bits.value,
                "ci_low": bits.low,
                "ci_high": bits.high,
                "p": max(by_chance, p_value(gain.bits, groups[rows])),
                "p_resampling": by_chance,
                "n": bits.n,
                "power": power(choice, [text_columns], acts, groups[rows], seed=seed).share if with_power else None,
            }
        )
        evidence.append(_Evidence(rows, costs, codes, meaning))
    if not records:
        raise UsageError(
            f"expected a place with a choice of words in at least {_MIN_TRACES} traces, got none in these "
            f"{len(traces)}; use more traces."
        )
    table = pd.DataFrame(records)
    table.insert(5, "q", q_values(table["p"].to_numpy()))
    table["flagged"] = (table["q"] < ALPHA) & (table["ci_low"] > 0)
    flagged = [place for place, is_flagged in zip(evidence, table["flagged"], strict=True) if is_flagged]
    notes = {"address": address, "draws": draws, "seed": seed, "n": len(traces), "alpha": ALPHA}
    return DiscoverResult(table, _by_trace(flagged, len(traces), seed), notes)


def _refuse_greedy(traces: TraceSet) -> None:
    log_probabilities = [
        logprob
        for trace in traces
        for logprob, channel in zip(trace.logprob, trace.channel, strict=True)
        if channel == Channel.THOUGHT and not np.isnan(logprob)
    ]
    if log_probabilities and np.min(log_probabilities) > np.log(0.5):
        raise UsageError(
            "expected sampled traces, got ones that look greedily written: no word had a probability below one half. A "
            "greedy choice follows from the state whatever it says; think again at temperature 1 (--temperature 1)."
        )


def _permuted_costs(
    costs: Float[np.ndarray, "rows choices"], codes: np.ndarray, meaning: np.ndarray, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    """Return the total cost when every word is exchanged for that of another trace of the same meaning."""
    rng, total = np.random.default_rng([seed, 31]), np.zeros(draws)
    for value in np.unique(meaning):
        rows = np.flatnonzero(meaning == value)
        exchanged = rng.permuted(np.broadcast_to(codes[rows], (draws, len(rows))), axis=1)
        total += costs[rows][np.arange(len(rows)), exchanged].sum(axis=1)
    return total


@dataclass(frozen=True)
class _Evidence:
    """One place: the traces that have it, the costs of every choice, the choice made, and its meaning."""

    rows: np.ndarray
    costs: Float[np.ndarray, "rows choices"]
    codes: np.ndarray
    meaning: np.ndarray


def _by_trace(flagged: list[_Evidence], n: int, seed: int, draws: int = 999) -> pd.DataFrame:
    """Return how well each trace's words follow the state, compared with words drawn from others of the same meaning."""
    rng = np.random.default_rng([seed, 32])
    written, drawn, has_place = np.zeros(n), np.zeros((draws, n)), np.zeros(n, bool)
    for place in flagged:
        has_place[place.rows] = True
        for meaning in np.unique(place.meaning):
            same = np.flatnonzero(place.meaning == meaning)
            usual = -np.log2(np.bincount(place.codes[same], minlength=place.costs.shape[1]).clip(1) / len(same))
            gain = usual[None, :] - place.costs[same]  # bits by which the state tells a choice better than the meaning
            written[place.rows[same]] += gain[np.arange(len(same)), place.codes[same]]
            others = place.codes[rng.choice(same, size=(draws, len(same)))]
            drawn[:, place.rows[same]] += gain[np.arange(len(same)), others]
    p = np.where(has_place, (1 + (drawn >= written - 1e-9).sum(axis=0)) / (draws + 1), np.nan)
    return pd.DataFrame({"trace": np.arange(n), "bits": np.where(has_place, written, np.nan), "p": p, "q": q_values(p)})
