"""Decoders: the logit lens, sparse read-outs, the choice of locations, and scores of read-outs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import interp
from interp.activations import Store
from interp.activations.targets import structures
from interp.decoders import step_rows as step_rows_module
from interp.decoders.base import Decoder, rank_classes
from interp.decoders.evaluation.read_outs import ReadOuts, pooled_scores
from interp.decoders.features import FeatureReadout
from interp.decoders.locations import Location
from interp.decoders.logit_lens import LogitLens
from interp.decoders.registry import decoder_names, make_decoder
from interp.decoders.step_rows import step_rows
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.organisms.catalog import weights_folder
from interp.problems import task
from interp.statistics.donors import other_problem
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import grouped_split
from interp.traces import TraceSet

VALUES = np.array(list("0123456789"))


@pytest.fixture(scope="module")
def readouts(store: Store, coconut: interp.Reasoner) -> ReadOuts:
    return interp.decode(store, ["logit_lens", "probe"], reasoner=coconut)


@pytest.fixture(scope="module")
def chains(written_trace: Callable) -> TraceSet:
    """200 chains of 3 steps as hand-made traces. Each test makes their activations."""
    return TraceSet([written_trace(p) for p in task("chain:steps=3").generate(200, seed=0, split="test")])


def step_codes(traces: TraceSet, index: pd.DataFrame) -> np.ndarray:
    """The value that each thought of `index` stands for, -1 elsewhere."""
    return np.array(
        [
            int(traces[t].problem.steps[s - 1].value) if s else -1
            for t, s in zip(index["trace"], index["step"], strict=True)
        ]
    )


def holding(traces: TraceSet, signal: float, d: int = 16, seed: int = 0) -> Callable:
    """Activations in which each thought holds its value: a direction for each, times `signal`, plus noise."""

    def acts(index: pd.DataFrame) -> np.ndarray:
        rng = np.random.default_rng(seed)
        codebook = np.linalg.qr(rng.normal(size=(d, d)))[0][:10]
        codes = step_codes(traces, index)
        noise = rng.normal(size=(len(index), d))
        return noise + signal * np.where((codes >= 0)[:, None], codebook[codes], 0)

    return acts


# --- logit lens -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_logits(traces: TraceSet, store: Store) -> np.ndarray:
    """Logits of Hugging Face's own model at every captured position, one trace at a time, without hooks or cache."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        weights_folder("chain-coconut"), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    out = np.empty((len(store.index), model.config.vocab_size), np.float32)
    for k, rows in store.index.groupby("trace"):
        embeds = model.transformer.wte(torch.tensor(traces[k].token_ids)).detach().clone()
        at = [p for p, c in enumerate(traces[k].channel) if c == "latent"]
        embeds[at] = torch.tensor(traces[k].latents)
        with torch.no_grad():
            logits = model(inputs_embeds=embeds[None]).logits[0]
        out[rows.index.to_numpy()] = logits.numpy()[rows["position"].to_numpy()]
    return out


@pytest.mark.parametrize("address", ["blocks.2.hook_out", "ln_final.hook_out"])
def test_at_the_last_addresses_the_lens_equals_the_model(
    store: Store, coconut: interp.Reasoner, own_logits: np.ndarray, address: str
) -> None:
    lens = LogitLens(coconut).fit(store, Address(address), store.index, np.empty(0))
    np.testing.assert_allclose(lens.logits(store, Address(address), store.index), own_logits, atol=1e-4)
    assert own_logits.std() > 1


def test_at_an_early_address_the_lens_differs_from_the_model(
    store: Store, coconut: interp.Reasoner, own_logits: np.ndarray
) -> None:
    early = LogitLens(coconut).logits(store, Address("blocks.0.hook_out"), store.index)
    assert np.abs(early - own_logits).max() > 1


def test_the_final_norm_is_applied_once_and_exactly(store: Store, coconut: interp.Reasoner) -> None:
    states = torch.from_numpy(store.acts("ln_final.hook_out")).to(coconut.device)
    lens_logits = LogitLens(coconut).logits(store, Address("ln_final.hook_out"), store.index)
    np.testing.assert_array_equal(lens_logits, coconut.unembed(states).detach().cpu().numpy())


def test_the_lens_refuses_another_models_store(store: Store, coconut: interp.Reasoner) -> None:
    other = interp.random_init(coconut)
    with pytest.raises(StoreError, match=r"made by another model \(chain-coconut\)\. Load that one"):
        LogitLens(other).fit(store, store.addresses[0], store.index, np.empty(0))


def test_the_lens_ranks_tokens_by_probability(store: Store, coconut: interp.Reasoner) -> None:
    rows = store.rows(place="answer")
    ranking = LogitLens(coconut).decode(store, Address("ln_final.hook_out"), store.rows(place="end"), top_k=4)
    assert ranking.texts.shape == ranking.scores.shape == (len(rows), 4)
    assert (np.diff(ranking.scores, axis=1) <= 0).all() and (ranking.scores.sum(1) <= 1 + 1e-5).all()
    answers = [t.answer for t in store.traces]
    assert ranking.texts[:, 0].tolist() == answers, "at the end marker the model is about to write its answer"


# --- ranking ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 3, 7, 50])
def test_rank_classes_equals_a_full_sort(top_k: int) -> None:
    scores = np.random.default_rng(0).random((30, 7))
    names = np.array(list("abcdefg"), dtype=object)
    ranking = rank_classes(scores, names, top_k)
    order = np.argsort(-scores, axis=1)[:, :top_k]
    np.testing.assert_array_equal(ranking.texts, names[order])
    np.testing.assert_array_equal(ranking.scores, np.take_along_axis(scores, order, 1))


# --- sparse read-outs -------------------------------------------------------------------------------------


def test_the_area_under_the_curve_equals_scikit_learn(chains: TraceSet, tmp_path: Path, write_store: Callable) -> None:
    store = write_store(tmp_path / "s", chains, {"blocks.0.hook_out": holding(chains, 2.0)})
    address = store.addresses[0]
    rows, gold = step_rows(store, 0)
    acts = store.acts(address, rows)
    for dictionary in ("neurons", "pca"):
        decoder = FeatureReadout(dictionary).fit(store, address, rows, gold)
        if dictionary == "neurons":
            features = np.concatenate([np.maximum(acts, 0), np.maximum(-acts, 0)], axis=1)  # many ties at zero
        else:
            axes = np.linalg.svd(acts - acts.mean(0), full_matrices=False)[2]
            turned = (acts - acts.mean(0)) @ axes.T
            features = np.concatenate([np.maximum(turned, 0), np.maximum(-turned, 0)], axis=1)
        for value in VALUES:
            areas = [roc_auc_score(gold == value, features[:, f]) for f in range(features.shape[1])]
            feature, area = decoder.chosen_[value]
            assert area == pytest.approx(max(areas), abs=1e-6)
            assert areas[feature] == pytest.approx(area, abs=1e-6)


def test_single_neurons_are_found_where_each_holds_one_value(
    chains: TraceSet, tmp_path: Path, write_store: Callable
) -> None:
    def one_neuron_each(index: pd.DataFrame) -> np.ndarray:
        codes = step_codes(chains, index)
        return np.random.default_rng(1).normal(size=(len(index), 12)) * 0.1 + (codes[:, None] == np.arange(12)) * 3.0

    store = write_store(tmp_path / "s", chains, {"blocks.0.hook_out": one_neuron_each})
    rows, gold = step_rows(store, 0)
    split = grouped_split(structures(store, rows), 0)
    neurons = FeatureReadout("neurons").fit(store, store.addresses[0], rows[split.train], gold[split.train])
    assert {value: f for value, (f, _) in neurons.chosen_.items()} == {v: int(v) for v in VALUES}
    read = neurons.decode(store, store.addresses[0], rows[split.test])
    assert (read.texts[:, 0] == gold[split.test]).mean() > 0.98
    np.testing.assert_allclose(read.scores.sum(1), read.scores.sum(1).clip(0, 1))


def test_an_sae_recovers_a_planted_dictionary(tmp_path: Path, chains: TraceSet, write_store: Callable) -> None:
    """Sparse sums of 12 known directions in 16 dimensions: each direction is some feature's decoder row."""
    from interp.sae import explained_variance, train_sae

    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(16, 12)))[0].T
    acts = {}

    def sparse(index: pd.DataFrame) -> np.ndarray:
        active = np.zeros((len(index), 12))
        for row in active:
            row[rng.choice(12, 2, replace=False)] = rng.uniform(1, 3, 2)
        acts["rows"] = (active @ directions + 0.01 * rng.normal(size=(len(index), 16))).astype(np.float32)
        return acts["rows"]

    store = write_store(tmp_path / "s", chains, {"blocks.0.hook_out": sparse})
    sae = train_sae(
        store, store.addresses[0], store.index, d_sae=24, k=2, samples=150_000, batch_size=256, learning_rate=3e-3
    )
    learned = sae.W_dec.detach().numpy()
    learned = learned / np.linalg.norm(learned, axis=1, keepdims=True).clip(1e-9)
    best = np.abs(learned @ directions.T).max(axis=0)
    assert (best > 0.95).sum() >= 11, best.round(2)
    untrained = rng.normal(size=(24, 16))
    untrained /= np.linalg.norm(untrained, axis=1, keepdims=True)
    assert (np.abs(untrained @ directions.T).max(axis=0) > 0.95).sum() == 0
    assert explained_variance(sae, acts["rows"]) > 0.9


def test_training_an_sae_twice_gives_the_same_one(tmp_path: Path, chains: TraceSet, write_store: Callable) -> None:
    from interp.sae import load_sae, save_sae, train_sae

    store = write_store(tmp_path / "s", chains, {"blocks.0.hook_out": holding(chains, 4.0)})
    options = {"d_sae": 24, "k": 4, "samples": 4000, "batch_size": 256}
    one, two, other = (
        train_sae(store, store.addresses[0], store.index, **options, seed=seed).W_dec.detach().numpy()
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.01
    trained = train_sae(store, store.addresses[0], store.index, **options)
    save_sae(trained, tmp_path / "sae")
    acts = torch.from_numpy(store.acts(store.addresses[0]))
    np.testing.assert_allclose(
        load_sae(tmp_path / "sae").encode(acts).detach(), trained.encode(acts).detach(), atol=1e-6
    )


def test_a_folder_without_an_sae_is_refused(tmp_path: Path) -> None:
    from interp.sae import load_sae

    with pytest.raises(StoreError, match=r"no SAE at .*cfg\.json"):
        load_sae(tmp_path)


def test_an_unknown_dictionary_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected a known dictionary, got 'neuron'; did you mean 'neurons'"):
        FeatureReadout("neuron")  # type: ignore[arg-type]


# --- one evaluation for all -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", decoder_names())
def test_every_method_makes_a_decoder_of_its_name(method: str, coconut: interp.Reasoner) -> None:
    made = make_decoder(method, coconut)
    assert isinstance(made, Decoder) and made.name == method


def test_an_unknown_method_is_refused_with_a_suggestion(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"expected a known decoding method, got 'logit_lense'; did you mean 'logit_lens'"
    ):
        make_decoder("logit_lense", None)
    with pytest.raises(UsageError, match="expected a known decoding method, got 'prob'"):
        interp.decode(store, ["prob"])


def test_a_lens_without_its_model_is_refused() -> None:
    with pytest.raises(UsageError, match="pass reasoner="):
        make_decoder("logit_lens", None)


def test_step_rows_are_the_thoughts_or_the_positions_before_them(store: Store) -> None:
    for offset in (0, -1):
        rows, gold = step_rows(store, offset)
        assert len(rows) == sum(t.problem.n_steps for t in store.traces)
        for (_, row), value in list(zip(rows.iterrows(), gold, strict=True))[:60]:
            step = row["thought"] - offset
            assert row["read_step"] == step
            assert value == store.traces[row["trace"]].problem.steps[step - 1].value
            assert row["place"] == ("begin" if step + offset == 0 else f"thought {step + offset}")


def test_other_problem_never_pairs_a_row_with_its_own_structure() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        groups = rng.integers(0, 12, 200).astype(str)
        steps, parts = rng.integers(1, 4, 200), rng.choice(["train", "test"], 200)
        donor = other_problem(steps, groups, parts, seed)
        assert (groups[donor] != groups).all()
        assert (steps[donor] == steps).all() and (parts[donor] == parts).all()


def test_other_problem_keeps_a_row_that_has_no_other() -> None:
    donor = other_problem(np.array([1, 1, 2]), np.array(["a", "a", "b"]), np.array(["x"] * 3), 0)
    assert donor[2] == 2 and set(donor[:2]) <= {0, 1}


def test_the_other_problem_control_is_a_read_out_of_the_same_step_and_part(readouts: ReadOuts) -> None:
    table = readouts.of("probe")
    texts = {(s, p): set(part["text"]) for (s, p), part in table.groupby(["step", "split"])}
    assert all(row["other_problem"] in texts[row["step"], row["split"]] for _, row in table.iterrows())
    assert (table["other_problem"] == table["text"]).mean() < 0.3


def test_the_thoughts_of_chain_coconut_are_read(readouts: ReadOuts) -> None:
    scores = readouts.scores()
    assert (scores["top1"] > 0.8).all()
    assert (scores["other_problem"] < 0.45).all()


def test_scores_are_the_means_of_the_table(readouts: ReadOuts) -> None:
    table, scores = readouts.table(), readouts.scores()
    assert set(scores["method"]) == {"logit_lens", "probe"}
    for _, row in scores.iterrows():
        part = table[
            (table["method"] == row["method"]) & (table["step"] == row["step"]) & (table["split"] == "test")
        ].to_dict("records")
        n = len(part)
        assert row["n"] == n
        assert row["top1"] == pytest.approx(sum(r["text"] == r["gold"] for r in part) / n)
        assert row["topk"] == pytest.approx(sum(r["gold"] in list(r["top_k"]) for r in part) / n)
        assert row["other_problem"] == pytest.approx(sum(r["other_problem"] == r["gold"] for r in part) / n)
        counts = pd.Series([r["gold"] for r in part]).value_counts()
        assert row["chance"] == pytest.approx(counts.max() / n)
        expected = grouped_mean_interval(np.array([r["right"] for r in part]), np.array([r["structure"] for r in part]))
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)


def test_gold_comes_from_the_problem_and_splits_never_share_a_structure(readouts: ReadOuts, store: Store) -> None:
    table = readouts.of("probe")
    assert (table.groupby("structure")["split"].nunique() == 1).all()
    for _, row in table.iterrows():
        assert row["gold"] == store.traces[row["trace"]].problem.steps[row["step"] - 1].value
    assert (table["right"] == (table["text"] == table["gold"])).all()


def test_pooled_scores_count_a_problem_once_in_the_interval(store: Store, readouts: ReadOuts) -> None:
    pooled, single = pooled_scores([readouts] * 5), readouts.scores()
    pd.testing.assert_frame_equal(
        pooled.drop(columns=["n", "ci_low", "ci_high"]), single.drop(columns=["n", "ci_low", "ci_high"])
    )
    assert (pooled["n"] == 5 * single["n"]).all()
    # Five copies of the same evidence are no stronger than one.
    np.testing.assert_allclose(pooled["ci_low"], single["ci_low"], atol=1e-9)


def test_an_unknown_method_of_read_outs_is_refused(readouts: ReadOuts) -> None:
    with pytest.raises(UsageError, match="expected a known decoding method in these read-outs, got 'sae'"):
        readouts.of("sae")


def test_a_store_without_thoughts_cannot_be_decoded(tmp_path: Path) -> None:
    direct = interp.load("chain-direct")
    traces = direct.think(direct.task.generate(20, seed=0, split="test"))
    bare = interp.capture(direct, traces, out=tmp_path / "s", channels=["answer"], sites="final")
    with pytest.raises(UsageError, match="no thoughts whose steps are known"):
        interp.decode(bare, ["probe"])


@pytest.fixture(scope="module")
def two_addresses(chains: TraceSet, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> Store:
    """An early address with a weak signal and a later one with a strong signal."""
    return write_store(
        tmp_path_factory.mktemp("two") / "s",
        chains,
        {"blocks.0.hook_out": holding(chains, 2.5), "blocks.1.hook_out": holding(chains, 12.0, seed=1)},
    )


def corrupting(part: str, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
    """Replace the labels of one part of the problems by random ones."""
    plain = step_rows_module.labels
    rng = np.random.default_rng(9)

    def spoiled(store: Store, rows: pd.DataFrame, target: str) -> np.ndarray:
        corrupted = plain(store, rows, target)
        known = np.array([x is not None for x in corrupted])
        # The same rows as the evaluation splits: those that have a label.
        mask = np.zeros(len(rows), bool)
        mask[np.flatnonzero(known)] = getattr(grouped_split(structures(store, rows)[known], seed), part)
        corrupted[mask] = rng.choice(VALUES, mask.sum())
        return corrupted

    monkeypatch.setattr(step_rows_module, "labels", spoiled)


def test_locations_and_fits_do_not_depend_on_test_labels(two_addresses: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> tuple[Location, np.ndarray, float]:
        readouts = interp.decode(two_addresses, ["probe"], offsets=[0])
        test = readouts.table()[readouts.table()["split"] == "test"]
        return readouts.locations["probe"], readouts.decoders["probe"].probe_.coef_, test["right"].mean()

    site, coef, right = chosen()
    assert site == Location(Address("blocks.1.hook_out"), 0) and right > 0.95
    with monkeypatch.context() as patched:
        corrupting("test", patched)
        again, same, blind = chosen()
    assert again == site
    np.testing.assert_array_equal(same, coef)
    assert blind < 0.3, "the labels were not corrupted, so this test means nothing"
    # And the selection does hang on validation labels: with those gone, the first candidate wins.
    with monkeypatch.context() as patched:
        corrupting("val", patched)
        assert chosen()[0] == Location(Address("blocks.0.hook_out"), 0)
    with monkeypatch.context() as patched:
        corrupting("train", patched)
        assert np.abs(chosen()[1] - coef).max() > 1e-3


def test_of_equal_locations_the_earliest_address_is_chosen(chains: TraceSet, tmp_path: Path, write_store: Any) -> None:
    made = holding(chains, 12.0)
    store = write_store(tmp_path / "s", chains, {"blocks.2.hook_out": made, "blocks.0.hook_out": made})
    assert interp.decode(store, ["probe"]).locations["probe"] == Location(Address("blocks.0.hook_out"), 0)


def test_a_value_held_one_thought_earlier_is_read_there(
    chains: TraceSet, tmp_path: Path, write_store: Callable
) -> None:
    def early(index: pd.DataFrame) -> np.ndarray:
        rng = np.random.default_rng(0)
        codebook = np.linalg.qr(rng.normal(size=(16, 16)))[0][:10]
        out = rng.normal(size=(len(index), 16))
        for row, (t, place) in enumerate(zip(index["trace"], index["place"], strict=True)):
            step = 1 if place == "begin" else int(place[-1]) + 1 if place.startswith("thought") else 99
            if step <= 3:
                out[row] += 12 * codebook[int(chains[t].problem.steps[step - 1].value)]
        return out

    store = write_store(tmp_path / "s", chains, {"blocks.0.hook_out": early})
    readouts = interp.decode(store, ["probe"])
    assert readouts.locations["probe"].offset == -1
    assert (readouts.scores()["top1"] > 0.9).all()


def test_a_seed_fixes_the_read_outs_and_another_changes_the_split(two_addresses: Store) -> None:
    one, two, other = (interp.decode(two_addresses, ["probe"], offsets=[0], seed=seed).table() for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert (one["split"] != other["split"]).mean() > 0.2
