"""Group `lenses`: keys and values are judged at the last thought, and search by the best lens of each organism."""

from __future__ import annotations

from typing import Any

import pytest

import interp
from benchmarks.decoders import lenses
from interp.traces import TraceSet


def kv(edit: str, before_last: int, followed: float) -> dict[str, Any]:
    share = {"value": followed, "ci": [followed, followed], "n": 20}
    return {"edit": edit, "before_last": before_last, "followed": share, "changed": share, "n": 20}


def organism(name: str, kind: str, last: float, gains: dict[str, float]) -> dict[str, Any]:
    found = {"whole": 0.9, "whole_unconstrained": 0.8, "whole_shuffled": 0.1, "gain_low": 0.0, "gain_high": 1.0, "n": 9}
    return {
        "organism": name,
        "kind": kind,
        "kv": [
            *(kv("other value", k, value) for k, value in ((0, last), (1, 0.2))),
            *(kv(edit, 0, 0.1) for edit in ("same value", "wrong site", "random vector")),
        ],
        "search": [{"method": method, "step": 0, "gain": gain, **found} for method, gain in gains.items()]
        + [{"method": "probe", "step": 1, "gain": None}],
    }


def test_the_worst_continuous_organism_and_the_best_lens_of_each_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lenses, "jlens_parity", lambda: {"value": 1e-7})
    results = [
        organism("chain-coconut", "continuous", 1.0, {"logit_lens": 0.7, "tuned_lens": 0.9, "verbalizer": 0.1}),
        organism("graph-coconut", "continuous", 0.9, {"tuned_lens": 0.8}),
        organism("chain-coconut-hard", "continuous", 0.95, {"tuned_lens": 0.0}),
        organism("chain3-thinking-tokens", "thinking_tokens", 0.0, {}),
    ]
    found = lenses.figures(results)
    assert (
        found["lenses.kv_sufficiency"]["value"] == 0.9
        and "worst: graph-coconut" in found["lenses.kv_sufficiency"]["note"]
    )
    assert "chain3-thinking-tokens 0.00 (0.20–0.20)" in found["lenses.kv_sufficiency"]["note"]
    assert found["lenses.kv_competitor"]["value"] == 0.1
    assert found["lenses.search_gain"]["value"] == 0.8, "the organism that no lens reads stands in the note alone"
    assert "chain-coconut-hard" in found["lenses.search_gain"]["note"]


def test_the_answer_follows_the_last_thoughts_keys_and_values(coconut: interp.Reasoner, traces: TraceSet) -> None:
    rows = {(row["edit"], row["before_last"]): row for row in lenses.kv_rows(coconut, traces[:40])}
    assert rows["other value", 0]["followed"]["value"] > 0.9 > 0.5 > rows["other value", 1]["followed"]["value"]
    assert rows["same value", 0]["changed"]["value"] == 0 and rows["wrong site", 0]["followed"]["value"] < 0.3
