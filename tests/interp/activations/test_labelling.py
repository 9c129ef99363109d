"""Labels of a table in a store are targets: of probes at pooled places, with their controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
from interp.activations import Store
from interp.activations.labelling import label_store
from interp.activations.step_positions import rows_at
from interp.activations.targets import labels
from interp.errors import UsageError
from interp.problems.base import Problem
from interp.traces import Trace, TraceSet

AT, NOISE = "blocks.0.hook_out", "blocks.1.hook_out"
N = 200


@pytest.fixture(scope="module")
def marked(
    made_problem: Callable[..., Problem],
    written_trace: Callable[..., Trace],
    write_store: Callable[..., Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, pd.DataFrame]:
    """A store whose states hold a random mark of each of three visible thoughts, and the table of the marks."""
    rng = np.random.default_rng(0)
    traces = [replace(written_trace(made_problem(f"q {k}", ["1", "2", "3"]), kind="thought"), id=k) for k in range(N)]
    traces = [replace(t, sentence=[1 if n in (1, 2) else 2 if n else 0 for n in t.thought]) for t in traces]
    marks = rng.integers(0, 2, (N, 3))

    def acts(index: pd.DataFrame) -> np.ndarray:
        out = rng.standard_normal((len(index), 8)).astype(np.float32)
        thinking = (index["thought"] > 0).to_numpy()
        own = marks[index["trace"][thinking], index["thought"][thinking] - 1]
        out[thinking, 0] = 6.0 * own - 3.0
        return out

    def noise(index: pd.DataFrame) -> np.ndarray:
        return rng.standard_normal((len(index), 8)).astype(np.float32)

    path = tmp_path_factory.mktemp("marked") / "store"
    write_store(path, TraceSet(traces), {AT: acts, NOISE: noise})
    table = pd.DataFrame(
        [
            {"trace": k, "position": traces[k].thought.index(n + 1), "mark": ("no", "yes")[marks[k, n]]}
            for k in range(N)
            for n in range(3)
        ]
    )
    label_store(path, table)
    return path, table


def test_a_label_of_tokens_is_read_at_its_own_tokens(marked: tuple[Path, pd.DataFrame]) -> None:
    store, table = Store(marked[0]), marked[1]
    rows = rows_at(store, "every thought")
    assert len(rows) == 3 * N and (labels(store, rows, "mark") == table["mark"]).all()
    assert all(label is None for label in labels(store, store.rows(place="question end"), "mark"))
    assert rows_at(store, "every sentence")["thought"].tolist() == [2, 3] * N
    assert len(rows_at(store, "every step")) == 3 * N
    assert Store(marked[0]).validate() == []
    with pytest.raises(UsageError, match=r"expected a known target, got 'marks'.*mark"):
        labels(store, rows, "marks")


def test_a_probe_of_tokens_finds_what_the_states_hold_and_nothing_in_noise(marked: tuple[Path, pd.DataFrame]) -> None:
    swept = interp_sweep(Store(marked[0]))
    table = swept.table().set_index("address")
    assert table.loc[AT, "accuracy"] > 0.99 and 0.4 < table.loc[NOISE, "accuracy"] < 0.6
    assert 30 < table.loc[AT, "n"] < 70, "intervals count problems, not tokens"
    for control in ("question_only", "position_only", "text_only", "other_problem", "shuffled_labels"):
        assert table.loc[AT, control] < 0.65, control


def interp_sweep(store: Store) -> Any:
    """Return a sweep over the marks."""
    from probes.sweeps.run import sweep

    return sweep(store, targets=["mark"], places=["every thought"], splits=1, engine="inline")


def test_the_command_adds_labels_beside_those_that_are_there(marked: tuple[Path, pd.DataFrame], cotlens: Any) -> None:
    path = marked[0]
    table = path.parent / "traces.csv"
    pd.DataFrame({"trace": [0, 1], "style": ["long", "short"]}).to_csv(table, index=False)
    out = cotlens("import", "labels", str(table), "--to", str(path), "--json").json
    assert out["labels"] == [
        {"label": "style", "of": "trace", "n": 2, "traces": 2, "values": ["long", "short"], "n_values": 2}
    ]
    first = Store(path).traces[0]
    assert first.labels == {"style": "long"} and first.token_labels.keys() == {"mark"}
    again = cotlens("import", "labels", str(table), "--to", str(path))
    assert again.code == 2 and "expected new names of labels, got style" in again.error
    traces = path.parent / "some.parquet"
    TraceSet(list(Store(path).traces)[:2]).to_parquet(traces)
    pd.DataFrame({"trace": [1], "tone": ["calm"]}).to_csv(table, index=False)
    said = cotlens("import", "labels", str(table), "--to", str(traces), "--out", str(path.parent / "new.parquet"))
    assert said.code == 0 and "tone: 1 label of a trace, 1 value, in 1 of 2 traces" in said.out
    assert TraceSet.from_parquet(path.parent / "new.parquet")[1].labels["tone"] == "calm"
    missing = cotlens("import", "labels", str(table), "--to", str(path.parent / "nowhere"))
    assert missing.code == 2 and "nowhere, which does not exist" in missing.error
    refused = cotlens("import", "labels", str(table), "--to", str(traces))
    assert refused.code == 2 and "expected a new file for --out" in refused.error


def test_a_model_of_ones_own_needs_no_gold_steps(tmp_path: Path) -> None:
    """The states of sentences of a shipped organism's text are captured and labelled by sentence."""
    reasoner = interp.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(4, seed=0, split="test"))
    store = interp.capture(reasoner, traces, out=tmp_path / "store", sites="resid_post")
    positions = rows_at(store, "every thought")
    table = positions[["trace", "position", "token"]].assign(digit=positions["token"].str.isdigit())
    label_store(tmp_path / "store", table)
    again = Store(tmp_path / "store")
    assert (
        labels(again, rows_at(again, "every thought"), "digit") == positions["token"].str.isdigit().astype(str)
    ).all()
