"""Splicing, the whole evaluation on a shipped organism, and the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import interp
from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.sae.dictionaries import LinearDictionary
from interp.sae.evaluate import evaluate
from interp.sae.settings import SAESettings
from interp.sae.splice import splice
from interp.sae.trained import TrainedSAE, train_into

FED_BACK = Address("ln_final.hook_out")


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedSAE]:
    folder = tmp_path_factory.mktemp("sae") / "final"
    settings = SAESettings(d_sae=48, k=4, samples=30_000, batch_size=128)
    return folder, train_into(folder, store, FED_BACK, settings)


def test_splicing_what_loses_nothing_changes_nothing(store: Store, coconut: interp.Reasoner) -> None:
    """An exact dictionary is the original; one that gives the mean is the mean."""
    acts = store.acts(FED_BACK, store.thought_rows)
    mean = acts.mean(axis=0)
    both = np.concatenate([np.eye(acts.shape[1]), -np.eye(acts.shape[1])]).astype(np.float32)
    result = splice(
        coconut,
        store,
        FED_BACK,
        store.thought_rows,
        {"exact": LinearDictionary(both, mean), "nothing": LinearDictionary(0 * both, mean)},
        mean,
    ).set_index("condition")
    assert result.loc["exact", "same_answer"] == result.loc["original", "accuracy"] == 1.0
    assert result.loc["exact", "loss_recovered"] == pytest.approx(1, abs=1e-3)
    assert result.loc["nothing", "loss"] == pytest.approx(result.loc["mean", "loss"], abs=1e-4)
    assert result.loc["nothing", "accuracy"] < 0.5
    assert (result["n"] == len(store.traces)).all()


def test_the_loss_is_that_of_the_models_own_logits(store: Store, coconut: interp.Reasoner) -> None:
    """Without an edit, what the model said of its own answer while thinking."""
    rows = store.thought_rows
    result = splice(coconut, store, FED_BACK, rows, {}, np.zeros(store.meta["d_model"], np.float32))
    own = [-t.logprob[t.channel.index("answer")] for t in store.traces]
    assert result.set_index("condition").loc["original", "loss"] == pytest.approx(np.mean(own), abs=1e-5)


def test_splicing_at_text_thoughts(tmp_path: Path) -> None:
    text = interp.load("chain-text")
    traces = text.think(text.task.generate(30, seed=1, split="test"))
    store = interp.capture(text, traces, sites="blocks.0.hook_in", out=tmp_path / "s")
    mean = store.acts("blocks.0.hook_in", store.thought_rows).mean(axis=0)
    result = splice(text, store, Address("blocks.0.hook_in"), store.thought_rows, {}, mean).set_index("condition")
    assert result.loc["original", "accuracy"] == 1.0 and result.loc["mean", "accuracy"] < 0.6


def test_splicing_refuses_another_model(store: Store, coconut: interp.Reasoner) -> None:
    mean = np.zeros(store.meta["d_model"], np.float32)
    with pytest.raises(StoreError, match=r"was made by chain-coconut, not by .* Load that one to splice"):
        splice(interp.random_init(coconut), store, FED_BACK, store.thought_rows, {}, mean)
    with pytest.raises(UsageError, match="no rows to splice at"):
        splice(coconut, store, FED_BACK, store.thought_rows[:0], {}, mean)


def test_every_baseline_stands_beside_the_sae(
    store: Store, coconut: interp.Reasoner, trained: tuple[Path, TrainedSAE]
) -> None:
    _, made = trained
    steps: list[str] = []
    result = evaluate(
        made.sae,
        store,
        reasoner=coconut,
        settings=made.settings,
        targets=["step_value"],
        progress=lambda name, *_: steps.append(name),
    )
    table = result.measures.set_index("dictionary")
    assert table.index.tolist() == ["sae", "random_dictionary", "pca", "random_init"] and len(steps) == 5
    assert table.loc["sae", "explained_variance"] == pytest.approx(
        made.record["held_out"]["explained_variance"], abs=1e-5
    )
    assert table.loc["sae", "ci_low"] <= table.loc["sae", "explained_variance"] <= table.loc["sae", "ci_high"]
    assert table.loc["random_dictionary", "l0"] == pytest.approx(table.loc["sae", "l0"], abs=0.6)
    assert table.loc[["sae", "random_dictionary", "pca"], "accuracy_ratio"].notna().all()
    assert table.loc["sae", "f1_dense"] > table.loc["random_init", "f1_dense"] + 0.3
    assert set(result.concepts["dictionary"]) == set(table.index) and result.notes == ()
    alone = evaluate(made.sae, store, targets=["step_value"], trained_split={"by": "file", "train": 9})
    assert (
        "trained on the questions file's own split and is evaluated on a split by problem structure" in alone.notes[0]
    )
    assert alone.splice is None and len(alone.notes) == 3
    assert alone.measures["dictionary"].tolist() == ["sae", "random_dictionary", "pca"]


def test_where_even_the_mean_moves_no_answer_splicing_is_said_to_show_nothing(tmp_path: Path) -> None:
    """Nothing reads the last block's output at a pause: only the next block could, and there is none."""
    reasoner = interp.load("chain-pause-as-thought")
    traces = reasoner.think(reasoner.task.generate(60, seed=1, split="test"))
    store = interp.capture(reasoner, traces, sites=[FED_BACK.name], out=tmp_path / "s")
    made = train_into(tmp_path / "sae", store, FED_BACK, SAESettings(d_sae=16, k=2, samples=500, batch_size=64))
    result = evaluate(made.sae, store, reasoner=reasoner, targets=["step_value"])
    assert result.splice is not None and result.splice["same_answer"].eq(1.0).all()
    assert "the mean in place of ln_final.hook_out leaves 1.000 of the answers unchanged" in result.notes[-1]


# --- commands ---------------------------------------------------------------------------------------------


def test_train_eval_features(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "sae"
    flags = ["--d-sae", "32", "--k", "4", "--samples", "2000", "--set", "batch_size=128"]
    made = cotlens("sae", "train", store.path, "--address", FED_BACK, "--out", out, *flags, "--json")
    assert (
        made.code == 0
        and made.json["settings"]["d_sae"] == 32
        and made.json["mask"]["channels"] == ["thought", "latent"]
    )
    again = cotlens("sae", "train", store.path, "--address", FED_BACK, "--out", out, *flags)
    assert again.code == 0 and "held out: explained variance" in again.out
    result = cotlens(
        "sae", "eval", out, "--store", store.path, "--target", "step_value", "--out", tmp_path / "e", "--json"
    )
    assert result.code == 0 and [row["condition"] for row in result.json["splice"]][:2] == ["original", "mean"]
    assert (tmp_path / "e" / "measures.parquet").exists() and (tmp_path / "e" / "splice.parquet").exists()
    named = cotlens("sae", "features", out, "--store", store.path, "--out", tmp_path / "f", "--json")
    assert named.code == 0 and len(named.json["features"]) == 32 and "promoted" in named.json["features"][0]
    human = cotlens("sae", "features", out, "--store", store.path, "--no-logits", "--show", "3")
    assert "of 32 features have a name" in human.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "STORE", "--out", "OUT"], 2, "got none; name one with --address: blocks.0.hook_in"),
        (
            ["train", "STORE", "--address", "blocks.7.hook_out", "--out", "OUT"],
            2,
            "expected a known address in this store",
        ),
        (["train", "STORE", "--address", FED_BACK, "--out", "OUT", "--channels", "thought"], 2, "no position of"),
        (["train", "STORE", "--address", FED_BACK, "--out", "OUT", "--architecture", "dense"], 2, "architecture"),
        (
            ["train", "STORE", "--address", FED_BACK, "--out", "OUT", "--k", "600"],
            2,
            "expected k of at most d_sae (512), got 600",
        ),
        (["train", "NOWHERE", "--address", FED_BACK, "--out", "OUT"], 5, "no activation store at"),
        (["eval", "NOWHERE", "--store", "STORE"], 5, "no SAE at"),
        (["features", "NOWHERE", "--store", "STORE"], 5, "no SAE at"),
        (
            ["share", "STORE", "STORE", "--first-address", "blocks.9.hook_out"],
            2,
            "expected a known address in this store",
        ),
    ],
)
def test_bad_input_is_one_line(
    cotlens: Callable, store: Store, tmp_path: Path, arguments: list, code: int, message: str
) -> None:
    places = {"STORE": store.path, "OUT": tmp_path / "out", "NOWHERE": tmp_path / "nowhere"}
    result = cotlens("sae", *[places.get(each, each) for each in arguments])
    assert result.code == code and message in result.error


def test_old_option_names_of_training_work_with_a_warning(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    old = ["--kind", "dense", "--channel", "thought"]
    ended = cotlens("sae", "train", store.path, "--address", FED_BACK, "--out", tmp_path / "sae", *old)
    assert ended.code == 2 and "architecture" in ended.error
    for name in ("--kind is now --architecture", "--channel is now --channels"):
        assert f"warning: {name}; the old name works until version 0.3" in ended.err
