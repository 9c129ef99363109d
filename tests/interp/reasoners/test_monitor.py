"""Monitors inject once, at the thought whose score is above the threshold, in every reasoner, and log it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import interp
from interp.causal import supervise
from interp.causal.patching.patch import position
from interp.causal.patching.states import states
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.reasoners.monitor import Monitor
from interp.traces import TraceSet

FED = Address("blocks.0.hook_in")
FINAL = Address("ln_final.hook_out")


def always(found: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(found))


@pytest.fixture(scope="module")
def some(traces: TraceSet) -> TraceSet:
    return TraceSet(list(traces)[:24])


def test_a_monitor_that_only_watches_changes_nothing(coconut: interp.Reasoner, some: TraceSet) -> None:
    watched = coconut.think(some.problems, monitors=[Monitor(FED, always, 0.5, times=99)])
    for trace, before in zip(watched, some, strict=True):
        assert trace.token_ids == before.token_ids
        np.testing.assert_allclose(trace.latents, before.latents, atol=1e-4)
        fired = [event["position"] for event in trace.events]
        assert fired == [k for k, n in enumerate(trace.thought) if n] and not any(e["injected"] for e in trace.events)


def test_the_score_is_that_of_the_activation(coconut: interp.Reasoner, some: TraceSet) -> None:
    direction = np.random.default_rng(0).normal(size=128).astype(np.float32)
    seen = coconut.think(some.problems, monitors=[Monitor.along(FINAL, direction, -1e9, bias=0.5)])
    rows = np.array([(k, position(trace, "thought 1")) for k, trace in enumerate(some)])
    expected = states(coconut, some, FINAL, rows) @ torch.tensor(direction) + 0.5
    torch.testing.assert_close(torch.tensor([t.events[0]["score"] for t in seen]), expected, atol=1e-3, rtol=1e-3)


def test_a_monitor_acts_only_above_the_threshold_and_at_most_so_often(coconut: interp.Reasoner, some: TraceSet) -> None:
    direction = np.random.default_rng(0).normal(size=128).astype(np.float32)
    everything = coconut.think(some.problems, monitors=[Monitor.along(FINAL, direction, -1e9, times=99)])
    scores = [event["score"] for trace in everything for event in trace.events]
    threshold = float(np.median(scores))
    for times in (1, 2):
        seen = coconut.think(some.problems, monitors=[Monitor.along(FINAL, direction, threshold, times=times)])
        for trace, whole in zip(seen, everything, strict=True):
            above = [event for event in whole.events if event["score"] > threshold]
            assert [e["position"] for e in trace.events] == [e["position"] for e in above[:times]]


@pytest.mark.parametrize("kind", ["chain-coconut", "chain-text", "chain-pause-as-thought", "chain3-thinking-tokens"])
def test_a_text_is_injected_after_the_thought_in_every_reasoner_and_batch(kind: str) -> None:
    reasoner = interp.load(kind)
    problems = reasoner.task.generate(10, seed=5, split="test")
    monitor = Monitor(FED, always, 0.5, text="7 3", name="said")
    together = reasoner.think(problems, monitors=[monitor], batch_size=10)
    alone = reasoner.think(problems, monitors=[monitor], batch_size=1, padding_side="right")
    for trace, single in zip(together, alone, strict=True):
        (event,) = trace.events
        at = event["position"]
        assert event["injected"] and event["text"] == "7 3"
        assert trace.tokens[at + 1 : at + 3] == ["7", "3"] and trace.channel[at + 1 : at + 3] == ["thought"] * 2
        assert trace.thought[at + 1] == trace.thought[at] == 1
        assert trace.token_ids == single.token_ids and [e["position"] for e in single.events] == [at]
    plain = reasoner.think(problems)
    assert all(not trace.events for trace in plain)
    assert [t.token_ids for t in plain] != [t.token_ids for t in together]


def test_later_steps_follow_from_an_injected_value() -> None:
    """A text reasoner continues from the injected value as the task's counterfactual predicts."""
    writer = interp.load("chain-text")
    problems = writer.task.generate(60, seed=6, split="test")
    replaced = writer.think(problems, monitors=[Monitor(FED, always, 0.5, text="4")])
    # The put-in value stands in the place of step 2, so the later operations are applied to it.
    long = [(t, p) for t, p in zip(replaced, problems, strict=True) if p.n_steps >= 3]
    followed = [t.answer == writer.task.counterfactual(p, 2, "4") for t, p in long]
    assert len(long) > 20 and np.mean(followed) > 0.8


def test_a_vector_is_added_at_that_position_and_replays(coconut: interp.Reasoner, some: TraceSet) -> None:
    push = np.random.default_rng(1).normal(size=128).astype(np.float32) * 3
    monitor = Monitor(Address("blocks.0.hook_out"), always, 0.5, vector=push, at=Address("blocks.1.hook_out"))
    pushed = coconut.think(some.problems, monitors=[monitor])
    moved = [np.abs(a.latents[1] - b.latents[1]).max() for a, b in zip(pushed, some, strict=True)]
    assert min(moved) > 1e-3 and all(
        np.allclose(a.latents[0], b.latents[0], atol=1e-4) for a, b in zip(pushed, some, strict=True)
    )
    alone = coconut.think(some.problems, monitors=[monitor], batch_size=1)
    for a, b in zip(pushed, alone, strict=True):
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-4)
    seen: dict[int, torch.Tensor] = {}

    def keep(activations, batch):  # type: ignore[no-untyped-def]
        for b, k in enumerate(batch.traces.tolist()):
            seen[k] = activations[b].clone()

    coconut.replay(pushed, hooks={FINAL.name: keep}, interventions=monitor.interventions(pushed))
    for k, trace in enumerate(pushed):
        fed = seen[k][position(trace, "thought 2") - 1] * coconut.config.latent_scale
        torch.testing.assert_close(fed.cpu(), torch.tensor(trace.latents[1]), atol=1e-4, rtol=1e-4)


def test_events_are_kept_in_the_file(coconut: interp.Reasoner, some: TraceSet, tmp_path) -> None:  # type: ignore[no-untyped-def]
    seen = coconut.think(some.problems, monitors=[Monitor(FED, always, 0.5, text="4")])
    seen.to_parquet(tmp_path / "traces.parquet")
    kept = TraceSet.from_parquet(tmp_path / "traces.parquet")
    assert [t.events for t in kept] == [t.events for t in seen]


def test_a_failing_monitor_leaves_no_hook(coconut: interp.Reasoner, some: TraceSet) -> None:
    def broken(found: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        coconut.think(some.problems, monitors=[Monitor(FED, broken, 0.5)])
    assert [t.token_ids for t in coconut.think(some.problems)] == [t.token_ids for t in some]


def test_impossible_monitors_are_refused(coconut: interp.Reasoner, some: TraceSet) -> None:
    with pytest.raises(UsageError, match="computed before it"):
        Monitor(FINAL, always, 0.5, vector=np.zeros(128), at=FED)
    with pytest.raises(UsageError, match="not both"):
        Monitor(FINAL, always, 0.5, vector=np.zeros(128), text="4")
    with pytest.raises(UsageError, match="empty text"):
        Monitor(FINAL, always, 0.5, text=" ")
    with pytest.raises(UsageError, match="does not know every word"):
        coconut.think(some.problems, monitors=[Monitor(FINAL, always, 0.5, text="abracadabra")])


# --- evaluated, and as a command -------------------------------------------------------------------------------


def test_a_monitor_may_watch_chosen_positions_alone(coconut: interp.Reasoner, some: TraceSet) -> None:
    at = position(some[3], "thought 2")
    seen = coconut.think(some.problems, monitors=[Monitor(FED, always, 0.5, times=9, only={3: [at]})], batch_size=7)
    assert [[event["position"] for event in trace.events] for trace in seen] == [
        [at] if k == 3 else [] for k in range(len(some))
    ]


def test_supervision_is_compared_with_the_same_problems_and_with_controls(coconut: interp.Reasoner) -> None:
    """A vector that erases the thought changes answers; without it, or where it never fires, none change."""
    problems = coconut.task.generate(60, seed=9, split="test")
    vector = np.random.default_rng(0).normal(size=128).astype(np.float32) * 50
    result = supervise(coconut, problems, Monitor(FED, always, 0.5, vector=vector), places=["thought 2"])
    table = result.table.set_index("arm")
    assert list(table.index) == ["monitor", "other content", "other place"]
    assert (table["n_fired"] == 60).all() and (table["injected"] == 60).all()
    assert table.loc["monitor", "changed"] > 0.5 and result.undisturbed.accuracy > 0.95
    places = [trace.places[event["position"]] for trace in result.traces for event in trace.events]
    assert set(places) == {"thought 2"}
    assert result.beyond["other content"].n == 60 and "injecting changed" in result.verdict
    never = supervise(coconut, problems, Monitor(FED, always, 2.0, vector=vector))
    assert list(never.table["arm"]) == ["monitor"] and "never fired" in never.verdict
    few = supervise(coconut, problems[:4], Monitor(FED, always, 0.5, text="7"))
    assert "cannot be compared over 4 problems" in few.verdict
    with pytest.raises(UsageError, match=r"nothing to watch at thought 9. Places of these thoughts: thought 1, "):
        supervise(coconut, problems[:4], Monitor(FED, always, 0.5), places=["thought 9"])


@pytest.fixture(scope="module")
def kept(store, tmp_path_factory):  # type: ignore[no-untyped-def]
    """A probe of the value at thought 1, saved in a folder."""
    from probes import LogisticProbe
    from probes.estimators.saved import save_probe

    rows = store.index[store.index["place"] == "thought 1"]
    gold = [store.traces[t].problem.steps[0].value for t in rows["trace"]]
    probe = LogisticProbe().fit(store.acts(FINAL, rows), gold)
    folder = tmp_path_factory.mktemp("probe") / "value"
    save_probe(probe, folder, address=FINAL, store=store)
    return folder


def test_a_saved_probe_is_a_monitor_on_the_command_line(cotlens, kept, tmp_path) -> None:  # type: ignore[no-untyped-def]
    asked = ["causal", "monitor", "chain-coconut", "--watch", kept, "--says", "3", "--task", "chain:n=80,seed=8"]
    logged = cotlens(*asked, "--place", "thought 1", "--out", tmp_path / "t.parquet", "--json").json
    (arm,) = logged["arms"]
    assert arm["injected"] == 0 and arm["changed"] == 0.0 and arm["n_fired"] > 2
    traces = TraceSet.from_parquet(tmp_path / "t.parquet")
    fired = np.array([bool(trace.events) for trace in traces])
    true = np.array([trace.problem.steps[0].value == "3" for trace in traces])
    assert true.mean() < 0.3 and true[fired].mean() > 0.8
    np.save(tmp_path / "v.npy", np.ones(128))
    pushed = cotlens(*asked, "--inject-vector", tmp_path / "v.npy", "--dose", "30", "--json").json
    assert [arm["arm"] for arm in pushed["arms"]] == ["monitor", "other content", "other place"]
    for more, said in (
        (["--out", tmp_path / "t.parquet"], "exists already"),
        (["--inject-text", "7", "--inject-vector", tmp_path / "v.npy"], "a text or a vector, not both"),
        (["--inject-vector", tmp_path / "t.parquet"], "cannot be read as a .npy file"),
        (["--says", "x"], "expected a known class of the probe"),
    ):
        ended = cotlens(*asked, *more)
        assert ended.code == 2 and said in ended.error
    ended = cotlens("causal", "monitor", "chain-text", "--watch", kept, "--says", "3")
    assert ended.code == 5 and "Fit one to this model, or say --transfer" in ended.error
    ended = cotlens("causal", "monitor", "chain-coconut", "--watch", f"{tmp_path / 'no'}:3")
    assert ended.code == 5 and "no SAE at" in ended.error


def test_a_feature_of_a_saved_sae_is_a_monitor(coconut: interp.Reasoner, some: TraceSet, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from sae_lens import StandardSAE, StandardSAEConfig

    from interp.commands.causal.monitor import watcher
    from interp.sae.load import save_sae

    sae = StandardSAE(StandardSAEConfig(d_in=128, d_sae=8))
    sae.cfg.metadata.hook_name, sae.cfg.metadata.weights = FINAL.name, coconut.weights
    save_sae(sae, tmp_path / "sae")
    watching = watcher(coconut, f"{tmp_path / 'sae'}:2", None, None, False, {"times": 9})
    seen = coconut.think(some.problems, monitors=[watching])
    at = {(k, p): trace for k, trace in enumerate(some) for p, n in enumerate(trace.thought) if n}
    acts = states(coconut, some, FINAL, np.array(list(at)))
    expected = {cell for cell, active in zip(at, (sae.encode(acts)[:, 2] > 1e-4).tolist(), strict=True) if active}
    result = {(k, e["position"]) for k, trace in enumerate(seen) for e in trace.events if e["score"] > 1e-4}
    assert result == expected and 0 < len(result) < len(at)
    with pytest.raises(UsageError, match=r"expected one of the features 0 to 7 .*got 8"):
        watcher(coconut, f"{tmp_path / 'sae'}:8", None, None, False, {})
    with pytest.raises(StoreError, match=r"was trained on another model \(weights .*--transfer"):
        watcher(interp.load("chain-text"), f"{tmp_path / 'sae'}:2", None, None, False, {})
