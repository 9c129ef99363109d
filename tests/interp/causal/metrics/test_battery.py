"""The metrics on any text model: a row each, reasons where one cannot be run, and verdicts only from enough chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import interp
from interp.causal.metrics.base import Chains, Metric, step_positions
from interp.causal.metrics.battery import deciding_verdict, hint_verdict, metrics_named, run_battery
from interp.causal.metrics.edits import adding_mistakes
from interp.causal.metrics.hints import biased_context, hint_shares
from interp.causal.metrics.registry import METRICS
from interp.errors import UsageError
from interp.statistics.estimates import Estimate
from interp.statistics.sample_sizes import n_to_leave_out_half
from interp.traces import TraceSet
from tests.interp.causal.metrics.oracle_reasoner import OracleReasoner


@pytest.fixture(scope="module")
def text() -> tuple[interp.Reasoner, TraceSet]:
    reasoner = interp.load("chain-text")
    return reasoner, reasoner.think(reasoner.task.generate(10, seed=31, split="test"), batch_size=10)


def test_every_metric_runs_on_a_text_organism_or_says_why_not(text: tuple[interp.Reasoner, TraceSet]) -> None:
    result = run_battery(Chains(*text), METRICS)
    table = result.table.set_index("metric")
    assert list(table.index) == [metric.name for metric in METRICS]
    hints = ["biased context", "cue acknowledgement", "simulatability"]
    assert (table.loc[hints, "n"] == 0).all() and (table.loc[hints, "why_not"] != "").all()
    others = table.drop(index=hints)
    assert (others["n"] == 10).all()
    assert (others["passes"] > 0).all() and (others["why_not"] == "").all()
    # Each value that chain-text writes is read by what follows it.
    assert table.loc["adding mistakes", "step"] == 1 and table.loc["state interchange", "chain"] == 1
    assert table.loc["path patching", "chain"] > 0.9 and table.loc["CC-SHAP", "chain"] <= 1
    assert any("most chains decide" in sentence for sentence in result.verdicts)
    assert any("no question has lettered options" in sentence for sentence in result.verdicts)


def test_a_metric_that_is_refused_says_why() -> None:
    reasoner = OracleReasoner()
    chains = Chains(reasoner, reasoner.think(reasoner.task.generate(4, seed=1)))  # type: ignore[arg-type]

    def refuse(chains: Chains) -> None:
        raise UsageError("expected attention, got none; load it so.")

    table = run_battery(chains, [Metric("refused", "ours", "both", refuse)]).table  # type: ignore[arg-type]
    assert table["why_not"].tolist() == ["expected attention, got none; load it so."] and table["n"].tolist() == [0]


def test_hints_get_a_verdict_from_enough_chains_only() -> None:
    reasoner = OracleReasoner()
    few, many = (
        Chains(reasoner, reasoner.think(reasoner.task.generate(n, seed=2)))  # type: ignore[arg-type]
        for n in (6, 200)
    )
    assert "no verdict" in hint_verdict(few)
    assert "of these chains" in hint_verdict(many)
    result = run_battery(many, [Metric("biased context", "x", "chain", biased_context)])
    assert result.verdicts == [hint_verdict(many)]
    table = result.hints
    assert table is not None and len(table) <= 200 and table["trace"].is_unique
    # Without a hint no answer is the hinted one, and an answer that follows it is the hinted one.
    assert (table["before"] != table["hint"]).all()
    followed = table[table["followed"]]
    assert (followed["after"] == followed["hint"]).all() and not followed["elsewhere"].any()
    assert (table["elsewhere"] == (~table["followed"] & (table["after"] != table["before"]))).all()
    shares = {row["outcome"]: row["share"] for row in hint_shares(table)}
    assert shares["followed, not mentioned"] == (table["followed"] & ~table["acknowledged"]).mean() > 0
    assert shares["followed and mentioned"] == (table["followed"] & table["acknowledged"]).mean() > 0
    assert run_battery(many, []).hints is None


@pytest.mark.parametrize(
    ("share", "begins", "ends"),
    [
        (Estimate(0.9, 0.8, 0.96, 60), "most chains decide", "(n = 60)."),
        (Estimate(0.1, 0.02, 0.2, 60), "most answers do not depend", "(n = 60)."),
        (Estimate(0.7, 0.4, 0.9, 10), "no verdict", "about 25 questions would do."),
        (Estimate(0.5, 0.3, 0.7, 10), "no verdict", "at this share no sample would do."),
    ],
)
def test_a_verdict_is_refused_where_the_interval_holds_one_half(share: Estimate, begins: str, ends: str) -> None:
    assert deciding_verdict(share).startswith(begins) and deciding_verdict(share).endswith(ends)


def test_the_sample_that_would_do_grows_as_the_share_nears_one_half() -> None:
    assert (
        n_to_leave_out_half(1.0, 2) == 4 and n_to_leave_out_half(0.6, 20) == 97 and n_to_leave_out_half(0.5, 20) is None
    )


def test_metrics_are_named_with_commas_and_unknown_ones_are_refused() -> None:
    assert [metric.name for metric in metrics_named("CC-SHAP, commitment lens")] == ["CC-SHAP", "commitment, lens"]
    assert metrics_named("all") == METRICS and metrics_named("") == ()
    with pytest.raises(UsageError, match="metric of faithfulness"):
        metrics_named("honesty")


def test_sentences_are_the_steps_of_a_thought_without_gold_steps(text: tuple[interp.Reasoner, TraceSet]) -> None:
    trace = text[1][0]
    sentences = [step if step else 0 for step in trace.step]
    free = replace(trace, problem=replace(trace.problem, steps=()), step=[0] * len(trace), sentence=sentences)
    assert step_positions(free) == step_positions(trace)
    assert step_positions(replace(free, sentence=[])) == [[p for of in step_positions(trace) for p in of]]
    mistaken = adding_mistakes(Chains(text[0], TraceSet([free])))
    assert len(mistaken.steps[0]) == len(step_positions(trace))


def test_the_command_prints_the_metrics_that_are_named(cotlens: Callable) -> None:
    result = cotlens("causal", "faithfulness", "chain-text", "--n", "6", "--metrics", "adding mistakes", "--json")
    written = result.json["metrics"]
    assert [row["metric"] for row in written["table"]] == ["adding mistakes"] and written["table"][0]["n"] == 6
