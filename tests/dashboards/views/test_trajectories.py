"""Layer trajectories: what is pinned, its control, and what cannot be drawn."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboards.artifacts.trace_file import TraceFile
from dashboards.explore import pins
from interp.activations import Store
from interp.decoders.saved_lens import SavedLens

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


def test_a_run_shows_each_value_beside_another_traces(open_view: Open, said: Said) -> None:
    at = open_view("trajectories", place="thought 2", pins="value 2, value 3")
    assert not at.error
    table = at.dataframe[0].value if at.dataframe else at.table[0].value
    assert set(table["pin"]) == {"value 2", "value 3"}
    assert "in another trace" in said(at) and "95 % intervals" in said(at)
    assert len(at.get("plotly_chart")) == 2


def test_thoughts_hold_their_own_value_and_not_another_traces(demo_run: Path) -> None:
    store, file = Store(demo_run / "store"), TraceFile(demo_run / "traces.parquet")
    reasoner = store.load_reasoner()
    where = pins.sample(store, reasoner, "thought 1")
    wanted = pins.targets(file, store, reasoner, where, ["value 1", "no such token"])
    assert (wanted[:, 0] >= 0).all() and (wanted[:, 1] == -1).all()
    groups = np.array([problem.structure for problem in file.problems(where.traces)])
    table = pins.read(store, reasoner, where, wanted, ["value 1", "no such token"], groups)
    assert set(table["pin"]) == {"value 1"}
    first = table[table["label"] == "in 0"].iloc[0]
    assert first["probability"] > 0.9 and first["low"] > first["control_high"] and first["rank"] < 1.1
    assert first["rank_high"] < first["control_rank_low"] <= first["control_rank"] <= first["control_rank_high"]
    for chart in (pins.probability_chart(table), pins.rank_chart(table)):
        (control,) = [line for line in chart.data if line.name == "value 1: another trace"]
        assert control.error_y.array is not None and len(control.y) == len(table)


def test_unknown_pins_and_places_are_said(open_view: Open, said: Said) -> None:
    text = said(open_view("trajectories", place="nowhere", pins="answer, Zanzibar"))
    assert "place=nowhere, which is no place that was captured" in text
    assert "No single token" in text and "Zanzibar" in text


def test_a_store_of_a_model_that_is_gone_says_so(open_view: Open, said: Said, demo_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    meta["origin"] = {"source": "a-model-that-is-gone"}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    at = open_view("trajectories", folder)
    assert "The lens needs the model, which cannot be used" in said(at) and not at.error


def test_an_empty_folder_and_an_unfinished_store_show_commands(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "There is nothing for this page" in said(open_view("trajectories", tmp_path / "empty"))
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    (folder / "manifest.jsonl").write_text("", encoding="utf-8")
    assert f"cotlens capture resume {folder}" in said(open_view("trajectories", folder))


def test_answers_of_several_tokens_give_way_to_the_token_that_is_said_next(
    open_view: Open, said: Said, demo_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = Store(demo_run / "store"), TraceFile(demo_run / "traces.parquet")
    reasoner = store.load_reasoner()
    where = pins.sample(store, reasoner, "end")
    names = reasoner.tokenizer.convert_ids_to_tokens(pins.said_next(file, store, where).tolist())
    assert list(names) == [file.trace(int(trace)).answer for trace in where.traces]
    assert (
        pins.said_next(file, store, pins.sample(store, reasoner, "thought 1")) == -1
    ).all()  # a thought follows, no text
    monkeypatch.setattr(pins, "own_text", lambda problem, answer, pin: "" if pin == pins.NEXT else "two words")
    at = open_view("trajectories", place="end")
    assert "No single token" in said(at) and "Drawn instead: the token said next" in said(at)
    assert len(at.get("plotly_chart")) == 2


def test_overlapping_intervals_are_not_called_a_control_as_high(said: Said, open_view: Open) -> None:
    text = said(open_view("trajectories", place="thought 1", pins="value 2, value 3, answer"))
    for line in text.splitlines():
        if "is not shown to read it" in line:
            reading, control = (float(number) for number in re.findall(r"(0\.\d{3}) \[", line))
            assert ("as high" in line) == (reading <= control)


def test_a_fitted_lens_reads_the_layers_that_it_was_fitted_at(
    open_view: Open, said: Said, demo_run: Path, lenses: Path
) -> None:
    shown = {"open": "demo_run", "place": "thought 1", "pins": "value 1, value 2"}
    usual = open_view("trajectories", demo_run, lenses, **shown)
    at = open_view("trajectories", demo_run, lenses, lens="lenses/tuned", **shown)
    assert not at.error and not at.warning and len(at.get("plotly_chart")) == 2
    table, of_logit_lens = (page.dataframe[0].value if page.dataframe else page.table[0].value for page in (at, usual))
    fitted = {"in 0", "out 0", "out 2", "final norm"}  # at the last two it is the logit lens
    assert set(table["layer"]) == fitted and set(table["pin"]) == {"value 1", "value 2"}
    assert "Layers without a line, as the lens was not fitted there: out 1." in said(at)
    title = json.loads(at.get("plotly_chart")[0].proto.spec)["layout"]["title"]["text"]
    assert title == "Probability of each pin by the tuned lens lenses/tuned"
    same = of_logit_lens[of_logit_lens["layer"].isin(fitted)]
    assert len(same) == len(table) and list(same["probability"]) != list(table["probability"])


def test_a_lens_of_a_few_tokens_draws_no_others(open_view: Open, said: Said, demo_run: Path, lenses: Path) -> None:
    shown = {"open": "demo_run", "place": "thought 1", "lens": "lenses/few.pt"}
    at = open_view("trajectories", demo_run, lenses, pins="1, 7", **shown)
    table = at.dataframe[0].value if at.dataframe else at.table[0].value
    assert set(table["pin"]) == {"1"}
    assert "not among the tokens that the lens was fitted to, or in fewer than two traces at thought 1: 7" in said(at)


def test_a_fitted_lens_is_what_is_read(demo_run: Path, lenses: Path) -> None:
    store, file = Store(demo_run / "store"), TraceFile(demo_run / "traces.parquet")
    reasoner = store.load_reasoner()
    where = pins.sample(store, reasoner, "thought 1")
    wanted = pins.targets(file, store, reasoner, where, ["value 1"])
    groups = np.array([problem.structure for problem in file.problems(where.traces)])
    lens = SavedLens(lenses / "jacobian.pt", reasoner)
    table = pins.read(store, reasoner, where, wanted, ["value 1"], groups, lens).set_index("address")
    for address in filter(lens.reads, store.addresses):
        logits = lens.logits(torch.from_numpy(store.acts(address, where.rows)), address)
        own = logits.softmax(-1).numpy()[np.arange(len(wanted)), wanted[:, 0]]
        assert table.loc[address.name, "probability"] == pytest.approx(own.mean(), abs=1e-5)
        assert table.loc[address.name, "control"] < 0.5


def test_lenses_that_do_not_fit_are_refused_with_the_reason(
    open_view: Open, said: Said, demo_run: Path, lenses: Path, tmp_path: Path
) -> None:
    at = open_view("trajectories", demo_run, lenses, lens="lenses/other.pt", open="demo_run")
    reason = "it was fitted to chain-text, not to this chain-coconut"
    assert f"Lenses that are not offered: lenses/other.pt: {reason}" in said(at)
    assert f"which is no lens that this has ({reason})" in said(at) and len(at.get("plotly_chart")) == 2
    own = Path(shutil.copytree(lenses, tmp_path / "lenses"))
    (own / "tuned" / "translators.safetensors").write_bytes(b"damaged")
    at = open_view("trajectories", demo_run, own, lens="lenses/tuned", open="demo_run")
    assert not at.error and "cannot be read" in said(at) and "Shown instead: logit lens" in said(at)
    assert "Probability of each pin by the logit lens" in at.get("plotly_chart")[0].proto.spec
