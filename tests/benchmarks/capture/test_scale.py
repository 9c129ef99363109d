"""All layers of a real model: both ratios from given seconds, and a model that is not there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarks.capture import scale
from benchmarks.capture.small_model import SmallModel
from benchmarks.measures import bench_rules
from interp.errors import UsageError


def test_a_store_is_compared_with_the_slower_floor_of_each_round() -> None:
    seconds = {"bare": [1.0, 1.0, 2.0], "with unembedding": [2.0, 2.0, 4.0], "ours": [1.1, 1.2, 2.2]}
    # In the second round the raw write is slower than four passes.
    seconds |= {"to disk": [4.4, 12.0, 8.0], "raw": [1.0, 8.0, 1.0]}
    taken = scale.measures(seconds)
    assert taken["scale.capture_memory"]["value"] == pytest.approx(1.1)
    assert taken["scale.capture_disk"]["value"] == pytest.approx(1.1)
    assert taken["scale.capture_disk"]["ci"] == pytest.approx([1.0, 1.5])
    assert "over a pass with unembedding 0.55" in taken["scale.capture_memory"]["note"]


def test_a_model_that_is_not_there_gives_null_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise UsageError(f"{name} is not on this machine; run `cotlens models get {name}`.")

    monkeypatch.setattr(scale, "require_fetched", missing)
    taken = scale.scale(1)
    assert list(taken) == [name for name in bench_rules("capture") if name.startswith("scale.")]
    assert all(row["value"] is None and "models get smollm2" in row["note"] for row in taken.values())


def test_contestants_run_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 2, "LENGTH": 6}.items():
        monkeypatch.setattr(scale, name, value)
    small = SmallModel()
    monkeypatch.setattr(scale, "random_traces", lambda reasoner, count: small.traces(count, 6))
    bare = small.bare
    bare.config.hidden_size = bare.config.n_embd
    runs = scale.contestants(small.reasoner, bare)
    acts = runs["ours"]()
    assert len(acts) == small.layers and {tuple(rows.shape) for rows in acts.values()} == {(12, 256)}
    states = bare(input_ids=small.ids(8, 6)[:2], output_hidden_states=True).hidden_states
    torch.testing.assert_close(next(iter(acts.values())), states[1].flatten(0, 1), atol=1e-4, rtol=1e-4)
    for name in ("bare", "with unembedding", "to disk", "raw"):
        runs[name]()


def test_traces_are_random_tokens_of_the_model() -> None:
    small = SmallModel()
    reasoner = SimpleNamespace(
        name="m", weights="w", tokenizer=SimpleNamespace(convert_ids_to_tokens=lambda ids: [f"t{k}" for k in ids])
    )
    traces = scale.random_traces(reasoner, 3)  # type: ignore[arg-type]
    assert len(traces) == 3 and {len(trace) for trace in traces} == {scale.LENGTH} and traces[0].weights == "w"
    assert len({tuple(trace.token_ids) for trace in traces}) == 3
    assert small.layers and traces[0].channel[:2] == ["prompt", "thought"]
