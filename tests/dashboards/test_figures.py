"""What a study says that a sweep reads."""

from __future__ import annotations

import probes
from dashboards.figures import sweep_readings
from interp.activations import Store


def test_a_model_that_thinks_nowhere_is_read_at_the_end_of_the_question(store: Store) -> None:
    address = store.addresses[-1].name
    direct = probes.sweep(store, ["value_1"], places=["question end"], addresses=[address], splits=1)
    (step,) = sweep_readings(direct)["steps"]
    assert step["step"] == 1 and step["position"] == "question end" and step["address"] == address
    assert step["probe_top1"] == direct.cell("value_1", "question end", address)["accuracy"]
    assert "question_only" in step and "before_thinking" not in step


def test_a_model_that_thinks_is_read_at_its_thoughts(store: Store) -> None:
    both = probes.sweep(store, ["value_1"], places=["question end", "thought 1"], splits=1, controls="none")
    (step,) = sweep_readings(both)["steps"]
    assert step["position"] == "thought 1"
    assert sweep_readings(None) == {"steps": [], "answer": []}
