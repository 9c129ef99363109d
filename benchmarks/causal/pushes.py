"""Steering, attribution graphs and commitment in `bench causal`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmarks.causal.run import SEED, Run, mean, worst

STEERED = ("chain-coconut", "concealed-trigger-coconut", "chain-coconut-hard")
TRACED, COMMITS = "chain-text", "chain-recurrent"
N_STEERED, N_TRACED = 500, 100
# What stands beside the confirmed paths, and the name of its test.
_BESIDE_PATHS = {
    "random features of the layer": "random",
    "of the layer and position": "random here",
    "ranked by edges alone": "edge",
    "those with attention patterns and norm scales frozen": "frozen",
    "the logit moves as predicted after a single feature": "logit",
}


def steering(run: Run) -> dict[str, dict[str, Any]]:
    """Measure steering at the dose selected on other problems: success, collateral change and random directions."""
    from interp import causal

    rows = []
    for label, _, seed, reasoner in run.each(STEERED):
        n = run.size(N_STEERED)
        traces = reasoner.think(reasoner.task.generate(n, seed=SEED + 6, split="test"), batch_size=256)
        fit, others = causal.structure_disjoint_split(traces, int(n * 0.7))
        val, test = causal.structure_disjoint_split(others, len(others) // 3)
        directions = causal.Directions.fit(reasoner, fit)
        for mode in ("set", "add") if seed == 0 else ("set",):
            result = causal.steer(reasoner, val, test, directions, doses=(0.5, 1.0, 2.0, 4.0), mode=mode, seed=SEED)
            rows.append(
                {
                    "organism": label,
                    "mode": mode,
                    "dose": result.best,
                    "success": result.rate("steer", "followed").measure_or_none(),
                    "collateral": result.collateral().measure_or_none(),
                    "random direction": result.rate("random direction", "followed").measure_or_none(),
                    "doses": result.summary().to_dict("records"),
                }
            )
    run.tables["steering"] = pd.DataFrame(rows)
    set_rows = [row for row in rows if row["mode"] == "set"]
    if not set_rows:
        return {}
    random = max(row["random direction"]["value"] for row in set_rows)
    added = "; ".join(
        f"added alone, {row['organism']} {row['success']['value']:.3f} (collateral {row['collateral']['value']:.3f})"
        for row in rows
        if row["mode"] == "add"
    )
    note = (
        f"the value set at the thought, dose selected on other problems; random direction at most {random:.3f}; {added}"
    )
    collateral_note = "the larger of changed where already there, malformed"
    return {
        "causal.steer_success": worst([(row, row["success"]) for row in set_rows], min, note),
        "causal.steer_collateral": worst([(row, row["collateral"]) for row in set_rows], max, collateral_note),
    }


def graphs(run: Run) -> dict[str, dict[str, Any]]:
    """Measure the replacement model's agreement, and how many attribution paths an intervention confirms."""
    from interp import causal

    rows, frames = [], {}
    for label, _, _, reasoner in run.each([TRACED]):
        fit = reasoner.think(reasoner.task.generate(run.size(1500), seed=SEED + 7, split="train"), batch_size=256)
        test = reasoner.think(reasoner.task.generate(run.size(300), seed=SEED + 8, split="test"), batch_size=256)
        transcoders = causal.transcoders_of(reasoner, fit, sparsity=1.5e-2, updates=max(200, int(800 * run.scale)))
        frames[f"transcoders, {label}"] = causal.quality(reasoner, test, transcoders)
        agreement, silenced = (causal.agreement(reasoner, test, model) for model in (transcoders, None))
        traced = type(test)(list(test)[: run.size(N_TRACED)])  # as many of every training seed: each interval counts
        prompts, paths = causal.trace_prompts(reasoner, traced, transcoders, seed=SEED)
        frames[f"attribution graphs, {label}"] = prompts
        frames[f"path tests, {label}"] = causal.shares(paths)
        of_test = {test: mean(part, "confirmed") for test, part in paths.groupby("test")}
        rows.append(
            {
                "organism": label,
                "agreement": mean(agreement, "agrees"),
                "every MLP silenced": silenced["agrees"].mean(),
                "paths": of_test["path"],
                **{name: of_test[test]["value"] if test in of_test else None for name, test in _BESIDE_PATHS.items()},
                "carried": prompts["carried"].mean(),
                "satisfying": f"{int(prompts['satisfying'].sum())} of {len(prompts)}",
                "completeness": prompts["completeness"].mean(),
            }
        )
    run.tables |= {**frames, "replacement models": pd.DataFrame(rows)} if rows else {}
    return graph_figures(rows) if rows else {}


def graph_figures(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the measures of attribution graphs from the rows of the table `replacement models`, one an organism."""

    def shares_of(column: str) -> str:
        values = [row[column] for row in rows]
        return ", ".join("none" if v is None else v if isinstance(v, str) else f"{v:.3f}" for v in values)

    note = (
        f"next tokens at thoughts and answers; every MLP silenced {shares_of('every MLP silenced')}; satisfying graphs "
        f"{shares_of('satisfying')} prompts; completeness {shares_of('completeness')}"
    )
    paths_note = (
        f"the earlier feature removed from the whole model; {'; '.join(f'{c} {shares_of(c)}' for c in _BESIDE_PATHS)}; "
        f"ranked by edges as norms leave them, paths carry {shares_of('carried')} of the strongest edges' influence"
    )
    return {
        "causal.replacement_agreement": worst([(row, row["agreement"]) for row in rows], min, note),
        "causal.paths_confirmed": worst([(row, row["paths"]) for row in rows], min, paths_note),
    }


def commitment(run: Run) -> dict[str, dict[str, Any]]:
    """Measure the commitment point, as `probes.subtext.steady.commitment_exact` does."""
    from probes.subtext.steady import commitment_exact

    rows: list[tuple[Any, dict[str, Any]]] = []
    for label, _, seed, reasoner in run.each([COMMITS]):
        result = commitment_exact(n=run.size(560, seed), seed=SEED, model=reasoner)
        rows.append(({"organism": label}, {key: result.get(key) for key in ("value", "ci", "n", "note")}))
    if not rows:
        return {}
    return {"causal.commitment_exact": worst(rows, min, str(rows[0][1]["note"]))}
