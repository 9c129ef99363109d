"""The section on Coconut: the role of each node of a graph for a thought, and figures beside their controls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from benchmarks.measures import report
from benchmarks.papers import coconut, separation
from benchmarks.papers.base import Organisms
from benchmarks.papers.opaque import Opaque, lens_table
from interp.errors import StoreError
from interp.problems import Problem, Step, task
from interp.traces import Channel, TraceSet

# a -> b -> c is the path; a -> d -> e and b -> f are dead ends; x -> y is out of reach.
EDGES = [["a", "b"], ["b", "c"], ["a", "d"], ["d", "e"], ["b", "f"], ["x", "y"]]


@pytest.fixture
def problem() -> Problem:
    return Problem(
        id="1",
        task="graph",
        question=" ".join(f"{s} {t} ;" for s, t in EDGES) + " c y x e ? a",
        answer="c",
        steps=(Step("b", "b"), Step("c", "c")),
        structure="s",
        split="test",
        readable="",
        meta={"edges": EDGES, "root": "a", "candidates": ["c", "y", "x", "e"]},
    )


def test_what_each_node_is_to_a_thought(problem: Problem) -> None:
    def of(hop: int) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for node, kind in separation.kinds_of(problem, hop).items():
            found.setdefault(kind, set()).add(node)
        return found

    apart = {"unreachable": {"x", "y"}}
    assert of(1) == {"path": {"b"}, "off-path frontier": {"d"}, "reachable": {"a", "c", "e", "f"}, **apart}
    assert of(2) == {"path": {"c"}, "off-path frontier": {"e", "f"}, "reachable": {"a", "b", "d"}, **apart}


def test_every_node_of_real_problems_is_of_one_kind_at_each_hop() -> None:
    made = task("graph")
    for each in made.generate(40, seed=0, split="test"):
        for hop in range(1, each.n_steps + 1):
            kinds = separation.kinds_of(each, hop)
            assert set(kinds) == set(made.entities(each))
            assert [node for node, kind in kinds.items() if kind == "path"] == [each.steps[hop - 1].value]
            for node, kind in kinds.items():
                assert (kind == "unreachable") == (made.fact(each, "reachable", (node,), hop) == "no")
                if kind == "off-path frontier":
                    assert made.fact(each, "frontier", (node,), hop) == "yes"


@pytest.mark.parametrize(
    ("value", "others", "share"), [(1.0, [0, 0.5], 1.0), (0.0, [1, 2], 0.0), (1.0, [1, 1], 0.5), (1.0, [0, 2, 1], 0.5)]
)
def test_ties_count_half(value: float, others: list[float], share: float) -> None:
    assert separation.share_below(value, np.array(others)) == share


class ByHand:
    """A reasoner whose final states at each position are given; tokens are the letters."""

    letters = tuple("abcdefxy")

    def __init__(self, states: torch.Tensor) -> None:
        self.states = states
        self.embed = SimpleNamespace(weight=torch.eye(8))
        self.task = SimpleNamespace(values=self.letters)
        self.tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda words: [self.letters.index(w) for w in words])

    def replay(self, traces: TraceSet, *, hooks: dict, batch_size: int) -> None:
        (hook,) = hooks.values()
        hook(self.states, SimpleNamespace(traces=np.arange(len(traces))))


def test_the_state_before_a_thought_is_the_one_compared(problem: Problem) -> None:
    """Two thoughts at columns 3 and 4: their states are those of columns 2 and 3."""
    trace: Any = SimpleNamespace(
        id=0,
        problem=problem,
        channel=[Channel.PROMPT, Channel.PROMPT, Channel.SPECIAL, Channel.LATENT, Channel.LATENT, Channel.SPECIAL],
        thought=[0, 0, 0, 1, 2, 0],
    )
    states = torch.zeros(1, 6, 8)
    states[0, 2] = torch.tensor([0.0, 9, 1, 5, -1, -2, 3, 0])  # b 9, d 5; x 3, y 0
    states[0, 3] = torch.tensor([0.0, 0, -5, 0, 0, 9, 1, 2])  # c -5, f 9, e 0; x 1, y 2
    frame = separation.separation(ByHand(states), [trace])  # type: ignore[arg-type]
    above = {(row.thought, row.node): row.above for row in frame.itertuples()}
    assert above[1, "b"] == 1.0 and above[1, "d"] == 1.0 and above[1, "c"] == 0.5 and above[1, "e"] == 0.0
    assert above[2, "c"] == 0.0 and above[2, "f"] == 1.0 and above[2, "e"] == 0.0
    assert set(zip(frame["thought"], frame["node"], strict=True)) == {(k, n) for k in (1, 2) for n in "abcdef"}
    result = separation.table({"m": frame}).set_index(["nodes", "thought"])["auroc"]
    assert result["path", "1"] == 1.0 and result["path", "2"] == 0.0 and result["path", "all"] == 0.5
    assert result["off-path frontier", "all"] == pytest.approx(2 / 3)


def frame(above: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(k, f"s{k}", 1, kind, "n", value) for kind, values in above.items() for k, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["trace", "structure", "thought", "kind", "node", "above"])


def test_the_gain_is_over_the_best_control_node_by_node() -> None:
    ours = frame({"off-path frontier": [1.0, 0.8, 0.9], "path": [0, 0, 0]})
    controls = {
        "weak": frame({"off-path frontier": [0.1, 0.2, 0.1], "path": [1, 1, 1]}),
        "strong": frame({"off-path frontier": [0.5, 0.3, 0.4], "path": [0, 0, 0]}),
    }
    best, value, (low, high), n = separation.gain(ours, controls, "off-path frontier")
    assert (best, n) == ("strong", 3)
    assert value == pytest.approx(0.5) and low == pytest.approx(0.5) and high == pytest.approx(0.5)


def test_the_lens_is_held_against_every_steps_value() -> None:
    """At thought 1 the lens says step 2's value in two of three problems that have one, step 1's never."""
    readings = pd.DataFrame(
        {
            "address": "blocks.0.hook_out",
            "thought": 1,
            "said": ["7", "7", "3", "1"],
            "values": [("2", "7"), ("4", "7"), ("5", "9"), ("0",)],
            "structure": list("abcd"),
            "part": "test",
        }
    )
    result = lens_table(readings).set_index("value")
    assert result.loc[1, "top1"] == 0 and result.loc[1, "n"] == 4
    assert result.loc[2, "top1"] == pytest.approx(2 / 3) and result.loc[2, "n"] == 3


def test_the_figures_of_the_unreadable_organism() -> None:
    result = Opaque(
        lens=pd.DataFrame({"top1": [0.2, 0.31]}),
        best=pd.Series(
            {
                "address": "blocks.1.hook_out",
                "thought": 2,
                "value": 2,
                "top1": 0.2,
                "ci_low": 0.1,
                "ci_high": 0.3,
                "n": 50,
            }
        ),
        probe=pd.DataFrame({"top1": [0.99, 0.97]}),
        follow=pd.DataFrame(
            {
                "edit": ["other value", "same value", "random vector"],
                "follow_rate": [0.98, 1.0, 0.1],
                "change_rate": [0.9, 0.01, 0.8],
                "ci_low": 0.9,
                "ci_high": 1.0,
                "n": 70,
            }
        ),
    )
    measures = coconut.hard_figures(result)
    lens, follow = measures["papers.coconut.hard_lens_top1"], measures["papers.coconut.hard_follow"]
    assert lens["value"] == 0.2 and lens["n"] == 50
    assert "largest of 2 cells on the test problems themselves is 0.310" in lens["note"]
    assert "worst step at 0.970" in lens["note"]
    assert follow["value"] == 0.98 and "same-value donors change 0.010, random vectors 0.800" in follow["note"]


def test_untrained_latents_are_the_text_models_own_states() -> None:
    text, like = interp.load("chain-text"), interp.load("chain-coconut")
    fed = coconut.untrained_latents(text, like)
    assert fed.kind == "continuous" and fed.weights == text.weights and "untrained latents" in fed.name
    problems = text.task.generate(10, seed=0, split="test")
    for trace in fed.think(problems):
        latents = trace.latents
        assert latents is not None and len(latents) == trace.problem.n_steps
    # Its first thought is the state from which the text model would have written its first step.
    written = [trace.tokens[trace.channel.index(Channel.THOUGHT)] for trace in text.think(problems)]
    read = [text.unembed(torch.tensor(t.latents[0])).argmax() for t in fed.think(problems)]  # type: ignore[index]
    assert text.tokenizer.convert_ids_to_tokens([int(i) for i in read]) == written


def test_missing_organisms_leave_notes_and_null_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coconut, "N", 30)
    here = Organisms()
    load = here.load

    def only_two(name: str) -> Any:
        if name not in ("chain-text", "chain-coconut"):
            raise StoreError(f"organism {name!r} has no weights. Train it.")
        return load(name)

    here.load = only_two  # type: ignore[method-assign]
    seen: list[int] = []
    section = coconut.measure(lambda done, of: seen.append(done), False, here)
    assert seen == [0, 1, 2, 3, 4]
    table = section.tables["Right answers, held-out problems"]
    assert set(table["arm"]) == {"text", "Coconut", coconut.UNTRAINED} and set(table["task"]) == {"chain"}
    assert table.set_index("arm").loc["Coconut", "accuracy"] > 0.9
    assert any("graph-coconut was not measured: organism 'graph-coconut' has no weights" in n for n in section.notes)
    assert len(section.notes) == len(set(section.notes))
    assert section.measures == {}
    values = {row["id"]: row["value"] for row in report("papers", section.measures)}
    assert values["papers.coconut.graph_accuracy"] is None
