"""Lenses, neighbours, patchscopes, oracles, search and transfer: parity, scores on an organism, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

import interp
from interp.activations import Store
from interp.activations.targets import structures
from interp.decoders.evaluation.decoding import decode
from interp.decoders.evaluation.dictionaries import dictionary_notes
from interp.decoders.evaluation.lens_divergence import lens_divergences, position_transfer
from interp.decoders.evaluation.search import likeliest_trace, search
from interp.decoders.evaluation.text_scores import token_f1
from interp.decoders.evaluation.transfer import transfer
from interp.decoders.locations import Location
from interp.decoders.logit_lens import LogitLens
from interp.decoders.neighbours import NearestToken, Neighbours
from interp.decoders.oracle import Oracle, answers_to
from interp.decoders.step_rows import step_rows
from interp.decoders.tuned_lens import TunedLens
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.problems import task
from interp.problems.base import Problem, Step
from interp.statistics.calibration import (
    abstention,
    area_under_risk,
    calibration_error,
    certain_and_wrong,
    risk_coverage,
    threshold_for,
)
from interp.statistics.splits import grouped_split
from interp.traces import TraceSet

EARLY, FINAL = Address("blocks.0.hook_out"), Address("ln_final.hook_out")


@pytest.fixture(scope="module")
def halves(store: Store) -> tuple:
    split = grouped_split(structures(store, store.index), 0)
    return store.index[split.train], store.index[~split.train]


@pytest.fixture(scope="module")
def lens(store: Store, coconut: interp.Reasoner, halves: tuple) -> TunedLens:
    made = TunedLens(coconut, updates=120)
    for address in store.addresses:
        made.fit_rows(store, address, halves[0])
    return made


# --- tuned lens -------------------------------------------------------------------------------------------


def test_a_tuned_lens_is_closer_to_the_model_than_the_logit_lens_on_other_problems(
    store: Store, lens: TunedLens, halves: tuple
) -> None:
    table = lens_divergences(store, lens, halves[1]).set_index("address")
    early = table[~table.index.isin(["blocks.2.hook_out", "ln_final.hook_out"])]
    assert len(early) == 3 and (early["tuned_lens"] < early["logit_lens"]).all()
    last = table.loc[["blocks.2.hook_out", "ln_final.hook_out"]]
    assert (last[["logit_lens", "tuned_lens"]].to_numpy() < 1e-6).all(), "at the end both are the model"


def test_a_tuned_lens_equals_the_formula_of_the_paper(store: Store, lens: TunedLens, coconut: interp.Reasoner) -> None:
    rows = store.index.head(40)
    states = torch.from_numpy(store.acts(EARLY, rows))
    made = lens.translators_[EARLY.name]
    norm = coconut.model.original_model.transformer.ln_f
    moved = states + states @ made.matrix + made.bias
    weight, bias = (p.detach() for p in list(norm.parameters())[:2])
    normed = torch.nn.functional.layer_norm(moved, moved.shape[1:], weight, bias, 1e-5)
    expected = normed @ coconut.embed.weight.detach().T
    np.testing.assert_allclose(lens.logits(store, EARLY, rows), expected.numpy(), atol=1e-3)
    assert not np.allclose(lens.logits(store, EARLY, rows), LogitLens(coconut).logits(store, EARLY, rows), atol=0.1)


def test_a_saved_lens_reads_the_same_and_refuses_another_unembedding(
    store: Store, lens: TunedLens, coconut: interp.Reasoner, tmp_path: Path
) -> None:
    lens.save(tmp_path)
    again = TunedLens.load(tmp_path, coconut)
    rows = store.index.head(20)
    np.testing.assert_array_equal(again.logits(store, EARLY, rows), lens.logits(store, EARLY, rows))
    with pytest.raises(StoreError, match=r"fitted to chain-coconut's unembedding, which .* does not have"):
        TunedLens.load(tmp_path, interp.random_init(coconut))
    with pytest.raises(StoreError, match="no tuned lens in"):
        TunedLens.load(tmp_path / "nothing", coconut)
    (tmp_path / "translators.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match="cannot be read"):
        TunedLens.load(tmp_path, coconut)


def test_a_lens_is_not_read_where_it_was_not_fitted(store: Store, coconut: interp.Reasoner) -> None:
    with pytest.raises(UsageError, match=r"was not fitted at blocks\.0\.hook_out \(fitted: none\)"):
        TunedLens(coconut).logits(store, EARLY, store.index.head(3))
    with pytest.raises(UsageError, match="expected rows to fit a tuned lens to, got none"):
        TunedLens(coconut).fit_rows(store, EARLY, store.index.head(0))


def test_a_store_without_final_states_fits_no_lens(traces: TraceSet, coconut: interp.Reasoner, tmp_path: Path) -> None:
    bare = interp.capture(coconut, traces[:20], sites="blocks.0.hook_out", out=tmp_path / "bare")
    with pytest.raises(StoreError, match=r"does not hold ln_final\.hook_out\. Capture the site `final` too"):
        TunedLens(coconut).fit_rows(bare, EARLY, bare.index)


def test_a_translator_serves_the_positions_that_it_was_fitted_to_best(
    store: Store, coconut: interp.Reasoner, halves: tuple
) -> None:
    divergences = position_transfer(store, coconut, EARLY, *halves, updates=60)
    table = divergences.pivot(index="fitted_on", columns="read_at", values="kl")
    assert table.loc["latent", "latent"] < table.loc["answer", "latent"]
    assert set(table.index) == {*table.columns, "all"}


# --- neighbours -------------------------------------------------------------------------------------------


def test_neighbours_are_scikit_learns_over_standardised_latents(store: Store) -> None:
    rows, gold = step_rows(store, 0)
    split = grouped_split(structures(store, rows), 0)
    ranking = (
        Neighbours(5).fit(store, EARLY, rows[split.train], gold[split.train]).decode(store, EARLY, rows[split.test])
    )
    x = store.acts(EARLY, rows)
    x = (x - x[split.train].mean(0)) / x[split.train].std(0).clip(1e-6)
    plain = KNeighborsClassifier(5, weights="distance").fit(x[split.train], gold[split.train])
    np.testing.assert_allclose(ranking.scores[:, 0], plain.predict_proba(x[split.test]).max(axis=1), atol=1e-6)


def test_the_nearest_token_to_a_fed_back_thought_is_its_value(store: Store, coconut: interp.Reasoner) -> None:
    rows, gold = step_rows(store, 0)
    made = NearestToken(coconut).fit(store, Address("blocks.0.hook_in"), rows, gold)
    output = made.decode(store, Address("blocks.0.hook_in"), rows, top_k=1).texts[:, 0]
    assert (output == gold).mean() > 0.99


# --- sites of single steps --------------------------------------------------------------------------------


def test_a_step_that_the_common_location_lacks_gets_its_own_on_validation(
    written_trace: Callable, write_store: Callable, tmp_path: Path
) -> None:
    """Values 1 and 2 are held at their thoughts, value 3 only at the end marker, as with thinking tokens."""
    chains = TraceSet([written_trace(p) for p in task("chain:steps=3").generate(250, seed=0, split="test")])

    def acts(index):  # type: ignore[no-untyped-def]
        rng = np.random.default_rng(0)
        codebook = np.linalg.qr(rng.normal(size=(16, 16)))[0][:10]
        out = rng.normal(size=(len(index), 16))
        for row, (t, place) in enumerate(zip(index["trace"], index["place"], strict=True)):
            step = {"thought 1": 1, "thought 2": 2, "end": 3}.get(place)
            if step:
                out[row] += 12 * codebook[int(chains[t].problem.steps[step - 1].value)]
        return out

    store = write_store(tmp_path / "s", chains, {"blocks.0.hook_out": acts})
    readouts = decode(store, ["probe"])
    assert readouts.locations["probe"].offset == 0
    assert {step: fitted.location for step, fitted in readouts.methods["probe"].by_step.items()} == {
        3: Location(EARLY, 1)
    }
    assert (readouts.scores()["top1"] > 0.95).all()
    ends = set(store.rows(place="end")["position"])
    assert set(readouts.of("probe").query("step == 3")["position"]) <= ends


# --- the model's own words --------------------------------------------------------------------------------


def test_a_model_whose_thinking_is_stopped_writes_the_next_step(coconut: interp.Reasoner, traces: TraceSet) -> None:
    problems = [t.problem for t in traces if t.problem.n_steps >= 3][:20]
    written = coconut.write_after_thoughts(problems, [2] * len(problems), max_tokens=1)
    output = [trace.text for trace in written]
    assert np.mean([a == p.steps[2].value for a, p in zip(output, problems, strict=True)]) > 0.8
    assert [list(t.channel).count("latent") for t in written] == [2] * len(problems)
    with pytest.raises(UsageError, match="only silent thinking can be broken off"):
        interp.load("chain-text").write_after_thoughts(problems, [1] * len(problems), max_tokens=1)


def test_a_patched_last_thought_is_answered_with_its_value(coconut: interp.Reasoner, store: Store) -> None:
    readouts = decode(store, ["probe", "patchscope"], reasoner=coconut, addresses=["blocks.0.hook_in"])
    scores = readouts.scores().query("method == 'patchscope'")
    assert scores["top1"].max() > 0.9 and scores["other_problem"].max() < 0.5


# --- oracle -----------------------------------------------------------------------------------------------


def test_an_oracle_answers_what_it_was_asked(store: Store) -> None:
    rows, gold = step_rows(store, 0)
    split = grouped_split(structures(store, rows), 0)
    at = Address("blocks.0.hook_in")
    oracle = Oracle(questions=["value", "even"], updates=120, d_model=64).fit(
        store, at, rows[split.train], gold[split.train]
    )
    held = rows[split.test]
    for question in ("value", "even"):
        right = oracle.ask(store, held, question).texts[:, 0] == answers_to(store, held, question)
        assert right.mean() > 0.9
    with pytest.raises(UsageError, match="expected a known question that this oracle learned, got 'rule'"):
        oracle.ask(store, held, "rule")


# --- search and transfer ----------------------------------------------------------------------------------


def test_search_returns_the_only_consistent_trace() -> None:
    chain = task("chain:steps=3")
    rng = np.random.default_rng(0)
    for problem in chain.generate(30, seed=1, split="test"):
        texts = [rng.permutation(list("0123456789"))[:4].tolist() for _ in range(3)]
        for k in range(3):
            if problem.steps[k].value not in texts[k] and rng.random() < 0.8:
                texts[k][-1] = problem.steps[k].value
        scores = -np.sort(-rng.random((3, 4)), axis=1)
        choice, is_consistent = likeliest_trace(chain, problem, texts, scores.tolist())
        right = [step.value for step in problem.steps]
        assert is_consistent == all(value in options for value, options in zip(right, texts, strict=True))
        assert choice == (right if is_consistent else [each[0] for each in texts])


def test_search_over_shuffled_readings_finds_little(store: Store) -> None:
    table = search(decode(store, ["probe"]), "probe").set_index("step")
    assert table.loc[0, "searched"] >= table.loc[0, "unconstrained"]
    assert table.loc[0, "shuffled"] < 0.4
    whole = table.loc[0, ["whole", "whole_unconstrained", "whole_shuffled", "gain"]].astype(float)
    assert whole["whole"] >= whole["whole_unconstrained"] > 0.9 > 0.3 > whole["whole_shuffled"]
    assert whole["gain"] == pytest.approx(whole["whole"] - whole["whole_shuffled"])
    assert table.loc[0, "gain_low"] <= whole["gain"] <= table.loc[0, "gain_high"]
    assert table["whole"].drop(0).isna().all(), "a step alone has no whole trace"


def test_search_is_refused_where_the_verifier_calls_no_step_wrong(
    write_store: Callable, written_trace: Callable, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, size=(60, 2)).astype(str)
    problems = [
        Problem(str(k), "questions:path=none.jsonl", f"q {k}", v[-1], tuple(Step(x, x) for x in v), str(k), "test", "")
        for k, v in enumerate(values.tolist())
    ]
    traces = TraceSet([written_trace(problem) for problem in problems])
    own = write_store(
        tmp_path / "own", traces, {"blocks.0.hook_out": lambda index: rng.normal(size=(len(index), 4)).astype("f4")}
    )
    with pytest.raises(UsageError, match="the verifier of task questions calls no step wrong, also not those of other"):
        search(decode(own, ["probe"], step_offsets=[]), "probe")


def test_a_dictionary_with_few_rows_is_called_one_where_a_probe_reads_more(store: Store) -> None:
    few = decode(store, ["probe", "sae"], addresses=["blocks.0.hook_in"], d_sae=512, samples=2000)
    n = int((few.inputs.step_rows(few.locations["sae"].offset).parts == "train").sum())
    assert n < 5120
    scores = few.scores()
    worst = scores[scores["method"] == "sae"]["top1"].min()
    notes = dictionary_notes(few)
    if worst < 0.8:
        assert (
            len(notes) == 1 and f"sae was trained on {n} rows, {n / 512:.1f} for each of its 512 features" in notes[0]
        )
        assert "where a probe reads" in notes[0] and f"it reads {worst:.3f}" in notes[0]
    alone = decode(
        store, ["sae"], addresses=["blocks.0.hook_in"], offsets=[0], step_offsets=[], d_sae=512, samples=2000
    )
    assert f"sae was trained on {n} rows" in dictionary_notes(alone)[0], "without a probe, few rows are noted"
    enough = decode(
        store, ["sae"], addresses=["blocks.0.hook_in"], offsets=[0], step_offsets=[], d_sae=16, samples=2000
    )
    assert dictionary_notes(enough) == []


def test_a_lens_does_not_transfer_to_another_model(store: Store, coconut: interp.Reasoner, tmp_path: Path) -> None:
    twin = interp.random_init(coconut)
    other = interp.capture(twin, twin.think([t.problem for t in store.traces]), out=tmp_path / "twin")
    moved = transfer(decode(store, ["probe", "logit_lens"], reasoner=coconut), other).set_index(["method", "alignment"])
    assert moved.loc[("probe", "none"), "top1"] < 0.4
    assert "made by another model" in moved.loc[("logit_lens", "none"), "note"]


# --- calibration ------------------------------------------------------------------------------------------


def test_calibration_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    assert calibration_error(confidence, rng.random(20_000) < confidence) < 0.02
    assert calibration_error(confidence, rng.random(20_000) < confidence**3) > 0.15
    assert calibration_error(np.ones(100), np.arange(100) < 70) == pytest.approx(0.3)
    assert certain_and_wrong(np.ones(100), np.arange(100) < 70) == pytest.approx(0.3)


def test_risk_and_coverage_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.integers(0, 6, 300) / 5, rng.random(300) < 0.7
    curve = risk_coverage(confidence, right)
    for row in curve.itertuples():
        answered = confidence >= row.threshold
        assert row.coverage == pytest.approx(answered.mean()) and row.risk == pytest.approx((~right[answered]).mean())
    assert area_under_risk(confidence, np.ones(300, bool)) == 0.0


def test_the_threshold_is_validations_and_a_leak_of_test_labels_would_show() -> None:
    rng = np.random.default_rng(2)
    val, test = rng.random(400), rng.random(400)
    right = rng.random(400) < 0.5
    threshold = threshold_for(val, 0.9)
    assert (val >= threshold).mean() == pytest.approx(0.9)
    honest = abstention(test, right, threshold)["confabulation"]
    leaked = min(abstention(np.where(right, 1.0, 0.0), right, t)["confabulation"] for t in (0.5,))
    assert honest > 0.4 and leaked == 0.0, "a threshold on labels would look perfect"
    with pytest.raises(UsageError, match="expected coverage above 0 and at most 1"):
        threshold_for(val, 0.0)


def test_token_f1_is_scikit_learns_where_no_word_repeats() -> None:
    words = list("abcdef")
    for written, gold in (("a b c", "b c d"), ("f", "a b"), ("d a", "a d")):
        one, two = ([w in text.split() for w in words] for text in (gold, written))
        assert token_f1([written], [gold])[0] == pytest.approx(f1_score(one, two))
    assert token_f1(["a a b"], ["a b b"])[0] == pytest.approx(2 / 3)
