"""Names of features: planted meanings are found, planted confusions are detected, and noise gets no name."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import f1_score

from interp.activations import Store
from interp.errors import CotlensError, StoreError, UsageError
from interp.models.address import Address
from interp.sae import select, train_sae
from interp.sae.concepts import Concepts, concepts_of
from interp.sae.dictionaries import LinearDictionary, baseline
from interp.sae.explainer import Explainer, explain_features
from interp.sae.naming import enrichment, name_features
from interp.sae.probing import probe_concepts
from interp.sae.quality import explained_variance, sparsity
from interp.sae.shared import share
from interp.sae.single_features import best_f1, best_features, f1_scores, held_out_f1
from interp.traces import TraceSet

ADDRESS = Address("blocks.1.hook_out")
SMALL: dict[str, Any] = {"d_sae": 32, "k": 2, "samples": 60_000, "batch_size": 256, "learning_rate": 3e-3}


# --- single features --------------------------------------------------------------------------------------


def test_the_best_f1_is_that_of_trying_every_threshold() -> None:
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(80, 4)), 0).round(1)  # with ties
    concepts = rng.random((80, 3)) < 0.3
    found, thresholds = best_f1(features, concepts)
    for f in range(4):
        for c in range(3):
            cuts = np.unique(features[:, f])
            tried = [f1_score(concepts[:, c], features[:, f] > cut, zero_division=0) for cut in cuts]
            assert found[f, c] == pytest.approx(max(tried), abs=1e-6)
            assert f1_score(concepts[:, c], features[:, f] > thresholds[f, c]) == pytest.approx(max(tried), abs=1e-6)


def test_a_feature_chosen_on_noise_does_not_keep_its_score() -> None:
    rng = np.random.default_rng(0)
    features, concepts = np.maximum(rng.normal(size=(600, 300)), 0), rng.random((600, 5)) < 0.1
    chosen = best_features(features[:100], concepts[:100])
    held_out = held_out_f1(chosen, features[100:], concepts[100:])
    assert chosen.f1.mean() > held_out.mean() + 0.1 and held_out.max() < 0.25


def test_f1_of_a_concept_that_does_not_occur_is_nan() -> None:
    assert np.isnan(f1_scores(np.zeros((4, 1), bool), np.zeros((4, 1), bool)))[0]


def test_enrichment_is_fishers_exact_test() -> None:
    rng = np.random.default_rng(0)
    said, truth = rng.random((60, 3)) < 0.3, rng.random((60, 3)) < 0.4
    for c, p in enumerate(enrichment(said, truth)):
        table = pd.crosstab(pd.Series(said[:, c]), pd.Series(truth[:, c])).to_numpy()
        assert p == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-6)


# --- dictionaries -----------------------------------------------------------------------------------------


def test_baselines_keep_what_they_can() -> None:
    rng = np.random.default_rng(0)
    acts = (rng.normal(size=(500, 3)) @ rng.normal(size=(3, 12)) + 5).astype(np.float32)
    for kind in ("pca", "neurons", "random_dictionary"):
        whole = baseline(kind, acts, d_sae=64, k=None)  # type: ignore[arg-type]
        assert explained_variance(whole, acts) > 0.98, kind
        few = baseline(kind, acts, d_sae=64, k=2)  # type: ignore[arg-type]
        assert sparsity(few.encode(acts)).l0 <= 2
    assert explained_variance(baseline("pca", acts, d_sae=64, k=3), acts) > 0.999


# --- probing ----------------------------------------------------------------------------------------------


def world(rows: int = 3000, d: int = 12) -> tuple[np.ndarray, Concepts, np.ndarray, np.ndarray]:
    """Rows with one of four letters, each its own direction, of which `a` comes in two kinds; and a split."""
    rng = np.random.default_rng(0)
    letters = rng.integers(0, 4, rows)
    special = (letters == 0) & (rng.random(rows) < 0.3)
    acts = 2 * np.eye(d)[letters] + 1.5 * special[:, None] * np.eye(d)[6] + 0.05 * rng.normal(size=(rows, d))
    holds = letters[:, None] == np.arange(4)
    train = rng.random(rows) < 0.6
    return acts.astype(np.float32), Concepts(("l=a", "l=b", "l=c", "l=d"), holds), train, ~train


def test_a_clean_dictionary_has_no_splitting_and_no_absorption() -> None:
    acts, concepts, train, test = world()
    clean = LinearDictionary(np.eye(12, dtype=np.float32), np.full(12, 0.5, np.float32))
    result = probe_concepts(clean, concepts, acts, train, test)
    assert (result["f1"] > 0.99).all() and (result["f1_dense"] > 0.99).all()
    assert (result["split"] == 1).all() and (result["absorption"] == 0).all()
    assert result["feature"].tolist() == [0, 1, 2, 3]


class Absorbing(LinearDictionary):
    """The feature of `a` is silent where the special kind of `a` fires, which holds its direction as well."""

    def __init__(self) -> None:
        super().__init__(np.eye(12, dtype=np.float32), np.full(12, 0.5, np.float32))
        self.atoms = self.atoms.copy()
        self.atoms[6] += self.atoms[0]

    def encode(self, acts: np.ndarray) -> np.ndarray:
        features = super().encode(acts)
        features[:, 0] *= features[:, 6] <= 0.3
        return features


def test_planted_absorption_and_splitting_are_seen() -> None:
    acts, concepts, train, test = world()
    result = probe_concepts(Absorbing(), concepts, acts, train, test).set_index("concept")
    alone = result.loc["l=a"]
    assert alone["f1"] < 0.9 < alone["f1_k5"] and alone["split"] == 2
    assert (result.drop("l=a")["split"] == 1).all() and (result.drop("l=a")["absorption"] == 0).all()

    class Silent(Absorbing):  # the special kind is rare, so that one feature seems enough
        pass

    rare = acts.copy()
    special = rare[:, 6] > 0.75
    drop = special & (np.random.default_rng(1).random(len(rare)) < 0.95)
    rare, holds = rare[~drop], concepts.holds[~drop]
    seen = probe_concepts(Silent(), Concepts(concepts.names, holds), rare, train[~drop], test[~drop]).iloc[0]
    share = (rare[test[~drop] & holds[:, 0], 6] > 0.75).mean()
    assert seen["split"] == 1 and seen["absorption"] == pytest.approx(share, abs=0.01) and share > 0.005


# --- concepts and names -----------------------------------------------------------------------------------


def test_concepts_come_from_the_problems(planted: tuple[Store, np.ndarray]) -> None:
    store, _ = planted
    rows = store.thought_rows
    result = concepts_of(store, rows, ["step_value"], by_step=True)
    assert {"step=1", "step_value=7", "step_value=7 at step 2"} <= set(result.names)
    at = result.names.index("step_value=7 at step 2")
    truth = [
        s == 2 and store.traces[t].problem.steps[1].value == "7"
        for t, s in zip(rows["trace"], rows["step"], strict=True)
    ]
    np.testing.assert_array_equal(result.holds[:, at], truth)
    with pytest.raises(UsageError, match=r"no concept of .* holds for at least 10 of these 5 rows"):
        concepts_of(store, rows[:5])


@pytest.fixture(scope="module")
def trained(planted: tuple[Store, np.ndarray]) -> Any:
    store, _ = planted
    return train_sae(store, ADDRESS, store.thought_rows, **SMALL)


@pytest.fixture(scope="module")
def named(planted: tuple[Store, np.ndarray], trained: Any) -> pd.DataFrame:
    return name_features(trained, planted[0], ADDRESS, planted[0].thought_rows, targets=["step_value"])


def test_planted_meanings_become_names(named: pd.DataFrame) -> None:
    given = named[named["name"].notna()]
    assert {f"step_value={v}" for v in range(10)} <= {name.split(" at ")[0] for name in given["name"]}
    assert (given["score"] >= 0.5).all() and (given["q"] < 0.01).all()
    best = given.iloc[0]
    assert best["score"] > 0.95 and best["precision"] > 0.9 and best["recall"] > 0.9


def test_a_name_comes_with_its_evidence(named: pd.DataFrame, planted: tuple[Store, np.ndarray]) -> None:
    best = named[named["name"].fillna("").str.match(r"step_value=\d$")].iloc[0]
    value = best["name"].split("=")[1]
    for each in best["top"]:
        step = int(each["place"].split()[1])
        assert planted[0].traces[each["trace"]].problem.steps[step - 1].value == value
        assert each["context"].count("[") == 1 and each["values"].split()[step - 1] == value
    activations = [each["activation"] for each in best["top"]]
    assert activations == sorted(activations, reverse=True)
    assert len(best["random"]) == 5 and min(each["activation"] for each in best["random"]) > 0
    assert set(best["places"]) == {"thought 1", "thought 2", "thought 3"}


def test_features_of_noise_get_no_name(tmp_path: Path, hand_chains: TraceSet, write_store: Callable) -> None:
    noise = write_store(
        tmp_path / "n",
        hand_chains,
        {ADDRESS.name: lambda index: np.random.default_rng(1).normal(size=(len(index), 24))},
    )
    sae = train_sae(noise, ADDRESS, noise.thought_rows, **{**SMALL, "samples": 5_000})
    assert name_features(sae, noise, ADDRESS, noise.thought_rows)["name"].isna().all()


def test_logit_effects_name_the_tokens_that_a_direction_writes(coconut: Any, store: Store) -> None:
    place = Address("ln_final.hook_out")
    rows, _ = select(store, place)
    sae = train_sae(store, place, rows, **{**SMALL, "samples": 5_000})
    seven = coconut.tokenizer.convert_tokens_to_ids("7")
    sae.W_dec.data[3] = coconut.unembed.weight.detach()[seven]
    result = name_features(sae, store, place, rows, reasoner=coconut).set_index("feature").loc[3]
    assert (
        result["promoted"][0]["token"] == "7"
        and result["promoted"][0]["effect"] > 0 > result["suppressed"][0]["effect"]
    )


# --- an explainer -----------------------------------------------------------------------------------------


class StandIn(BaseHTTPRequestHandler):
    """Speaks the chat protocol: explains by the commonest value in brackets' place, detects by looking for it."""

    asked: list[dict] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        StandIn.asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
        system, user = (message["content"] for message in body["messages"])
        if "described as" in system:
            wanted = system.split("value is ")[1].split()[0]
            output = ", ".join(row.split(".")[0] for row in user.splitlines() if value_at(row) == wanted) or "none"
        else:
            values = [value_at(row) for row in user.splitlines()]
            output = f"fires when the value is {max(set(values), key=values.count)}"
        content = json.dumps({"choices": [{"message": {"role": "assistant", "content": output}}]}).encode()
        self.send_response(StandIn.status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def value_at(row: str) -> str:
    """The value after the step whose token is in brackets."""
    context, values = row.split(" | ")
    return values.split()[context.split("[")[0].count("t5")]


@pytest.fixture
def endpoint() -> Iterator[str]:
    StandIn.asked.clear()
    StandIn.status = 200
    server = HTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_explainer_is_asked_and_scored_on_other_examples(
    endpoint: str, planted: tuple[Store, np.ndarray], trained: Any, named: pd.DataFrame
) -> None:
    store, _ = planted
    clear = named[named["name"].fillna("").str.match(r"step_value=\d$")]
    asked = Explainer(endpoint, "small", api_key="secret")
    result = explain_features(clear, trained, store, ADDRESS, store.thought_rows, asked, count=2)
    first = result.iloc[0]
    assert first["explanation"] == f"fires when the value is {first['name'].split('=')[1]}"
    assert first["detection"] > 0.9 and np.isnan(result["detection"].iloc[2]) and result["explanation"].iloc[2] is None
    assert len(StandIn.asked) == 4 and {each["path"] for each in StandIn.asked} == {"/v1/chat/completions"}
    assert {each["key"] for each in StandIn.asked} == {"Bearer secret"} and StandIn.asked[0]["model"] == "small"
    wrong = np.mean([(asked.detect("value is 99", [f"t5 [t5] | {v} {v}" for v in "123"])).sum()])
    assert wrong == 0


def test_an_explainer_that_fails_is_one_line(endpoint: str) -> None:
    StandIn.status = 401
    with pytest.raises(CotlensError, match=r"refused \(401\)\. Check the model's name and the key"):
        Explainer(endpoint, "small").ask("described as value is 3 ", "1. [x] | 3")
    with pytest.raises(CotlensError, match="cannot be reached"):
        Explainer("http://127.0.0.1:9/v1", "small", timeout=2).ask("a", "b")


# --- one dictionary for two -------------------------------------------------------------------------------


def test_features_that_mean_the_same_in_both_are_found(
    planted: tuple[Store, np.ndarray], hand_chains: TraceSet, write_store: Callable, tmp_path: Path
) -> None:
    """The second reasoner holds the same values in the same directions at another scale and centre, and no step."""
    from tests.interp.sae.conftest import values_of

    store, directions = planted

    def other(index: pd.DataFrame) -> np.ndarray:
        codes = values_of(hand_chains, index)
        return 7 + 10 * np.where((codes >= 0)[:, None], directions[codes], 0) + 0.05

    second = write_store(tmp_path / "second", hand_chains, {ADDRESS.name: other})
    result = share(store, second, ADDRESS, ADDRESS, **SMALL)
    summary = result.summary
    assert summary.same >= 8 and summary.same_share > 0.8 > summary.same_by_chance + 0.4
    same = result.features[result.features["same"]]
    assert same["correlation"].median() > 0.9 and same["mismatched"].abs().max() < 0.2
    assert set(same["first_name"]) <= {f"step_value={v}" for v in range(10)} | {f"answer={v}" for v in range(10)}


def test_stores_of_other_problems_or_widths_are_refused(
    planted: tuple[Store, np.ndarray], hand_chains: TraceSet, write_store: Callable, tmp_path: Path, store: Store
) -> None:
    with pytest.raises(StoreError, match="hold thoughts about other problems"):
        share(planted[0], store, ADDRESS, ADDRESS)
    narrow = write_store(
        tmp_path / "n", hand_chains, {ADDRESS.name: lambda i: np.random.default_rng(0).normal(size=(len(i), 8))}
    )
    with pytest.raises(StoreError, match=r"is 24 wide and .* 8; one dictionary needs one width"):
        share(planted[0], narrow, ADDRESS, ADDRESS)
