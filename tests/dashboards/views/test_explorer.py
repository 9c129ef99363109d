"""The trace explorer over runs, stores and files of traces, with and without their model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.explore.cells import unpack
from interp.activations import Store

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


def header(at: AppTest) -> dict:
    """What the grid in the browser is told."""
    (element,) = at.get("bidi_component")
    return unpack(element.proto.bytes)[0]


def test_a_run_shows_the_lens_beside_its_control(open_view: Open, said: Said) -> None:
    at = open_view("explorer")
    assert not at.error and not at.warning
    head = header(at)
    assert head["label"].startswith("logit lens") and head["texts"]
    assert head["rows"][0] == "ln_final.hook_out" and len(head["first"]) == head["total"]
    assert "Beside its control" in said(at)
    means = at.table[-1].value
    assert list(means.columns) == ["row", "mean", "control", "difference", "low", "high", "positions"]


def test_a_locked_cell_has_a_card(open_view: Open, said: Said, demo_run: Path) -> None:
    store = Store(demo_run / "store")
    row = store.index[store.index["place"] == "thought 2"].iloc[0]
    trace, position = str(row["trace"]), str(row["position"])
    at = open_view("explorer", trace=trace, position=position, layer="blocks.1.hook_out")
    head, text = header(at), said(at)
    assert head["lock"]["position"] == int(position)
    assert head["segments"][[s["name"] for s in head["segments"]].index("thought 2")]["start"] == int(position)
    for words in ("thought 2", "Logit lens", "Nearest states of other traces", "median cosine", "Control"):
        assert words in text
    assert trace not in set(next(t.value for t in at.table if "cosine" in t.value)["trace"])


def test_an_sae_beside_the_store_is_read_with_its_control(open_view: Open, said: Said, demo_run: Path) -> None:
    described = json.loads((demo_run / "sae" / "cfg.json").read_text(encoding="utf-8"))
    address = described["metadata"]["hook_name"]
    store = Store(demo_run / "store")
    position = str(store.index[store.index["place"] == "thought 1"].iloc[0]["position"])
    at = open_view("explorer", position=position, layer=address)
    scores = next(t.value for t in at.table if "random direction" in t.value)
    assert scores["reads"].str.startswith("feature").all()
    assert header(open_view("explorer", readout="sae:sae"))["rows"] == [address]


@pytest.mark.parametrize("lens", ["tuned", "jacobian.pt"])
@pytest.mark.parametrize("figure", ["top1", "entropy", "next", "rank", "token"])
def test_a_fitted_lens_is_read_beside_the_logit_lens(
    open_view: Open, said: Said, demo_run: Path, lenses: Path, lens: str, figure: str
) -> None:
    key = f"{figure}@lenses/{lens}"
    at = open_view(
        "explorer", demo_run, lenses, readout=key, versus=figure, show="difference", token="7", open="demo_run"
    )
    assert not at.error and "Beside the other read-out" in said(at)
    assert not [warning.value for warning in at.warning if "readout" in warning.value]
    head = header(at)
    assert head["label"].startswith(("tuned lens", "Jacobian lens")) and "logit lens" in head["label"]
    assert "the lens was not fitted at" in said(at)  # neither was fitted everywhere


def test_the_card_reads_the_cell_with_every_lens_of_the_model(
    open_view: Open, said: Said, demo_run: Path, lenses: Path
) -> None:
    store = Store(demo_run / "store")
    row = store.index[store.index["place"] == "thought 1"].iloc[0]
    cell = {"trace": str(row["trace"]), "position": str(row["position"]), "open": "demo_run"}
    at = open_view("explorer", demo_run, lenses, layer="blocks.0.hook_out", **cell)
    text = said(at)
    assert not at.error and "Tuned lens lenses/tuned" in text and "Jacobian lens lenses/jacobian.pt" in text
    tables = [t.value for t in at.table if "said next" in t.value]
    assert sorted(len(table) for table in tables) == [2, 5, 5, 5] and all("another trace" in t for t in tables)
    assert "It was not fitted at this layer" in said(
        open_view("explorer", demo_run, lenses, layer="blocks.0.hook_in", **cell)
    )


def test_a_lens_of_another_model_is_refused_with_the_reason(
    open_view: Open, said: Said, demo_run: Path, lenses: Path, tmp_path: Path
) -> None:
    at = open_view("explorer", demo_run, lenses, readout="top1@lenses/other.pt", open="demo_run")
    text = said(at)
    assert (
        "Lenses that are not offered: lenses/other.pt: it was fitted to chain-text, not to this chain-coconut" in text
    )
    assert "which is no read-out that this has (it was fitted to chain-text" in text
    assert header(at)["label"].startswith("logit lens")
    own = Path(shutil.copytree(lenses, tmp_path / "lenses"))
    (own / "tuned" / "translators.safetensors").write_bytes(b"damaged")
    at = open_view("explorer", demo_run, own, readout="top1@lenses/tuned", open="demo_run")
    assert not at.error and "cannot be read" in said(at) and "Shown instead: logit lens" in said(at)


@pytest.mark.parametrize("readout", ["entropy", "next", "rank", "token", "norm", "cosine", "said"])
@pytest.mark.parametrize("show", ["reading", "difference"])
def test_every_read_out_is_drawn(open_view: Open, readout: str, show: str) -> None:
    at = (
        open_view("explorer", readout=readout, show=show, token="7")
        if readout == "token"
        else open_view("explorer", readout=readout, show=show)
    )
    head = header(at)
    assert not at.error and head["low"] < head["high"]
    assert head["diverging"] == (show == "difference" or readout in ("norm", "cosine"))


@pytest.mark.parametrize("page", ["explorer", "trajectories"])
def test_a_run_whose_store_is_damaged_shows_what_can_be_read_and_the_command_for_the_rest(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path, page: str
) -> None:
    run = Path(shutil.copytree(demo_run, tmp_path / "run"))
    (run / "store" / "index.parquet").write_bytes(b"damaged")
    at = open_view(page, run)
    assert not at.error and "differs from what was committed" in said(at)
    assert f"cotlens capture resume {run / 'store'}" in said(at)
    assert len(at.get("bidi_component")) == (page == "explorer")


def test_traces_without_activations_show_what_they_record_and_the_command_for_the_rest(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(demo_run / "traces.parquet", tmp_path / "some.parquet"))
    at = open_view("explorer", file)
    assert header(at)["rows"] == ["entropy", "surprisal"]
    assert f"cotlens capture run chain-coconut {file} --out {tmp_path / 'some-store'}" in said(at)
    shutil.copytree(demo_run / "store", tmp_path / "some-store")
    assert header(open_view("explorer", file))["rows"][0] == "ln_final.hook_out"


def test_a_store_of_a_model_that_is_not_there_shows_what_needs_none(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    meta["reasoner"]["name"] = "a-model-that-is-gone"
    meta["origin"] = {"source": "a-model-that-is-gone"}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    at = open_view("explorer", folder)
    assert "The lens needs the model, which cannot be used" in said(at) and not at.error
    assert header(at)["label"] == "length of the state"


def test_an_unfinished_store_shows_the_command_that_finishes_it(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "manifest.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    at = open_view("explorer", folder)
    assert "is not finished" in said(at) and f"cotlens capture resume {folder}" in said(at)
    assert header(at)["rows"] == ["entropy", "surprisal"]


def test_a_damaged_store_shows_the_command_that_repairs_it_and_nothing_of_a_wait(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    for shard in (folder / "acts").rglob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:100])
    at = open_view("explorer", folder)
    assert "is damaged" in at.error[0].value and not at.exception
    assert [code.value for code in at.code] == [f"cotlens capture resume {folder}"]
    assert "is being loaded" not in said(at)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("trace", "99999", "no trace here"),
        ("readout", "astrology", "no read-out that this has"),
        ("zoom", "moon", "no zoom"),
        ("start", "-4", "no position of this trace"),
        ("position", "12345", "no position of this trace"),
        ("layer", "blocks.99.hook_out", "no layer here"),
        ("versus", "luck", "nothing that this read-out can be compared with"),
    ],
)
def test_a_wrong_link_says_why_and_shows_the_usual(open_view: Open, said: Said, key: str, value: str, why: str) -> None:
    at = open_view("explorer", **{key: value})
    assert f"{key}={value}, which is {why}" in said(at) and not at.error
    assert header(at)["rows"]


def test_an_empty_folder_shows_the_command_that_fills_it(open_view: Open, said: Said, tmp_path: Path) -> None:
    assert "There is nothing for this page" in said(open_view("explorer", tmp_path))


def test_hidden_columns_are_counted_and_said(open_view: Open, said: Said) -> None:
    at = open_view("explorer", special="yes", sinks="yes")
    assert "special tokens" in said(at) and "hidden" in said(at)
    assert len(header(at)["first"]) < header(at)["total"]


def test_what_is_on_screen_is_also_a_table(open_view: Open, demo_run: Path) -> None:
    at = open_view("explorer", table="yes")
    table = next(t.value for t in at.table if "place" in t.value and "final norm" in t.value)
    assert len(table) == len(header(at)["first"])
