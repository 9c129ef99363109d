"""The answer of docs/figures.md is made of the stored figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.sae import answer as sae_answer


def test_every_figure_is_taken_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(f1: float) -> dict:
        return {"f1": f1, "validation": f1 + 0.001, "l0": 4.0}

    def read(chain: float) -> dict:
        return {"chain": chain, "step": chain, "chain_other_problem": 0.0123, "ci": [chain - 0.01, chain + 0.01]}

    kept = {
        "measures": [
            {"id": "sae.mid_layer_f1_above_best_baseline", "peer": "neurons", "value": 0.2},
        ],
        "best_site": {
            "chains": {"sae": read(0.911), "probe": read(0.993), "pca": read(0.51), "neurons": read(0.42)},
            "rivals": {"pca": score(0.61), "neurons": score(0.52)},
            "sae": [score(0.90), score(0.94)],
            "spliced": {"sae": {"accuracy": 0.987}, "original": {"accuracy": 0.988}},
        },
        "middle": {
            "chosen": "longer",
            "dense_probe": 0.876,
            "seeds": [score(0.45), score(0.47)],
            "rivals": {"pca": score(0.21), "neurons": score(0.22)},
            "tried": {"plain TopK": score(0.333), "longer": score(0.444)},
            "settings": {
                "plain TopK": {"d_sae": 512, "samples": 200_000},
                "longer": {"d_sae": 256, "samples": 600_000},
            },
        },
    }
    (tmp_path / "sae.json").write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    output = sae_answer.sae_answer()
    assert "much harder" in output
    for figure in (
        "91.1%",
        "99.3%",
        "1.2%",
        "98.7% of the answers",
        "98.8% without",
        "51.0%",
        "87.6%",
        "0.92 against 0.61",
        "0.46 against 0.22",
        "0.33",
        "0.44",
    ):
        assert figure in output.split("\n\n")[0], figure
    assert "| longer | 256, 4 | 600,000 | 0.445 | 0.444 |" in output


def test_a_dictionary_that_reconstructs_another_layer_is_named_beside_the_best_autoencoder() -> None:
    def score(f1: float, validation: float) -> dict:
        return {"f1": f1, "validation": validation, "l0": 4.0}

    middle = {
        "chosen": "fed-back thought",
        "dense_probe": 0.876,
        "seeds": [score(0.91, 0.9), score(0.93, 0.9)],
        "rivals": {"targets of other rows": score(0.21, 0.2)},
        "tried": {
            "plain TopK": score(0.333, 0.3),
            "longer": score(0.444, 0.4),
            "fed-back thought": score(0.91, 0.9),
        },
        "settings": {"plain TopK": {}, "longer": {}, "fed-back thought": {"target": "blocks.0.hook_in"}},
    }
    text = sae_answer._middle(middle, score(0.35, 0.3))
    for part in ("0.33", "(longer) 0.44", "`blocks.0.hook_in`", "0.92", "has 0.35", "other rows 0.21"):
        assert part in text, part
    assert "much harder" not in text


def test_the_kept_result_is_read_from_where_the_bench_writes_it() -> None:
    assert "| dense probe |" in sae_answer.sae_answer()
