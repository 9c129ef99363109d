"""The headline: one source for every number, where it was read, and the control that beats it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
import probes
from dashboards.headline import headline, location_in_words, sentence
from dashboards.report import build_report
from dashboards.runs import Run
from dashboards.steps import step_figures
from interp.activations import Store
from interp.decoders.evaluation.read_outs import pooled_scores
from interp.statistics.splits import Masks
from probes.sweeps.at_rows import controls_at


@pytest.fixture(scope="module")
def text_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`chain3-text` writes `4 +3 = 7 ;`: the value of step k is not at thought k, the k-th token."""
    reasoner = interp.load("chain3-text")
    traces = reasoner.think(reasoner.task.generate(150, seed=3, split="test"))
    return interp.capture(reasoner, traces, out=tmp_path_factory.mktemp("text") / "store", sites="resid_post")


def info_of(**fields: Any) -> dict[str, Any]:
    about = {"accuracy": 0.9, "ci": [0.8, 1.0], "n_problems": 50, "chance": 0.1, "comparisons": [], "interchange": None}
    return {**about, "steps": [], "skipped": [], **fields}


def step_of(number: int, top1: float, **controls: float) -> dict[str, Any]:
    where = {"where": "layer 1, thought k", "position": "thought k", "layer": "layer 1"}
    return {"step": number, "probe_top1": top1, "ci": [top1 - 0.1, top1], "n": 40, **where, **controls}


def test_the_figure_of_a_step_is_the_score_of_the_decoder_where_it_reads(text_store: Store) -> None:
    readouts = [interp.decode(text_store, ["probe"], seed=seed) for seed in (0, 1)]
    scores = pooled_scores(readouts)
    figures = step_figures(readouts, scores)
    for entry, row in zip(figures.steps, scores.sort_values("step").to_dict("records"), strict=True):
        assert (entry["step"], entry["probe_top1"]) == (row["step"], row["top1"])
        assert entry["ci"] == [row["ci_low"], row["ci_high"]]
        assert row["site"] in entry["where"]
        assert entry["probe_top1"] > 0.85, "the value is written at the end of its step"
    swept = probes.sweep(text_store, controls="none", splits=1)
    matched = swept.matched()
    assert list(matched["place"]) == ["step 1", "step 2", "step 3"] and (matched["offset"] == 0).all()
    assert matched["accuracy"].min() > 0.85, "a sweep's matched place is where the values are written"
    at_thought_k = swept.table().query("target == 'value_3' and place == 'thought 3'")
    assert at_thought_k["accuracy"].max() < 0.5, "the third token is not the third step's"


def test_controls_are_measured_at_the_rows_that_are_read(text_store: Store) -> None:
    readouts = [interp.decode(text_store, ["probe"])]
    figures = step_figures(readouts, pooled_scores(readouts))
    entry = figures.steps[0]
    for control in ("question_only", "before_thinking", "text_only", "shuffled_labels", "majority", "position_only"):
        assert 0 <= entry[control] <= 1 and figures.notes["controls"][control]
    assert entry["text_only"] > 0.8, "the value is in the text up to the end of its step"
    assert entry["shuffled_labels"] < 0.4
    assert "random_init" not in entry and "untrained twin" in figures.notes["why_not"]["random_init"]
    assert entry["q"] < 1e-6


def test_a_control_that_knows_the_label_is_right_at_these_rows(store: Store) -> None:
    """Where the label is the question's first word, the question alone gives it; shuffled labels do not."""
    rows = store.rows(place="thought 1").reset_index(drop=True)
    gold = np.array([store.traces[t].problem.question.split()[0] for t in rows["trace"]])
    number = np.arange(len(rows))
    split = Masks(number % 4 < 2, number % 4 == 2, number % 4 == 3)
    accuracies, why_not = controls_at(store, store.addresses[0], rows, gold, split)
    assert accuracies["question_only"] > 0.95
    assert accuracies["shuffled_labels"] < 0.4 and accuracies["majority"] < 0.4
    assert set(why_not) >= {"random_init", "text_only"}


def test_a_single_label_has_no_controls(store: Store) -> None:
    rows = store.rows(place="thought 1").reset_index(drop=True)
    number = np.arange(len(rows))
    split = Masks(number % 4 < 2, number % 4 == 2, number % 4 == 3)
    accuracies, why_not = controls_at(store, store.addresses[0], rows, np.full(len(rows), "7"), split)
    assert not accuracies and "single label" in why_not["question_only"]


def test_the_headline_is_the_worst_step_and_names_where_it_was_read() -> None:
    figure = headline(info_of(steps=[step_of(1, 0.99, question_only=0.1), step_of(2, 0.9, question_only=0.2)]))["read"]
    assert figure["value"] == 0.9 and figure["where"] == "step 2, linear probe, layer 1, thought k"
    assert figure["beside"] == {"question_only": 0.2} and not figure["beaten_by"] and not figure["note"]


def test_a_control_that_beats_the_reading_is_said_in_the_headline() -> None:
    steps = [step_of(1, 0.99, question_only=0.1), step_of(2, 0.9, question_only=0.95, other_problem=0.9)]
    figure = headline(info_of(steps=steps))["read"]
    assert figure["beaten_by"] == {"question_only": 0.95, "other_problem": 0.9}
    line = sentence(figure)
    assert "no better than a control: question only gives 0.950 at step 2, where the thought gives 0.900" in line
    assert "1 more" in line


def test_a_control_that_beats_a_step_which_is_not_the_worst_is_said_too() -> None:
    figure = headline(info_of(steps=[step_of(1, 0.95, text_only=1.0), step_of(2, 0.9, text_only=0.3)]))["read"]
    assert figure["value"] == 0.9 and "visible text only gives 1.000 at step 1" in figure["note"]


def test_a_step_of_a_handful_of_problems_is_no_headline() -> None:
    few = {**step_of(3, 0.0), "n": 2}
    assert headline(info_of(steps=[step_of(1, 0.99), few]))["read"]["value"] == 0.99


def test_what_is_not_measured_says_why() -> None:
    skipped = [{"stage": "decoders", "why": "no steps."}, {"stage": "interchange", "why": "no answers follow."}]
    figures = headline(info_of(skipped=skipped))
    assert sentence(figures["read"]) == "not measured: no steps."
    assert sentence(figures["used"]) == "not measured: no answers follow."


def test_answers_at_chance_are_said_to_be() -> None:
    assert "no better than chance" in headline(info_of(accuracy=0.1))["answers"]["note"]


def test_every_page_of_a_run_takes_the_headline_from_one_place(demo_run: Path) -> None:
    run = Run(demo_run)
    printed = json.loads(demo_run.with_suffix(".json").read_text(encoding="utf-8"))
    assert printed["headline"] == run.info["headline"] == headline(run.info)
    probe = run.scores[run.scores["method"] == "probe"]
    worst = min(step["probe_top1"] for step in run.info["steps"])
    assert run.info["headline"]["read"]["value"] == worst
    assert worst in set(probe["top1"]), "the decoder's own held-out score"
    measure = next(row for row in printed["measures"] if row["id"] == "demo.probe_step_top1_min")
    assert measure["value"] == min(probe["top1"])
    html = build_report(demo_run, demo_run.with_name("again.html")).read_text(encoding="utf-8")
    for figure in run.info["headline"].values():
        assert f"<b>{figure['value']:.3f}</b>{figure['what']}" in html
        assert location_in_words(figure["where"]) in html


def test_an_older_run_gets_the_score_of_its_decoder(demo_run: Path, tmp_path: Path) -> None:
    """Runs of version 0.1 named the sweep's matched place, which need not be where the value is."""
    old = Path(shutil.copytree(demo_run, tmp_path / "old"))
    (old / "traces.parquet").unlink()
    info = json.loads((old / "run.json").read_text(encoding="utf-8"))
    for key in ("headline", "skipped", "ablation", "answer_reading", "steps_from"):
        info.pop(key, None)
    for step in info["steps"]:
        step.pop("where")
        step |= {"probe_top1": 0.071, "question_only": 0.3}
    (old / "run.json").write_text(json.dumps(info), encoding="utf-8")
    run = Run(old)
    scores = pd.read_parquet(old / "scores.parquet")
    expected = scores[scores["method"] == "probe"].set_index("step")["top1"]
    assert {step["step"]: step["probe_top1"] for step in run.info["steps"]} == expected.to_dict()
    assert run.info["headline"]["read"]["value"] != 0.071
    assert all("question_only" not in step for step in run.info["steps"]), "it was measured at another place"
    assert len(run.traces) == 300
    assert build_report(old).exists()


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("in 0, thought k", "input of block 0, at the thought of the step"),
        (
            "step 1, linear probe, out 2, thought k-1",
            "step 1, linear probe, output of block 2, one position before the",
        ),
        ("final norm, thought k+1", "final norm, one position after the thought of the step"),
        ("final norm, thought k-3", "final norm, -3 positions from the thought of the step"),
        (
            "out 0, thought k (in 2 of 3 splits); in 1, thought k+1 (in 1 of 3 splits)",
            "output of block 0, at the thought of the step (in 2 of 3 splits); input of block 1, one position after the "
            "thought of the step (in 1 of 3 splits)",
        ),
        ("attn 1, thought 3", "attn 1, thought 3"),
        ("", ""),
    ],
)
def test_a_location_is_written_in_words(label: str, words: str) -> None:
    assert location_in_words(label).startswith(words) and bool(label) == bool(location_in_words(label))
