"""Traces of another tokenizer, another width or another model are refused, with what differs."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import interp
from interp.activations.identity import check_own
from interp.errors import StoreError
from interp.models.wrapping import tokenizer_hash
from interp.problems import task
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def short(traces):
    return TraceSet(list(traces)[:4])


@pytest.fixture(scope="module")
def other_vocabulary():
    return interp.load("chain31-coconut")


@pytest.fixture(scope="module")
def other_weights():
    """The untrained twin: the same tokens and another model."""
    return interp.random_init(interp.load("chain-coconut"))


def without_hashes(traces):
    """Traces as older versions wrote them."""
    return TraceSet([replace(trace, weights="", tokenizer="") for trace in traces])


def test_traces_carry_the_hashes_of_their_model(coconut, short, tmp_path):
    path = tmp_path / "t.parquet"
    short.to_parquet(path)
    for trace in (*short, *TraceSet.from_parquet(path), *TraceSet.part(path, 1, 3)):
        assert (trace.weights, trace.tokenizer) == (coconut.weights, tokenizer_hash(coconut.tokenizer))


def test_older_files_open_and_say_what_was_not_compared(coconut, short, tmp_path):
    path = tmp_path / "t.parquet"
    short.to_parquet(path)
    pd.read_parquet(path).drop(columns=["weights", "tokenizer"]).to_parquet(path)
    old = TraceSet.from_parquet(path)
    assert [t.tokens for t in old] == [t.tokens for t in short] and old[0].weights == ""
    with pytest.warns(UserWarning, match="4 of 4 traces do not say which weights made them"):
        interp.capture(coconut, old, sites="final", out=tmp_path / "store")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interp.capture(coconut, short, sites="final", out=tmp_path / "own")


@pytest.mark.parametrize("known", [True, False], ids=["with hashes", "older file"])
def test_tokens_that_mean_something_else_are_refused_with_both_texts(known, other_vocabulary, short, tmp_path):
    given = short if known else without_hashes(short)
    trace = short[0]
    names = other_vocabulary.tokenizer.convert_ids_to_tokens(trace.token_ids)
    k = next(k for k, (a, b) in enumerate(zip(trace.tokens, names, strict=True)) if a != b)
    message = (
        (
            rf"got token {trace.token_ids[k]} as '{trace.tokens[k]}' in trace 0 of chain-coconut at position {k}, which "
            rf"chain31-coconut reads as '{names[k]}'"
        )
        .replace("+", r"\+")
        .replace("*", r"\*")
    )
    with pytest.raises(StoreError, match=message):
        interp.capture(other_vocabulary, given, sites="final", out=tmp_path / "s", transfer=True)
    with pytest.raises(StoreError, match=message):
        interp.record(other_vocabulary, given, sites="final")
    assert not (tmp_path / "s").exists()


def test_replays_refuse_them_too(other_vocabulary, short):
    with pytest.raises(StoreError, match="tokenizer"):
        other_vocabulary.replay(short, hooks={})


def test_another_models_traces_are_refused_unless_they_are_allowed(coconut, other_weights, short):
    with pytest.raises(StoreError, match=rf"weights {other_weights.weights}.*weights {coconut.weights}.*--transfer"):
        interp.record(other_weights, short, sites="final")
    assert len(interp.record(other_weights, short, sites="final", transfer=True).index)
    check_own(coconut, short)


def test_thoughts_of_another_width_are_refused_by_message(coconut, short):
    wide = [replace(t, latents=np.concatenate([t.latents, t.latents], axis=1)) for t in short if t.latents is not None]
    d = coconut.embed.weight.shape[1]
    for call in (lambda: coconut.check_readable(wide), lambda: interp.record(coconut, TraceSet(wide), sites="final")):
        with pytest.raises(StoreError, match=rf"expected thoughts {d} wide, .* got thoughts {2 * d} wide in trace 0"):
            call()


def test_a_token_without_an_embedding_is_refused_by_message(coconut, short):
    n = coconut.embed.weight.shape[0]
    beyond = replace(short[0], token_ids=[*short[0].token_ids[:-1], n], tokens=[*short[0].tokens[:-1], f"<{n}>"])
    with pytest.raises(StoreError, match=rf"token {n} as '<{n}>' .* has no embedding for"):
        check_own(coconut, [replace(beyond, tokenizer="")])


def test_the_command_refuses_in_one_line_and_transfers_when_told(short, tmp_path, cotlens):
    path = tmp_path / "t.parquet"
    short.to_parquet(path)
    ended = cotlens("capture", "run", "chain31-coconut", path, "--sites", "final", "--out", tmp_path / "s")
    assert ended.code == 5 and "reads as" in ended.error and not (tmp_path / "s").exists()
    TraceSet([replace(trace, weights="another") for trace in short]).to_parquet(path)
    arguments = ["capture", "run", "chain-coconut", path, "--sites", "final", "--out", tmp_path / "s"]
    ended = cotlens(*arguments)
    assert ended.code == 5 and "--transfer" in ended.error
    assert cotlens(*arguments, "--transfer").code == 0


def test_resumed_captures_are_not_asked_again(other_weights, coconut, short, tmp_path):
    from interp.activations import layout

    store = interp.capture(
        coconut, TraceSet([replace(t, weights="x") for t in short]), out=tmp_path / "s", transfer=True
    )
    (store.path / layout.MANIFEST).unlink()
    from interp.activations import resume

    assert len(resume(tmp_path / "s").index) == len(store.index)


def test_an_sae_and_a_lens_of_another_model_are_refused(coconut, other_weights, short, tmp_path):
    import json

    from interp.decoders.tuned_lens import DESCRIPTION, TunedLens
    from interp.models.address import Address
    from interp.sae.load import load_sae, preflight, save_sae
    from interp.sae.train import train_sae

    own = interp.record(coconut, short)
    address = Address("blocks.0.hook_out")
    sae = train_sae(own, address, own.thought_rows, d_sae=16, k=2, samples=600, batch_size=4)
    save_sae(sae, tmp_path / "sae")
    theirs = interp.record(other_weights, short, transfer=True)
    with pytest.raises(
        StoreError, match=rf"trained on chain-coconut \(weights {coconut.weights}\), not on .*--transfer"
    ):
        load_sae(tmp_path / "sae", store=theirs)
    verdicts = {check.name: check.verdict for check in preflight(sae, None, theirs, transfer=True)}
    assert verdicts["model"] == "warn"
    lens = TunedLens(coconut, updates=2).fit_rows(own, address, own.index)
    lens.save(tmp_path / "lens")
    assert TunedLens.load(tmp_path / "lens", coconut).translators_.keys() == {address.name}
    path = tmp_path / "lens" / DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(description | {"weights": "another"}), encoding="utf-8")
    with pytest.raises(StoreError, match=r"got one of chain-coconut \(weights another\).*transfer=True"):
        TunedLens.load(tmp_path / "lens", coconut)
    TunedLens.load(tmp_path / "lens", coconut, transfer=True)
    path.write_text(
        json.dumps({key: value for key, value in description.items() if key != "weights"}), encoding="utf-8"
    )
    with pytest.warns(UserWarning, match="does not say which weights"):
        TunedLens.load(tmp_path / "lens", coconut)


def test_two_tasks_of_one_vocabulary_are_one_model(coconut):
    """Whatever the problems, traces of the model itself are its own."""
    check_own(coconut, coconut.think(task("chain:steps=2").generate(2, seed=0)))
