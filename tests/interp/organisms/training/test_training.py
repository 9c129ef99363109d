"""Training: the same weights from one seed, stages, checkpoints and folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.errors import CotlensError, StoreError, UsageError
from interp.organisms import catalog
from interp.organisms.catalog import Recipe, Stage, recipe
from interp.organisms.training import build, checkpoint
from interp.organisms.training import train as training
from interp.organisms.training.model import new_model, tokenizer_of
from interp.reasoners import REASONERS
from tests.interp.organisms.training.tiny import tiny


def trained(made: Recipe, seed: int) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in training.train(made, seed, initial=None).state_dict().items()}


@pytest.mark.parametrize("kind", ["continuous", "text"])
def test_training_twice_from_one_seed_gives_the_same_weights(kind: str) -> None:
    one, two, other = trained(tiny(kind), 0), trained(tiny(kind), 0), trained(tiny(kind), 1)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    fresh = new_model(tiny(kind), one["transformer.wte.weight"].shape[0], 0).state_dict()
    assert any(not torch.equal(one[name], fresh[name]) for name in one), "nothing was trained"


@pytest.mark.parametrize("kind", ["continuous", "text"])
def test_whatever_the_processor_is_good_at_the_losses_are_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 products with attention written out, and float32 ones with the fused kernel: equal but for rounding."""
    losses: dict[bool, list[float]] = {}
    for has_bfloat16 in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has_bfloat16: {"avx512_bf16": has})
        reported: list[float] = []
        training.train(
            tiny(kind, updates=21), 0, progress=lambda *report, reported=reported: reported.append(report[3])
        )
        losses[has_bfloat16] = reported
    assert len(losses[True]) > 2 and losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.02)


def test_training_lowers_the_loss() -> None:
    reported: list[tuple[str, int, int, float]] = []
    made = tiny("text", updates=150, stages=(Stage(name="text", hidden_steps=0, updates=150, learning_rate=3e-3),))
    training.train(made, 0, initial=None, progress=lambda *a: reported.append(a))
    assert reported[-1][:3] == ("text", 150, 150)
    assert reported[-1][3] < reported[0][3] - 0.5


def test_a_stage_that_has_not_been_learned_is_run_again(tmp_path: Path) -> None:
    """As often as `rounds` says where it never is; a training cut off in a later run goes on to the same weights."""

    def made(until: float, **options: int) -> Recipe:
        one = Stage(name="one", hidden_steps=0, updates=110, learning_rate=1e-3, until=until, **options)
        return tiny(stages=(one, Stage(name="two", hidden_steps=2, updates=5, learning_rate=1e-3)))

    reported: list[str] = []
    never = training.train(made(1e-6, rounds=2), 0, initial=None, progress=lambda stage, *_: reported.append(stage))
    assert list(dict.fromkeys(reported)) == ["one", "one, run 2", "two"]
    reported.clear()
    training.train(made(1e6), 0, initial=None, progress=lambda stage, *_: reported.append(stage))
    assert list(dict.fromkeys(reported)) == ["one", "two"]

    def stop(stage: str, update: int, *_: object) -> None:
        if stage == "one, run 2" and update > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made(1e-6, rounds=2), 0, initial=None, progress=stop, folder=tmp_path)
    went_on = training.train(made(1e-6, rounds=2), 0, initial=None, folder=tmp_path, keep_every=60)
    assert all(torch.equal(a, b) for a, b in zip(never.parameters(), went_on.parameters(), strict=True))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["update-000225"]


def test_stages_for_a_training_that_is_stuck_run_only_then(tmp_path: Path) -> None:
    """They follow a stage that ended above `until`; otherwise the weights are those of the recipe without them."""

    def made(until: float, again: float = 1e-6) -> Recipe:
        one = Stage(name="one", hidden_steps=0, updates=12, learning_rate=1e-3, until=until, rounds=2)
        early = Stage(name="early", hidden_steps=0, updates=12, learning_rate=1e-3, if_stuck=True, blocks=1)
        anew = Stage(name="anew", hidden_steps=0, updates=12, learning_rate=1e-3, if_stuck=True, until=again, rounds=2)
        last = Stage(name="last", hidden_steps=2, updates=5, learning_rate=1e-3, if_stuck=True)
        return tiny(stages=(one, early, anew, last))

    def stages(recipe: Recipe) -> tuple[list[str], Any]:
        reported: list[str] = []
        model = training.train(recipe, 0, progress=lambda stage, *_: reported.append(stage))
        return list(dict.fromkeys(reported)), model

    learned, model = stages(made(1e6))
    assert learned == ["one"]
    alone = training.train(tiny(stages=made(1e6).stages[:1]), 0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    assert stages(made(1e-6))[0] == ["one", "one, run 2", "early", "anew", "anew, run 2", "last"]
    assert stages(made(1e-6, again=1e6))[0] == ["one", "one, run 2", "early", "anew"]
    training.train(made(1e6), 0, folder=tmp_path, keep_every=100)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["update-000000", "update-000012"]


def test_a_stage_after_the_first_blocks_trains_only_these() -> None:
    early = Stage(name="early", hidden_steps=0, updates=3, learning_rate=1e-2, blocks=1)
    before = new_model(tiny(), len(tokenizer_of(tiny())), 0)
    model = training.train(tiny(stages=(early,)), 0)
    assert len(model.transformer.h) == 2
    moved = [
        any(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(before.transformer.h, model.transformer.h, strict=True)
    ]
    assert moved == [True, False]
    with pytest.raises(UsageError, match="at most 2 blocks"):
        training.train(tiny(stages=(early.model_copy(update={"blocks": 3}),)), 0)


def test_a_stage_may_have_a_loss_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as module:function, as a recipe's is; the other stages keep the recipe's."""
    reported: list[str] = []

    def resolve(function: str) -> Callable[[Recipe], Any]:
        def loss(model: Any, batch: Any, done: float) -> torch.Tensor:
            reported.append(function)
            return model.get_input_embeddings().weight.square().mean()

        return lambda made: loss

    monkeypatch.setattr(training, "resolve_function", resolve)
    one = Stage(name="one", hidden_steps=0, updates=2, learning_rate=1e-3)
    stages = (one, one.model_copy(update={"name": "two", "loss": "a:two"}), one)
    training.train(tiny(stages=stages).model_copy(update={"loss": "a:whole"}), 0)
    assert reported == ["a:whole"] * 2 + ["a:two"] * 2 + ["a:whole"] * 2


@pytest.mark.parametrize(
    ("old_name", "new_name"),
    [
        ("breadth:breadth_loss", "breadth:breadth_loss"),
        ("concepts:examine", "concepts:examine"),
        ("concepts:train_concepts", "concepts:train_concepts"),
        ("emphasis:results", "emphasis:result_loss"),
        ("emphasis:retries", "emphasis:retries_loss"),
        ("emphasis:telling", "emphasis:choice_weighted_loss"),
        ("hidden:from_the_lens", "hidden:lens_hiding_loss"),
        ("pauses:random_pauses", "pauses:random_pauses"),
    ],
)
@pytest.mark.parametrize("package", ["interp.organisms", "interp.organisms.training"])
def test_recipes_with_old_names_still_resolve(package: str, old_name: str, new_name: str) -> None:
    """Losses, trainers and examiners moved from `interp.organisms` to `interp.organisms.training`; some were renamed."""
    old, new = f"{package}.{old_name}", f"interp.organisms.training.{new_name}"
    assert training.resolve_function(old) is training.resolve_function(new)
    stage = {"name": "one", "loss": old}
    before = {"name": "x", "summary": "before", "loss": old, "trainer": old, "examiner": old, "stages": [stage]}
    after = {**before, "summary": "after", "loss": new, "trainer": new, "examiner": new}
    after["stages"] = [{**stage, "loss": new}]
    assert catalog.training_part(before) == catalog.training_part(after)
    assert catalog.training_part(before) != catalog.training_part({**after, "task": "chain"})
    assert before["loss"] == old and stage["loss"] == old, "the recipe itself does not change"


def test_a_card_says_whether_its_recipe_is_the_present_one() -> None:
    present = {"name": "chain-coconut", "recipe": recipe("chain-coconut").to_dict()}
    reworded = {**present, "recipe": {**present["recipe"], "summary": "other words"}}
    stages = present["recipe"]["stages"]
    mended = {**present, "recipe": {**present["recipe"], "stages": [{**stages[0], "until": 0.1}, *stages[1:]]}}
    assert catalog.is_current(present) and catalog.is_current(reworded)
    assert not catalog.is_current(mended)


def test_training_sees_only_training_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    curriculum_class = REASONERS["continuous"].curriculum_class
    plain = curriculum_class.lesson
    monkeypatch.setattr(
        curriculum_class, "lesson", lambda self, problem, *a: seen.append(problem) or plain(self, problem, *a)
    )
    training.train(tiny(), 0, initial=None)
    assert len(seen) == 2 * 12 * 8 and {p.split for p in seen} == {"train"}


def test_divergence_raises_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (Stage(name="wild", hidden_steps=0, updates=40, learning_rate=1e30),)
    with pytest.raises(
        CotlensError, match=r"diverged in stage 'wild' at update \d+: .*Lower .*learning_rate \(1e\+30\)"
    ):
        training.train(tiny(stages=stages), 0, initial=None)
    curriculum_class = REASONERS["continuous"].curriculum_class
    plain = curriculum_class.loss
    monkeypatch.setattr(curriculum_class, "loss", lambda *a: plain(*a) * float("nan"))
    with pytest.raises(CotlensError, match=r"diverged in stage 'one' at update 0: the loss is nan"):
        training.train(tiny(), 0, initial=None)


class Cut(BaseException):
    """The training is killed here."""


def cut_after(reports: int) -> Callable[..., None]:
    output = []

    def progress(*_: Any) -> None:
        output.append(1)
        if len(output) == reports:
            raise Cut

    return progress


@pytest.mark.parametrize(("reports", "optimizer"), [(2, "adamw"), (3, "adamw"), (5, "adamw"), (3, "muon")])
def test_an_interrupted_training_goes_on_to_the_same_weights_and_losses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reports: int, optimizer: str
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 5)

    def tiny_(**changes: Any) -> Recipe:
        return tiny(**changes).model_copy(update={"optimizer": optimizer})

    losses: list[list[tuple]] = [[], []]
    whole = training.train(tiny_(updates=22), 0, progress=lambda *a: losses[0].append(a)).state_dict()
    with pytest.raises(Cut):
        training.train(tiny_(updates=22), 0, progress=cut_after(reports), folder=tmp_path)
    assert (tmp_path / checkpoint.FILE_NAME).exists()
    standing, _ = checkpoint.read(tmp_path, tiny_(updates=22).to_dict(), 0)
    assert standing.update > 0
    again = training.train(tiny_(updates=22), 0, folder=tmp_path, progress=lambda *a: losses[1].append(a)).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert losses[1] == losses[0][-len(losses[1]) :], "the loss curve is another one"


def test_a_stage_may_take_a_share_of_its_batches_from_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    curriculum_class = REASONERS["text"].curriculum_class
    plain = curriculum_class.lesson
    monkeypatch.setattr(
        curriculum_class, "lesson", lambda self, problem, *a: seen.append(problem.task) or plain(self, problem, *a)
    )
    stage = Stage(name="one", hidden_steps=0, updates=40, learning_rate=1e-3, also={"chain:steps=2": 0.25})
    training.train(tiny("text", stages=(stage,)), 0, initial=None)
    assert set(seen) == {"chain", "chain:steps=2"}
    assert 0.05 < seen.count("chain:steps=2") / len(seen) < 0.5


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 5)
    with pytest.raises(Cut):
        training.train(tiny(), 0, progress=cut_after(2), folder=tmp_path)
    with pytest.raises(
        StoreError, match=r"expected a checkpoint of chain-coconut, seed 1, .* got one of chain-coconut, seed 0"
    ):
        training.train(tiny(), 1, folder=tmp_path)
    (tmp_path / checkpoint.FILE_NAME).write_bytes(b"half of a file")
    with pytest.raises(StoreError, match="expected a readable checkpoint"):
        training.train(tiny(), 0, folder=tmp_path)


def test_a_recipe_may_bring_more_words_but_not_another_vocabulary_or_shape() -> None:
    from interp.organisms.training.model import with_added_words

    text, other = recipe("chain-text"), recipe("chain-text").model_copy(update={"name": "n", "task": "chain:values=7"})
    model = new_model(text, len(tokenizer_of(text)), 0)
    assert with_added_words(model, text, text) is model
    with pytest.raises(
        CotlensError, match="expected n to have the shape of chain-text and a vocabulary that begins with its words"
    ):
        with_added_words(model, text, other)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """`train_organism` with a tiny recipe and a short exam."""
    made = tiny(updates=2, exam_size=100)
    monkeypatch.setattr(build, "recipe", lambda name: made)
    return made


def test_a_trained_organism_loads_as_a_reasoner_and_has_a_card(quick: Recipe, tmp_path: Path) -> None:
    card = build.train_organism("tiny", 0, tmp_path / "tiny")
    assert json.loads((tmp_path / "tiny" / "card.json").read_text(encoding="utf-8")) == card
    reasoner = interp.load(tmp_path / "tiny")
    assert reasoner.kind == "continuous" and reasoner.weights == card["weights"]
    assert reasoner.config.latent_scale == quick.latent_scale
    again = build.train_organism("tiny", 0, tmp_path / "again")
    other = build.train_organism("tiny", 1, tmp_path / "other")
    assert again["weights"] == card["weights"] != other["weights"]
    bytes_of = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("tiny", "again", "other")]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


def test_checkpoints_that_stay_are_reasoners_and_change_nothing(
    quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = build.train_organism("tiny", 0, tmp_path / "plain")
    with pytest.raises(Cut):
        build.train_organism("tiny", 0, tmp_path / "kept", cut_after(2), keep_every=1)
    (tmp_path / "kept" / "checkpoints" / ".update-000003").mkdir()  # one that was being written
    kept = build.train_organism("tiny", 0, tmp_path / "kept", keep_every=3)
    assert kept["weights"] == card["weights"]
    there = sorted(path.name for path in (tmp_path / "kept" / "checkpoints").iterdir())
    assert there == ["update-000000", "update-000001", "update-000003", "update-000004"]
    weights = [interp.load(tmp_path / "kept" / "checkpoints" / name).weights for name in there]
    assert len(set(weights)) == len(weights) and weights[-1] == card["weights"]
    with pytest.raises(UsageError, match="keep_every to be a whole number of at least 1, got 0"):
        build.train_organism("tiny", 0, tmp_path / "none", keep_every=0)
    with pytest.raises(UsageError, match="expected a folder with keep_every"):
        training.train(tiny(), 0, keep_every=2)
    monkeypatch.setattr(build, "recipe", lambda name: quick.model_copy(update={"trainer": "some:trainer"}))
    with pytest.raises(UsageError, match="its trainer some:trainer keeps no checkpoints"):
        build.train_organism("tiny", 0, tmp_path / "own", keep_every=2)
    assert not (tmp_path / "none").exists() and not (tmp_path / "own").exists()


def test_training_into_a_folder_that_is_not_empty_is_refused(quick: Recipe, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(StoreError, match=r"expected an empty folder at .*; choose another --out"):
        build.train_organism("tiny", 0, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(StoreError, match="There is a file where a folder is needed"):
        build.train_organism("tiny", 0, tmp_path / "mine.txt" / "below")


def test_a_negative_seed_is_refused(quick: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed to be a whole number of at least 0, got -1"):
        build.train_organism("tiny", -1, tmp_path / "x")
    assert not (tmp_path / "x").exists()
