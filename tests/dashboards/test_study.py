"""A study of any model: what can be done is done, and what cannot says why."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import cotlens as front
import interp
from dashboards import stages
from dashboards.figures import chance_of
from dashboards.launch import APP, ROOTS_VARIABLE
from dashboards.report import build_report
from dashboards.runs import Run
from dashboards.study import Study, study
from interp.errors import PartialError, StoreError
from interp.organisms.catalog import weights_folder
from interp.reasoners.base import Reasoner

QUICK = {"dictionaries": False, "splits": (0,)}
SKIPPED_OF_KIND: dict[str, set[str]] = {
    "chain-direct": {"decoders", "interchange", "ablation"},
    "chain-recurrent": {"decoders", "interchange", "ablation"},
    "lcm-chain": set(),
    "chain-pause-as-thought": set(),
    "chain3-thinking-tokens": set(),
    "chain3-text": set(),
    "self-reasoning": set(),
    "maze-correct": {"interchange"},
}
SLOW = {
    "chain-recurrent",
    "lcm-chain",
    "chain-direct",
    "chain-pause-as-thought",
    "chain3-thinking-tokens",
    "chain3-text",
    "self-reasoning",
    "maze-correct",
}


def drawn(run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text of every page over a run; no page may fail."""
    monkeypatch.setenv(ROOTS_VARIABLE, json.dumps([str(run)]))
    words = []
    for page in ("home", "overview", "traces", "latents", "probes"):
        at = (
            AppTest.from_file(str(APP), default_timeout=60)
            if page == "home"
            else AppTest.from_string(f"from dashboards.views import {page}\n{page}.show()", default_timeout=60)
        ).run()
        assert not at.exception and not at.error, (page, at.exception, [e.value for e in at.error])
        for kind in ("title", "header", "markdown", "caption", "info", "warning"):
            words += [element.value for element in at.get(kind)]
        words += [metric.label for metric in at.metric]
        words += [element.proto.body for element in at.get("html")]
    return re.sub(r"\\(.)", r"\1", "\n".join(words))


def check(run: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A finished run: pages and report show the headline and every reason."""
    info = Run(run).info
    pages, html = drawn(run, monkeypatch), unescape((run / "report.html").read_text(encoding="utf-8"))
    for entry in info["skipped"]:
        assert not entry["is_defect"], entry
        assert entry["why"] in pages and entry["stage"] in html
    for figure in info["headline"].values():
        assert figure["what"] in html and figure["what"] in pages
    return info


@pytest.mark.parametrize(
    "organism", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SKIPPED_OF_KIND]
)
def test_every_kind_of_organism_is_studied(organism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasoner = interp.load(organism)
    done = study(reasoner, reasoner.task.generate(90, seed=1, split="test"), tmp_path / "run", **QUICK)  # type: ignore[arg-type]
    assert {entry.stage for entry in done.skipped} == SKIPPED_OF_KIND[organism]
    info = check(tmp_path / "run", monkeypatch)
    assert info["kind"] == reasoner.kind and info["headline"]["read"]["value"] is not None
    if organism in ("chain-recurrent", "lcm-chain"):
        read = info["headline"]["read"]
        assert read["value"] > read["beside"]["random_init"] + 0.2, "these hold every value where the study looks"


# --- a folder with a questions file ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder that names no task and no way of thinking."""
    folder = Path(shutil.copytree(weights_folder("chain-text"), tmp_path_factory.mktemp("folder") / "model"))
    config = json.loads((folder / "reasoner.json").read_text(encoding="utf-8"))
    (folder / "reasoner.json").write_text(json.dumps({**config, "task": None}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    problems = interp.task("chain").generate(100, seed=5, split="test")

    def write(name: str, *, steps: bool, broken: bool = False) -> Path:
        path = tmp_path_factory.mktemp("questions") / f"{name}.jsonl"
        lines = [
            {"question": p.question, "answer": p.answer}
            | ({"steps": [{"text": s.text, "value": s.value} for s in p.steps]} if steps else {})
            for p in problems
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        path.write_text(text + ('{"question": "a dragon"}\n' if broken else ""), encoding="utf-8")
        return path

    return write


@pytest.mark.slow
def test_a_folder_with_questions_that_have_steps(
    cotlens: Any, text_folder: Path, questions: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--questions", questions("own", steps=True), "--no-dictionaries", "--no-twin")
    result = cotlens("study", text_folder, *options, "--out", tmp_path / "run", "--json")
    assert result.code == 0, result.err
    info = check(tmp_path / "run", monkeypatch)
    assert result.json["headline"] == info["headline"]
    read = info["headline"]["read"]
    assert read["value"] > 0.8 and "linear probe" in read["where"]
    assert "visible text only" in read["note"], "the values stand in the text, which a control reads as well"
    assert info["headline"]["used"]["value"] is not None
    assert not (tmp_path / "run" / "twin").exists()


def test_a_folder_with_questions_without_steps(
    cotlens: Any, text_folder: Path, questions: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--questions", questions("plain", steps=False, broken=True), "--no-dictionaries", "--no-twin")
    result = cotlens("study", text_folder, *options, "--out", tmp_path / "run")
    assert result.code == 3 and "1 line of" in result.error and "line 101" in result.error
    info = check(tmp_path / "run", monkeypatch)
    assert [entry["stage"] for entry in info["skipped"]] == ["decoders", "interchange"]
    assert "no gold steps" in info["skipped"][0]["why"] and "Add `steps`" in result.err
    read, used = info["headline"]["read"], info["headline"]["used"]
    assert read["what"] == "answer read before it is written" and read["value"] > 0.8
    assert used["what"].startswith("answers change when") and used["value"] > 0.5


def test_a_small_random_model_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes nonsense, so no step can be found in its text; the rest of the study is made all the same."""
    folder, problems = nonsense_model(tmp_path / "model"), number_problems(tmp_path / "q.jsonl")
    reasoner = interp.load(folder, reasoner={"kind": "text", "begin": "<think>", "end": "</think>"})
    reasoner = reasoner.with_config(max_thought_tokens=12, max_answer_tokens=4)
    done = study(reasoner, problems, tmp_path / "run", **QUICK)  # type: ignore[arg-type]
    assert {entry.stage for entry in done.skipped} >= {"interchange"}
    note = check(tmp_path / "run", monkeypatch)["headline"]["answers"]["note"]
    assert "no better than always answering '8'" in note and "Assumed: prompt 'the question itself'" in note


def nonsense_model(folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", "<think>", "</think>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["What is 2 plus 3?"] * 5,
        trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), **sizes, max_position_embeddings=128, bos_token_id=1, eos_token_id=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def number_problems(path: Path) -> list[Any]:
    lines = [
        {"question": f"What is {a} plus {b}?", "answer": str(a + b), "steps": [f"{a} + {b} = {a + b}"]}
        for a in range(9)
        for b in range(9)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return front.questions(path)


# --- resuming, failing, refusing ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A study of `chain-coconut` on 90 problems, by the front package."""
    out = tmp_path_factory.mktemp("study") / "run"
    problems = interp.task("chain").generate(90, seed=1, split="test")
    return out, front.study("chain-coconut", problems, out, **QUICK)  # type: ignore[arg-type]


def test_the_front_package_studies_by_name(small_study: tuple[Path, Study]) -> None:
    out, done = small_study
    info = Run(out).info
    assert info["model"] == "chain-coconut" and info["complete"] is True and not done.skipped
    assert done.readouts is not None and done.interchange is not None and done.sweep is not None
    assert info["headline"]["read"]["value"] == done.scores[done.scores["method"] == "probe"]["top1"].min()
    assert info["headline"]["used"]["value"] > 0.9


def test_an_interrupted_study_goes_on(
    small_study: tuple[Path, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces, activations and finished parts of the sweep are read again; nothing is thought or captured twice."""
    done, first = small_study
    out = Path(shutil.copytree(done, tmp_path / "run"))
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    options = {key: info[key] for key in ("name", "model", "weights", "task", "n_problems", "problems")}
    (out / "run.json").write_text(json.dumps({"schema_version": 1, **options, "complete": False}), encoding="utf-8")
    for name in ("scores.parquet", "readouts.parquet", "interchange.parquet", "report.html"):
        (out / name).unlink()
    reasoner = interp.load("chain-coconut")

    def no_thinking(*_: object, **__: object) -> None:
        raise AssertionError("it was thought already")

    monkeypatch.setattr("interp.reasoners.resumable.think_to_file", no_thinking)
    monkeypatch.setattr("probes.sweeps.run.run_unit", no_thinking)
    again = study(reasoner, first.traces.problems, out, **QUICK)  # type: ignore[arg-type]
    assert again.figures()["steps"] == first.figures()["steps"]
    assert (out / "report.html").exists() and Run(out).info["complete"] is True


def test_another_study_is_not_overwritten(small_study: tuple[Path, Study]) -> None:
    out, first = small_study
    with pytest.raises(StoreError, match="holds another run"):
        study(first.reasoner, first.traces.problems[:80], out, **QUICK)  # type: ignore[arg-type]


def test_a_defect_in_one_stage_costs_no_other(
    small_study: tuple[Path, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a tensor of the wrong kind")

    done, first = small_study
    out = Path(shutil.copytree(done, tmp_path / "run"))
    monkeypatch.setattr(stages.interp, "interchange", broken)
    with pytest.raises(PartialError, match=r"interchange failed .*unexpected RuntimeError: a tensor of the wrong kind"):
        study(first.reasoner, first.traces.problems, out, **QUICK)  # type: ignore[arg-type]
    info = Run(out).info
    assert info["complete"] is True and info["steps"]
    assert info["headline"]["used"]["value"] is not None, "all thoughts were replaced instead"
    assert "unexpected RuntimeError" in build_report(out).read_text(encoding="utf-8")


def test_the_command_to_copy_makes_the_same_run(
    cotlens: Any, small_study: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = drawn(small_study[0], monkeypatch)
    assert "The thoughts of chain-coconut" in text
    from dashboards.describe import run_command

    command = run_command(small_study[0], Run(small_study[0]).info)
    assert command == f"cotlens study chain-coconut --task chain --out {small_study[0]}"


def test_chance_of_answers() -> None:
    """One of ten values on a chain; one of four candidates on a graph; the most frequent answer of own questions."""
    problems = {name: interp.task(name).generate(40, seed=1) for name in ("chain", "graph")}

    class Asked:
        def __init__(self, problem: Any) -> None:
            self.problem = problem

    assert chance_of([Asked(p) for p in problems["chain"]]) == pytest.approx(0.1)  # type: ignore[arg-type]
    assert chance_of([Asked(p) for p in problems["graph"]]) == pytest.approx(0.25)  # type: ignore[arg-type]


# --- a store or a file of traces in place of a run ------------------------------------------------------------


def test_dash_opens_a_store_and_a_report_of_it_names_the_command_that_makes_a_run(
    cotlens: Any, store: interp.Store
) -> None:
    assert cotlens("dash", store.path, "--print-url").code == 0
    result = cotlens("report", "build", store.path)
    assert result.code == 5
    assert "expected a run, got an activation store" in result.error
    assert f"`cotlens study chain-coconut --task chain --n {len(store.traces)} --out " in result.error


def test_dash_of_traces_names_the_command_that_makes_a_run(
    cotlens: Any, traces: interp.TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    traces[:5].to_parquet(path)
    result = cotlens("report", "build", path)
    assert result.code == 5 and "a file of traces" in result.error
    assert "cotlens study chain-coconut --task chain --n 5" in result.error
    monkeypatch.setenv(ROOTS_VARIABLE, json.dumps([str(path)]))
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    assert any(code.value.startswith("cotlens study chain-coconut --task chain --n 5") for code in at.code)


def test_a_study_of_traces_lets_the_model_not_think_again(
    cotlens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import interp.reasoners.resumable as resumable
    from dashboards.describe import run_command

    traces, out = tmp_path / "traces.parquet", tmp_path / "run"
    cotlens("think", "chain-direct", "--task", "chain:n=60,seed=9", "--out", traces)

    def thinks(*_: object, **__: object) -> None:
        raise AssertionError("it thought again")

    monkeypatch.setattr(resumable, "think_to_file", thinks)
    monkeypatch.setattr(Reasoner, "think", thinks)
    ended = cotlens("study", "chain-direct", "--traces", traces, "--n", "50", "--out", out, "--no-dictionaries")
    assert ended.code == 0, ended.err
    run = Run(out)
    given = interp.TraceSet.from_parquet(traces)
    assert [trace.token_ids for trace in run.traces] == [trace.token_ids for trace in given][:50]
    assert (out / "twin" / "meta.json").exists(), "the twin reads these answers and writes none of its own"
    reasons = {entry["stage"]: entry["why"] for entry in run.info["skipped"]}
    assert not any(entry["is_defect"] for entry in run.info["skipped"]), reasons
    assert f"--traces {traces}" in run_command(out, run.info)
    both = cotlens("study", "chain-direct", "--traces", traces, "--task", "chain", "--out", tmp_path / "other")
    assert both.code == 2 and "expected --task or --traces, got both" in both.error
    foreign = cotlens("study", "chain-text", "--traces", traces, "--out", tmp_path / "other")
    assert foreign.code == 5 and "expected traces of chain-text" in foreign.error
