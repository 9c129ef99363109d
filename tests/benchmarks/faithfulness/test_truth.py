"""The truth of chains and steps, and the table of metrics, on a reasoner that is exact and on one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.faithfulness.figures import (
    CANDIDATES,
    CHOSEN,
    GROUPS,
    about,
    choose,
    false_alarms,
    markdown,
    measured,
    row_of,
    thresholds_of,
)
from benchmarks.faithfulness.page import LEVELS, faithfulness_table, short_table
from benchmarks.faithfulness.rows import OrganismRows, half_faithful, joined, measure_rows
from benchmarks.faithfulness.scoring import judge
from benchmarks.faithfulness.truth import exhaustive, truth_of
from benchmarks.measures import report, table
from interp.causal.metrics.base import Chains
from interp.causal.metrics.registry import METRICS
from interp.problems.base import Problem
from interp.traces import TraceSet
from tests.interp.causal.metrics.oracle_reasoner import OracleReasoner


class Forgetful(OracleReasoner):
    """Answers by the hint whatever the cue is, once it goes on from a thought that was given to it."""

    def think_given(
        self, problems: Sequence[Problem], thoughts: Sequence[Sequence[int]], *, go_on: bool = False, **options: Any
    ) -> TraceSet:
        """Return traces of problems whose style is silent where a thought is given."""
        given = [
            problem
            if not thought
            else self.task.problem(
                problem.meta["start"],
                problem.meta["slots"],
                "silent" if problem.meta["style"] == "used" else problem.meta["style"],
            )
            for problem, thought in zip(problems, thoughts, strict=True)
        ]
        return super().think_given(given, thoughts, go_on=go_on)


def chains_of(reasoner: OracleReasoner, n: int = 60) -> Chains:
    return Chains(reasoner, reasoner.think(reasoner.task.generate(n, seed=8, split="test")))  # type: ignore[arg-type]


def test_every_intervention_confirms_what_was_built() -> None:
    chains = chains_of(OracleReasoner())
    truth = truth_of(chains)
    assert truth.left_out == (0, 0)
    faithful = [style in ("used", "said") for style in truth.chain_class]
    assert truth.chain.astype(bool).tolist() == faithful
    assert {name for names in truth.step_class for name in names} >= {
        "used",
        "given",
        "decoy",
        "filler",
        "post-hoc",
        "said",
    }
    # Every step is given each of the six other values, filler all seven.
    n_filler = sum(name == "filler" for names in truth.step_class for name in names)
    assert truth.n_interventions == 6 * len(chains.keys) + n_filler


def test_what_the_model_does_not_do_is_left_out() -> None:
    chains = chains_of(Forgetful())
    truth = truth_of(chains)
    used = np.array([style == "used" for style in truth.chain_class])
    assert np.isnan(truth.chain[used]).all() and np.isfinite(truth.chain[~used]).all()
    confirmed, _ = exhaustive(chains)
    assert all((of == 0).all() for of, flag in zip(confirmed, used, strict=True) if flag)


@pytest.fixture(scope="module")
def rows() -> OrganismRows:
    text = [metric for metric in METRICS if metric.name in ("adding mistakes", "early answering", "biased context")]
    measured_rows = measure_rows(OracleReasoner(), text, 80, 3)  # type: ignore[arg-type]
    for level in LEVELS:
        mistakes = measured_rows.scores[level]["adding mistakes"]
        measured_rows.scores[level].update(
            dict.fromkeys(("state interchange", "K/V interchange", "path patching", "route around the text"), mistakes)
        )
    measured_rows.sources.update({"state interchange": "ours"})
    measured_rows.passes.update({"state interchange": 2.0})
    return half_faithful(measured_rows, 3)


def test_rows_are_half_faithful_and_of_every_style(rows: OrganismRows) -> None:
    for level in LEVELS:
        assert rows.tables[level]["truth"].mean() == 0.5
        assert all(len(scores) == len(rows.tables[level]) for scores in rows.scores[level].values())
    assert set(rows.tables["chain"]["class"]) == {"used", "said", "silent", "invented"}


def test_the_table_has_a_row_for_each_metric_and_level(rows: OrganismRows) -> None:
    chosen = {level: choose([rows], level) for level in LEVELS}
    assert set(chosen.values()) <= set(CANDIDATES)
    for level in LEVELS:
        rows.scores[level][CHOSEN] = CANDIDATES[chosen[level]](rows.scores[level])  # type: ignore[index]
    thresholds = {level: thresholds_of([rows], level) for level in LEVELS}
    lines = [
        row_of(rows, level, metric, judged, chosen[level])
        for level in LEVELS
        for metric, scores in rows.scores[level].items()
        if (judged := judge(rows.tables[level], scores, thresholds[level][metric])) is not None
    ]
    by_key = {(line["metric"], line["level"]): line for line in lines}
    assert by_key["adding mistakes", "step"]["auroc"]["value"] == 1
    assert by_key["biased context", "chain"]["auroc"]["value"] == 1
    assert by_key["biased context", "step"]["scored"] == 0
    assert [line["metric"] for line in short_table(lines)] == list(rows.scores["chain"])
    organisms = dict.fromkeys(("chain-text", "chain3-text"), rows)
    group = {
        "rows": lines,
        "chosen": chosen,
        "chosen_on": ["reasons"],
        "clean": false_alarms(organisms, chosen["chain"], thresholds["chain"][CHOSEN]),
        "organisms": [about(rows)],
    }
    figures = measured({"text": group})
    assert set(figures) == set(table()["faithfulness"])
    assert (
        figures["faithfulness.step_auroc"]["value"] == 1 and figures["faithfulness.clean_false_alarms"]["value"] == 0.5
    )
    assert "chosen on reasons" in figures["faithfulness.chain_auroc"]["note"]
    kept = {"groups": {"text": group}, "without_meaning": {}, "measures": report("faithfulness", figures)}
    page = markdown(kept)
    assert "| oracle | adding mistakes |" in page and "faithfulness.lean" in page
    assert faithfulness_table(kept).count("| oracle | early answering |") == 3


def test_the_worst_of_text_and_latents_is_the_figure_and_silent_metrics_are_named() -> None:
    def row(organism: str, value: float, metric: str = CHOSEN, source: str = "ours") -> dict[str, Any]:
        auroc = {"value": value, "ci": [value, value], "n": 8}
        about_row = {"organism": organism, "level": "chain", "metric": metric, "source": source, "auroc": auroc}
        return {**about_row, "lean": 0.0, "decay": None, "scored": 1.0, "passes": 1.0, "by_class": {}}

    def group(name: str, value: float, *, hints: bool) -> dict[str, Any]:
        rows = [row(name, value), row(name, 0.6, "early answering", "x"), row(f"{name} 2", 1.0)]
        rows += [row(f"{name} 2", 0.5, "early answering", "x")]
        rows += [row(name, 0.7, "biased context", "y")] if hints else []
        return {"rows": rows, "chosen": {"chain": "c"}, "chosen_on": ["v"], "clean": {}, "organisms": []}

    groups = {"text": group("t", 1.0, hints=False), "latent": group("l", 0.8, hints=True)}
    figures = measured(groups)
    assert figures["faithfulness.chain_auroc"]["value"] == 0.8 and figures["faithfulness.published"]["value"] == 2
    assert "worst organism l 0.800; best published on these rows biased context" in str(
        figures["faithfulness.chain_auroc"]["note"]
    )
    page = faithfulness_table({"groups": groups, "without_meaning": {"resampling": "not sampled"}})
    assert "- resampling: no meaning here; not sampled." in page
    assert "- biased context: nothing to edit on l 2," in page and "nothing to edit on t" not in page


def test_no_organism_is_both_chosen_on_and_judged() -> None:
    for group in GROUPS.values():
        judged = {name for names in group.test.values() for name in names}
        assert not judged & {name for names in group.validation.values() for name in names}
        assert set(group.shares) <= judged


def test_the_rows_of_a_family_are_those_of_its_organisms(rows: OrganismRows) -> None:
    both = joined("two", [rows, rows])
    assert both.organism == "two" and both.n_problems == 2 * rows.n_problems and both.passes == rows.passes
    for level in LEVELS:
        assert len(both.tables[level]) == 2 * len(rows.tables[level]) == len(both.scores[level]["adding mistakes"])
