"""In-context task vectors: what is put where, and what is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import interp
from interp import causal
from interp.causal.known.task_vectors import CONDITIONS, _Task
from interp.causal.known.word_pairs import WORD_PAIRS
from interp.errors import UsageError

PAIRS = [(str(k), str(k + 1)) for k in range(24)]


@pytest.fixture(scope="module")
def reasoner(model_folder: Callable) -> interp.Reasoner:
    return interp.load(model_folder("llama"))


def test_the_vector_of_the_last_block_brings_the_whole_answer_along(reasoner: interp.Reasoner) -> None:
    """After the last block nothing else is read, so every query is answered as the prompt that the state is from."""
    task = _Task(reasoner, "next", PAIRS, 4, 0)
    prompt = task._prompt_with_query(shuffle=False)
    (vector,) = task._mean_states([prompt])[-1:]
    last = reasoner.model.cfg.n_layers - 1
    answers = {word: task._first_token(word, word) for word in map(str, range(10))}
    assert len(set(answers.values())) > 3

    def predicted(prompts: list[str], *edit: object) -> list[bool]:
        return [bool(task._answered(prompts, [(word, word)] * len(prompts), *edit).all()) for word in answers]

    assert predicted([prompt]) == predicted([f"{k} ->" for k in (3, 5)], vector, last)


def test_splits_share_no_pair_and_shuffled_answers_are_others(reasoner: interp.Reasoner) -> None:
    task = _Task(reasoner, "next", PAIRS, 6, 0)
    parts = [set(part) for part in (task._examples, task._choosing, task.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(PAIRS)
    lines = task._examples_text(shuffle=True).splitlines()
    assert len(lines) == 6 and not {tuple(line.split(" -> ")) for line in lines} & set(PAIRS)


def test_the_table(reasoner: interp.Reasoner) -> None:
    table = causal.task_vectors(reasoner, {"next": PAIRS, "same": [(str(k), str(k)) for k in range(24)]}, shots=4)
    assert table["task"].tolist() == ["next", "same"] and table["n"].tolist() == [11, 11]
    for condition in CONDITIONS:
        assert (
            (table[f"{condition}, low"] <= table[condition]) & (table[condition] <= table[f"{condition}, high"])
        ).all()
    alone = causal.task_vectors(reasoner, {"next": PAIRS}, shots=4)
    assert np.isnan(alone["vector of another task"][0])
    assert causal.conditions_table(alone)["vector of another task"].tolist() == ["not measured"]


def test_too_few_pairs_are_refused(reasoner: interp.Reasoner) -> None:
    with pytest.raises(UsageError, match="at least 18 pairs of task 'next' for 8 examples"):
        causal.task_vectors(reasoner, {"next": PAIRS[:10]})


def test_built_in_pairs_are_of_two_different_words() -> None:
    for name, pairs in WORD_PAIRS.items():
        assert len(pairs) >= 36 and len({word for word, _ in pairs}) == len(pairs), name
        assert all(word != answer for word, answer in pairs)


def test_the_command_with_pairs_of_ones_own(cotlens: Callable, model_folder: Callable, tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps({"next": PAIRS}), encoding="utf-8")
    command = ("causal", "task-vector", str(model_folder("llama")), "--shots", "4", "--json", "--pairs")
    assert cotlens(*command, file).json["tasks"][0]["task"] == "next"
    file.write_text("[1]", encoding="utf-8")
    with pytest.raises(UsageError, match="expected a JSON file"):
        causal.read_pairs(file)
