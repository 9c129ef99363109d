"""The registry of reasoners, kinds of other packages, and the parts of a reasoner."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import interp
from interp.errors import UsageError
from interp.models.report import LoadReport
from interp.reasoners import REASONERS, ReasonerConfig, curriculum_of, reasoner_class
from interp.reasoners.config import KINDS, known_kinds
from interp.reasoners.direct import DirectReasoner
from interp.runtime import plugins


class GuessingReasoner(DirectReasoner):
    """A reasoner of another package."""

    kind = "guessing"


@pytest.fixture
def guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register `GuessingReasoner` as an installed package would."""
    entry = EntryPoint(name="guessing", value=f"{__name__}:GuessingReasoner", group="cotlens.reasoners")
    monkeypatch.setattr(EntryPoint, "load", lambda self: GuessingReasoner)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "cotlens.reasoners" else [])


def test_every_built_in_kind_has_a_class_and_a_description() -> None:
    assert list(KINDS) == list(REASONERS)
    assert all(cls.kind == kind for kind, cls in REASONERS.items())


def test_a_reasoner_of_another_package_is_picked_by_its_kind(guessing: None) -> None:
    assert known_kinds() == [*KINDS, "guessing"]
    config = ReasonerConfig(kind="guessing", task="chain")
    assert reasoner_class(config.kind) is GuessingReasoner
    assert not curriculum_of(config).writes_steps
    direct = interp.load("chain-direct")
    made = reasoner_class("guessing")(direct.model, direct.tokenizer, config, name="guess", weights=direct.weights)
    problems = made.task.generate(4, seed=0, split="test")
    assert [t.token_ids for t in made.think(problems)] == [t.token_ids for t in direct.think(problems)]


def test_an_unknown_kind_is_refused_with_the_known_ones(guessing: None) -> None:
    with pytest.raises(UsageError, match="expected a known kind of reasoner, got 'gessing'; did you mean 'guessing'"):
        reasoner_class("gessing")
    with pytest.raises(UsageError, match="here does not describe a reasoner: kind: "):
        ReasonerConfig.parse({"kind": "gessing"}, "here")


def test_a_changed_config_reaches_every_part(coconut: interp.Reasoner) -> None:
    changed = coconut.with_config(thoughts=1, stops=("7",))
    assert changed.vocabulary.config is changed.curriculum.config is changed.config
    assert changed.network is coconut.network and isinstance(changed.loaded, LoadReport)
    assert changed.vocabulary.stops.ids - coconut.vocabulary.stops.ids == {coconut.vocabulary.token_id("7")}
    (problem,) = coconut.task.generate(1, seed=3, split="test")
    assert changed.think([problem])[0].channel.count("latent") == 1
    assert coconut.think([problem])[0].channel.count("latent") == problem.n_steps


def test_methods_of_other_kinds_are_refused_with_what_to_use(coconut: interp.Reasoner) -> None:
    direct = interp.load("chain-direct")
    problems = direct.task.generate(2, seed=0, split="test")
    with pytest.raises(UsageError, match="expected a reasoner that thinks in text, got chain-coconut"):
        coconut.think_given(problems, [[1], [1]])
    with pytest.raises(UsageError, match="expected a reasoner whose steps can be left out, got chain-direct"):
        direct.think_steps(problems, 1)
    with pytest.raises(UsageError, match="expected one number of thoughts, 0 or more, for each of 2 problems, got 1"):
        coconut.write_after_thoughts(problems, [1], max_tokens=1)
    with pytest.raises(UsageError, match="expected one thought for each of 2 problems, got 1"):
        interp.load("chain-text").think_given(problems, [[1]], go_on=True)
    assert not direct.steps.iteration_addresses()
