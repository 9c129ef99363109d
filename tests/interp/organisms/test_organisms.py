"""Organisms: recipes are valid, weights match their cards, and training is reproducible."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.errors import CotlensError, QualityError, StoreError, UsageError
from interp.organisms import catalog
from interp.organisms.catalog import Recipe, Shape, Stage, recipe, recipes, weights_folder
from interp.organisms.training import build, checkpoint
from interp.organisms.training import train as training
from interp.organisms.training.model import new_model, save, tokenizer_of
from interp.problems import task
from interp.reasoners import REASONERS, curriculum_of
from interp.reasoners.curriculum import Lesson, collate, next_token_loss

NAMES = sorted(recipes())
SHIPPED = catalog.shipped()
STANDALONE = catalog.standalone()
TINY = Shape(n_layers=2, n_heads=2, d_model=16, n_positions=24)


def tiny(kind: str = "continuous", updates: int = 12, **options: Any) -> Recipe:
    """A recipe whose training takes a second: a few updates of a very small model."""
    stages = (
        Stage(name="one", hidden_steps=0, updates=updates, learning_rate=1e-3),
        Stage(name="two", hidden_steps=2, updates=updates, learning_rate=1e-3),
    )
    made = recipe("chain-coconut").model_copy(
        update={"kind": kind, "initial": None, "model": TINY, "batch_size": 8, "stages": stages, **options}
    )
    return made


# --- what is shipped --------------------------------------------------------------------------------------


def test_every_way_of_thinking_has_an_organism() -> None:
    assert {recipe(name).kind for name in NAMES} == set(REASONERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is(name: str) -> None:
    made = recipe(name)
    assert made.name == name and made.summary and made.weaknesses and made.stages
    assert task(made.task).spec == made.task
    if made.initial:
        assert recipe(made.initial).base == made.base
        assert recipe(made.initial).model == made.model
    assert made.reasoner().kind == made.kind
    assert Recipe(**json.loads(made.model_dump_json())) == made


def test_all_shipped_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in (catalog.ORGANISMS_FOLDER / "weights").rglob("*")) < 46e6


def headers_of(folder: Path) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            found += json.loads(file.read(int.from_bytes(file.read(8), "little"))).items()
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_folder_is_whole_and_small(name: str) -> None:
    folder = weights_folder(name)
    there = {path.name for path in folder.iterdir()}
    model = {"config.json", "model.safetensors", "tokenizer.json"}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    assert {"card.json", "reasoner.json", *(model if name in STANDALONE else adapter)} <= there
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5 * 2**20
    assert not (folder / checkpoint.FILE_NAME).exists()
    kept = {entry["dtype"] for key, entry in headers_of(folder) if key != "__metadata__"}
    in_8_bits = {"F16", "F8_E4M3"} if name in STANDALONE else {"F8_E4M3"}  # an adapter is matrices alone
    assert kept == ({"F16"} if recipe(name).stored == "float16" else in_8_bits)


# Stages that were added behind the last one after the shipped weights had been made without.
ADDED_SINCE = {"igsm-retries": ("told",)}


def as_then(told: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what it has come to say about when a stage is run again, and without the stages added since:
    weights may be older than either."""
    since = [{"until", "rounds"} - set(stage) for stage in then["stages"]]
    kept = [stage for stage in told["stages"] if stage["name"] not in ADDED_SINCE.get(told["name"], ())]
    return told | {"stages": [{k: v for k, v in a.items() if k not in new} for a, new in zip(kept, since, strict=True)]}


def with_current_paths(then: dict[str, Any]) -> dict[str, Any]:
    """A card's recipe with the names that losses, trainers and examiners have now."""

    def current(part: dict[str, Any]) -> dict[str, Any]:
        named = {key: part[key] for key in ("loss", "trainer", "examiner") if part.get(key)}
        return part | {key: catalog.current_path(name) for key, name in named.items()}

    return current(then) | {"stages": [current(stage) for stage in then["stages"]]}


@pytest.mark.parametrize("name", STANDALONE)
def test_a_card_describes_the_weights_and_the_recipe(name: str) -> None:
    card = catalog.card(name)
    assert card["name"] == name
    assert with_current_paths(card["recipe"]) == as_then(recipe(name).to_dict(), card["recipe"])
    assert card["ci"][0] <= card["accuracy"] <= card["ci"][1]
    loaded = interp.load(name)
    assert loaded.weights == card["weights"]
    assert loaded.kind == recipe(name).kind and loaded.task.spec == card["task"]
    # TransformerLens adds views of its own, so the parameters are counted in the files.
    shapes = [e["shape"] for key, e in headers_of(weights_folder(name)) if key != "__metadata__"]
    assert sum(math.prod(shape) for shape in shapes) == card["parameters"]


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_matrices_kept_in_8_bits_are_read_as_any_others(tmp_path: Path, dtype: torch.dtype | None) -> None:
    from transformers import AutoModelForCausalLM

    made = tiny(stored="float8_e4m3fn")
    model = new_model(made, len(tokenizer_of(made)), seed=0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    save(model, made, tmp_path / "small")
    save(model, made.model_copy(update={"stored": "float16"}), tmp_path / "large")
    sizes = [(tmp_path / each / "model.safetensors").stat().st_size for each in ("small", "large")]
    assert sizes[0] < 0.8 * sizes[1]  # of so small a model; the header is most of the rest
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "small", **({"dtype": dtype} if dtype else {}))
    assert {value.dtype for value in read.parameters()} == {dtype or torch.float16}
    for name, value in read.named_parameters():
        torch.testing.assert_close(before[name], model.get_parameter(name), rtol=0, atol=0)
        # Three bits of mantissa, and steps of 2^-9 below 2^-6; vectors stay in fp16.
        near = {"rtol": 2**-4, "atol": 2**-10} if value.ndim == 2 else {"rtol": 2**-11, "atol": 2**-14}
        torch.testing.assert_close(value.float(), before[name], **near)


def test_no_two_organisms_have_the_same_weights() -> None:
    assert len({catalog.card(name)["weights"] for name in SHIPPED}) == len(SHIPPED)


def test_silent_thinking_is_needed_and_enough(coconut: interp.Reasoner, problems: list) -> None:
    """What the organisms are for: thoughts answer, answering at once does not."""
    direct = interp.load("chain-direct").think(problems)
    assert coconut.think(problems).accuracy > 0.95
    assert direct.accuracy < 0.35


def test_chain_coconut_measures_as_its_card_says() -> None:
    check = build.check_organism("chain-coconut")
    assert check.ok is True and check.weights_match is True
    assert check.card.low - 0.005 <= check.accuracy <= check.card.high + 0.005


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STANDALONE if name != "chain-coconut"])
def test_every_other_organism_measures_as_its_card_says(name: str) -> None:
    """On a tenth of its exam; `cotlens organisms check` takes the whole."""
    card = catalog.card(name)
    n = max(100, card["exam"]["n"] // 10)
    result = build.examine(recipe(name), interp.load(name), n)
    assert abs(result["accuracy"] - card["accuracy"]) < 4 * math.sqrt(
        max(card["accuracy"] * (1 - card["accuracy"]), 0.01) / n
    )


@pytest.mark.parametrize("field", ["weights", "ci"])
def test_an_organism_that_differs_from_its_card_is_not_ok(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    card = catalog.card("chain-coconut")
    card["exam"] = {**card["exam"], "n": 100}
    assert_ok = {**card}
    monkeypatch.setattr(build, "card", lambda name: assert_ok)
    assert build.check_organism("chain-coconut").ok is True
    card[field] = {"weights": "0" * 16, "ci": [0.2, 0.3]}[field]
    monkeypatch.setattr(build, "card", lambda name: card)
    check = build.check_organism("chain-coconut")
    assert check.ok is False
    with pytest.raises(QualityError, match="differ from their cards: chain-coconut"):
        build.require_ok([check])


def test_an_unknown_organism_is_refused_with_a_suggestion() -> None:
    for call in (recipe, weights_folder, build.check_organism):
        with pytest.raises(
            UsageError, match=r"expected a known organism, got 'chain-coconat'; did you mean 'chain-coconut'"
        ):
            call("chain-coconat")
    with pytest.raises(UsageError, match=r"'chain-coconat' is neither a shipped organism nor a folder"):
        interp.load("chain-coconat")


def test_an_organism_without_weights_says_how_to_train_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "ORGANISMS_FOLDER", tmp_path)
    with pytest.raises(StoreError, match="Train it: `cotlens organisms train chain-text`"):
        weights_folder("chain-text")


def test_a_recipe_with_an_unknown_key_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "bad.toml").write_text('kind = "text"\ntask = "chain"\nlerning_rate = 1\n')
    monkeypatch.setattr(catalog, "ORGANISMS_FOLDER", tmp_path)
    recipes.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"recipe bad\.toml: .*(summary|lerning_rate)"):
            recipes()
    finally:
        recipes.cache_clear()


# --- the loss ---------------------------------------------------------------------------------------------


def plain_loss(model: Any, problems: list, tokenizer: Any, kind: str, hidden: int, scale: float) -> torch.Tensor:
    """Coconut's objective with nothing but full forward passes, one problem at a time, written from the paper.

    Every thought needs a forward pass over everything before it; the loss is the mean next-token loss over the
    words after the last thought, but for an end marker that follows a thought, which is forced.
    """
    total, count = torch.zeros(()), 0
    for problem in problems:
        words = [*problem.question.split(), "<bot>"]
        fed = [model.transformer.wte.weight[tokenizer.convert_tokens_to_ids(word)] for word in words]
        n_thoughts = 0 if kind in ("direct", "text") else min(hidden, problem.n_steps)
        for _ in range(n_thoughts):
            if kind == "continuous":
                seen = model(inputs_embeds=torch.stack(fed)[None], use_cache=False, output_hidden_states=True)
                fed.append(seen.hidden_states[-1][0, -1] * scale)  # GPT-2's last hidden state is after ln_f
            else:
                fed.append(model.transformer.wte.weight[tokenizer.convert_tokens_to_ids("<pause>")])
        written = [] if kind == "direct" else [step.text for step in problem.steps[n_thoughts:]]
        after = [*written, "<eot>", problem.answer, "<eos>"]
        start = len(fed)
        fed += [model.transformer.wte.weight[tokenizer.convert_tokens_to_ids(word)] for word in after]
        log_p = model(inputs_embeds=torch.stack(fed)[None], use_cache=False).logits[0].log_softmax(-1)
        for k, word in enumerate(after):
            if word == "<eot>" and not written:
                continue
            total = total - log_p[start + k - 1, tokenizer.convert_tokens_to_ids(word)]
            count += 1
    return total / count


@pytest.mark.parametrize(
    ("kind", "hidden", "scale"),
    [
        ("continuous", 1, 0.1),
        ("continuous", 2, 1.0),
        ("continuous", 5, 0.7),
        ("pause", 2, 1.0),
        ("text", 0, 1.0),
        ("direct", 0, 1.0),
    ],
)
def test_the_loss_and_its_gradients_are_the_papers(kind: str, hidden: int, scale: float) -> None:
    made = tiny(kind, latent_scale=scale)
    problems = task("chain:steps=3").generate(4, seed=0, split="train")
    tokenizer = tokenizer_of(made)
    model = new_model(made, len(tokenizer), seed=3)
    batch = collate([curriculum_of(made.reasoner()).lesson(problem, hidden) for problem in problems], tokenizer)

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    loss = curriculum_of(made.reasoner()).loss(model, batch)
    reference = plain_loss(model, problems, tokenizer, kind, hidden, scale)
    assert float(loss.detach()) == pytest.approx(float(reference.detach()), abs=1e-5)
    found, expected = gradients(loss), gradients(reference)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-6, rtol=1e-4, msg=name)
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-3


def test_gradients_flow_through_the_whole_chain_of_thoughts() -> None:
    """With the thoughts cut off the gradient is another one, so the test above can tell."""
    made = tiny(latent_scale=0.7)
    problems, tokenizer = task("chain:steps=3").generate(4, seed=0, split="train"), tokenizer_of(made)
    model = new_model(made, len(tokenizer), seed=3)
    curriculum = curriculum_of(made.reasoner())
    batch = collate([curriculum.lesson(problem, 3) for problem in problems], tokenizer)
    grads = []
    for logits in (curriculum.logits(model, batch), model(input_ids=batch.ids).logits):
        model.zero_grad()
        next_token_loss(logits, batch).backward()
        grads.append(model.transformer.wpe.weight.grad[:4].clone())
    assert (grads[0] - grads[1]).abs().max() > 1e-5


def test_a_projection_of_the_thoughts_is_trained_kept_and_used(tmp_path: Path) -> None:
    made = tiny(reasoner_options={"projection": 8}, latent_scale=1.0)
    model = training.train(made, 0)
    fresh = training.train(made.model_copy(update={"stages": made.stages[:1]}), 0)
    before, after = (each.thought_projection.inner.weight for each in (fresh, model))
    assert not torch.equal(before, after), "the projection was not trained"
    build.save(model, made, tmp_path)
    loaded = interp.load(tmp_path)
    trace = loaded.think(task("chain:steps=2").generate(1, seed=0))[0]
    question = torch.tensor([trace.token_ids[: trace.channel.index("latent")]], device=loaded.device)
    with torch.no_grad():
        state = loaded.base(inputs_embeds=loaded.embed(question)).last_hidden_state[0, -1]
        inner = torch.nn.functional.gelu(loaded.projection.inner(state))
        expected = torch.nn.functional.layer_norm(
            loaded.projection.outer(inner), (16,), loaded.projection.norm.weight, loaded.projection.norm.bias
        )
    torch.testing.assert_close(torch.tensor(trace.latents[0]), expected.cpu(), atol=1e-5, rtol=1e-4)
    (tmp_path / "projection.safetensors").unlink()
    with pytest.raises(StoreError, match=r"expected projection\.safetensors, a projection of 16 through 8"):
        interp.load(tmp_path)


def test_lessons_of_different_length_are_padded_out_of_the_loss() -> None:
    made = tiny("text")
    problems = [task(f"chain:steps={n}").generate(1, seed=0, split="train")[0] for n in (2, 5)]
    tokenizer = tokenizer_of(made)
    model = new_model(made, len(tokenizer), seed=3)
    curriculum = curriculum_of(made.reasoner())
    lessons = [curriculum.lesson(problem, 0) for problem in problems]

    def total(some: list[Lesson]) -> torch.Tensor:
        batch = collate(some, tokenizer)
        return curriculum.loss(model, batch) * batch.scored.sum()

    torch.testing.assert_close(total(lessons), total(lessons[:1]) + total(lessons[1:]), atol=1e-5, rtol=1e-5)
    silent = [curriculum_of(tiny("pause").reasoner()).lesson(problem, 2) for problem in problems]
    with pytest.raises(CotlensError, match=r"to lie in the same columns, got .*; batch by shape"):
        collate(silent, tokenizer)


@pytest.mark.parametrize(("kind", "hidden"), [("continuous", 2), ("pause", 2), ("text", 0), ("direct", 0)])
def test_training_sequences_are_what_the_reasoner_will_see(kind: str, hidden: int) -> None:
    problem = task("chain:steps=3").generate(1, seed=0)[0]
    lesson = curriculum_of(tiny(kind).reasoner()).lesson(problem, hidden)
    values = [step.text for step in problem.steps]
    middle = {
        "continuous": ["<latent>", "<latent>", values[2]],
        "pause": ["<pause>", "<pause>", values[2]],
        "text": values,
        "direct": [],
    }[kind]
    assert lesson.words == [*problem.question.split(), "<bot>", *middle, "<eot>", problem.answer, "<eos>"]
    assert lesson.first_thought == problem.question.count(" ") + 2 and lesson.n_thoughts == hidden


# --- training ---------------------------------------------------------------------------------------------


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
        said: list[float] = []
        training.train(tiny(kind, updates=21), 0, progress=lambda *told, said=said: said.append(told[3]))
        losses[has_bfloat16] = said
    assert len(losses[True]) > 2 and losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.02)


def test_training_lowers_the_loss() -> None:
    said: list[tuple[str, int, int, float]] = []
    made = tiny("text", updates=150, stages=(Stage(name="text", hidden_steps=0, updates=150, learning_rate=3e-3),))
    training.train(made, 0, initial=None, progress=lambda *a: said.append(a))
    assert said[-1][:3] == ("text", 150, 150)
    assert said[-1][3] < said[0][3] - 0.5


def test_a_stage_that_has_not_been_learned_is_run_again(tmp_path: Path) -> None:
    """As often as `rounds` says where it never is; a training cut off in a later run goes on to the same weights."""

    def made(until: float, **options: int) -> Recipe:
        one = Stage(name="one", hidden_steps=0, updates=110, learning_rate=1e-3, until=until, **options)
        return tiny(stages=(one, Stage(name="two", hidden_steps=2, updates=5, learning_rate=1e-3)))

    said: list[str] = []
    never = training.train(made(1e-6, rounds=2), 0, initial=None, progress=lambda stage, *_: said.append(stage))
    assert list(dict.fromkeys(said)) == ["one", "one, run 2", "two"]
    said.clear()
    training.train(made(1e6), 0, initial=None, progress=lambda stage, *_: said.append(stage))
    assert list(dict.fromkeys(said)) == ["one", "two"]

    def stop(stage: str, update: int, *_: object) -> None:
        if stage == "one, run 2" and update > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made(1e-6, rounds=2), 0, initial=None, progress=stop, folder=tmp_path)
    went_on = training.train(made(1e-6, rounds=2), 0, initial=None, folder=tmp_path, keep_every=60)
    assert all(torch.equal(a, b) for a, b in zip(never.parameters(), went_on.parameters(), strict=True))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["update-000225"]


def test_a_stage_may_have_a_loss_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as module:function, as a recipe's is; the other stages keep the recipe's."""
    said: list[str] = []

    def resolve(function: str) -> Callable[[Recipe], Any]:
        def loss(model: Any, batch: Any, done: float) -> torch.Tensor:
            said.append(function)
            return model.get_input_embeddings().weight.square().mean()

        return lambda made: loss

    monkeypatch.setattr(training, "resolve_function", resolve)
    one = Stage(name="one", hidden_steps=0, updates=2, learning_rate=1e-3)
    stages = (one, one.model_copy(update={"name": "two", "loss": "a:two"}), one)
    training.train(tiny(stages=stages).model_copy(update={"loss": "a:whole"}), 0)
    assert said == ["a:whole"] * 2 + ["a:two"] * 2 + ["a:whole"] * 2


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
    assert json.loads((tmp_path / "tiny" / "card.json").read_text()) == card
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
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match=r"expected an empty folder at .*; choose another --out"):
        build.train_organism("tiny", 0, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(StoreError, match="There is a file where a folder is needed"):
        build.train_organism("tiny", 0, tmp_path / "mine.txt" / "below")


def test_a_negative_seed_is_refused(quick: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed to be a whole number of at least 0, got -1"):
        build.train_organism("tiny", -1, tmp_path / "x")
    assert not (tmp_path / "x").exists()


# --- loading ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(weights_folder("chain-coconut"), tmp_path / "model"))


def test_a_folder_is_loaded_like_a_shipped_organism(folder: Path, coconut: interp.Reasoner, problems: list) -> None:
    loaded = interp.load(folder)
    assert loaded.weights == coconut.weights
    assert [t.answer for t in loaded.think(problems[:10])] == [t.answer for t in coconut.think(problems[:10])]


def test_how_a_model_thinks_can_be_given_by_hand(folder: Path, problems: list) -> None:
    (folder / "reasoner.json").unlink()
    unsaid = interp.load(folder)
    assert unsaid.kind == "direct" and "no thinking markers are known for it" in unsaid.loaded.line()
    by_hand = interp.load(folder, reasoner={"kind": "continuous", "task": "chain", "latent_scale": 0.1})
    assert by_hand.think(problems[:30]).accuracy > 0.9
    assert interp.load(folder, reasoner={"kind": "direct"}).think(problems[:30]).accuracy < 0.6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "telepathy"}', r"reasoner\.json does not describe a reasoner: kind: "),
        ('{"kind": "text", "latent_scal": 1}', "latent_scal: "),
        ('{"kind": "continuous", "latent_scale": 0}', "latent_scale: "),
        ('{"kind": "thinking-tokens", "thinking": "{0}{1}"}', "thinking: .*one {} for the number"),
        ('{"kind": "self-reasoning", "reasoning": "<r {"}', "reasoning: .*one {} for the number"),
        ('{"kind": "text", "stops": [""]}', "stops: .*empty text"),
        ("{", "does not describe a reasoner"),
    ],
)
def test_a_bad_reasoner_json_is_refused_by_field(folder: Path, content: str, message: str) -> None:
    (folder / "reasoner.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        interp.load(folder)


def test_weights_that_cannot_be_read_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match="cannot load a model from"):
        interp.load(folder)


def test_an_untrained_twin_is_another_model_of_the_same_shape(coconut: interp.Reasoner, problems: list) -> None:
    one, two, other = (interp.random_init(coconut, seed) for seed in (0, 0, 1))
    assert one.weights == two.weights != other.weights != coconut.weights
    assert one.kind == coconut.kind and one.config == coconut.config and "random init" in one.name
    assert one.think(problems[:40]).accuracy < 0.5
    assert dataclasses.is_dataclass(problems[0])


def test_cards_are_listed(cotlens: Callable) -> None:
    rows = cotlens("organisms", "ls", "--json").json["organisms"]
    assert [row["name"] for row in rows] == NAMES
    shown = {row["name"]: row["accuracy"] for row in rows}
    assert all(shown[name] == catalog.card(name)["accuracy"] for name in SHIPPED)
    assert all(shown[name] is None for name in set(NAMES) - set(SHIPPED))


def test_a_new_kind_of_reasoner_is_one_file_and_its_name_in_the_registry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problems: list
) -> None:
    """The example of CONTRIBUTING.md, run: it is taught, saved, loaded, and thinks."""
    from interp.reasoners import silent
    from interp.reasoners.config import KINDS

    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    assert example in Path(silent.__file__).read_text(), "the example is no longer the real code"
    scope = dict(vars(silent))
    exec(compile(example.replace('"pause"', '"tenth"'), "example", "exec", dont_inherit=True), scope)
    monkeypatch.setitem(KINDS, "tenth", "the example")
    monkeypatch.setitem(REASONERS, "tenth", scope["PauseReasoner"])
    made = tiny("tenth")
    build.save(training.train(made, 0), made, tmp_path)
    (trace,) = interp.load(tmp_path).think(problems[:1])
    assert trace.channel.count("latent") == problems[0].n_steps and "<pause>" in trace.tokens
