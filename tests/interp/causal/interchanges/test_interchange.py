"""Interchange: whether edited thoughts change the answer as the task's oracle predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
from interp.activations import Store
from interp.causal.interchanges.plan import OffsetLocation, plan_swaps
from interp.causal.interchanges.results import InterchangeResult, with_current_names
from interp.causal.patching.donors import Donors, gold_values, pairs
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.errors import StoreError, UsageError
from interp.problems import task
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def readouts(store: Store, coconut: interp.Reasoner) -> ReadOuts:
    return interp.decode(store, ["probe", "logit_lens"], reasoner=coconut)


@pytest.fixture(scope="module")
def edits(coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts) -> InterchangeResult:
    return interp.interchange(coconut, traces, readouts, split=None)


def of(found: InterchangeResult, edit: str) -> pd.DataFrame:
    return found.table()[found.table()["edit"] == edit]


def test_the_answer_follows_another_value_and_not_the_same_value(edits: InterchangeResult) -> None:
    other, same = of(edits, "other value"), of(edits, "same value")
    assert len(other) > 300 and other["followed"].mean() > 0.95
    assert len(same) > 200 and same["changed"].mean() < 0.05
    assert (other["donor_value"] != other["value"]).all() and (same["donor_value"] == same["value"]).all()
    # Operations are permutations, so another value must give another answer.
    assert (other["predicted"] != other["answer_before"]).mean() > 0.95


def test_a_random_vector_does_damage_but_is_not_followed(edits: InterchangeResult) -> None:
    noise = of(edits, "random vector")
    assert (noise["donor"] == -1).all() and noise["donor_value"].isna().all()
    assert noise["changed"].mean() > 0.5
    assert noise["followed"].mean() < 0.5


def test_a_random_vector_that_nothing_predicts_an_answer_for_is_not_counted_as_one_that_is_not_followed() -> None:
    swap = {"trace": 0, "step": 1, "edit": "random vector", "address": "cache", "offset": 0, "chance": 0.5}
    rows = [
        swap | {"structure": str(k), "predicted": answer, "followed": followed, "changed": changed}
        for k, (answer, followed, changed) in enumerate(
            [("a", True, True), ("b", False, True), (None, False, False), (np.nan, False, False)]
        )
    ]
    result = InterchangeResult(pd.DataFrame(rows), "cache", "others")
    followed, changed = result.rate("random vector"), result.rate("random vector", "changed")
    assert (followed.value, followed.n, changed.value, changed.n) == (0.5, 2, 0.5, 4)
    assert result.above_chance("random vector").value == 0
    assert result.summary()[["follow_rate", "change_rate", "n"]].to_numpy().tolist() == [[0.5, 0.5, 4]] * 2
    alone = InterchangeResult(pd.DataFrame(rows[2:]), "cache", "others").summary()
    assert alone["follow_rate"].isna().all() and alone["n"].tolist() == [2, 2]


def test_the_prediction_is_the_oracles(edits: InterchangeResult, traces: TraceSet, coconut: interp.Reasoner) -> None:
    for _, row in of(edits, "other value").iterrows():
        expected = coconut.task.counterfactual(traces[row["trace"]].problem, row["step"], row["donor_value"])
        assert row["predicted"] == expected
        assert row["followed"] == (row["answer_after"] == expected)
        assert row["changed"] == (row["answer_after"] != traces[row["trace"]].answer)


def test_a_donor_is_another_problem_of_the_same_length_read_at_the_same_step(
    edits: InterchangeResult, traces: TraceSet, readouts: ReadOuts
) -> None:
    read = readouts.of("probe").set_index(["trace", "step"])["text"]
    for edit in ("other value", "same value"):
        for _, row in of(edits, edit).iterrows():
            mine, donor = traces[row["trace"]].problem, traces[row["donor"]].problem
            assert mine.structure != donor.structure and mine.n_steps == donor.n_steps
            assert row["donor_value"] == read[row["donor"], row["step"]]
            assert row["value"] == read[row["trace"], row["step"]]


def test_with_wrong_readings_the_answer_no_longer_follows(
    coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts, edits: InterchangeResult
) -> None:
    frame = readouts.table().copy()
    probe = (frame["method"] == "probe").to_numpy()
    frame.loc[probe, "text"] = np.random.default_rng(0).permutation(frame.loc[probe, "text"].to_numpy())
    wrong = readouts.with_rows(frame)
    result = interp.interchange(coconut, traces, wrong, split=None)
    assert of(result, "other value")["followed"].mean() < 0.3 < of(edits, "other value")["followed"].mean()
    assert of(result, "same value")["changed"].mean() > 0.5


def test_a_wrong_step_is_one_from_which_the_predicted_answer_does_not_follow(traces: TraceSet) -> None:
    """The donor's value at another step often implies the same answer, and a model that uses every value follows it."""
    donors = Donors(traces, gold_values(traces), np.full(len(traces), -1), "others")
    paired = pairs(traces, donors, gold_values(traces))
    plan = plan_swaps(paired, traces, donors, OffsetLocation(traces, "everything", 0), ["wrong step"], seed=0)
    assert len(plan) > 100
    for row in plan.to_dict("records"):
        trace = traces[row["trace"]]
        other = trace.thought[row["target"]]
        value = donors.values[row["donor"]][other - 1]
        assert other != row["step"]
        assert task(trace.problem.task).counterfactual(trace.problem, other, value) != row["predicted"]


def test_only_the_asked_split_is_edited_and_gives_donors(
    coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts
) -> None:
    result = interp.interchange(coconut, traces, readouts).table()
    test = set(readouts.of("probe").query("split == 'test'")["trace"])
    assert set(result["trace"]) == test and set(result["donor"]) - {-1} <= test


def test_seeds_reproduce(coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts) -> None:
    one, two, other = (interp.interchange(coconut, traces, readouts, seed=seed).table() for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert (one["donor"].to_numpy()[: len(other)] != other["donor"].to_numpy()[: len(one)]).mean() > 0.1


def test_batches_do_not_change_what_comes_of_an_edit(
    coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts
) -> None:
    one = interp.interchange(coconut, traces, readouts, batch_size=7).table()
    pd.testing.assert_frame_equal(one, interp.interchange(coconut, traces, readouts).table())


def test_the_method_is_the_one_asked_for(coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts) -> None:
    assert interp.interchange(coconut, traces, readouts).method == "probe"
    lens = interp.interchange(coconut, traces, readouts, method="logit_lens")
    assert lens.method == "logit_lens" and lens.location == readouts.locations["logit_lens"].label
    with pytest.raises(UsageError, match="expected a known decoding method in these read-outs, got 'sae'"):
        interp.interchange(coconut, traces, readouts, method="sae")


def test_the_summary_is_the_means_of_the_table(edits: InterchangeResult) -> None:
    summary = edits.summary()
    assert set(summary["edit"]) == {"other value", "same value", "wrong site", "wrong step", "random vector"}
    for _, row in summary.iterrows():
        part = of(edits, row["edit"])
        part = part if row["step"] == 0 else part[part["step"] == row["step"]]
        assert row["n"] == len(part)
        assert row["change_rate"] == pytest.approx(part["changed"].mean())
        if row["edit"] == "random vector":
            part = part[part["predicted"].notna()]
        assert row["follow_rate"] == pytest.approx(part["followed"].mean())
        low, high = grouped_mean_interval(part["followed"].to_numpy(), part["structure"].to_numpy())
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
        assert row["ci_low"] <= row["follow_rate"] <= row["ci_high"]


def test_another_model_is_refused(coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts) -> None:
    for other in (interp.random_init(coconut), interp.load("chain-pause-as-thought")):
        with pytest.raises(StoreError, match=r"made from chain-coconut; use the same model"):
            interp.interchange(other, traces, readouts)


def test_other_traces_than_those_that_were_read_are_refused(coconut: interp.Reasoner, readouts: ReadOuts) -> None:
    """Their thoughts hold other values, so every prediction would quietly be wrong."""
    other = coconut.think(coconut.task.generate(120, seed=99, split="test"))
    with pytest.raises(StoreError, match="traces"):
        interp.interchange(coconut, other, readouts)


def test_read_outs_and_a_location_cannot_both_say_where_to_edit(
    coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts
) -> None:
    with pytest.raises(UsageError, match="expected read-outs or a location, got both"):
        interp.interchange(coconut, traces, readouts, address="blocks.1.hook_out")


def test_one_result_gives_verdict_contract_and_map(edits: InterchangeResult, readouts: ReadOuts) -> None:
    """The controls at wrong places run with read-outs too, so the ten lines of the README end in a verdict."""
    assert edits.verdict().name == "used"
    contract = edits.contract()
    assert contract.sufficiency.low > 0.9 and contract.competitor.value < 0.25
    assert contract.matched_corruption.value < -0.5
    (cell,) = edits.map().to_dict("records")
    assert cell["address"] == readouts.locations["probe"].address.name
    assert cell["followed"] == edits.rate("other value").value and cell["n"] == edits.rate("other value").n


def test_tables_of_older_runs_are_read_with_the_names_of_today(edits: InterchangeResult) -> None:
    table = edits.table()
    old = table.rename(columns={"edit": "kind", "value": "read", "donor_value": "donor_read"})
    old["kind"] = old["kind"].replace({"random vector": "random"})
    pd.testing.assert_frame_equal(with_current_names(old), table)
    pd.testing.assert_frame_equal(with_current_names(table), table)


def test_a_split_without_read_outs_is_refused(coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts) -> None:
    with pytest.raises(UsageError, match="expected read-outs of probe in the holdout split, got none"):
        interp.interchange(coconut, traces, readouts, split="holdout")


def test_on_a_graph_a_donors_node_has_to_lead_to_one_candidate(tmp_path: Path) -> None:
    """Most donors name nodes that the problem does not have; those that do and lead somewhere are followed."""
    walker = interp.load("graph-coconut")
    traces = walker.think(walker.task.generate(120, seed=4, split="test"))
    store = interp.capture(walker, traces, sites="blocks.0.hook_in", channels=["special", "latent"], out=tmp_path / "s")
    readouts = interp.decode(store, ["logit_lens"], reasoner=walker)
    result = interp.interchange(walker, traces, readouts, split=None)
    other = of(result, "other value")
    assert 20 < len(other) < len(of(result, "random vector")), "where no donor implies an answer there is no edit"
    for _, row in other.iterrows():
        problem = traces[row["trace"]].problem
        assert row["predicted"] == walker.task.counterfactual(problem, row["step"], row["donor_value"])
    assert other["followed"].mean() > 0.9


def test_a_step_that_was_read_at_an_address_of_its_own_is_edited_there(
    coconut: interp.Reasoner, traces: TraceSet, readouts: ReadOuts, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, elsewhere = readouts.of("probe").copy(), "blocks.1.hook_out"
    table.loc[table["step"] == 2, "address"] = elsewhere
    mixed = readouts.with_rows(table)
    asked: list = []
    think = coconut.think

    def watched(problems: list, *, interventions: list, **options: object) -> TraceSet:
        asked.extend(interventions)
        return think(problems, interventions=interventions, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(coconut, "think", watched)
    result = interp.interchange(coconut, traces, mixed).table()
    assert {each.address.name for each in asked} == {readouts.locations["probe"].address.name, elsewhere}
    edited = np.concatenate([each.rows[:, 0] for each in asked if each.address.name == elsewhere])
    assert set(edited) == set(np.flatnonzero(result["step"] == 2))
    assert sum(len(each.rows) for each in asked) == len(result)
