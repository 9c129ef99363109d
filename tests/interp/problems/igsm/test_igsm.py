"""Task `igsm`: dependency graphs in words, matched distractors, exact labels and verification."""

from __future__ import annotations

import itertools
import re
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import SPLITS, Problem, split_of
from interp.problems.igsm import ARITHMETIC, NOT_NEXT, SURFACE, IGSMTask, check_steps, surface
from interp.problems.igsm.graph import COMMUTES, canonical, draw_component

IGSM = IGSMTask()
WIDE = IGSMTask(steps="2-5", parameters=14)
SIGNS = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}
DOWN = IGSMTask(steps="2-5", parameters=12, asks="first", order="top-down")
PROBLEMS = [*IGSM.generate(120, seed=1), *WIDE.generate(120, seed=2), *DOWN.generate(120, seed=3)]
TASKS = {made.spec: made for made in (IGSM, WIDE, DOWN)}


def read(question: str) -> tuple[dict[str, list[str]], str]:
    """A question's definitions and what it asks for, from its words alone."""
    sentences = re.split(r" \. | (?<=\? )", question.removesuffix(" ."))
    asked = next(each for each in sentences if each.endswith("?"))
    sentences.remove(asked)
    result = {words[0].rstrip(":"): words[1:] for words in map(str.split, sentences)}
    how, many, name, mark = asked.split()
    assert (how, many, mark) == ("how", "many", "?")
    return result, name


def operands(formula: list[str]) -> list[str]:
    return [word for word in formula[::2] if not word.isdigit()]


def solve(definitions: dict[str, list[str]], mod: int, fixed: dict[str, int] | None = None) -> dict[str, int]:
    """Every value, by going over the sentences again and again until nothing is missing."""
    values = dict(fixed or {})
    while len(values) < len(definitions):
        for name, formula in definitions.items():
            if name not in values and all(o in values for o in operands(formula)):
                numbers = [int(w) if w.isdigit() else values[w] for w in formula[::2]]
                values[name] = (SIGNS[formula[1]](*numbers) if len(numbers) == 2 else numbers[0]) % mod
    return values


def reaches(definitions: dict[str, list[str]]) -> dict[tuple[str, str], bool]:
    """Whether each parameter depends on each other: the transitive closure by powers of the adjacency matrix."""
    names = list(definitions)
    step = np.array([[b in operands(definitions[a]) for b in names] for a in names])
    path = step.copy()
    for _ in names:
        path = path | (path.astype(int) @ step.astype(int) > 0)
    return {(a, b): bool(path[i, j]) for i, a in enumerate(names) for j, b in enumerate(names)}


def gold(problem: Problem) -> str:
    return " ".join([*(step.text for step in problem.steps), problem.answer])


# Generation


@pytest.mark.parametrize("problem", PROBLEMS[::12], ids=lambda p: p.id)
def test_the_answer_and_every_step_follow_from_the_words_of_the_question(problem: Problem) -> None:
    definitions, asked = read(problem.question)
    values = solve(definitions, 23)
    assert problem.answer == str(values[asked]) == problem.steps[-1].value
    assert [step.value for step in problem.steps] == [str(values[step.text.split(":")[0]]) for step in problem.steps]


def test_steps_are_the_necessary_parameters_each_after_its_operands_and_restate_values() -> None:
    for problem in PROBLEMS:
        definitions, asked = read(problem.question)
        paths, order = reaches(definitions), [step.text.split(":")[0] for step in problem.steps]
        assert set(order) == {name for name in definitions if name == asked or paths[asked, name]}
        assert len(order) == len(set(order)) == problem.n_steps
        values = solve(definitions, 23)
        for k, (name, step) in enumerate(zip(order, problem.steps, strict=True)):
            assert set(operands(definitions[name])) <= set(order[:k])
            output = " ".join(f"{w} {values[w]}" if w in values else w for w in definitions[name])
            assert step.text == f"{name}: {output} so {name} {values[name]} ."


def test_orders_of_steps_are_not_those_of_the_sentences() -> None:
    follows = []
    for problem in IGSM.generate(300, seed=4):
        definitions, _ = read(problem.question)
        at = [list(definitions).index(step.text.split(":")[0]) for step in problem.steps]
        follows.append(at == sorted(at))
    assert np.mean(follows) < 0.5


def test_the_readable_form_says_the_same() -> None:
    for problem in PROBLEMS[::6]:
        output = dict(re.findall(r"The number of (\w+) is ([^.]+)\.", problem.readable))
        definitions = {name: text.replace("the number of ", "").split() for name, text in output.items()}
        asked = re.search(r"What is the number of (\w+)\?$", problem.readable)
        assert asked and str(solve(definitions, 23)[asked[1]]) == problem.answer
        assert "modulo 23" in problem.readable


def test_names_are_drawn_for_each_problem_and_every_word_is_in_the_vocabulary() -> None:
    words = set(IGSM.vocabulary())
    assert len(words) == len(IGSM.vocabulary())
    for problem in PROBLEMS:
        assert set(f"{problem.question} {gold(problem)}".split()) <= words
    assert len({problem.meta["asked"] for problem in PROBLEMS}) == 24


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), more=st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_problems_and_a_larger_n_extends_them(seed: int, n: int, more: int) -> None:
    assert IGSM.generate(n, seed) == IGSM.generate(n, seed)
    assert IGSM.generate(n + more, seed)[:n] == IGSM.generate(n, seed)


def test_problems_survive_being_written_and_read() -> None:
    for problem in PROBLEMS[:20]:
        again = Problem.from_json(problem.to_json())
        assert again == problem
        assert IGSM.entities(again) == IGSM.entities(problem) == tuple(read(problem.question)[0])


def test_steps_parameters_and_mod_are_what_was_asked_for() -> None:
    made = task("igsm:steps=3,mod=11,parameters=10")
    for problem in made.generate(50, seed=0, split="val"):
        definitions, _ = read(problem.question)
        assert (problem.n_steps, len(definitions)) == (3, 10)
        assert int(problem.answer) < 11
    assert {len(read(p.question)[0]) - 2 * p.n_steps for p in IGSM.generate(50, seed=0)} == {0}
    rng = Random(0)
    assert [p.n_steps for p in itertools.islice(IGSM.draws(rng, "train", 4), 5)] == [4] * 5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("igsm:steps=many", "expected steps of task igsm like 2-4 or 3, got 'many'"),
        ("igsm:steps=1-4", "expected steps of task igsm between 2 and 12, the smaller first, got '1-4'"),
        ("igsm:mod=x", "mod of task igsm to be a whole number of at least 5, got 'x'"),
        (
            "igsm:parameters=6",
            "expected parameters of task igsm to be an even number from 8, twice the most steps, to 24",
        ),
        ("igsm:steps=2,parameters=5", "an even number from 4"),
        ("igsm:retries=2", "expected retries of task igsm between 0 and 1, got '2'"),
        ("igsm:retries=some", "between 0 and 1, got 'some'"),
        (
            "igsm:asks=frist",
            "expected a known asks of task igsm, got 'frist'; did you mean 'first'? Known: last, first.",
        ),
        ("igsm:order=bottom-up", "expected a known order of task igsm, got 'bottom-up'"),
        ("igsm:depth=3", "expected a known option of task igsm, got 'depth'"),
    ],
)
def test_wrong_options_are_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        task(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "igsm",
        "igsm:steps=2-5",
        "igsm:mod=11",
        "igsm:steps=3,parameters=10",
        "igsm:retries=0.5,asks=first,order=top-down",
        "igsm:asks=first,order=numbers-last",
    ],
)
def test_the_spec_names_the_task(spec: str) -> None:
    assert task(spec).spec == spec
    assert task(spec).generate(3, seed=0, split="test")[0].task == spec


# Where it is asked, and in which order


def test_the_question_is_asked_last_or_first() -> None:
    for made, at in ((IGSM, -4), (IGSMTask(asks="first"), 0)):
        for problem in made.generate(30, seed=5):
            assert problem.question.split()[at:][:4] == ["how", "many", problem.meta["asked"], "?"]


def test_top_down_every_parameter_is_defined_after_all_that_use_it() -> None:
    for problem in IGSMTask(steps="2-5", parameters=14, order="top-down").generate(100, seed=5):
        definitions, _ = read(problem.question)
        for at, name in enumerate(definitions):
            assert not set(operands(definitions[name])) & set(list(definitions)[:at])


def test_numbers_last_no_number_stands_before_an_operation_or_in_the_order_of_its_use() -> None:
    same_order = []
    for problem in IGSMTask(steps="2-5", parameters=14, order="numbers-last").generate(200, seed=5):
        definitions, _ = read(problem.question)
        is_number = [not operands(formula) for formula in definitions.values()]
        assert is_number == sorted(is_number)
        for at, name in enumerate(definitions):
            assert not set(operands(definitions[name])) & set(list(definitions)[:at])
        numbers = [name for name, number in zip(definitions, is_number, strict=True) if number]
        used = [name for formula in definitions.values() for name in operands(formula) if name in numbers]
        same_order.append(used[0] == numbers[0])
    assert 0.1 < sum(same_order) / len(same_order) < 0.6


def test_top_down_either_component_comes_first_equally_often() -> None:
    first = []
    for problem in DOWN.generate(1000, seed=6):
        at = list(read(problem.question)[0]).index
        twins = problem.meta["twins"]
        first.append([at(name) < at(twins[name]) for name in problem.meta["order"]])
    assert np.mean([before[-1] for before in first]) == pytest.approx(0.5, abs=0.05), "of asked parameters"
    assert np.mean(np.concatenate(first)) == pytest.approx(0.5, abs=0.05)


def test_where_it_is_asked_belongs_to_no_structure() -> None:
    """The same graph drawn for one form and the other falls into the same split."""
    last, first = (next(IGSMTask(asks=asks).draws(Random(8), "train", n_steps=3)) for asks in ("last", "first"))
    assert last.structure == first.structure and last.question != first.question
    assert sorted(last.question.split()) == sorted(first.question.split())


# Structures


def test_no_structure_appears_in_two_splits() -> None:
    result = {split: {p.structure for p in IGSM.generate(500, 3, split)} for split in SPLITS}
    for split, structures in result.items():
        assert len(structures) > 450
        assert {split_of(s) for s in structures} == {split}


def renamed(definitions: dict[str, tuple[str, ...]], rng: Random) -> tuple[dict, dict[str, str]]:
    """The same graph under other names, its sentences reordered and commuting operands swapped at random."""
    other = dict(
        zip(definitions, rng.sample([f"x{k}" for k in range(len(definitions))], len(definitions)), strict=True)
    )
    made = {}
    for name in rng.sample(list(definitions), len(definitions)):
        formula = tuple(other.get(word, word) for word in definitions[name])
        swap = len(operands(list(formula))) == 2 and formula[1] in COMMUTES and rng.random() < 0.5
        made[other[name]] = formula[::-1] if swap else formula
    return made, other


def isomorphic(one: dict, two: dict) -> bool:
    """Whether some renaming turns one graph into the other, by trying them all."""
    if len(one) != len(two):
        return False
    for names in itertools.permutations(two):
        other = dict(zip(one, names, strict=True))
        forms = {other[n]: [tuple(other.get(w, w) for w in f)] for n, f in one.items()}
        for name, found in forms.items():
            if len(operands(list(found[0]))) == 2 and found[0][1] in COMMUTES:
                forms[name] = [found[0], found[0][::-1]]
        if all(two[name] in found for name, found in forms.items()):
            return True
    return False


@given(seed=st.integers(0, 10**6), size=st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_names_sentence_order_and_operand_order_do_not_change_a_structure(seed: int, size: int) -> None:
    rng = Random(seed)
    names = [f"n{k}" for k in range(size)]
    graph = draw_component(rng, names, rng.randint(2, size), 23)
    other, renaming = renamed(graph, rng)
    assert canonical(graph, [names[-1]]) == canonical(other, [renaming[names[-1]]])


def test_graphs_have_one_structure_exactly_if_they_are_isomorphic() -> None:
    rng = Random(7)
    graphs = [draw_component(rng, ["a", "b", "c"], 3, 3) for _ in range(60)]
    graphs += [draw_component(rng, ["a", "b", "c", "d"], 4, 3) for _ in range(30)]
    same = 0
    for one, two in itertools.combinations(graphs, 2):
        alike = isomorphic(one, two)
        same += alike
        assert (canonical(one, []) == canonical(two, [])) == alike
    assert same > 5, "hardly two graphs were alike, so little was tested"


def test_what_is_marked_belongs_to_the_structure() -> None:
    graph = {"a": ("5",), "b": ("a", "plus", "1"), "c": ("a", "plus", "1")}
    assert canonical(graph, ["b"]) == canonical(graph, ["c"])
    assert canonical(graph, ["b"]) != canonical(graph, ["a"])
    assert canonical(graph, ["b"]) != canonical({**graph, "c": ("a", "minus", "1")}, ["b"])


# Matched distractors


def shape(definitions: dict[str, list[str]], name: str) -> tuple:
    formula = definitions[name]
    uses = sum(operands(f).count(name) for f in definitions.values())
    return len(operands(formula)), formula[1:2], uses


def test_every_parameter_has_a_twin_in_the_other_component_that_looks_the_same() -> None:
    for problem in PROBLEMS:
        definitions, asked = read(problem.question)
        twins, paths = problem.meta["twins"], reaches(definitions)
        assert set(twins) == set(definitions) and all(twins[twins[name]] == name for name in twins)
        for name, twin in twins.items():
            assert shape(definitions, name) == shape(definitions, twin)
            assert [twins[o] for o in operands(definitions[name])] == operands(definitions[twin])
            assert not paths[name, twin] and not paths[twin, name]
        values = solve(definitions, 23)
        assert values[asked] != values[twins[asked]], "the wrong component must not give the right answer"


def test_asking_for_the_twin_turns_what_is_necessary_round_and_leaves_the_sentences() -> None:
    for problem in PROBLEMS:
        other = TASKS[problem.task].ask_twin(problem)
        assert list(read(other.question)[0].items()) == list(read(problem.question)[0].items())
        assert (other.structure, other.split) == (problem.structure, problem.split)
        assert other.answer != problem.answer
        assert IGSM.verify(other, gold(other)).first_error is None
        twins = problem.meta["twins"]
        for name in twins:
            flipped = IGSM.fact(other, "necessary", (twins[name],), 0)
            assert IGSM.fact(problem, "necessary", (name,), 0) == flipped


def where(problem: Problem, name: str) -> list[int]:
    """Where a parameter is defined in its question, and where it is mentioned first and last."""
    words = problem.question.split()
    mentioned = [k for k, word in enumerate(words) if word.rstrip(":") == name]
    return [words.index(f"{name}:"), mentioned[0], mentioned[-1]]


def held_out_f1(problems: list[Problem], *, only_matched: bool) -> float:
    """Macro-F1 of a logistic regression from surface features, places and a bag of words to `necessary`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    words = {word: k for k, word in enumerate(IGSM.vocabulary())}
    rows, labels, first = [], [], len(problems) // 2
    for k, problem in enumerate(problems):
        bag = np.zeros(len(words))
        for word in problem.question.split():
            bag[words[word]] += 1
        twins, asked = problem.meta["twins"], problem.meta["asked"]
        needed = {step.text.split(":")[0] for step in problem.steps}
        for name in twins:
            if name in (asked, twins[asked]) or (only_matched and not {name, twins[name]} & needed):
                continue
            own = np.eye(len(words))[words[name]]
            places = where(problem, name)
            before_twin = [here < there for here, there in zip(places, where(problem, twins[name]), strict=True)]
            rows.append(np.concatenate([[k >= first], surface(problem, name), places, before_twin, bag, own]))
            labels.append(name in needed)
    x, y = np.array(rows), np.array(labels)
    test = x[:, 0] == 1
    x[:, 1:] = (x[:, 1:] - x[:, 1:].mean(axis=0)) / x[:, 1:].std(axis=0).clip(1e-6)
    fit = LogisticRegression(C=0.1, max_iter=200, tol=1e-3).fit(x[~test, 1:], y[~test])
    return float(f1_score(y[test], fit.predict(x[test, 1:]), average="macro"))


@pytest.mark.parametrize("made", [IGSM, IGSMTask(asks="first", order="top-down")], ids=lambda made: made.spec)
def test_a_bag_of_features_is_at_chance_for_necessary(made: IGSMTask) -> None:
    assert held_out_f1(made.generate(1200, seed=11, split="train"), only_matched=True) == pytest.approx(0.5, abs=0.04)


def test_the_same_baseline_reads_what_is_necessary_where_distractors_are_not_matched() -> None:
    loose = IGSMTask(steps="3", parameters=14).generate(400, seed=11, split="train")
    assert held_out_f1(loose, only_matched=False) > 0.6


def test_surface_features_have_names_and_describe_the_sentences() -> None:
    problem = IGSM.generate(1, seed=0)[0]
    definitions, asked = read(problem.question)
    for at, name in enumerate(definitions):
        output = dict(zip(SURFACE, surface(problem, name, problem.meta["order"][:1]), strict=True))
        assert output["constant"] == (len(definitions[name]) == 1)
        assert output["asked"] == (name == asked) and output["sentence from the front"] == at
        assert output["written"] == (name == problem.steps[0].text.split(":")[0])
        assert output["uses"] == shape(definitions, name)[2]


# Labels


def test_labels_agree_with_brute_force() -> None:
    for problem in PROBLEMS[::3]:
        made = TASKS[problem.task]
        definitions, asked = read(problem.question)
        paths = reaches(definitions)
        order = [step.text.split(":")[0] for step in problem.steps]
        for a, b in itertools.permutations(definitions, 2):
            assert made.fact(problem, "depends", (a, b), 0) == ("yes" if paths[a, b] else "no")
        for step, name in itertools.product(range(problem.n_steps + 1), definitions):
            known = order[:step]
            necessary = name == asked or paths[asked, name]
            ready = name not in known and all(o in known for o in operands(definitions[name]))
            expected = {
                "necessary": necessary,
                "known": name in known,
                "can_next": ready,
                "necessary_next": ready and necessary,
            }
            for fact, truth in expected.items():
                assert made.fact(problem, fact, (name,), step) == ("yes" if truth else "no"), (fact, name, step)
            reached = problem.steps[known.index(name)].value if name in known else "unknown"
            assert made.fact(problem, "value", (name,), step) == reached
        assert made.fact(problem, "value", (asked,), problem.n_steps) == problem.answer


def test_the_next_gold_step_is_always_one_that_is_necessary_next() -> None:
    for problem in PROBLEMS:
        for k, step in enumerate(problem.steps):
            assert IGSM.fact(problem, "necessary_next", (step.text.split(":")[0],), k) == "yes"


def test_facts_are_undefined_for_parameters_that_a_problem_lacks_and_refused_when_misnamed() -> None:
    problem = PROBLEMS[0]
    name = IGSM.entities(problem)[0]
    assert IGSM.fact(problem, "known", ("unicorns",), 0) is None
    assert IGSM.fact(problem, "depends", (name, name), 0) is None
    with pytest.raises(
        UsageError, match=r"expected a known fact of task igsm, got 'necesary'; did you mean 'necessary'"
    ):
        IGSM.fact(problem, "necesary", (name,), 0)
    with pytest.raises(UsageError, match="expected 2 parameters for fact 'depends', got 1"):
        IGSM.fact(problem, "depends", (name,), 0)


def test_every_fact_says_how_many_parameters_it_is_about() -> None:
    problem = PROBLEMS[0]
    for fact, about in IGSM.facts.items():
        assert IGSM.fact(problem, fact, IGSM.entities(problem)[:about], 1) is not None


# Checking


def test_gold_solutions_are_right_in_every_order_that_computes_operands_first() -> None:
    orders = 0
    for problem in PROBLEMS[:120:4]:
        definitions, _ = read(problem.question)
        for permuted in itertools.permutations(problem.steps):
            names = [step.text.split(":")[0] for step in permuted]
            valid = all(set(operands(definitions[n])) <= set(names[:k]) for k, n in enumerate(names))
            verdict = IGSM.verify(problem, " ".join([*(step.text for step in permuted), problem.answer]))
            assert verdict.answer
            assert (verdict.first_error is None) == valid
            orders += valid
    assert orders > 40


def wrong(problem: Problem, kind: str) -> tuple[str, int]:
    """A gold solution with one mistake of a kind, and the number of the step that is wrong."""
    definitions, _ = read(problem.question)
    values, twins = solve(definitions, 23), problem.meta["twins"]
    output = [step.text for step in problem.steps]
    last = problem.n_steps
    if kind == "unnecessary":
        leaf = next(n for n in definitions if len(definitions[n]) == 1 and twins[n] in "".join(output))
        other = leaf if leaf not in [s.split(":")[0] for s in output] else twins[leaf]
        return " ".join([f"{other}: {values[other]} so {other} {values[other]} .", *output]), 1
    if kind == "not ready":
        return " ".join([output[-1], *output[:-1]]), 1
    if kind == "repeated":
        return " ".join([output[0], *output]), 2
    if kind == "unreadable":
        return " ".join([*output[:-1], output[-1].replace(" so ", " ")]), last
    words = output[-1].split()
    off = str((int(words[-2]) + 1) % 23)
    if kind == "arithmetic":
        return " ".join([*output[:-1], " ".join([*words[:-2], off, "."])]), last
    if kind == "definition":
        words[1], words[2] = next((n, str(values[n])) for n in definitions if n not in output[-1])
        return " ".join([*output[:-1], " ".join(words)]), last
    words[2] = str((int(words[2]) + 1) % 23)
    return " ".join([*output[:-1], " ".join(words)]), last


@pytest.mark.parametrize("kind", [*NOT_NEXT, *ARITHMETIC, "unreadable", "definition", "value"])
def test_each_kind_of_mistake_is_named_at_the_step_where_it_is_made(kind: str) -> None:
    for problem in PROBLEMS[:30]:
        text, at = wrong(problem, kind)
        checked = check_steps(problem, text)
        assert checked[at - 1].error == kind
        assert all(step.error is None for step in checked[: at - 1])
        assert IGSM.verify(problem, f"{text} {problem.answer}").first_error == at


def test_a_slip_that_later_steps_are_consistent_with_is_counted_once() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 4)
    definitions, asked = read(problem.question)
    first = problem.steps[0].text.split(":")[0]
    slipped = solve(definitions, 23, {first: (int(problem.steps[0].value) + 1) % 23})
    output = []
    for step in problem.steps:
        name = step.text.split(":")[0]
        formula = " ".join(f"{w} {slipped[w]}" if w in slipped else w for w in definitions[name])
        output.append(f"{name}: {formula} so {name} {slipped[name]} .")
    verdict = IGSM.verify(problem, " ".join([*output, str(slipped[asked])]))
    assert verdict.steps == (False, True, True, True)
    assert [step.error for step in check_steps(problem, " ".join(output))] == ["arithmetic", None, None, None]


def test_a_share_of_steps_begins_with_a_parameter_that_is_not_next_and_is_taken_back() -> None:
    retried = IGSMTask(retries=0.4)
    assert set(retried.vocabulary()) == set(IGSM.vocabulary())
    begun = []
    for problem in retried.generate(150, seed=3):
        definitions, _ = read(problem.question)
        assert retried.verify(problem, gold(problem)).first_error is None
        for k, (step, checked) in enumerate(zip(problem.steps, check_steps(problem, gold(problem)), strict=False)):
            assert step.text.startswith("".join(f"{name}: back " for name in checked.back))
            assert checked.parameter == problem.meta["order"][k]
            for name in checked.back:
                assert name in definitions and name not in problem.meta["order"][:k]
                assert retried.fact(problem, "necessary_next", (name,), k) == "no"
            assert len(set(checked.back)) == len(checked.back) <= 3
            begun.append(len(checked.back))
    assert np.mean([n > 0 for n in begun]) == pytest.approx(0.4, abs=0.08)
    assert np.mean([n > 1 for n in begun if n]) == pytest.approx(0.4, abs=0.1)


def test_taking_back_what_would_have_come_next_is_no_mistake_but_takes_no_step_either() -> None:
    problem = PROBLEMS[0]
    name = problem.meta["order"][0]
    verdict = IGSM.verify(problem, f"{name}: back {gold(problem)}")
    assert verdict.first_error is None and verdict.answer
    assert IGSM.verify(problem, f"{name}: back {problem.answer}").first_error == 1


def test_missing_and_superfluous_steps() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 3)
    short = IGSM.verify(problem, f"{problem.steps[0].text} {problem.answer}")
    assert short == type(short)(answer=True, steps=(True, None, None), first_error=None)
    assert IGSM.verify(problem, "").steps == (None, None, None)
    assert not IGSM.verify(problem, "").answer
    unfinished = IGSM.verify(problem, f"{problem.steps[0].text} ants: {problem.answer}")
    assert unfinished.steps == (True, False, None) and unfinished.first_error == 2
    assert IGSM.verify(problem, problem.answer).answer


@given(at=st.integers(0, 400), word=st.sampled_from(IGSM.vocabulary()), which=st.integers(0, 119))
@settings(max_examples=150, deadline=None)
def test_a_solution_that_is_checked_as_right_reaches_the_right_answer(at: int, word: str, which: int) -> None:
    problem = PROBLEMS[which]
    words = gold(problem).split()[:-1]
    words[at % len(words)] = word
    verdict = IGSM.verify(problem, " ".join([*words, problem.answer]))
    if all(verdict.steps):
        assert words == gold(problem).split()[:-1], "a changed word went unnoticed"
    else:
        assert verdict.first_error is not None


def test_a_counterfactual_value_is_carried_to_the_answer() -> None:
    for problem in PROBLEMS[::5]:
        definitions, asked = read(problem.question)
        for k, step in enumerate(problem.steps, 1):
            replaced = {step.text.split(":")[0]: 17}
            assert IGSM.counterfactual(problem, k, "17") == str(solve(definitions, 23, replaced)[asked])
            assert IGSM.counterfactual(problem, k, step.value) == problem.answer


def test_counterfactuals_out_of_range_are_refused() -> None:
    problem = PROBLEMS[0]
    with pytest.raises(UsageError, match=f"expected a step between 1 and {problem.n_steps}, got 0"):
        IGSM.counterfactual(problem, 0, "5")
    with pytest.raises(UsageError, match="expected a known value of task igsm, got '23'"):
        IGSM.counterfactual(problem, 1, "23")
