"""The bench of SmolLM2: what its prompts show, and what it says of measures that it does not take."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

import interp
from benchmarks.models import base_table, figures
from benchmarks.models.study_cost import study_cost


@dataclass
class Configured:
    """Stands for a reasoner, of which only the configuration matters here."""

    config: dict[str, Any] = field(default_factory=dict)

    def with_config(self, **changes: Any) -> Configured:
        return Configured(self.config | changes)


def test_a_list_is_continued_without_examples() -> None:
    config = base_table.prompted(Configured(), "form=again", "as it is").config
    assert config["prompt"] == "{question}" and "," in config["stops"]
    questions = interp.task("words:form=again").generate(20, seed=base_table.SEED, split="test")
    assert all(problem.question.endswith(",") for problem in questions)


@pytest.mark.parametrize("form", [form for form in base_table.FORMS if form != "form=again"])
@pytest.mark.parametrize("kind", ["few-shot", "few-shot steps"])
def test_worked_examples_are_right_and_the_question_comes_last(form: str, kind: str) -> None:
    config = base_table.prompted(Configured(), form, kind).config
    *examples, asked = config["prompt"].split("\n\n")
    assert len(examples) == base_table.SHOTS and asked.startswith("Question: {question}\n")
    assert asked.endswith("\nSteps:" if kind == "few-shot steps" else "\nAnswer:")
    held_out = {
        problem.question for problem in interp.task(f"words:{form}").generate(100, seed=base_table.SEED, split="test")
    }
    for example in examples:
        question, answer = re.fullmatch(r"Question: (.*?)\n(?:Steps: .*\n)?Answer: (\w+)", example).groups()
        assert ("Steps: " in example) == (kind == "few-shot steps")
        assert question not in held_out
        task = interp.task(f"words:{form}")
        assert answer in task._form.answers


def test_an_adapter_that_is_not_shipped_is_null_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "shipped", list)
    exam = figures._exam(figures.LATENT, None)
    assert exam["value"] is None and "is not shipped" in exam["note"]


def test_grading_is_compared_with_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    agreement = figures.grading_agreement()
    assert agreement["value"] == 1 and agreement["n"] == len(figures.CASES) > 150 and agreement["ci"][0] > 0.97
    monkeypatch.setattr(figures, "CASES", [("4", "4", True), ("5", "4", True)])
    assert figures.grading_agreement()["value"] == 0.5 and "'5' for '4'" in figures.grading_agreement()["note"]


def test_a_study_is_timed_in_its_own_process_and_says_what_it_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {"seconds": 90.0, "peak": 3 * 2**30, "skipped": ["steering"]}
    monkeypatch.setattr(figures, "study_cost", lambda name, n: cost)
    monkeypatch.setattr(figures, "shipped", lambda: [figures.TEXT])
    taken = figures._study(figures.TEXT, 100)
    assert taken["models.study_minutes"]["value"] == 1.5 and taken["models.study_rss_mb"]["value"] == 3072
    assert all("steering" in row["note"] and row["n"] == 100 for row in taken.values())
    monkeypatch.setattr(figures, "shipped", list)
    assert {row["value"] for row in figures._study(figures.TEXT, 100).values()} == {None}


@pytest.mark.slow
def test_a_study_that_fails_has_no_cost() -> None:
    with pytest.raises(RuntimeError, match="failed"):
        study_cost("no-such-model", 12)
