"""`import cotlens`: every public name, no PyTorch before it is needed, and functions that bring packages together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cotlens

ASKED_FOR = [
    "load",
    "task",
    "questions",
    "record",
    "capture",
    "open_store",
    "decode",
    "evaluate",
    "sweep",
    "train_sae",
    "interchange",
    "ablate",
    "steer",
    "swap",
    "faithfulness",
    "subtext",
    "study",
    "random_init",
    "Address",
    "Trace",
    "TraceSet",
    "Store",
    "Problem",
    "Reasoner",
    "Intervention",
    "Monitor",
    "ReadOuts",
    "Estimate",
]


def test_import_is_light() -> None:
    program = (
        "import sys, cotlens; dir(cotlens)\n"
        "print([m for m in ('torch', 'transformers', 'pandas', 'numpy', 'streamlit') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_everything_that_a_study_needs_is_there() -> None:
    assert set(ASKED_FOR) <= set(cotlens.__all__) <= set(dir(cotlens))


@pytest.mark.parametrize("name", cotlens.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    assert (getattr(cotlens, name).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        cotlens.lode  # noqa: B018


def test_questions_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": "4"}\n', encoding="utf-8")
    assert [(p.question, p.answer) for p in cotlens.questions(path)] == [("1 + 1?", "2"), ("2 + 2?", "4")]


def test_questions_that_cannot_be_used_are_left_out_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "2"}\nnonsense\n', encoding="utf-8")
    with pytest.warns(UserWarning, match="1 line of .* left out: line 2"):
        assert len(cotlens.questions(path)) == 1
    path.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(cotlens.CotlensError, match="got none that can be used"):
        cotlens.questions(path)


def test_open_store(store: cotlens.Store) -> None:
    opened = cotlens.open_store(str(store.path))
    assert isinstance(opened, cotlens.Store) and len(opened.index) == len(store.index)
    with pytest.raises(cotlens.CotlensError):
        cotlens.open_store("nowhere")


def test_train_sae_in_memory_and_in_a_folder(store: cotlens.Store, tmp_path: Path) -> None:
    settings = {"d_sae": 16, "k": 4, "samples": 512, "batch_size": 64}
    with pytest.raises(cotlens.CotlensError, match="expected one address to train at, got none; name one of"):
        cotlens.train_sae(store, **settings)
    address = store.addresses[-1].name
    trained = cotlens.train_sae(store, address, **settings)
    kept = cotlens.train_sae(store, address, out=tmp_path / "sae", **settings)
    assert trained.settings == kept.settings and trained.mask == kept.mask
    assert (trained.sae.W_dec == kept.sae.W_dec).all()
    assert json.loads((tmp_path / "sae" / "training.json").read_text(encoding="utf-8"))["address"] == address


def test_faithfulness_of_a_reasoner_that_writes() -> None:
    reasoner = cotlens.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(40, seed=5))
    result = cotlens.faithfulness(reasoner, traces)
    assert {"no thought", "filler"} <= set(result.tests["test"])
    assert len(result.early_answers) and result.conclusion


def test_faithfulness_scores_of_chains_and_steps() -> None:
    reasoner = cotlens.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(12, seed=5))
    scores = cotlens.faithfulness_scores(reasoner, traces, "early answering, state interchange")
    assert set(scores["metric"]) == {"early answering", "state interchange"}
    chains = scores.query("step == 0")
    assert len(chains) == 2 * len(traces) and chains["score"].notna().all()
    steps = [trace.problem.n_steps for trace in traces]
    assert scores.query("metric == 'early answering'").groupby("trace")["step"].max().tolist() == steps
    with pytest.raises(cotlens.CotlensError, match="metric of faithfulness"):
        cotlens.faithfulness_scores(reasoner, traces, "honesty")


def test_faithfulness_scores_of_latents_are_those_that_have_a_meaning_there() -> None:
    reasoner = cotlens.load("chain-coconut")
    traces = reasoner.think(reasoner.task.generate(8, seed=5))
    scores = cotlens.faithfulness_scores(reasoner, traces, "ablation, state interchange")
    assert scores.query("metric == 'state interchange'")["score"].eq(1).all()
    assert scores.groupby("trace")["step"].max().tolist() == [trace.problem.n_steps for trace in traces]
    with pytest.raises(cotlens.CotlensError, match="metric of faithfulness, got 'resampling'"):
        cotlens.faithfulness_scores(reasoner, traces, "resampling")


def test_swap_through_text_and_latents() -> None:
    reader, problems = cotlens.load("chain-text"), cotlens.task("chain").generate(40, seed=5)
    assert {"whole", "shuffled"} <= set(cotlens.swap(reader, reader, problems)["arm"])
    with pytest.raises(cotlens.CotlensError, match="expected fit_on=problems"):
        cotlens.swap(reader, reader, problems, through="latents")
    with pytest.raises(cotlens.CotlensError, match="expected through='text' or through='latents', got 'air'"):
        cotlens.swap(reader, reader, problems, through="air")  # type: ignore[arg-type]


def test_subtext_takes_the_synonyms_of_the_task() -> None:
    reasoner = cotlens.load("subtext-1")
    traces = reasoner.think(reasoner.task.generate(120, seed=5), temperature=1.0)
    result = cotlens.subtext(traces, ["hint:2"], with_power=False)
    assert "words" in result.total
