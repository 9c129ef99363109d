"""What was assumed about a model is listed, and named where its answers are no better than a guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import interp
from interp.loading.guessing import ChanceCheck
from interp.models.report import LoadReport
from interp.reasoners.config import ReasonerConfig
from interp.traces import TraceSet

CONFIG = {"kind": "continuous", "latent_scale": 0.1, "latent": "<pause>"}


@pytest.fixture(scope="module")
def folder(model_folder: Callable[..., Path]) -> Path:
    """A model whose vocabulary happens to have the tokens of the defaults."""
    return model_folder("gpt2", special=("<bot>", "<eot>", "<pause>", "<latent>"))


def test_defaults_that_the_vocabulary_happens_to_have_are_assumed(folder: Path) -> None:
    assumed = interp.load(folder, reasoner=CONFIG).loaded.assumptions()
    assert assumed["begin"] == "<bot>" and assumed["end"] == "<eot>" and assumed["thoughts_per_step"] == "1"
    assert assumed["max_answer_tokens"] == "8" and "prompt" in assumed
    assert not {"latent", "latent_scale", "kind", "pause", "thinking", "reasoning"} & set(assumed)
    given = interp.load(folder, reasoner={**CONFIG, "begin": None, "end": "<eot>", "thoughts": 3}).loaded.assumptions()
    assert not {"begin", "end", "thoughts_per_step"} & set(given)


def test_a_folder_whose_config_leaves_fields_out_says_so_too(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "reasoner.json").write_text(json.dumps({**CONFIG, "eos": "<eos>"}), encoding="utf-8")
    loaded = interp.load(tmp_path).loaded
    assert {"begin": "<bot>", "end": "<eot>"}.items() <= loaded.assumptions().items()
    assert "begin: <bot> (not given, so the default; reasoner={'begin': TOKEN or None})" in loaded.line()


def test_a_shipped_organism_assumes_nothing(coconut: interp.Reasoner) -> None:
    assert coconut.loaded.assumptions() == {}


@pytest.mark.parametrize(
    ("config", "assumed"),
    [
        ({"kind": "text"}, {"steps": "count", "thoughts_per_step": 1, "max_thought_tokens": 64}),
        ({"kind": "text", "separator": ";"}, {"steps": "count", "max_thought_tokens": 64}),
        ({"kind": "pause", "thoughts": 2}, {"pause": "<pause>"}),
        ({"kind": "thinking-tokens"}, {"thinking": "<CoT>({})", "thoughts_per_step": 1}),
        ({"kind": "direct"}, {}),
    ],
)
def test_only_fields_that_the_kind_reads_are_assumed(config: dict, assumed: dict) -> None:
    always = {"begin": "<bot>", "end": "<eot>", "eos": "<eos>", "prompt": "{question}", "bos": False}
    assert ReasonerConfig(**config).assumed() == always | {"max_answer_tokens": 8} | assumed
    whole = ReasonerConfig(**config).model_dump()
    assert ReasonerConfig(**whole).assumed() == {}


@pytest.fixture(scope="module")
def guesses(coconut: interp.Reasoner, traces: TraceSet) -> Callable[[float], TraceSet]:
    """Return traces of which a share is right, with answers `a` and `b` in equal parts."""

    def make(share: float) -> TraceSet:
        kept = list(traces[:200])
        problems = [replace(trace.problem, answer="ab"[k % 2], structure=str(k)) for k, trace in enumerate(kept)]
        right = [(k * 7919 % len(kept)) < share * len(kept) for k in range(len(kept))]
        return TraceSet([replace(t, problem=p, correct=r) for t, p, r in zip(kept, problems, right, strict=True)])

    return make


@pytest.mark.parametrize(
    ("share", "is_at_chance"), [(0.0, True), (0.09, True), (0.53, True), (0.7, False), (1.0, False)]
)
def test_accuracy_is_compared_with_one_fixed_answer(
    guesses: Callable[[float], TraceSet], share: float, is_at_chance: bool
) -> None:
    check = ChanceCheck.of(guesses(share))
    assert (check.chance, check.answer) == (0.5, "a")
    assert check.is_at_chance == is_at_chance


def test_the_warning_names_the_assumptions(guesses: Callable[[float], TraceSet]) -> None:
    report = LoadReport()
    report.add("begin", "<bot>", "assumed")
    report.add("kind", "continuous", "given")
    warning = ChanceCheck.of(guesses(0.0)).warning(report)
    assert "0.000 [0.000, " in warning and "no better than always answering 'a' (0.500)" in warning
    assert "Assumed: begin '<bot>'. Give them with --reasoner." in warning
    assert "Assumed" not in ChanceCheck.of(guesses(0.0)).warning(LoadReport())


def test_think_and_doctor_list_what_was_assumed(cotlens: Callable, folder: Path, tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    lines = [json.dumps({"question": f"What is {k}?", "answer": "ab"[k % 2], "steps": ["x"]}) for k in range(12)]
    questions.write_text("\n".join(lines), encoding="utf-8")
    options = ["--questions", questions, "--out", tmp_path / "t", "--reasoner", json.dumps(CONFIG), "--json"]
    result = cotlens("think", folder, *options)
    assert result.code == 0 and result.json["assumed"]["begin"] == "<bot>" and result.json["chance"] == 0.5
    warnings = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and "begin '<bot>', end '<eot>'" in warnings[0] and "(0.500)" in warnings[0]
    steer = ["--questions", questions, "--reasoner", json.dumps(CONFIG), "--json"]
    assert warnings[0] in cotlens("causal", "interchange", folder, *steer).err
    output = cotlens("doctor", folder, "--reasoner", json.dumps(CONFIG)).out
    assert [line.split()[:3] for line in output.splitlines() if " <bot> " in line] == [["assumed", "begin", "<bot>"]]
