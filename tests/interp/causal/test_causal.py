"""Causal tests on organisms for which the right result is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp import causal
from interp.causal.interchanges.results import InterchangeResult, Verdict
from interp.causal.patching.patch import CACHE, EVERYTHING, INPUT, addresses_of, answers_after, position
from interp.causal.patching.states import states
from interp.errors import UsageError
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, identity, replace_with, replace_within
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def some(traces: TraceSet) -> TraceSet:
    return TraceSet(list(traces)[:80])


@pytest.fixture(scope="module")
def found(coconut: interp.Reasoner, some: TraceSet) -> InterchangeResult:
    return interp.interchange(coconut, some, edits=[*causal.EDITS, "transplant"])


def test_states_are_what_the_loop_fed(coconut: interp.Reasoner, some: TraceSet) -> None:
    rows = [(k, position(trace, "thought 2")) for k, trace in enumerate(some)]
    kept = states(coconut, some, Address(INPUT), np.array(rows), batch_size=13)
    places = coconut.model.original_model.transformer.wpe.weight.cpu()
    for (k, at), state in zip(rows, kept, strict=True):
        torch.testing.assert_close(state, torch.tensor(some[k].latents[1]) + places[at].float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("address", [INPUT, EVERYTHING, CACHE, "blocks.1.attn.hook_v"])
def test_a_problems_own_state_changes_no_answer(coconut: interp.Reasoner, some: TraceSet, address: str) -> None:
    """Also in the key-value cache that is written during thoughts."""
    at = [position(trace, "thought 1") for trace in some]
    plan = pd.DataFrame({"run": range(80), "trace": range(80), "donor": range(80), "source": at, "target": at})
    assert answers_after(coconut, some, plan, address=address, batch_size=32) == [trace.answer for trace in some]


def test_patching_the_cache_is_not_patching_the_stream(coconut: interp.Reasoner, some: TraceSet) -> None:
    """What is written to the cache reaches later positions alone: the thought itself still feeds on its own value."""
    assert {a.hook for a in addresses_of(coconut, CACHE)} == {"attn.hook_k", "attn.hook_v"}
    rates = [interp.interchange(coconut, some, address=a, edits=["other value", "same value"]) for a in (INPUT, CACHE)]
    through_input, through_cache = (each.rate("other value").value for each in rates)
    assert through_input > 0.95 > 0.7 > through_cache > 0.2
    assert rates[1].rate("same value", "changed").value < 0.05


def test_the_contract_holds_at_the_thought_and_nowhere_else(found: InterchangeResult) -> None:
    contract = found.contract()
    assert contract.sufficiency.low > 0.9
    assert contract.competitor.value < 0.25
    assert contract.matched_corruption.value < -0.5
    assert found.rate("same value", "changed").value < 0.03
    assert found.verdict().name == "used"
    table = found.table()
    assert (table["predicted"] != table["answer_before"])[table["edit"] != "same value"].all()
    assert set(found.summary()["edit"]) == {*causal.EDITS, "transplant"}


def test_no_verdict_without_power_or_controls(
    coconut: interp.Reasoner, some: TraceSet, found: InterchangeResult
) -> None:
    alone = InterchangeResult(found.table().query("edit == 'other value'"), INPUT, "others")
    assert alone.verdict() == Verdict(
        "undecided", "no donors of the same value, so damage cannot be distinguished from content"
    )
    few = InterchangeResult(found.table().groupby("edit").head(3), INPUT, "others")
    assert few.verdict().name == "undecided"
    damaged = interp.interchange(coconut, some, address="blocks.0.hook_out")
    assert damaged.verdict().name == "damaged"


def test_a_subspace_that_holds_the_value_is_enough_and_a_random_one_is_not(
    coconut: interp.Reasoner, traces: TraceSet
) -> None:
    learn, kept = causal.structure_disjoint_split(traces, 80)
    basis = causal.value_basis(coconut, learn)
    assert basis.shape == (9, 128)
    within = interp.interchange(coconut, kept, basis=basis, edits=["other value", "random subspace"])
    assert within.rate("other value").value > 0.9 > 0.2 > within.rate("random subspace").value


def test_replacing_within_the_whole_space_is_replacing(coconut: interp.Reasoner) -> None:
    x, values = torch.randn(5, 16), torch.randn(5, 16)
    rows = np.arange(5)
    torch.testing.assert_close(replace_within(values, torch.eye(16))(x, rows), values)
    once = replace_within(values, torch.randn(3, 16))
    torch.testing.assert_close(once(once(x, rows), rows), once(x, rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("address", ["blocks.0.attn.hook_k", "blocks.1.attn.hook_v", "blocks.2.mlp.hook_out"])
def test_an_edit_while_thinking_is_the_same_on_replay(coconut: interp.Reasoner, some: TraceSet, address: str) -> None:
    """What later positions see is the same whether a thought is edited in the loop or in a replay of the edited trace."""
    rows = np.array([(k, position(trace, "thought 1")) for k, trace in enumerate(some)])
    donated = states(coconut, some, Address(address), np.roll(rows, 1, axis=0))
    edits = [Intervention(Address(address), rows, replace_with(donated))]
    after = coconut.think(some.problems, interventions=edits)
    seen: dict[int, torch.Tensor] = {}

    def keep(activations, batch):  # type: ignore[no-untyped-def]
        for b, k in enumerate(batch.traces.tolist()):
            seen[k] = activations[b].clone()

    coconut.replay(after, hooks={"ln_final.hook_out": keep}, interventions=edits)
    for k, trace in enumerate(after):
        second = position(trace, "thought 2")
        fed = seen[k][second - 1] * coconut.config.latent_scale
        torch.testing.assert_close(fed.cpu(), torch.tensor(trace.latents[1]), atol=1e-4, rtol=1e-4)
    moved = [float(np.abs(a.latents - b.latents).max()) for a, b in zip(after, some, strict=True)]
    assert np.median(moved) > 1e-3, "the edit must bite, or this test says nothing"


def test_the_map_points_at_the_input_of_the_thought(coconut: interp.Reasoner, some: TraceSet) -> None:
    from interp.causal.interchanges.maps import best_cell

    table = causal.layer_map(coconut, TraceSet(list(some)[:40]), sites="resid", offsets=(0,), whole=False)
    assert list(table["address"]) == [INPUT, *(f"blocks.{k}.hook_out" for k in range(3)), "ln_final.hook_out"]
    assert best_cell(table)["address"] == INPUT


def test_swaps_that_predict_one_answer_at_two_steps_say_nothing_of_either() -> None:
    about = {"n_steps": 2, "thought": 2, "chance": 0.2}
    both = [{**about, "step": step, "followed": True, "alone": False} for step in (1, 2) for _ in range(30)]
    apart = [{**about, "step": step, "followed": step == 2, "alone": True} for step in (1, 2) for _ in range(30)]
    assert list(causal.used_map(pd.DataFrame(both + apart))["verdict"]) == ["unused", "used"]
    assert list(causal.used_map(pd.DataFrame(both))["verdict"]) == ["undecided", "undecided"]


def test_the_used_map_of_continuous_thoughts_is_the_diagonal(coconut: interp.Reasoner, some: TraceSet) -> None:
    cells = causal.used_map(causal.swap_each_thought(coconut, some.problems))
    long = cells[cells["n"] >= 12]
    diagonal = long["step"] == long["thought"]
    assert (long[diagonal]["verdict"] == "used").all() and not (long[~diagonal]["verdict"] == "used").any()


def test_thinking_tokens_hold_values_that_they_do_not_use() -> None:
    thinker = interp.load("chain3-thinking-tokens")
    problems = thinker.task.generate(160, seed=73, split="test")
    cells = causal.used_map(causal.swap_each_thought(thinker, problems))
    read = causal.readable_map(thinker, thinker.task.generate(300, seed=74, split="test"))
    both = cells.merge(read, on=["n_steps", "step", "thought"])
    assert len(both) == len(cells) and ((both["verdict"] == "unused") & both["readable"]).any()
    assert both.set_index(["n_steps", "step", "thought"]).loc[(3, 2, 2), "verdict"] == "used"


def test_donors_that_share_the_path(coconut: interp.Reasoner, some: TraceSet) -> None:
    donors = causal.donors_for(coconut, TraceSet(list(some)[:10]), source="rewrites")
    assert len(donors.traces) == 80 and (np.bincount(donors.owner) == 8).all()
    with pytest.raises(UsageError, match="expected a known source of donors, got 'mine'"):
        causal.donors_for(coconut, some, source="mine")  # type: ignore[arg-type]


def test_steering_reaches_the_chosen_value_and_a_random_direction_does_not(
    coconut: interp.Reasoner, traces: TraceSet
) -> None:
    more = coconut.think(coconut.task.generate(200, seed=90, split="test"))
    directions = causal.Directions.fit(coconut, more)
    val, test = causal.structure_disjoint_split(traces, 50)
    done = causal.steer(coconut, val, test, directions, doses=[0.5, 1.0], mode="set")
    assert done.rate("steer", "followed").value > 0.85 > 0.3 > done.rate("random direction", "followed").value
    assert done.collateral().value < 0.05
    assert list(done.summary()["dose"]) == [0.5, 1.0] and done.summary()["chosen"].sum() == 1
    with pytest.raises(UsageError, match="expected a known value with a steering direction, got 'x'"):
        directions.of("x", causal.ValueToken(1, 3))
    with pytest.raises(UsageError, match="expected doses that are positive"):
        causal.steer(coconut, val, test, directions, doses=[0.0])


def test_readings_are_held_out(coconut: interp.Reasoner, traces: TraceSet) -> None:
    learn, kept = causal.structure_disjoint_split(traces, 80)
    values, right = causal.read_values(coconut, learn, kept)
    assert right > 0.95 and [len(each) for each in values] == [trace.problem.n_steps for trace in kept]
    with pytest.raises(UsageError, match="share"):
        causal.read_values(coconut, traces, kept)


def test_hooks_are_gone_after_an_edit_that_fails(coconut: interp.Reasoner, some: TraceSet) -> None:
    at = [position(trace, "thought 1") for trace in some]
    plan = pd.DataFrame({"run": range(80), "trace": range(80), "donor": range(80), "source": at, "target": at})

    def broken(values, address):  # type: ignore[no-untyped-def]
        def edit(found, rows):  # type: ignore[no-untyped-def]
            raise RuntimeError("on purpose")

        return edit

    with pytest.raises(RuntimeError, match="on purpose"):
        answers_after(coconut, some, plan.assign(edit="broken"), address=INPUT, makers={"broken": broken})
    rows = np.array([(0, at[0])])
    undisturbed = coconut.think(some.problems, interventions=[Intervention(Address(INPUT), rows, identity)])
    assert [t.token_ids for t in undisturbed] == [t.token_ids for t in some]


def test_commands_say_sample_seed_interval_and_controls(cotlens) -> None:  # type: ignore[no-untyped-def]
    output = cotlens("causal", "interchange", "chain-coconut", "--task", "chain:n=40", "--json").json
    assert {row["edit"] for row in output["rates"]} == set(causal.EDITS)
    assert output["n"] == 40 and output["seed"] == 0 and output["interval"] == "95 %" and "verdict" in output
    short = ("--task", "chain:n=20", "--json")
    old = cotlens("causal", "interchange", "chain-coconut", "--site", "cache", "--kind", "other value", *short)
    new = cotlens("causal", "interchange", "chain-coconut", "--address", "cache", "--edit", "other value", *short)
    assert old.json == new.json and "--site is now --address" in old.err and "--kind is now --edit" in old.err
    assert new.json["address"] == "cache" and "warning" not in new.err
    ended = cotlens("causal", "interchange", "chain-coconut", "--map", "--used-map")
    assert ended.code == 2 and "ask for one of them" in ended.error
    ended = cotlens("causal", "ablate", "chain-direct", "--task", "chain:n=20")
    assert ended.code == 2 and "which does not" in ended.error
