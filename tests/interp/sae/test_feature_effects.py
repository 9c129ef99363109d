"""The effect of one feature on one trace, beside random directions of the same length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store
from interp.errors import UsageError
from interp.models.address import Address
from interp.sae.dictionaries import SAEDictionary
from interp.sae.feature_effects import feature_effect
from interp.sae.settings import SAESettings
from interp.sae.trained import train_into

AT = Address("blocks.0.hook_in")


@pytest.fixture(scope="module")
def sae(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = SAESettings(d_sae=48, k=4, samples=30_000, batch_size=128)
    return train_into(tmp_path_factory.mktemp("sae") / "sae", store, AT, settings).sae


@pytest.fixture(scope="module")
def firing(store: Store, sae: Any) -> tuple[int, np.ndarray, np.ndarray]:
    """A trace, the positions of its thoughts, and the activations of all features there."""
    rows = store.thought_rows
    rows = rows[rows["trace"] == rows["trace"].iloc[0]]
    return int(rows["trace"].iloc[0]), rows["position"].to_numpy(), SAEDictionary(sae).encode(store.acts(AT, rows))


def test_a_feature_that_does_not_fire_has_nothing_to_take_away(
    coconut: interp.Reasoner, store: Store, sae: Any, firing: tuple[int, np.ndarray, np.ndarray]
) -> None:
    trace, positions, features = firing
    silent = int(np.flatnonzero((features == 0).all(axis=0))[0])
    effect = feature_effect(coconut, sae, AT, store.traces[trace], positions, silent, controls=3)
    assert effect.length == 0 and effect.activation == 0 and not effect.changed
    assert not effect.controls["changed"].any() and effect.before == store.traces[trace].answer


def test_a_large_push_changes_the_answer_and_so_do_random_ones(
    coconut: interp.Reasoner, store: Store, sae: Any, firing: tuple[int, np.ndarray, np.ndarray]
) -> None:
    trace, positions, features = firing
    feature = int(features.sum(axis=0).argmax())
    effect = feature_effect(
        coconut, sae, AT, store.traces[trace], positions, feature, edit="steer", amount=100.0, controls=8
    )
    push = 100.0 * float(torch.linalg.vector_norm(sae.W_dec[feature].detach()))
    if sae.cfg.rescale_acts_by_decoder_norm:
        push = 100.0
    assert effect.length == pytest.approx(push, rel=1e-3)
    assert effect.random_rate.n == 8 and effect.random_rate.value == effect.controls["changed"].mean()
    # A push that drowns the thought breaks it in any direction: it shows nothing of the feature.
    assert effect.random_rate.value >= 0.5 and not effect.specific


def test_the_push_is_what_the_feature_adds_and_controls_are_as_long(
    store: Store,
    sae: Any,
    firing: tuple[int, np.ndarray, np.ndarray],
    coconut: interp.Reasoner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace, positions, features = firing
    feature = int(features.sum(axis=0).argmax())
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    think = coconut.think

    def watched(problems: Any, *, interventions: Any, **options: Any) -> Any:
        (intervention,) = interventions
        acts = torch.from_numpy(store.acts(AT, store.thought_rows.iloc[: len(positions)]))
        for copy in (1, 2):
            rows = np.flatnonzero(intervention.rows[:, 0] == copy)
            kept.append((acts.numpy(), intervention.edit(acts, rows).numpy(), rows))
        return think(problems, interventions=interventions, **options)

    monkeypatch.setattr(coconut, "think", watched)
    feature_effect(coconut, sae, AT, store.traces[trace], positions, feature, controls=2)
    (before, own, _), (_, random, _) = kept
    dictionary = SAEDictionary(sae)
    active = dictionary.encode(before)
    without = active.copy()
    without[:, feature] = 0
    assert np.allclose(own - before, dictionary.decode(without) - dictionary.decode(active), atol=1e-5)
    assert np.allclose(np.linalg.norm(random - before, axis=1), np.linalg.norm(own - before, axis=1), atol=1e-5)


def test_wrong_arguments_are_refused(coconut: interp.Reasoner, store: Store, sae: Any) -> None:
    trace = store.traces[0]
    with pytest.raises(UsageError, match="edit of a feature"):
        feature_effect(coconut, sae, AT, trace, np.array([5]), 0, edit="erase")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="between 0 and 47"):
        feature_effect(coconut, sae, AT, trace, np.array([5]), 48)
    with pytest.raises(UsageError, match="positions"):
        feature_effect(coconut, sae, AT, trace, np.zeros(0, int), 0)
