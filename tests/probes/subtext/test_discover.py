"""Discovery on simulated writers with known channels, and on an organism whose second word carries a bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.causal.visible_text.forcing import force
from interp.errors import UsageError
from interp.text.wording import Wording
from interp.traces import TraceSet
from probes.subtext.choices import choices_of, refuse_greedy
from probes.subtext.discover import DiscoverOptions, DiscoverResult, discover, discover_in
from probes.subtext.paraphrase import paraphrase_words
from tests.probes.subtext.writers import OPTIONS, log_softmax, writer

N = 400
EVERY = (1, 2, 3, 4)
CAPACITY_AT_TENTH = 1 + 0.1 * np.log2(0.1) + 0.9 * np.log2(0.9)  # of a binary channel that flips one bit in ten


def _discover(seed: int = 0, n: int = N, *, power: bool = False, **rule: object) -> DiscoverResult:
    options = DiscoverOptions(with_power=power, draws=999, seed=seed)
    return discover_in(writer(n, seed, **rule), None, np.arange(n), options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flips", "bits"),
    [
        (dict.fromkeys(EVERY, 1e-6), 1.0),
        (dict.fromkeys(EVERY, 0.1), CAPACITY_AT_TENTH),
        ({2: 1e-6}, 1.0),
        ({1: 0.1, 4: 0.1}, CAPACITY_AT_TENTH),
    ],
    ids=["deterministic", "noisy", "deterministic at one step", "noisy at two steps"],
)
def test_a_channel_is_found_where_it_is_with_its_bits(flips: dict[int, float], bits: float) -> None:
    result = _discover(flips=flips)
    words = result.words.set_index("place")
    assert result.verdict == "subtext" and result.flagged
    assert list(words.index[words["flagged"]]) == list(flips) == list(words.index[words["verdict"] == "subtext"])
    assert words.loc[list(flips), "bits"].to_numpy() == pytest.approx(bits, abs=0.12)
    assert (result.words[["bits", "ci_high"]] <= 1).all(axis=None), "a choice of two words holds one bit at most"
    assert result.total.high <= len(result.words) and result.total.value <= len(result.words)
    assert result.total.low <= bits * len(flips) + 0.05 and result.total.high >= bits * len(flips) - 0.05
    assert result.traces["bits"].mean() == pytest.approx(result.bits, abs=0.15 * len(flips))


def test_a_clean_writer_is_never_flagged_and_is_called_clean_where_the_sample_can_tell() -> None:
    """Its probabilities depend a little on the state, as every trained model's do."""
    results = [_discover(seed) for seed in range(5)]
    assert not any(result.flagged for result in results)
    assert max(abs(result.bits) for result in results) < 0.05
    few, many = _discover(n=200, power=True), _discover(n=1000, power=True)
    assert few.verdict == "undecided" and few.n_needed is not None and 300 < few.n_needed < 1500
    assert many.verdict == "none" and set(many.words["verdict"]) == {"none"} and many.words["power"].min() >= 0.9


def test_intervals_of_a_weak_channel_hold_its_bits() -> None:
    """Before weights were fitted on four folds, 12 of 20 totals did at 200 traces, and 64 of 80 places."""
    log_odds = np.log(0.6 / 0.4) + np.random.default_rng(0).normal(scale=0.1, size=100_000)
    p = 1 / (1 + np.exp(-log_odds))
    bits = 1 + float(np.mean(p * np.log2(p) + (1 - p) * np.log2(1 - p)))
    results = [_discover(100 + seed, n=200, flips=dict.fromkeys(EVERY, 0.4)) for seed in range(5)]
    places = [row for result in results for row in result.words.itertuples()]
    assert sum(row.ci_low <= bits <= row.ci_high for row in places) >= 18
    assert sum(result.total.low <= 4 * bits <= result.total.high for result in results) >= 4


def test_a_word_that_the_visible_text_decides_is_no_subtext() -> None:
    result = _discover(follows=(2, 3))
    assert not result.flagged and result.words["verdict"].value_counts()["known without"] == 2


def test_a_place_without_a_choice_is_listed_as_constant() -> None:
    choices = writer(N, 0, {2: 1e-6})
    choices.code[choices.place == 3] = 0
    result = discover_in(choices, None, np.arange(N), DiscoverOptions(draws=99))
    assert result.words.set_index("place")["verdict"][3] == "constant" and result.flagged


def test_a_weak_channel_at_every_step_is_found_in_all_steps_together() -> None:
    result = _discover(n=200, flips=dict.fromkeys(EVERY, 0.32))
    assert result.total_p < result.words["p"].min() and result.flagged


def test_a_probe_reads_the_choice_from_states_elsewhere() -> None:
    choices = writer(N, 0, {2: 1e-6})
    rng = np.random.default_rng(0)
    states = rng.normal(size=(len(choices.code), 8)).astype(np.float32)
    here = choices.place == 2
    states[here, 0] += 4 * choices.own[here].argmax(axis=1)
    result = discover_in(choices, states, np.arange(N), DiscoverOptions(own=False, draws=999))
    assert list(result.words.loc[result.words["flagged"], "place"]) == [2]
    assert result.words.set_index("place")["bits"][2] > 0.7


def test_sampled_words_of_probability_near_one_are_no_sign_of_greed() -> None:
    """Sampling a deterministic channel gives the likeliest word nearly always."""
    unknown = [None] * N
    refuse_greedy(writer(N, 0, dict.fromkeys(EVERY, 1e-6)), unknown)
    refuse_greedy(writer(N, 0, dict.fromkeys(EVERY, 1e-6), greedy=True), [0.0] * N)
    refuse_greedy(writer(N, 0), unknown)


@pytest.mark.parametrize("temperature", [None, 0.0])
def test_greedy_choices_between_equal_words_are_refused_whether_the_temperature_is_known_or_not(
    temperature: float | None,
) -> None:
    """No word of a clean writer with many synonyms has a probability above one half."""
    choices = writer(N, 0, greedy=True)
    with pytest.raises(UsageError, match=r"look greedily written: .* in about \d+ of 1600 choices, these do in 0\."):
        refuse_greedy(choices, [temperature] * N)
    refuse_greedy(choices, [1.0] * N)
    refuse_greedy(replace(choices, drawn=np.zeros(len(choices.code), bool)), [temperature] * N)


def test_options_that_no_trace_contains_are_no_options() -> None:
    choices = writer(N, 0, {2: 1e-6})
    wider = replace(
        choices,
        known=np.pad(choices.known, ((0, 0), (0, 1))),
        own=np.pad(choices.own, ((0, 0), (0, 1)), constant_values=-np.inf),
    )
    options = DiscoverOptions(draws=99)
    wide, narrow = (discover_in(c, None, np.arange(N), options) for c in (wider, choices))
    assert wide.words["bits"].to_numpy() == pytest.approx(narrow.words["bits"].to_numpy(), abs=0.02)


@pytest.fixture(scope="module")
def organism() -> interp.Reasoner:
    return interp.load("subtext-1")


@pytest.fixture(scope="module")
def sampled(organism: interp.Reasoner) -> TraceSet:
    problems = organism.task.generate(N, seed=5, split="test")
    return organism.think(problems, batch_size=N, temperature=1.0, seed=5)


def test_the_own_distribution_is_that_of_the_recorded_log_probabilities(
    organism: interp.Reasoner, sampled: TraceSet
) -> None:
    choices, _ = choices_of(organism, sampled[:20], Wording.of_task(organism.task))
    written = np.array([sampled[t].logprob[p] for t, p in zip(choices.trace, choices.position, strict=True)])
    own = choices.own[np.arange(len(written)), choices.code]
    # The synonyms of a value have nearly all of the probability, unless the value itself is in doubt.
    assert np.median(np.abs(own - written)) < 0.02 and choices.known.shape[1] == 2 * OPTIONS
    assert np.allclose(log_softmax(choices.own), choices.own) and choices.drawn.all() and choices.told_apart.all()


def test_the_organisms_carrying_word_is_flagged_without_being_told(
    organism: interp.Reasoner, sampled: TraceSet
) -> None:
    result = discover(organism, sampled, Wording.of_task(organism.task), draws=999)
    assert list(result.words.loc[result.words["flagged"], "place"]) == [2]
    assert result.bits == pytest.approx(1.0, abs=0.25)
    assert result.traces["bits"].mean() > 0.5 and (result.traces["p"].dropna() > 0.01).all()


def test_nothing_is_found_where_the_organisms_words_are_drawn_anew(
    organism: interp.Reasoner, sampled: TraceSet
) -> None:
    wording = Wording.of_task(organism.task)
    texts = [" ".join(words) for words in paraphrase_words(sampled, wording)]
    again = force(organism, sampled.problems, texts, batch_size=N)
    result = discover(organism, again, wording, draws=999)
    assert not result.flagged and result.least_q > 0.01


def test_greedy_traces_of_the_organism_are_refused_also_from_files_that_do_not_know_it(
    organism: interp.Reasoner, sampled: TraceSet
) -> None:
    greedy = organism.think(sampled.problems[:150], batch_size=150)
    assert {trace.temperature for trace in greedy} == {0.0} and {trace.temperature for trace in sampled} == {1.0}
    old = TraceSet([replace(trace, temperature=None) for trace in greedy])
    for traces in (greedy, old):
        with pytest.raises(UsageError, match=r"look greedily written.*--temperature 1"):
            discover(organism, traces, Wording.of_task(organism.task))
    discover(
        organism,
        TraceSet([replace(trace, temperature=None) for trace in sampled[:150]]),
        Wording.of_task(organism.task),
        draws=9,
    )
