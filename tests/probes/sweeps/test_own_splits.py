"""The file's own `split` decides what probes and decoders are fitted on, selected on and tested on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.activations.splits import describe_split, split_rows, trace_parts
from interp.decoders.step_rows import DecodeInputs
from interp.problems import TASKS
from interp.problems import task as make_task
from interp.problems.questions.file import read_question_file
from interp.problems.questions.own_splits import has_own_splits
from probes.sweeps.run import sweep
from probes.sweeps.single import evaluate_probe, load_probe, train_probe

AT = "blocks.0.hook_out"
N, PLACE = 240, "thought 1"

Make = Callable[..., Store]


@pytest.fixture
def make(tmp_path: Path, written_trace: Callable, write_store: Callable) -> Make:
    """Write a store of a questions file whose label `sign` is planted, and turned round in the user's test rows."""

    def made(parts: Sequence[str], *, name: str = "mine", first: int = 0, planted: bool = True) -> Store:
        path = tmp_path / f"{name}.jsonl"
        signs = np.random.default_rng(first).integers(2, size=N)
        lines = [
            {"question": f"{k + first} plus", "answer": str(k % 7), "values": [str(k % 7)], "sign": int(signs[k])}
            | ({"split": parts[k % len(parts)]} if parts else {})
            for k in range(N)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        traces = [written_trace(problem) for problem in read_question_file(path).problems]

        def acts(index: pd.DataFrame) -> np.ndarray:
            trace = index["trace"].to_numpy()
            tested = np.array([parts[t % len(parts)] == "test" if parts else False for t in trace])
            noise = np.random.default_rng(1).normal(size=(len(index), 4))
            noise[:, 0] = 10 * (2 * signs[trace] - 1) * np.where(tested & planted, -1, 1)
            return noise.astype(np.float32)

        return write_store(tmp_path / name, traces, {AT: acts})

    return made


def test_a_sweep_is_tested_on_the_rows_that_the_file_says(make: Make) -> None:
    """A signal that is turned round in the user's test rows is read wrongly there, and there alone."""
    store = make(["train", "train", "val", "test"])
    swept = sweep(store, ["sign"], places=[PLACE], controls="none", splits=3)
    (cell,) = swept.table().to_dict("records")
    assert cell["accuracy"] == 0 and cell["val_accuracy"] == 1 and cell["n"] == N // 4
    assert swept.notes["splits"] == [0], "there is one split, so it is not counted three times"
    assert swept.notes["split"] == {"by": "file", "train": N // 2, "val": N // 4, "test": N // 4}


def test_decoders_and_rows_have_the_same_parts(make: Make) -> None:
    store = make(["train", "val", "test"])
    parts = np.array([trace.problem.split for trace in store.traces])
    rows = DecodeInputs(store, 5).step_rows(0)
    assert (rows.parts == parts[rows.rows["trace"]]).all()
    masks = split_rows(store, store.index, 5)
    assert (masks.val == (parts[store.index["trace"]] == "val")).all()


def test_a_file_without_validation_rows_lends_some_of_its_training_rows(make: Make) -> None:
    store = make(["train", "train", "test"])
    parts = trace_parts(store, 0)
    given = np.array([trace.problem.split for trace in store.traces])
    assert ((parts == "test") == (given == "test")).all()
    assert 0.1 < (parts == "val").sum() / (given == "train").sum() < 0.3


@pytest.mark.parametrize(("parts", "unused"), [([], False), (["test"], True), (["train", "val"], True)])
def test_otherwise_structures_are_split(make: Make, parts: list[str], unused: bool) -> None:
    store = make(parts)
    described = describe_split(store)
    assert described["by"] == "structure" and ("unused" in described) is unused
    seeds = [trace_parts(store, seed) for seed in (0, 1)]
    assert (seeds[0] != seeds[1]).any() and {*seeds[0]} == {"train", "val", "test"}


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"questions", "transcripts"}))
def test_no_built_in_task_has_splits_of_a_user(task: str) -> None:
    assert not has_own_splits(
        problem for split in ("train", "test") for problem in make_task(task).generate(8, seed=0, split=split)
    )


def test_a_saved_probe_is_never_tested_on_what_the_file_let_it_fit(
    make: Make, tmp_path: Path, cotlens: Callable
) -> None:
    store = make(["train", "train", "val", "test"])
    trained = train_probe(store, tmp_path / "p", target="sign", place=PLACE, address=AT, controls="none")
    assert trained.accuracy.value == 0 and trained.record()["split_by"]["test"] == N // 4
    saved = load_probe(tmp_path / "p")
    again = evaluate_probe(saved, store)
    assert again.accuracy.value == 0 and again.accuracy.n == N // 4
    # The same questions without splits: those that were fitted or selected on are left out, wherever a hash puts them.
    plain = evaluate_probe(saved, make([], name="plain"))
    assert plain.accuracy.value == 1 and plain.accuracy.n == N // 4
    other = evaluate_probe(saved, make(["train", "test"], name="other", first=10_000, planted=False))
    assert other.accuracy.value == 1 and other.accuracy.n == N // 2
    shown = cotlens("probe", "sweep", store.path, "--target", "sign", "--place", PLACE, "--controls", "none")
    sentence = "split of the questions file: 120 traces to fit on, 60 to select on, 60 to test"
    assert sentence in shown.out


def test_another_label_is_another_store(make: Make, tmp_path: Path) -> None:
    """What the file says counts: a capture or a sweep of changed labels or splits is not taken for the old one."""
    first, second = make(["train", "val", "test"]), make(["train", "test", "val"], name="again", planted=False)
    assert [t.problem.id for t in first.traces] == [t.problem.id for t in second.traces]
    assert first.meta["traces"] != second.meta["traces"]
