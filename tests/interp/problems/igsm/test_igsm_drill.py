"""Task `igsm-drill`: correct arithmetic in the words of task `igsm`."""

from __future__ import annotations

import pytest

from interp.errors import UsageError
from interp.problems import Verdict, task
from interp.problems.igsm.graph import OPERATIONS
from interp.problems.igsm.wording import read_step


def test_every_step_is_a_computation_that_holds() -> None:
    for problem in task("igsm-drill").generate(50, seed=0, split="train"):
        assert problem.n_steps == 7
        for step in problem.steps:
            output = read_step(step.text.removesuffix(" .").split())
            (_, a), (_, b) = output.operands
            assert int(step.value) == OPERATIONS[output.formula[1]](int(a), int(b)) % 23
            assert f"{output.name}: {' '.join(output.formula)} ." in problem.question, (
                "its definition is in the question"
            )
        assert problem.answer == problem.steps[-1].value


def test_it_speaks_igsms_words_and_fits_its_models() -> None:
    drill, whole = task("igsm-drill"), task("igsm")
    assert drill.vocabulary() == whole.vocabulary()
    for problem in drill.generate(20, seed=1):
        words = f"{problem.question} {' '.join(s.text for s in problem.steps)} {problem.answer}".split()
        assert set(words) <= set(drill.vocabulary()) and len(words) < 120


def test_checking_names_the_step_that_does_not_hold() -> None:
    drill = task("igsm-drill:steps=3,mod=11")
    problem = drill.generate(1, seed=0)[0]
    output = [step.text for step in problem.steps]
    assert drill.verify(problem, " ".join([*output, problem.answer])) == Verdict(True, (True, True, True), None)
    words = output[1].split()
    words[-2] = str((int(words[-2]) + 1) % 11)
    verdict = drill.verify(problem, " ".join([output[0], " ".join(words), output[2], problem.answer]))
    assert verdict.steps == (True, False, True) and verdict.first_error == 2
    assert drill.verify(problem, "") == Verdict(False, (None, None, None), None)
    with pytest.raises(UsageError, match="whose steps do not depend on each other"):
        drill.counterfactual(problem, 1, "3")
