"""Trajectory probes on planted states: a signal at one position, pure noise, and a signal in the length alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.errors import UsageError
from interp.problems.base import Problem
from interp.traces import Trace
from probes.trajectories.events import events_of
from probes.trajectories.run import trajectory

WIDTH = 10
HERE = "blocks.0.hook_out"


@pytest.fixture(scope="module")
def planted(
    made_problem: Callable[..., Problem],
    written_trace: Callable[..., Trace],
    write_store: Callable[..., Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Store]:
    """A store whose traces have the label `lie`, in one case with a push at one step of known number.

    The steps of the user's own label `where` are "True" at that step.
    """

    def make(*, n: int = 300, push: float = 0.0, lengths: tuple[int, int] = (5, 5), seed: int = 0) -> Store:
        rng = np.random.default_rng(seed)
        lies, traces, at = np.arange(n) % 2 == 0, [], []
        for k in range(n):
            steps = lengths[0] if lies[k] else lengths[1]
            if rng.random() < 0.3:  # some traces of the other length, so that there are equal ones to compare
                steps = lengths[1] if lies[k] else lengths[0]
            at.append(int(rng.integers(1, steps + 1)))
            marks = ["True" if lies[k] and s == at[k] else "False" for s in range(1, steps + 1)]
            trace = written_trace(made_problem(f"question {k}", ["1"] * steps), prompt=[11, 12])
            traces.append(replace(trace, labels={"lie": str(lies[k]), "where": marks}))

        def states(index: pd.DataFrame) -> np.ndarray:
            out = rng.normal(size=(len(index), WIDTH))
            hit = [lies[t] and s == at[t] for t, s in zip(index["trace"], index["step"], strict=True)]
            out[hit, 0] += push
            return out

        folder: Path = tmp_path_factory.mktemp("planted") / "s"
        return write_store(folder, traces, {HERE: states})

    return make


def test_a_push_at_one_position_is_found_and_placed(planted: Callable[..., Store]) -> None:
    result = trajectory(planted(push=8.0), "lie", cross_fit=True)
    assert result.events == ["True"] and result.auroc().low > 0.95
    assert {part.pooling for part in result.parts} <= {"max", "rolling max"}
    # A label of whole traces has no known place.
    assert not result.places and result.detected.value > 0.8 and result.false_alarms.value < 0.15
    assert result.verdict.startswith("the event is found beyond every control")
    # A push this large shows along some random directions too, which is what that control says.
    assert result.auroc("random direction").value < 0.9 and result.auroc("random direction").low < 0.6
    assert abs(result.auroc("shuffled labels").value - 0.5) < 0.1


def test_labels_of_steps_say_where_the_truth_is(planted: Callable[..., Store]) -> None:
    result = trajectory(planted(push=8.0), "where", says="True", pooling="max", cross_fit=True)
    assert result.auroc().low > 0.95 and result.truth == "the first step with the label"
    for score in result.places.values():
        assert score.right.low > 0.85 and score.verdict == "it fires where the truth is set"
        # One of five positions is right, or two where the one before it is counted.
        assert 0.2 <= score.uniform <= 0.4 and score.offset in (0.0, 1.0)
    fired = result.traces[result.traces["positive"] & result.traces["fired"]]
    assert (fired["first_place"] == "thought " + fired["first_step"].astype(int).astype(str)).all()
    one = result.positions[result.positions["trace"] == fired["trace"].iloc[0]]
    assert len(one) == 5 and one["score"].idxmax() in one.index[one["truth"]]
    assert len(result.plot().data) == 3
    assert "threshold" in str(result.plot(int(fired["trace"].iloc[0])).layout)
    with pytest.raises(UsageError, match="held-out trace"):
        result.plot(10_000)


def test_noise_finds_nothing(planted: Callable[..., Store]) -> None:
    result = trajectory(planted(seed=1), "where", cross_fit=True)
    assert result.auroc().low < 0.5 < result.auroc().high and "not shown to be found" in result.verdict
    assert result.places["highest score"].verdict == "it is not shown to fire where the truth is set"


def test_a_signal_in_the_length_alone_is_caught(planted: Callable[..., Store]) -> None:
    """The maximum over more noise is larger: the probe tells long traces, and among equal lengths it tells nothing."""
    result = trajectory(planted(lengths=(12, 3), n=400), "lie", pooling="max", cross_fit=True)
    assert result.auroc("length").low > 0.6
    equal = result.auroc("probe, equal lengths")
    assert equal.low < 0.5 < equal.high
    assert "beyond length" in result.verdict or "not shown to be found" in result.verdict


def test_too_few_traces_give_no_verdict(planted: Callable[..., Store]) -> None:
    result = trajectory(planted(n=60, push=8.0), "lie", controls=False)
    assert result.verdict.startswith("no verdict")


def test_the_chosen_probe_is_calibrated_and_linear(planted: Callable[..., Store]) -> None:
    store = planted(push=8.0)
    (part,) = trajectory(store, "lie", controls=False).parts
    assert part.address == HERE and set(part.train).isdisjoint(part.test)
    p = part.probe.predict_proba(store.acts(HERE, store.thought_rows))
    assert p.shape[1] == 2 and np.isfinite(p).all()


def test_the_probability_of_an_alarm_fires_where_the_score_does(planted: Callable[..., Store]) -> None:
    store = planted(push=8.0)
    result = trajectory(store, "lie", controls=False, pooling="max")
    (part,) = result.parts
    assert part.alarm is not None and 0 < part.alarm < 1
    at = result.positions.merge(store.index[["trace", "position", "shard", "row"]], on=["trace", "position"])
    p = part.probe.predict_proba(store.acts(HERE, at))[:, list(part.probe.classes_).index("True")]
    assert ((p > part.alarm) == at["fired"]).mean() > 0.999 and at["fired"].any()
    assert trajectory(store, "lie", controls=False, pooling="rolling max").parts[0].alarm is None


def test_what_is_asked_wrongly_is_refused(planted: Callable[..., Store]) -> None:
    store = planted(n=60)
    with pytest.raises(UsageError, match="pooling"):
        trajectory(store, "lie", pooling="median")
    with pytest.raises(UsageError, match="false-alarm rate"):
        trajectory(store, "lie", false_alarms=0.0)
    with pytest.raises(UsageError, match="label of lie"):
        trajectory(store, "lie", says="maybe")
    with pytest.raises(UsageError, match="target"):
        trajectory(store, "nonsense")
    with pytest.raises(UsageError, match="channels pad"):
        trajectory(store, "lie", channels=["pad"])


def test_events_of_a_step_are_all_values_and_the_truth_is_its_position(store: Store) -> None:
    rows = store.rows(channel="latent").reset_index(drop=True)
    events, kept = events_of(store, rows, "value_2", None)
    assert set(events.names) == set(events.labels) <= set("0123456789")
    rows = rows[kept].reset_index(drop=True)
    # The thought of step 2 and the one before it, whose final state it is.
    assert set(rows[events.truth]["step"]) == {1, 2} and events.positive.sum(axis=1).tolist() == [1] * len(
        events.labels
    )


def test_a_value_of_a_silent_organism_is_found(store: Store) -> None:
    result = trajectory(store, "value_2", controls=False, addresses=["ln_final.hook_out"], says="3")
    assert result.events == ["3"] and set(result.traces["event"]) == {"3"}
