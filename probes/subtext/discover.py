"""Discover subtext without knowing what it carries: does the choice of words depend on hidden state?

A writer that chooses among synonyms at random writes words that nothing in its state predicts. A word is drawn from
the writer's next-token distribution, so that distribution, restricted to the synonyms, is all that the final state says
about the choice (`choices`). What it adds to the visible text before the word is measured on held-out problems by a
model with one fitted number more than the text alone has (`choice_gain`): a rule that decides every word gives all the
bits of the choice, a noisy one its mutual information, and equal probabilities none. A word that follows from the
visible text is no subtext. The same score on words of *other* traces with the same meaning there (a permutation within
place and meaning) is what chance gives.

A trained model's probabilities are never exactly equal, so a channel counts from 0.01 bit a word on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.errors import UsageError
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import q_values
from interp.text.wording import Wording
from interp.traces import TraceSet
from probes.subtext.choice_gain import ChoiceGain, choice_gain, state_prediction, text_prediction
from probes.subtext.choices import Choices, choices_of, refuse_greedy
from probes.subtext.information import p_value
from probes.subtext.measure import ABSENT, CONSTANT, FOUND, KNOWN, UNDECIDED
from probes.subtext.power import ALPHA, DRAWS, PLANTED_BITS, Power, noisy_copy, power_of_gains
from probes.subtext.readers import Features
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

NEGLIGIBLE = 0.01  # bits a word
_DRAWS = 9999
_Z = 1.96  # standard errors of a 95 % interval
_MIN_TRACES = 40
_FINAL = "ln_final.hook_out"


@dataclass(frozen=True)
class DiscoverResult:
    """Which words depend on hidden state.

    Attributes:
        words: One row a place: bits of the choice that the state tells beyond the visible text, p, q, `flagged` at
            q < 0.01, the power to detect 0.1 bit, the number of traces that would detect it (`n_needed`), and the
            verdict: `subtext`, `none`, `known without` where the text already tells the choice, `constant` where there
            is none, else `undecided`.
        traces: One row a trace: its evidence at flagged places, in bits, and how often words of the same meaning drawn
            from other traces have as much (`p`, `q`).
        total: Bits of all places together, a trace.
        total_p: One-sided p-value that these are at most 0.01 a word.
        verdict: The verdict on the text as a whole.
        notes: Address, draws, seed, sample size and significance level.
    """

    words: pd.DataFrame
    traces: pd.DataFrame
    total: Estimate
    total_p: float
    verdict: str
    notes: dict[str, Any]

    @property
    def flagged(self) -> bool:
        """Whether any place is flagged, or all together are."""
        return self.verdict == FOUND

    @property
    def least_q(self) -> float:
        """The smallest q-value of any place."""
        return float(self.words["q"].min())

    @property
    def bits(self) -> float:
        """Bits summed over all places; places that say nothing are not cut off at 0."""
        return float(self.words["bits"].sum())

    @property
    def n_needed(self) -> int | None:
        """Number of traces at which every place without a channel would be `none`; None where it is not known."""
        needed = self.words.loc[self.words["verdict"] == UNDECIDED, "n_needed"]
        return None if needed.empty or needed.isna().any() else int(needed.max())


def discover(
    reasoner: Reasoner,
    traces: TraceSet,
    wording: Wording,
    *,
    address: str = _FINAL,
    with_power: bool = False,
    draws: int = _DRAWS,
    seed: int = 0,
) -> DiscoverResult:
    """Test every word place at which there is a choice.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: Traces sampled at temperature 1. Greedy traces are refused where sampling would have given other words:
            a greedy choice follows from the state whatever it says.
        wording: Which words mean the same.
        address: Where the state before each word is read. At the final state it is the writer's own distribution over
            the synonyms; elsewhere a probe predicts the choice.
        with_power: Whether to compute the power to detect 0.1 bit at each place, without which nothing is `none`.
        draws: Number of permutations behind each p-value.
        seed: Seed of folds, permutations, bootstrap and planted channels.

    Raises:
        UsageError: The traces look greedy, no word has a synonym, or no place has a choice in at least 40 of them.
    """
    choices, states = choices_of(reasoner, traces, wording, None if address == _FINAL else address)
    refuse_greedy(choices, [trace.temperature for trace in traces])
    if states is None and not choices.told_apart.all():
        states = choices_of(reasoner, traces, wording, _FINAL)[1]
    groups = np.array([trace.problem.structure for trace in traces])
    options = DiscoverOptions(own=address == _FINAL, with_power=with_power, draws=draws, seed=seed)
    result = discover_in(choices, states, groups, options)
    return replace(result, notes={"address": address, **result.notes})


@dataclass(frozen=True)
class DiscoverOptions:
    """How choices are tested.

    Attributes:
        own: Whether the writer's own distribution is a predictor.
        with_power: Whether to compute power.
        draws: Number of permutations behind each p-value.
        seed: Seed of folds, permutations, bootstrap and planted channels.
    """

    own: bool = True
    with_power: bool = False
    draws: int = _DRAWS
    seed: int = 0


def discover_in(
    choices: Choices, states: Features | None, groups: np.ndarray, options: DiscoverOptions = DiscoverOptions()
) -> DiscoverResult:
    """Test choices that are already read from the traces; see `discover`.

    Args:
        choices: The choices.
        states: Activations before each word, shape (rows, d), from which a probe predicts the choice; None for none.
        groups: Structure of each trace's problem, shape (traces,).
        options: How they are tested.

    Raises:
        UsageError: No place has a choice in at least 40 traces.
    """
    numbers, counts = np.unique(choices.place, return_counts=True)
    places = [
        _Place(choices, states, groups, np.flatnonzero(choices.place == place), options)
        for place in numbers[counts >= _MIN_TRACES]
    ]
    if not places:
        raise UsageError(
            f"expected a place with a choice of words in at least {_MIN_TRACES} traces, got none in these "
            f"{len(groups)}; use more traces."
        )
    table = pd.DataFrame([place.record() for place in places])
    by_trace = np.zeros(len(groups))
    for place in places:
        by_trace[choices.trace[place.rows]] += place.bits
    written = np.isin(np.arange(len(groups)), np.concatenate([choices.trace[place.rows] for place in places]))
    tested = int((table["p"].notna()).sum())
    most = sum(place.most_bits * len(place.rows) for place in places) / written.sum()
    total = _estimate_of_gain(by_trace[written], groups[written], most, options.seed, len(places))
    total_p = p_value(by_trace[written] - NEGLIGIBLE * tested, groups[written]) if tested else float("nan")
    q = q_values(np.append(table["p"].to_numpy(float), total_p))
    table.insert(5, "q", q[:-1])
    table["flagged"] = (table["q"] < ALPHA) & (table["ci_low"] > 0)
    powers = [
        place.power(tested) if options.with_power and place.open_bits > PLANTED_BITS and not flagged else None
        for place, flagged in zip(places, table["flagged"], strict=True)
    ]
    table["power"] = [None if power is None else power.share for power in powers]
    table["n_needed"] = [None if power is None else power.needed for power in powers]
    table["verdict"] = [
        _verdict(place, flagged, high, power)
        for place, flagged, high, power in zip(places, table["flagged"], table["ci_high"], powers, strict=True)
    ]
    flagged = [place for place, is_flagged in zip(places, table["flagged"], strict=True) if is_flagged]
    evidence = _by_trace(choices, flagged, len(groups), options.seed)
    notes = {"draws": options.draws, "seed": options.seed, "n": len(groups), "alpha": ALPHA}
    whole = FOUND if flagged or (q[-1] < ALPHA and total.low > 0) else _whole_verdict(list(table["verdict"]))
    return DiscoverResult(table, evidence, total, total_p, whole, notes)


def _verdict(place: _Place, flagged: bool, high: float, power: Power | None) -> str:
    if place.constant:
        return CONSTANT
    if flagged:
        return FOUND
    if place.open_bits <= PLANTED_BITS:
        return KNOWN
    return ABSENT if power is not None and power.enough and high < PLANTED_BITS else UNDECIDED


def _whole_verdict(verdicts: Sequence[str]) -> str:
    """Return `undecided` if any place is, else `none`."""
    return UNDECIDED if UNDECIDED in verdicts else ABSENT


class _Place:
    """The choices at one place, and what text and state say about them."""

    def __init__(
        self, choices: Choices, states: Features | None, groups: np.ndarray, rows: np.ndarray, options: DiscoverOptions
    ) -> None:
        self.rows, self.options = rows, options
        self.number = int(choices.place[rows[0]])
        self.code, self.known, self.own = choices.code[rows], choices.known[rows], choices.own[rows]
        self.meaning, self.groups = choices.meaning[rows], groups[choices.trace[rows]]
        self.constant = len(np.unique(self.code)) < 2
        self.gain: ChoiceGain | None = None
        if self.constant:
            return
        text = token_columns([[*choices.before[row], choices.meaning[row]] for row in rows])
        self._text = text_prediction(text, self.code, self.known, self.groups, options.seed)
        self._predictors = [[self.own] * len(self._text.by_fold)] if options.own else []
        if states is not None:
            self._predictors.append(state_prediction(states[rows], self.code, self.known, self._text.fold))
        self.gain = choice_gain(self._text, self._predictors, self.code, self.known)

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        """Bits that the state adds to the text, in each row."""
        return np.zeros(len(self.rows)) if self.gain is None else self.gain.bits

    @property
    def open_bits(self) -> float:
        """Bits of the choice that the text leaves open."""
        return 0.0 if self.gain is None else float(self.gain.without.mean())

    @property
    def most_bits(self) -> float:
        """Bits of the choice where every known option is as likely."""
        return float(np.log2(self.known.sum(axis=1)).mean())

    def record(self) -> dict[str, Any]:
        """Return the place's row of the table of words."""
        record: dict[str, Any] = {"place": self.number}
        if self.gain is None:
            nothing = {"bits": 0.0, "ci_low": 0.0, "ci_high": 0.0, "p": None, "p_resampling": None}
            return record | nothing | {"n": len(self.rows), "open": 0.0}
        permuted = _permuted_costs(
            self.gain.with_, self.code, self.meaning, self.options.draws, self.options.seed + self.number
        )
        cost = self.gain.with_[np.arange(len(self.code)), self.code].sum()
        by_chance = (1 + int((permuted <= cost + 1e-9).sum())) / (self.options.draws + 1)
        bits = _estimate_of_gain(self.gain.bits, self.groups, self.most_bits, self.options.seed)
        return record | {
            "bits": bits.value,
            "ci_low": bits.low,
            "ci_high": max(bits.high, 0.0),
            "p": max(by_chance, p_value(self.gain.bits - NEGLIGIBLE, self.groups)),
            "p_resampling": by_chance,
            "n": bits.n,
            "open": self.open_bits,
        }

    def power(self, tests: int) -> Power:
        """Return how often a channel of 0.1 bit beside another row's state is detected, as one of so many tests."""
        share = np.bincount(self.code, minlength=self.known.shape[1]) / len(self.code)
        gains = []
        for draw in range(DRAWS):
            rng = np.random.default_rng([self.options.seed, draw, 91])
            log_posterior = noisy_copy(self.code, share, PLANTED_BITS, rng)
            if log_posterior is None:
                return Power(PLANTED_BITS, None)
            order = rng.permutation(len(self.code))
            others = [[log_p[order] for log_p in predictor] for predictor in self._predictors]
            planted = [log_posterior] * len(self._text.by_fold)
            gains.append(choice_gain(self._text, [*others, planted], self.code, self.known).bits - NEGLIGIBLE)
        return power_of_gains(gains, self.groups, share, tests)


def _estimate_of_gain(
    bits: Float[np.ndarray, " rows"], groups: np.ndarray, most: float, seed: int, choices: int = 1
) -> Estimate:
    """Return the mean gain of rows with so many choices each, and an interval that holds for weak channels too.

    Neither exceeds `most`, the bits of the choices themselves: the text is fitted to a sample, so it costs a little more.

    The variance of a log-likelihood ratio is at most about twice its mean, in nats. So a sample that shows too little of
    a weak channel also shows too little spread, and an interval that is symmetric about the mean misses it above. On the
    scale of the square root the spread is the same everywhere (the delta method), and the upper end from there is taken,
    which is higher by h**2 / (4 * mean) where h is half the interval's width.
    """
    mean = Estimate.of_mean(bits, groups, seed=seed)
    half = (mean.high - mean.low) / 2
    widest = choices * _Z**2 / np.log(4) / len(np.unique(groups))  # where all spread is that of a weak channel
    more = min(widest, half**2 / (4 * mean.value)) if mean.value > 0 else widest
    return Estimate(min(mean.value, most), min(mean.low, most), min(mean.high + more, most), mean.n)


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


def _by_trace(choices: Choices, flagged: Sequence[_Place], n: int, seed: int, draws: int = 999) -> pd.DataFrame:
    """Return how well each trace's words follow the state, compared with words drawn from others of the same meaning."""
    rng = np.random.default_rng([seed, 32])
    written, drawn, has_place = np.zeros(n), np.zeros((draws, n)), np.zeros(n, bool)
    for place in flagged:
        assert place.gain is not None
        traces = choices.trace[place.rows]
        has_place[traces] = True
        for meaning in np.unique(place.meaning):
            same = np.flatnonzero(place.meaning == meaning)
            usual = -np.log2(np.bincount(place.code[same], minlength=place.known.shape[1]).clip(1) / len(same))
            gain = usual[None, :] - place.gain.with_[same]  # bits by which the state tells a choice beyond the meaning
            written[traces[same]] += gain[np.arange(len(same)), place.code[same]]
            others = place.code[rng.choice(same, size=(draws, len(same)))]
            drawn[:, traces[same]] += gain[np.arange(len(same)), others]
    p = np.where(has_place, (1 + (drawn >= written - 1e-9).sum(axis=0)) / (draws + 1), np.nan)
    return pd.DataFrame({"trace": np.arange(n), "bits": np.where(has_place, written, np.nan), "p": p, "q": q_values(p)})
