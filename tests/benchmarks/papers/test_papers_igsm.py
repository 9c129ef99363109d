"""The section on iGSM: positions of questions, true labels, matched pairs, and kinds of mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pandas as pd
import pytest

from benchmarks.papers import igsm
from benchmarks.papers.mental_process import (
    LABELS,
    constants,
    decision_items,
    decisions,
    errors_table,
    items_of,
    question_items,
    readings,
    references,
    sentence_ends,
    steps_of,
)
from interp.problems import task
from interp.problems.base import Problem
from interp.traces import Channel, Trace, TraceSet
from probes.vprobe.controls import VProbeResult

TASK = task("igsm")
PROBLEMS = TASK.generate(40, seed=9, split="test")
STEP_LABELS = LABELS[2:]


def trace_of(problem: Problem, sentences: Sequence[str] | None = None, answer: str | None = None) -> Trace:
    """A trace in which these sentences were written; the gold ones by default."""
    sentences = [step.text for step in problem.steps] if sentences is None else sentences
    parts = [
        (Channel.PROMPT, problem.question.split()),
        (Channel.SPECIAL, ["<bot>"]),
        (Channel.THOUGHT, " ".join(sentences).split()),
        (Channel.SPECIAL, ["<eot>"]),
        (Channel.ANSWER, [answer or problem.answer]),
    ]
    tokens = [word for _, words in parts for word in words]
    n, nan = len(tokens), float("nan")
    return Trace(
        id=0,
        problem=problem,
        reasoner="by hand",
        token_ids=[len(word) for word in tokens],
        tokens=tokens,
        channel=[str(channel) for channel, words in parts for _ in words],
        step=[0] * n,
        thought=[0] * n,
        entropy=[nan] * n,
        logprob=[nan] * n,
        text=" ".join([*sentences, answer or problem.answer]),
        answer=answer or problem.answer,
        correct=(answer or problem.answer) == problem.answer,
    )


GOLD = [trace_of(problem) for problem in PROBLEMS]


def distractor(problem: Problem) -> tuple[str, str]:
    """An unnecessary parameter that is given as a number, and the step that computes it."""
    given = {s.split(":")[0]: s.split()[1] for s in problem.meta["definitions"] if len(s.split()) == 2}
    name = next(n for n in given if n not in problem.meta["order"])
    return name, f"{name}: {given[name]} so {name} {given[name]} ."


# Positions


def test_the_text_is_read_up_to_the_begin_marker_and_up_to_each_full_stop() -> None:
    for trace in GOLD:
        ends = sentence_ends(trace)
        assert trace.tokens[ends[0] - 1] == "<bot>"
        assert len(ends) == trace.problem.n_steps + 1
        for k, end in enumerate(ends[1:], 1):
            assert trace.tokens[end - 1] == "."
            written = trace.tokens[ends[0] : end]
            assert " ".join(written) == " ".join(step.text for step in trace.problem.steps[:k])


def test_readings_say_what_was_written_and_stop_before_what_follows_a_mistake() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 4)
    order, said = problem.meta["order"], [step.text for step in problem.steps]
    assert [reading.known for reading in readings(trace_of(problem))] == [tuple(order[:k]) for k in range(4)]
    _, wrong = distractor(problem)
    assert [r.known for r in readings(trace_of(problem, [said[0], wrong, *said[1:]]))] == [(), (order[0],)]
    assert readings(trace_of(problem, [])) == []


# Labels


def test_necessary_is_asked_of_every_necessary_parameter_but_the_asked_one_and_of_its_twin() -> None:
    items = question_items(GOLD, "necessary", Random(0))
    by_problem: dict[str, dict[str, str]] = {}
    for item in items:
        assert item.n_positions == sentence_ends(item.trace)[0]
        by_problem.setdefault(item.trace.problem.id, {})[item.about[0]] = item.label
    for problem in PROBLEMS:
        found, twins, asked = by_problem[problem.id], problem.meta["twins"], problem.meta["asked"]
        needed = set(problem.meta["order"]) - {asked}
        assert found == dict.fromkeys(needed, "yes") | {twins[n]: "no" for n in needed}
        for name, label in found.items():
            assert TASK.fact(problem, "necessary", (name,), 0) == label


def test_dependence_is_asked_with_its_matched_negative() -> None:
    items = question_items(GOLD, "depends", Random(0))
    for yes, no in zip(items[::2], items[1::2], strict=True):
        (a, b), twins = yes.about, yes.trace.problem.meta["twins"]
        assert no.about == (a, twins[b])
        assert (yes.label, no.label) == ("yes", "no")
        assert TASK.fact(yes.trace.problem, "depends", (a, b), 0) == "yes"
        assert TASK.fact(no.trace.problem, "depends", no.about, 0) == "no"


@pytest.mark.parametrize("label", STEP_LABELS)
def test_labels_along_a_gold_solution_are_the_tasks_own_facts(label: str) -> None:
    items = items_of(GOLD, label, seed=1)
    assert len({item.label for item in items}) >= 2
    for item in items:
        step = sentence_ends(item.trace).index(item.n_positions)
        assert item.label == TASK.fact(item.trace.problem, label, item.about, step)


def test_labels_hold_for_the_order_that_was_written() -> None:
    for problem in PROBLEMS:
        first, second, *rest = problem.steps
        swapped = trace_of(problem, [second.text, first.text, *(step.text for step in rest)])
        if any(step.error for step in steps_of(swapped)):
            continue
        items = items_of([swapped] * 4, "known", seed=2)
        after_one = {item.about[0]: item.label for item in items if item.n_positions == sentence_ends(swapped)[1]}
        assert after_one.get(problem.meta["order"][1], "yes") == "yes"
        assert after_one.get(problem.meta["order"][0], "no") == "no"
        return
    pytest.fail("no solution could be written in another order")


@pytest.mark.parametrize("label", ["known", "can_next", "necessary_next"])
def test_at_every_position_a_parameter_is_asked_about_together_with_its_twin(label: str) -> None:
    asked: dict[tuple[int, int], list[str]] = {}
    for item in items_of(GOLD, label, seed=1):
        asked.setdefault((id(item.trace), item.n_positions), []).append(item.about[0])
    for trace in GOLD:
        twins = trace.problem.meta["twins"]
        for end in sentence_ends(trace)[:-1]:
            names = asked[id(trace), end]
            assert set(names) == {twins[name] for name in names} and len(names) == len(set(names)) == 4


def test_the_same_seed_asks_the_same() -> None:
    def told(seed: int) -> list[tuple]:
        return [(item.n_positions, item.about, item.label) for item in items_of(GOLD, "known", seed)]

    assert told(3) == told(3) != told(4)


def test_items_know_how_far_they_lie_from_the_question_and_whether_they_are_numbers() -> None:
    items = question_items(GOLD, "necessary", Random(0))
    far, given = references(items), constants(items)
    for item, n, number in zip(items, far, given, strict=True):
        definitions = {s.split(":")[0]: s.split()[1:] for s in item.trace.problem.meta["definitions"]}
        roots = (item.trace.problem.meta["asked"], item.trace.problem.meta["twins"][item.trace.problem.meta["asked"]])
        assert (n == 1) == any(item.about[0] in definitions[root] for root in roots)
        assert number == (len(definitions[item.about[0]]) == 1)
    assert far.max() >= 2


# Mistakes


def test_decisions_end_with_the_first_mistake_and_name_it() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 3)
    output = [step.text for step in problem.steps]
    name, wrong = distractor(problem)
    made = list(decisions([trace_of(problem, [output[0], wrong, *output[1:]]), trace_of(problem)]))
    assert [each.outcome for each in made] == ["right", "unnecessary", "right", "right", "right"]
    assert made[1].step.parameter == name and made[1].reading.known == (problem.meta["order"][0],)
    early = list(decisions([trace_of(problem, [output[-1]])]))
    assert [each.outcome for each in early] == ["not ready"]
    off = output[0].split()
    off[-2] = str((int(off[-2]) + 1) % 23)
    assert [each.outcome for each in decisions([trace_of(problem, [" ".join(off)])])] == ["other mistake"]
    assert list(decisions([trace_of(problem, ["so so ."])])) == []


def test_a_decision_is_asked_about_before_it_is_written_and_its_labels_are_true() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 3)
    name, wrong = distractor(problem)
    made = list(decisions([trace_of(problem, [problem.steps[0].text, wrong])]))
    for label, expected in {"necessary": "no", "can_next": "yes", "necessary_next": "no"}.items():
        right, mistake = decision_items(made, label)
        assert right.label == "yes" and right.n_positions == sentence_ends(right.trace)[0]
        assert mistake.label == expected and mistake.about == (name,)
        assert mistake.n_positions == sentence_ends(mistake.trace)[1]


def test_the_table_of_mistakes_counts_what_the_probes_said() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 3)
    _, wrong = distractor(problem)
    made = list(decisions([trace_of(problem), trace_of(problem, [wrong])]))
    read = {"necessary_next": np.array(["yes", "yes", "no", "yes"]), "can_next": np.array(["yes"] * 3 + ["no"])}
    table = errors_table(made, read).set_index("the step written")
    assert list(table.index) == ["right", "unnecessary"]
    assert table["n"].tolist() == [3, 1]
    assert table["necessary_next read as yes"].tolist() == [pytest.approx(2 / 3), 1.0]
    assert table["can_next read as yes"].tolist() == [1.0, 0.0]


# Tables


def test_the_answers_table_tells_answers_from_whole_solutions_and_counts_first_mistakes() -> None:
    problems = [p for p in PROBLEMS if p.n_steps == 3][:4]
    _, detour = distractor(problems[0])
    traces = [trace_of(problem) for problem in problems]
    traces[0] = trace_of(problems[0], [detour, *(step.text for step in problems[0].steps)])
    traces[1] = trace_of(problems[1], answer=str((int(problems[1].answer) + 1) % 23))
    (row,) = igsm.answers_table({"as trained": TraceSet(traces)}).to_dict("records")
    assert (row["answer right"], row["every step right"], row["n"]) == (0.75, 0.5, 4)
    assert row["first mistakes"] == "unnecessary 1" and row["necessary parameters"] == 3
    assert row["ci_low"] < 0.75 < row["ci_high"]


def probed(gold: Sequence[str], **read: Sequence[str]) -> VProbeResult:
    rows = [
        {"reader": name, "macro_f1": float(np.mean(np.array(said) == np.array(gold))), "ci_low": 0.0, "ci_high": 1.0}
        for name, said in read.items()
    ]
    groups = np.arange(len(gold)).astype(str)
    arrays = {name: np.array(said) for name, said in read.items()}
    return VProbeResult(pd.DataFrame(rows), np.arange(len(gold)), np.array(gold), groups, arrays, {})


def test_the_measure_is_the_lead_over_the_best_control() -> None:
    gold = ["yes", "no"] * 20
    half, none = ["yes", "no", "no", "yes"] * 10, ["no", "yes"] * 20
    result = probed(gold, vprobe=gold, random_init=none, start=half, bag_of_features=none, majority=["yes"] * 40)
    measure = igsm._measure(result, 0.875)
    assert measure["value"] == pytest.approx(0.5) and measure["n"] == 40
    assert measure["ci"][0] < 0.5 < measure["ci"][1]
    assert measure["note"].startswith("over start, the best of the controls; vprobe 1.000, random init 0.000")
    assert "answers right 0.875" in measure["note"]
    table = igsm.labels_table({"necessary": result})
    assert table.loc[0, "best control"] == "start" and table.loc[0, "lead"] == pytest.approx(0.5)


def test_organisms_taught_otherwise_stand_side_by_side_with_what_they_were_taught() -> None:
    gold = ["yes", "no"] * 20
    knows, not_so = (
        probed(gold, vprobe=gold, majority=["no"] * 40),
        probed(gold, vprobe=gold[::-1], majority=["no"] * 40),
    )
    table = igsm.taught_table({igsm.NAME: (0.9, knows), igsm.PLAIN: (0.8, not_so)}).set_index("organism")
    assert table["lead"].tolist() == [pytest.approx(0.5), pytest.approx(-0.5)]
    assert "retries" in table.loc[igsm.NAME, "trained on"] and table.loc[igsm.PLAIN, "trained on"] == "igsm"


def test_what_is_known_before_is_told_apart_by_distance() -> None:
    items = question_items(GOLD, "necessary", Random(0))
    gold = [item.label for item in items]
    far = references(items)
    read = [label if n == 1 else "yes" for label, n in zip(gold, far, strict=True)]
    table = igsm.known_before(probed(gold, vprobe=read, majority=["no"] * len(gold)), items).set_index("parameters")
    assert table.loc["1 reference away", "vprobe"] == 1.0
    assert table.loc["2 references away", "vprobe"] == pytest.approx(1 / 3)
    assert "majority" not in table.columns
    assert table.loc["given as a number", "n"] + table.loc["computed from others", "n"] == len(items)
