"""Where the value of a step is expected, also in a model that answers at once."""

from __future__ import annotations

from collections.abc import Callable

import interp
from interp.causal.interchanges.run import interchange
from interp.causal.patching.patch import position_of_step


def test_a_model_that_answers_at_once_has_one_place_before_its_answer() -> None:
    reasoner = interp.load("chain-direct")
    trace = reasoner.think(reasoner.task.generate(1, seed=3))[0]
    last = trace.problem.n_steps
    answer = trace.channel.index("answer")
    assert last > 1 and position_of_step(trace, last) == answer - 1
    assert position_of_step(trace, last, -1) == answer - 2
    assert position_of_step(trace, last, 1) is None and position_of_step(trace, last - 1) is None
    assert position_of_step(trace, last, -answer) is None


def test_an_interchange_of_a_model_that_answers_at_once_is_where_its_answer_begins(asked: Callable) -> None:
    reasoner = interp.load("chain-direct")
    traces = reasoner.think(reasoner.task.generate(200, seed=5))
    donors = interp.causal.donors_for(reasoner, traces, source="others")
    # Everything at that place is the answer: the recipient then says what the donor said, right or wrong.
    table = interchange(reasoner, traces, address="everything", donors=donors).table()
    swapped = table[table["edit"] == "other value"]
    assert len(swapped) > 10
    assert set(swapped["step"]) == {row.n_steps for row in swapped.itertuples()}
    said = [traces[donor].answer for donor in swapped["donor"]]
    assert swapped["answer_after"].tolist() == said
    wrong = table[table["edit"] == "wrong site"]
    assert len(wrong) and (wrong["target"] < [traces[k].channel.index("answer") - 1 for k in wrong["trace"]]).all()
