"""Tasks of a user's own code: `package.module:object`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import interp
from interp.activations.targets import trace_labels
from interp.errors import UsageError
from interp.problems import Task, parse_spec, task
from interp.problems.chain import ChainTask
from interp.traces import TraceSet

MODULE = '''
from interp.problems import Task
from interp.problems.chain import ChainTask

class Short(ChainTask):
    """Inherits the spec of its parent."""
    def __init__(self, steps="2-3"):
        super().__init__(steps=steps)

ready = Short()

def make(steps: str = "2") -> Task:
    return Short(steps)

def unsaid(steps="2"):
    return Short(steps)

def sums(rng, largest=9):
    while True:
        a, b, c = (rng.randint(0, int(largest)) for _ in range(3))
        yield {"question": f"{a} + {b} + {c}?", "answer": a + b + c, "values": [a + b, a + b + c], "parity": (a + b) % 2}

def answer_if(problem, step, value):
    last = int(problem.question.split("+")[2].strip(" ?"))
    return None if not value.isdigit() else int(value) + (last if step == 1 else 0)

def few(rng):
    yield {"question": "1 + 1?", "answer": 2}

def wrong(rng):
    yield {"question": "1 + 1?"}

class Bare(Task):
    def draws(self, rng, split, n_steps=None): yield from ()
    def verify(self, problem, text): ...
    def counterfactual(self, problem, step, value): ...
    def vocabulary(self): return []

number = 3
'''


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module in the current folder, which is on no path."""
    (tmp_path / "own_tasks.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "own_broken.py").write_text("import nothing_such\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    for name in ("own_tasks", "own_broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        ("own_tasks:Short", {2, 3}),
        ("own_tasks:Short:steps=4", {4}),
        ("own_tasks:ready", {2, 3}),
        ("own_tasks:make:steps=1", {1}),
        ("own_tasks:sums:largest=20", {2}),
    ],
)
def test_an_object_of_a_module_is_a_task_and_its_spec_makes_it_again(own_tasks: Path, spec: str, steps: set) -> None:
    made = task(spec)
    problems = made.generate(20, seed=0)
    assert made.spec == spec and {p.task for p in problems} == {spec} and {p.n_steps for p in problems} == steps
    assert task(problems[0].task).generate(20, seed=0) == problems
    assert all(task(p.task).verify(p, " ".join([*(s.text for s in p.steps), p.answer])).answer for p in problems)


def test_a_generator_with_an_oracle_is_a_whole_task(own_tasks: Path) -> None:
    made = task("own_tasks:sums")
    (problem,) = made.generate(1, seed=3, split="val")
    a, b, c = (int(part.strip(" ?")) for part in problem.question.split("+"))
    assert problem.answer == str(a + b + c) and problem.split == "val"
    assert made.counterfactual(problem, 1, "7") == str(7 + c) and made.counterfactual(problem, 2, "7") == "7"
    small = task("own_tasks:sums:largest=3")
    assert (small.min_steps, small.max_steps) == (2, 2) and set(small.values) == set(map(str, range(10)))
    assert made.step_values(problem, 1) == made.values and problem.labels == {"parity": str((a + b) % 2)}
    with pytest.raises(UsageError, match=r"where step 1 reaches 'x', got none for .*define answer_if\(problem, step"):
        made.counterfactual(problem, 1, "x")
    with pytest.raises(UsageError, match="expected more problems in the train split of own_tasks:few, got none"):
        task("own_tasks:few").generate(3, seed=0, split="train")
    with pytest.raises(UsageError, match="problem 1 of own_tasks:wrong: it has no 'answer'"):
        task("own_tasks:wrong").generate(1, seed=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "own_taks:Short",
            "or a Python object like package.module:object, got 'own_taks:Short', but there is no module 'o",
        ),
        (
            "own_broken:Short",
            r"expected to import module own_broken .*got ModuleNotFoundError: No module named 'nothing_",
        ),
        ("own_tasks:Shor", r"expected a known object of module own_tasks, got 'Shor'; did you mean 'Short'\?"),
        ("own_tasks:number", "expected own_tasks:number to be a Task, a class of tasks, .* got int"),
        ("own_tasks:unsaid", "got a function; say what it returns: `-> Task`"),
        (
            "own_tasks:Bare",
            "to have the attributes values, min_steps, max_steps, got none named values, min_steps, max",
        ),
        ("own_tasks:Short:step=3", "expected a known option of task own_tasks:Short, got 'step'; did you mean 'steps'"),
        ("own_tasks:sums:smallest=3", "expected a known option of sums, got 'smallest'"),
        ("own_tasks:ready:steps=3", "expected no options for own_tasks:ready, which is a task already, got steps"),
        ("own_tasks:Short:steps", "write 'steps' as key=value"),
        ("chain:steps", "write 'steps' as key=value"),
    ],
)
def test_what_is_no_task_is_refused_with_what_to_do(own_tasks: Path, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(spec)


@pytest.mark.parametrize("spec", ["os:system:command=touch owned", "subprocess:getoutput:cmd=touch owned"])
def test_a_spec_calls_nothing_but_tasks(own_tasks: Path, spec: str) -> None:
    with pytest.raises(UsageError, match=r"expected .* to be a Task"):
        task(spec)
    assert not (own_tasks / "owned").exists()


@pytest.mark.parametrize("file", ["config.json", "reasoner.json"])
def test_code_in_a_models_folder_is_not_imported(own_tasks: Path, file: str) -> None:
    (own_tasks / file).write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="there is no module 'own_tasks'"):
        task("own_tasks:Short")


def test_specs_are_taken_apart() -> None:
    assert parse_spec("a.b:c:n=5,x=1") == ("a.b:c", {"n": "5", "x": "1"})
    assert parse_spec("a.b:c") == ("a.b:c", {})
    assert parse_spec("questions:path=a:b.jsonl") == ("questions", {"path": "a:b.jsonl"})


def test_the_command_line_takes_a_task_of_a_module(
    own_tasks: Path, cotlens: Callable, coconut: interp.Reasoner
) -> None:
    result = cotlens("think", "chain-coconut", "--task", "own_tasks:Short:n=12,steps=2", "--out", "t.parquet", "--json")
    assert result.code == 0 and result.json["traces"] == 12 and result.json["accuracy"] > 0.9
    traces = TraceSet.from_parquet("t.parquet")
    problem = traces[0].problem
    assert problem.task == "own_tasks:Short:steps=2"
    assert isinstance(task(problem.task), ChainTask)
    assert task(problem.task).counterfactual(problem, 2, "3") == "3"
    assert set(trace_labels(traces, "value_2")) <= set("0123456789")
    result = cotlens("think", "chain-coconut", "--task", "own_taks:Short", "--out", "u.parquet")
    assert result.code == 2 and "there is no module 'own_taks'" in result.error


def test_a_plugin_that_inherits_its_spec_is_made_again_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from interp.runtime import plugins

    class Inherits(ChainTask):
        pass

    entry = EntryPoint(name="inherits", value="x:Inherits", group="cotlens.tasks")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Inherits)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "cotlens.tasks" else [])
    made = task("inherits:steps=2")
    assert isinstance(made, Task) and made.spec == "inherits:steps=2"
    assert {p.task for p in made.generate(3, seed=0)} == {"inherits:steps=2"}
    assert type(task(made.spec)) is Inherits and json.dumps(made.spec)
