"""One edit of one thought: the donor holds the value, the answer follows, and the controls are where they should be."""

from __future__ import annotations

import pytest

import interp
from interp import causal
from interp.causal.patching.chosen import values_to_choose
from interp.errors import UsageError
from interp.traces import TraceSet


def test_the_answer_follows_the_donor_s_value_and_stays_with_the_same(
    coconut: interp.Reasoner, traces: TraceSet
) -> None:
    trace = next(k for k, t in enumerate(traces) if t.correct and t.problem.n_steps == 3)
    value, answer = next(iter(values_to_choose(coconut.task, traces[trace], 2).items()))
    edit = causal.edit_thought(coconut, traces, trace, 2, value)
    other, same = edit.outcome("other value"), edit.outcome("same value")
    assert other is not None and same is not None
    assert edit.predicted == other["answer_after"] == answer
    donor = edit.donors[int(str(other["donor"]))]
    assert donor.problem.steps[1].value == value and donor.problem.structure != traces[trace].problem.structure
    assert not same["changed"] and same["answer_after"] == traces[trace].answer
    assert list(edit.table["edit"]) == ["other value", "same value", "wrong site", "wrong step", "random vector"]
    assert [t.answer for t in edit.recording.traces] == list(edit.table["answer_after"])


def test_a_value_that_no_trace_holds_is_rewritten(coconut: interp.Reasoner, traces: TraceSet) -> None:
    value, answer = next(iter(values_to_choose(coconut.task, traces[0], 1).items()))
    edit = causal.edit_thought(coconut, traces[:1], 0, 1, value, edits=("other value",))
    assert edit.table["answer_after"].tolist() == [answer]


def test_what_cannot_be_edited_is_said(coconut: interp.Reasoner, traces: TraceSet) -> None:
    own = traces[0].problem.steps[0].value
    for step, value, words in ((9, "1", "step from 1"), (1, own, "another value"), (1, "77", "77")):
        with pytest.raises(UsageError, match=words):
            causal.edit_thought(coconut, traces, 0, step, value)


def test_values_to_choose_imply_another_answer(coconut: interp.Reasoner, traces: TraceSet) -> None:
    for trace in traces[:10]:
        for step in range(1, trace.problem.n_steps + 1):
            options = values_to_choose(coconut.task, trace, step)
            assert trace.problem.steps[step - 1].value not in options
            assert trace.answer not in options.values()
