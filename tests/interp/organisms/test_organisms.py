"""Organisms: recipes are valid, weights match their cards, and folders of weights load."""

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
from interp.errors import QualityError, StoreError, UsageError
from interp.organisms import catalog
from interp.organisms.catalog import Recipe, recipe, recipes, weights_folder
from interp.organisms.training import build, checkpoint
from interp.organisms.training import train as training
from interp.organisms.training.model import new_model, save, tokenizer_of
from interp.problems import task
from interp.reasoners import REASONERS
from tests.interp.organisms.training.tiny import tiny

NAMES = sorted(recipes())
SHIPPED = catalog.shipped()
STANDALONE = catalog.standalone()


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


def as_then(now: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what it has come to say about when a stage is run again, and without the stages added since.

    Weights may be older than either.
    """
    since = [{"until", "rounds"} - set(stage) for stage in then["stages"]]
    added = ADDED_SINCE.get(now["name"], ())
    # Stages with `if_stuck` run only for seeds that did not learn, and no such weights are shipped.
    kept = [stage for stage in now["stages"] if stage["name"] not in added and not stage.get("if_stuck")]
    return now | {"stages": [{k: v for k, v in a.items() if k not in new} for a, new in zip(kept, since, strict=True)]}


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
    (tmp_path / "recipes" / "bad.toml").write_text(
        'kind = "text"\ntask = "chain"\nlerning_rate = 1\n', encoding="utf-8"
    )
    monkeypatch.setattr(catalog, "ORGANISMS_FOLDER", tmp_path)
    recipes.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"recipe bad\.toml: .*(summary|lerning_rate)"):
            recipes()
    finally:
        recipes.cache_clear()


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
    (folder / "reasoner.json").write_text(content, encoding="utf-8")
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

    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    assert example in Path(silent.__file__).read_text(encoding="utf-8"), "the example is no longer the real code"
    scope = dict(vars(silent))
    exec(compile(example.replace('"pause"', '"tenth"'), "example", "exec", dont_inherit=True), scope)
    monkeypatch.setitem(KINDS, "tenth", "the example")
    monkeypatch.setitem(REASONERS, "tenth", scope["PauseReasoner"])
    made = tiny("tenth")
    build.save(training.train(made, 0), made, tmp_path)
    (trace,) = interp.load(tmp_path).think(problems[:1])
    assert trace.channel.count("latent") == problems[0].n_steps and "<pause>" in trace.tokens
