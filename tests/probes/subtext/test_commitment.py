"""Commitment: the step of decision where it is known, and the effect of later steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

import interp
from interp.errors import UsageError
from interp.models import recurrence
from interp.organisms.catalog import weights_folder
from interp.problems import task
from interp.traces import TraceSet
from probes.subtext.commitment import _exchanged_states, _foreign_ends, commitment, deciding_steps, forced_answers
from probes.subtext.steady import commitment_exact, steady_from, steady_problems


def test_decided_at_the_first_step_of_lasting_agreement() -> None:
    agrees = np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]], bool)
    assert list(deciding_steps(agrees)) == [1, 3, 0, 3, 3]


def test_steady_problems_stand_still_from_their_step_on() -> None:
    problems = steady_problems(56, seed=3)
    assert problems == steady_problems(56, seed=3) and all(problem.split == "test" for problem in problems)
    kinds = {(problem.n_steps, steady_from(problem)) for problem in problems}
    assert kinds == {(steps, k) for steps in range(2, 6) for k in range(1, steps + 1)}
    for problem in problems:
        values, k = [step.value for step in problem.steps], steady_from(problem)
        assert set(values[k - 1 :]) == {problem.answer} and (k == 1 or values[k - 2] != problem.answer)
        assert task("chain").verify(problem, " ".join([*values, problem.answer])).answer


def test_the_step_is_found_where_it_is_known() -> None:
    result = commitment_exact(n=84, seed=1)
    assert result["value"] >= 0.95 and result["n"] == 84 and "always the last step 0.5" in result["note"]


def test_text_is_decided_by_its_last_step_and_read_one_step_before() -> None:
    reasoner = interp.load("chain-text")
    problems = task("chain:steps=3").generate(120, seed=9, split="test")
    result = commitment(reasoner, reasoner.think(problems, batch_size=120))
    steps = result.steps.set_index("step")
    assert result.decided["decided_at"][0] > 2.7 and steps.loc[3, "forced"] == 1.0
    assert steps.loc[2, "read"] > 0.9 > 0.4 > steps.loc[0, "read_from_question"]
    assert steps.loc[1:, "flip"].min() > 0.95
    assert result.verdict.startswith("no verdict")  # hardly any step comes after the decision
    assert result.left_out == 0 and result.left_out_share == 0 and "no mistake" not in result.verdict


def test_steps_that_cannot_be_changed_are_counted() -> None:
    reasoner = interp.load("chain-text")
    traces = reasoner.think(task("chain:steps=3").generate(12, seed=9, split="test"))
    steps = traces[0].problem.steps
    unread = replace(traces[0].problem, steps=(replace(steps[0], value="nowhere"), *steps[1:]))
    result = commitment(reasoner, TraceSet([replace(traces[0], problem=unread), *traces[1:]]))
    assert result.left_out == 1 and result.left_out_share == pytest.approx(1 / 36)
    assert "No mistake could be put into 1 of 36 steps (0.028)" in result.verdict


def test_silent_thoughts_can_be_cut_short(coconut: interp.Reasoner) -> None:
    problems = task("chain:steps=3").generate(30, seed=9, split="test")
    traces = coconut.think(problems)
    answers = forced_answers(coconut, traces)
    assert all(each[0] is None and each[3] == trace.answer for each, trace in zip(answers, traces, strict=True))
    assert np.mean([each[1] == each[3] for each in answers]) < 0.5


def test_a_reasoner_without_steps_is_refused() -> None:
    direct = interp.load("chain-direct")
    traces = direct.think(direct.task.generate(20, seed=1, split="test"))
    with pytest.raises(
        UsageError, match=r"expected steps of thinking in every trace|expected a reasoner whose steps can be left out"
    ):
        commitment(direct, traces)


def test_without_values_to_change_the_end_of_another_text_is_inserted() -> None:
    """A text reasoner decides at its last step: another problem's last step changes the answer."""
    reasoner = interp.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(40, seed=8, split="test"))
    last = np.array([max(trace.step) for trace in traces])
    ends = _foreign_ends(reasoner, traces, last, seed=0)
    assert (ends["step"] == ends["steps"]).all() and ends["flip"].mean() > 0.7
    early = _foreign_ends(reasoner, traces, np.ones(40, int), seed=0)
    assert set(early["step"]) == {1, 2} and early["flip"].mean() > 0.7


def test_an_exchanged_state_leaves_the_position_behind_and_changes_the_answer() -> None:
    """Against a plain pass: the state after the last iteration is the donor's, with the recipient's own position."""
    reasoner = interp.load("chain-recurrent")
    problems = [p for n in (2, 5) for p in task(f"chain:steps={n}").generate(40, seed=7, split="test")]
    traces = reasoner.think(problems, batch_size=80)
    addresses = reasoner.steps.iteration_addresses()
    flips = _exchanged_states(reasoner, addresses, traces, seed=0)
    last = flips[flips["step"] == len(addresses)]
    assert last["flip"].mean() > 0.8, "the positive control: this state decides the answer"
    first, end = reasoner.config.recurrent
    model = GPT2LMHeadModel.from_pretrained(weights_folder("chain-recurrent"), attn_implementation="eager").eval()
    positions = np.array([reasoner.steps.location(trace, 0)[1] for trace in traces])
    reached = np.array([trace.problem.steps[-1].value for trace in traces])
    rng = np.random.default_rng(0)
    for k in range(1, len(addresses) + 1):
        values = [trace.problem.steps[min(k, trace.problem.n_steps) - 1].value for trace in traces]
        donors = np.array([rng.choice(np.flatnonzero(np.array(values) != value)) for value in values])
    assert (reached[donors] != reached).all() and (positions[donors] != positions).mean() > 0.3
    with torch.no_grad():
        finals = [
            recurrence.states(model, torch.tensor([trace.token_ids[: where + 1]]), first, end, len(addresses))[-1][0]
            for trace, where in zip(traces, positions, strict=True)
        ]
        place = model.transformer.wpe.weight
        expected = []
        for t, d in enumerate(donors):
            moved = finals[d][-1] - place[positions[d]] + place[positions[t]]
            state = torch.cat([finals[t][:-1], moved[None]])[None]
            expected.append(int(recurrence.read_out(model, state, end)[0, -1].argmax()))
    answers = reasoner.tokenizer.convert_ids_to_tokens(expected)
    assert last["flip"].tolist() == [a != trace.answer for a, trace in zip(answers, traces, strict=True)]
