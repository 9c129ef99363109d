"""Swaps of reasoning between two reasoners, and answers to rewritten problems."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

import interp
from interp.causal.following import follow_rewrites, over_checkpoints
from interp.causal.swap import _masked, swap_latents, swap_summary, swap_text
from interp.errors import UsageError
from interp.organisms.catalog import weights_folder


@pytest.fixture(scope="module")
def writer() -> interp.Reasoner:
    return interp.load("chain-text")


@pytest.fixture(scope="module")
def some(writer):
    return writer.task.generate(40, seed=60, split="test")


@pytest.mark.parametrize(
    ("text", "answer", "masked"),
    [
        ("Now it shows 1. Now it shows 8.", "8", "Now it shows 1. Now it shows"),
        ("3 8 ; 1", "8", "3 ; 1"),
        ("So (Paris), or Rome!", "paris", "So or Rome!"),
        ("18 is not 8, but", "8", "18 is not but"),
    ],
)
def test_an_answer_is_masked_whatever_stands_at_it(text, answer, masked) -> None:
    assert _masked(text, answer) == masked


def test_a_text_is_used_as_far_as_it_goes(writer, some) -> None:
    table = swap_summary(swap_text(writer, writer, some)).set_index("arm")
    assert table.loc["whole", "correct"] > 0.95 and (table["agrees"] == table["correct"]).all()
    for control in ("masked", "shuffled", "question only"):
        assert table.loc[control, "correct"] < 0.35
    assert table.loc["first 25%", "correct"] < table.loc["whole", "correct"] - 0.3


def test_latents_of_another_model_are_used_through_a_ridge_map(coconut, writer, some) -> None:
    learn = list(writer.task.generate(300, seed=61, split="test"))
    fresh = [p for p in some if p.structure not in {q.structure for q in learn}]
    table = swap_summary(swap_latents(coconut, writer, learn, fresh)).set_index("arm")
    assert table.loc["mapped", "correct"] > 0.8
    for control in ("shuffled", "before thinking", "question only"):
        assert table.loc[control, "correct"] < 0.4


def test_what_cannot_be_swapped_is_refused(coconut, writer, some) -> None:
    with pytest.raises(UsageError, match="writes no text"):
        swap_text(writer, coconut, some)
    with pytest.raises(UsageError, match="continuous thoughts, got chain-text"):
        swap_latents(writer, coconut, some[:20], some[20:])
    with pytest.raises(UsageError, match="share structures"):
        swap_latents(coconut, writer, some, some)


def test_one_constant_changed_moves_those_that_compute(coconut, some) -> None:
    result = follow_rewrites(coconut, some)
    assert result["followed"].mean() > 0.95 and result["moves"].mean() > 0.8
    table = over_checkpoints({"direct": interp.load("chain-direct"), "coconut": coconut}, some).set_index("checkpoint")
    assert table.loc["direct", "followed"] < 0.4 < 0.9 < table.loc["coconut", "followed"]
    assert table.loc["direct", "kept"] > table.loc["coconut", "kept"] == 0
    assert (table["shuffled"] < 0.4).all() and (table["n"] > 20).all()


def test_following_as_a_command_over_folders_of_checkpoints(cotlens, tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    for name, source in (("update-000010", "chain-direct"), ("update-000020", "chain-text")):
        (tmp_path / "kept" / name).symlink_to(weights_folder(source))
    output = cotlens(
        "causal", "follow", "chain-text", "--task", "chain:n=40", "--checkpoints", tmp_path / "kept", "--json"
    ).json
    rows = {row["checkpoint"]: row for row in output["checkpoints"]}
    assert list(rows) == ["update-000010", "update-000020", "chain-text"] and output["n"] == 40
    assert rows["update-000010"]["followed"] < 0.4 < 0.9 < rows["update-000020"]["followed"]
    assert rows["update-000020"]["followed_ci"][0] > rows["update-000020"]["shuffled"]
    pickled = tmp_path / "pickled"
    shutil.copytree(weights_folder("chain-text"), pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    run = ["causal", "follow", "chain-text", "--task", "chain:n=20", "--checkpoints", pickled, "--json"]
    ended = cotlens(*run)
    assert ended.code == 2 and "pickle" in ended.error
    ended = cotlens(*run, "--allow-pickle")
    assert ended.code == 0, "checkpoints are loaded as the command is told to load its model"
    assert len(ended.json["checkpoints"]) == 2
    (tmp_path / "nothing").mkdir()
    ended = cotlens("causal", "follow", "chain-text", "--checkpoints", tmp_path / "nothing")
    assert ended.code == 5 and "is no model and holds none" in ended.error
    ended = cotlens("causal", "follow", "maze-correct", "--task", "maze:n=5")
    assert ended.code == 2 and "a task that can rewrite its problems" in ended.error
