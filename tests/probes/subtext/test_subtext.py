"""Subtext on texts whose choice of words is known: written by a rule, and by an organism trained to do so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.causal.visible_text.rewording import reword_freely
from interp.errors import UsageError
from interp.problems import Problem, task
from interp.text.wording import Wording, texts
from interp.traces import Channel, Trace, TraceSet
from probes.subtext.locate import _synonyms, locate
from probes.subtext.measure import UNDECIDED, measure
from probes.subtext.paraphrase import paraphrase


@pytest.fixture(scope="module")
def gold(written_trace: Callable[..., Trace]) -> Callable[[str], TraceSet]:
    """Traces that write each problem's own steps."""

    def written(problem: Problem, number: int) -> Trace:
        trace = written_trace(problem, kind="thought")
        output = iter(step.text for step in problem.steps)
        tokens = [next(output) if c == Channel.THOUGHT else t for t, c in zip(trace.tokens, trace.channel, strict=True)]
        return replace(trace, id=number, tokens=tokens)

    def made(spec: str, n: int = 400) -> TraceSet:
        return TraceSet([written(p, k) for k, p in enumerate(task(spec).generate(n, seed=1, split="test"))])

    return made


@pytest.fixture(scope="module")
def organism() -> interp.Reasoner:
    return interp.load("subtext-1")


@pytest.fixture(scope="module")
def sampled(organism: interp.Reasoner) -> TraceSet:
    problems = organism.task.generate(400, seed=5, split="test")
    return organism.think(problems, batch_size=400, temperature=1.0, seed=5)


HINTS = [f"hint:{k}" for k in range(1, 5)]


@pytest.mark.parametrize("bits", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))])
def test_planted_bits_are_measured_and_a_clean_text_has_none(gold: Callable[[str], TraceSet], bits: int) -> None:
    traces = gold(f"subtext:bits={bits}")
    result = measure(traces, HINTS, wording=Wording.of_task(task("subtext")), with_power=False)
    assert result.total["words"].bits.value == pytest.approx(bits, abs=0.25)
    assert (
        sorted(result.table.loc[result.table["verdict"] == "subtext", "target"])
        == {
            0: [],
            1: ["hint:2"],
            2: ["hint:2", "hint:4"],
            4: HINTS,
        }[bits]
    )
    assert result.table["shuffled"].abs().max() < 0.03


def test_a_small_sample_gets_no_verdict(gold: Callable[[str], TraceSet]) -> None:
    result = measure(gold("subtext:bits=0")[:60], ["hint:2"], wording=Wording.of_task(task("subtext")))
    assert list(result.table["verdict"]) == [UNDECIDED]
    assert result.table["power"][0] < 0.9 and "detects 0.1 bit" in result.total["words"].power
    assert 100 < result.table["n_needed"][0] < 1000 and "traces would reach 0.9" in result.total["words"].power


def test_a_clean_text_is_called_clean_at_a_few_hundred_traces(gold: Callable[[str], TraceSet]) -> None:
    result = measure(gold("subtext:bits=0"), ["hint:2"], wording=Wording.of_task(task("subtext")))
    assert list(result.table["verdict"]) == ["none"] and result.table["power"][0] >= 0.9
    assert result.total["words"].bits.low <= 0 <= result.total["words"].bits.high


def test_a_word_without_synonyms_is_no_choice() -> None:
    written, labels = [["so"], ["so"], ["thus"], ["via"]], np.array(["odd", "odd", "even", "even"], dtype=object)
    table = _synonyms(written, Wording([["so", "thus"]]), labels, 1, "hint:1")
    assert table[["label", "n", "words", "share"]].values.tolist() == [["odd", 2, "so", 1.0], ["even", 1, "thus", 1.0]]


def test_synonyms_that_no_text_chooses_between_are_said(gold: Callable[[str], TraceSet]) -> None:
    """Without a choice there are 0 bits whatever the model does, which must not read as a clean text."""
    with pytest.raises(UsageError, match="expected texts that choose between synonyms, got none in these 60 traces"):
        measure(gold("subtext:bits=1")[:60], ["hint:2"], wording=Wording([["SO", "THUS"]]), with_power=False)


def test_targets_that_never_vary_or_are_too_rare_are_listed(gold: Callable[[str], TraceSet]) -> None:
    written = gold("subtext:bits=1", 200)
    four, five = ([trace for trace in written if trace.problem.n_steps == n] for n in (4, 5))
    traces = TraceSet(four[:60] + five[:20])
    table = measure(
        traces, ["hint:2", "carrier:2", "hint:5"], wording=Wording.of_task(task("subtext")), with_power=False
    ).table.set_index("target")
    assert table.loc["carrier:2", "verdict"] == "constant" and table.loc["carrier:2", "bits"] == 0.0
    assert table.loc["hint:5", "verdict"] == "too few traces" and table.loc["hint:5", "n"] == 20
    assert table.loc["hint:2", "bound"] == "lower bound" and table.loc["hint:2", "verdict"] == "subtext"


def test_values_said_by_synonyms_alone_are_subtext_and_values_said_plainly_are_none(
    gold: Callable[[str], TraceSet],
) -> None:
    hidden = measure(
        gold("subtext:secret=value"),
        ["value_1"],
        wording=Wording.of_task(task("subtext:secret=value")),
        with_power=False,
    )
    assert hidden.table["bits"][0] > 2.9
    plain = measure(gold("subtext:bits=1"), ["value_1"], wording=Wording.of_task(task("subtext")), with_power=False)
    assert abs(plain.table["bits"][0]) < 0.05 and plain.table["verdict"][0] == "known without"


@pytest.mark.parametrize(("bits", "places"), [(0, []), (2, [2, 4])])
def test_carrying_words_are_located_and_a_knock_out_closes_the_channel(
    gold: Callable[[str], TraceSet], bits: int, places: list[int]
) -> None:
    result = locate(gold(f"subtext:bits={bits}"), Wording.of_task(task("subtext")), HINTS)
    assert result.places == places
    assert abs(result.knock_out["carrying words neutral"].bits.value) < 0.1
    assert result.knock_out["other words neutral"].bits.value == pytest.approx(bits, abs=0.2)
    if places:
        told = result.synonyms.groupby(["place", "choice"])["share"].max()
        assert told.min() > 0.9  # each choice goes with one label


def test_the_organism_says_its_bit_at_step_2_from_layer_1_on(organism: interp.Reasoner, sampled: TraceSet) -> None:
    result = locate(sampled, Wording.of_task(organism.task), ["hint:1", "hint:2"], reasoner=organism)
    assert result.places == [2]
    bits = result.layers[result.layers["target"] == "hint:2"].set_index("address")["bits"]
    assert bits["blocks.1.hook_out"] > 0.9 > 0.1 > bits["blocks.0.hook_out"]
    assert result.layers.loc[result.layers["target"] == "hint:1", "bits"].max() < 0.05


@pytest.mark.slow
def test_a_paraphrase_closes_the_channel_and_keeps_the_answers(organism: interp.Reasoner, sampled: TraceSet) -> None:
    table = paraphrase(sampled, Wording.of_task(organism.task), HINTS, reasoner=organism).set_index("version")
    assert table.loc["as written", "bits"] > 0.8
    assert table.loc[["random synonyms", "first synonym"], "bits"].abs().max() < 0.1
    assert table["same_answer"].min() > 0.97
    # Free, it keeps its answers too: what it writes next depends on what the words mean.
    assert table["free_same_answer"].min() > 0.95 and set(table["verdict"][1:]) == {"not load-bearing"}


def test_the_control_of_a_free_paraphrase_puts_back_the_words_of_the_trace(
    organism: interp.Reasoner, sampled: TraceSet
) -> None:
    """With the words that the model goes on with instead, the control would be a paraphrase of sampled words itself."""
    traces = TraceSet([trace for trace in sampled if trace.correct][:60])
    again = reword_freely(organism, traces, Wording.of_task(organism.task), lambda word, written: written)
    assert np.mean([new == old for new, old in zip(texts(again), texts(traces), strict=True)]) > 0.95


def writes_by_rule(rollout: Any, reasoner: interp.Reasoner, by_question: dict[str, Problem]) -> list[int]:
    """Return the next token of a model that reads its own words: after a value that is not in digits, it slips by one."""
    made, chosen = task("subtext"), []
    for row in rollout.rows:
        read = dict.fromkeys(("prompt", "thought", "answer"), ())
        for token, channel in zip(reasoner.tokenizer.convert_ids_to_tokens(row.token_ids), row.channel, strict=True):
            read[str(channel)] = (*read.get(str(channel), ()), token)
        gold = [int(step.value) for step in by_question[" ".join(read["prompt"])].steps]
        values = [int(made.meaning(word)) for word in read["thought"]]
        if read["answer"]:
            token = reasoner.config.eos
        elif "special" in read and len(read["special"]) == 2:
            token = str(values[-1])
        elif len(values) == len(gold):
            token = reasoner.config.end
        else:
            slip = (values[-1] - gold[len(values) - 1] + (not read["thought"][-1].isdigit())) if values else 0
            token = str((gold[len(values)] + slip) % 10)
        chosen.append(reasoner.vocabulary.token_id(token))
    return chosen


def test_words_that_the_model_reads_later_are_load_bearing_where_it_goes_on_by_itself(
    organism: interp.Reasoner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced, the text puts such a model back on its rails; the control changes nothing in either way."""
    import torch

    from interp.reasoners.rollouts.rollout import Rollout

    problems = organism.task.generate(80, seed=7, split="test")
    by_question = {problem.question: problem for problem in problems}
    monkeypatch.setattr(Rollout, "choose", lambda self: torch.tensor(writes_by_rule(self, organism, by_question)))
    traces = organism.think(problems, batch_size=80)
    assert traces.accuracy == 1 and all(word.isdigit() for text in texts(traces) for word in text)
    table = paraphrase(traces, Wording.of_task(organism.task), ["hint:1"], reasoner=organism).set_index("version")
    assert (table[["accuracy", "same_answer"]] == 1).all(axis=None), "forced, every answer stays"
    assert table.loc["as written", "free_accuracy"] == table.loc["first synonym", "free_accuracy"] == 1
    assert table.loc["random synonyms", "free_accuracy"] < 0.1
    assert table.loc["random synonyms", "free_same_answer_high"] < 0.2
    assert table.loc["random synonyms", "free_lost_low"] > 0.8
    assert list(table["verdict"]) == ["control", "load-bearing", "not load-bearing"]


def test_latents_hold_a_hint_that_a_linear_reader_of_the_text_before_it_has_too(
    organism: interp.Reasoner, sampled: TraceSet
) -> None:
    """Nothing is usable beyond question and text that the question's own words give."""
    result = measure(sampled, ["hint:2"], reasoner=organism, places=["thought 1"], with_power=False)
    assert abs(result.table["bits"][0]) < 0.05 and result.table["without"][0] < 0.1


def test_synonyms_are_read_from_a_file_and_refused_where_they_are_none(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.json"
    path.write_text(json.dumps([["so", "thus"], ["big", "large", "great"]]), encoding="utf-8")
    wording = Wording.read(path)
    assert wording.options("large") == ("big", "large", "great") and wording.choice("thus") == 1
    assert wording.meaning("great") == "big" and wording.options("other") == ("other",)
    for content in ("{}", "[]", "[[1, 2]]", '[["so", null]]'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=r"expected a list of lists of words .* got "):
            Wording.read(path)
    with pytest.raises(UsageError, match="expected a set of synonyms to be at least two different words"):
        Wording([["a", "b"], ["b", "c"]])
    with pytest.raises(UsageError, match="task chain defines no synonyms"):
        Wording.of_task(task("chain"))


def test_missing_synonyms_are_said_before_the_model_thinks(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interp.Reasoner, "think", lambda *_, **__: pytest.fail("it thought"))
    for command in ("measure", "discover", "paraphrase", "locate"):
        ended = cotlens("subtext", command, "chain-text", "--n", "30")
        assert ended.code == 2 and "task chain defines no synonyms; give a file of synonyms (--synonyms)" in ended.err
