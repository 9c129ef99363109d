"""The verbalizer writes the value that a latent holds, its controls do not, and a saved verbalizer writes the same."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.activations import Store
from interp.decoders.base import Decoder, RankedTexts
from interp.decoders.evaluation.interpretation import SWAPPED, interpretation_scores, interpretations, step_thoughts
from interp.decoders.evaluation.text_scores import exact_matches
from interp.decoders.step_rows import rows_before
from interp.decoders.verbalizer import Verbalizer
from interp.decoders.writer import Writer, WriterVocabulary
from interp.decoders.writer_training import train_writer
from interp.errors import CotlensError, StoreError, UsageError
from interp.models.address import Address
from interp.problems.base import Problem, Step
from interp.traces import TraceSet

FINAL = Address("ln_final.hook_out")
SMALL: dict[str, Any] = {
    "d_model": 32,
    "n_layers": 1,
    "n_heads": 2,
    "updates": 120,
    "batch_size": 64,
    "learning_rate": 1e-2,
}
N, D = 400, 16


@pytest.fixture(scope="module")
def traces(made_problem: Callable[..., Problem], written_trace: Callable) -> TraceSet:
    """Problems of two steps, written `WORD is VALUE`: the question's first word, and a value that it does not say."""
    rng = np.random.default_rng(0)
    problems = []
    for k in range(N):
        letter, values = rng.choice(list("abcde")), rng.integers(0, 6, 2).astype(str)
        problem = made_problem(f"{letter} {' '.join(f'{k:03o}')}", list(values))
        steps = tuple(Step(f"{letter} is {v}", v) for v in values)
        problems.append(dataclasses.replace(problem, steps=steps))
    return TraceSet([written_trace(p) for p in problems])


def planted(traces: TraceSet, *, shift: int = 0) -> Callable[[pd.DataFrame], np.ndarray]:
    """Activations that hold, at the position `shift` before thought k, the value of step k."""

    def acts(index: pd.DataFrame) -> np.ndarray:
        rng = np.random.default_rng(1)
        codebook = rng.normal(size=(10, D))
        out = 0.2 * rng.normal(size=(len(index), D))
        step_at = {(t, p): s for t, p, s in zip(index["trace"], index["position"], index["step"], strict=True) if s}
        for row, (t, p) in enumerate(zip(index["trace"], index["position"], strict=True)):
            step = step_at.get((t, p + shift))
            if step:
                out[row] += codebook[int(traces[t].problem.steps[step - 1].value)]
        return out

    return acts


@pytest.fixture(scope="module")
def store(traces: TraceSet, write_store: Callable, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("verbalizer") / "s", traces, {FINAL.name: planted(traces)})


@pytest.fixture(scope="module")
def early_store(traces: TraceSet, write_store: Callable, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("verbalizer") / "e", traces, {FINAL.name: planted(traces, shift=1)})


@pytest.fixture(scope="module")
def thoughts(store: Store) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame, np.ndarray]:
    """Rows and texts to train on, and held-out ones of other problems."""
    rows, texts = step_thoughts(store)
    learned = (rows["trace"] < 300).to_numpy()
    return rows[learned], texts[learned], rows[~learned], texts[~learned]


@pytest.fixture(scope="module")
def verbalizer(store: Store, thoughts: tuple) -> Verbalizer:
    return Verbalizer(**SMALL).fit(store, FINAL, thoughts[0], thoughts[1])


def share_right(written: list[str], gold: np.ndarray) -> float:
    return float(exact_matches(written, list(gold)).mean())


# --- what it writes ---------------------------------------------------------------------------------------


def test_a_planted_latent_is_written_out_with_the_questions_word(
    verbalizer: Verbalizer, store: Store, thoughts: tuple
) -> None:
    _, _, held, gold = thoughts
    assert share_right(verbalizer.write(store, held), gold) > 0.95


def test_another_problems_latent_brings_that_problems_value_and_leaves_the_word(
    verbalizer: Verbalizer, store: Store, thoughts: tuple
) -> None:
    _, _, held, gold = thoughts
    donors = np.roll(np.arange(len(held)), 2)  # two steps a problem, so the step stays
    written = verbalizer.write(store, held, latents_of=held.iloc[donors])
    expected = [f"{own.split()[0]} is {other.split()[2]}" for own, other in zip(gold, gold[donors], strict=True)]
    assert share_right(written, np.array(expected)) > 0.95


@pytest.mark.parametrize(("read_at", "good"), [("before", True), ("token", False)])
def test_the_latent_is_taken_where_read_at_says(read_at: Any, good: bool, early_store: Store, thoughts: tuple) -> None:
    rows, texts, held, gold = thoughts
    made = Verbalizer(read_at=read_at, **SMALL).fit(early_store, FINAL, rows, texts)
    right = share_right(made.write(early_store, held), gold)
    assert right > 0.95 if good else right < 0.35


def test_rows_before_are_one_position_earlier_in_the_same_trace(store: Store, thoughts: tuple) -> None:
    rows = thoughts[0]
    before = rows_before(store, rows)
    np.testing.assert_array_equal(before["trace"], rows["trace"])
    np.testing.assert_array_equal(before["position"], rows["position"] - 1)
    assert set(before["place"][(rows["step"] == 1).to_numpy()]) == {"begin"}


# --- as a decoder -----------------------------------------------------------------------------------------


def test_it_is_a_decoder_whose_candidates_are_ranked_and_different(
    verbalizer: Verbalizer, store: Store, thoughts: tuple
) -> None:
    _, _, held, gold = thoughts
    assert isinstance(verbalizer, Decoder) and verbalizer.name == "verbalizer"
    ranking = verbalizer.decode(store, FINAL, held, top_k=4)
    assert ranking.texts.shape == ranking.scores.shape == (len(held), 4)
    assert (np.diff(ranking.scores, axis=1) <= 1e-7).all()
    assert (ranking.scores.sum(axis=1) <= 1 + 1e-4).all() and (ranking.scores[:, 0] > 0).all()
    assert all(len(set(row)) == 4 for row in ranking.texts)
    assert share_right(list(ranking.texts[:, 0]), gold) > 0.95


def test_the_evaluation_of_all_decoders_reads_values_with_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setitem(Verbalizer.__init__.__kwdefaults__, name, value)
    readouts = interp.decode(store, ["verbalizer"])
    assert readouts.locations["verbalizer"].address == FINAL and readouts.locations["verbalizer"].offset == 0
    scores = readouts.scores()
    assert scores["step"].tolist() == [1, 2]
    assert (scores["top1"] > 0.95).all() and (scores["other_problem"] < 0.4).all()


def test_it_reads_the_final_state_alone_where_that_was_captured(
    traces: TraceSet, write_store: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    monkeypatch.setattr(Verbalizer, "fit", lambda self, store, address, *_: fitted.append(address.name) or self)
    read = RankedTexts(np.array([["0"]] * 2 * N, dtype=object), np.ones((2 * N, 1)))
    monkeypatch.setattr(
        Verbalizer,
        "decode",
        lambda self, store, address, rows, top_k: dataclasses.replace(
            read, texts=read.texts[: len(rows)], scores=read.scores[: len(rows)]
        ),
    )
    acts = {name: planted(traces) for name in ("blocks.0.hook_out", FINAL.name)}
    interp.decode(write_store(tmp_path / "both", traces, acts), ["verbalizer"])
    assert set(fitted) == {FINAL.name}
    fitted.clear()
    acts.pop(FINAL.name)
    interp.decode(write_store(tmp_path / "one", traces, acts), ["verbalizer"])
    assert set(fitted) == {"blocks.0.hook_out"}


# --- the writer -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writer() -> Writer:
    torch.manual_seed(0)
    made = Writer(
        WriterVocabulary(["a", "b", "c"], ["x", "y", "z"]), 4, d_model=16, n_layers=2, n_heads=2, positions=12
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return made.eval()


def log_probability(writer: Writer, prompt: list[str], latent: torch.Tensor, text: list[str], ends: bool) -> float:
    """log p(text), one sequence without padding, renormalised over what may be written."""
    wanted = writer.words.ids(text) + ([1] if ends else [])
    with torch.no_grad():
        logits = writer(writer.prompt_ids([prompt]), latent[None], torch.tensor([wanted[:-1]], dtype=torch.long))[0]
    allowed = [1, *writer.words.ids(["x", "y", "z"])]
    log_p = torch.log_softmax(logits[:, allowed].float(), dim=-1)
    return float(sum(log_p[k, allowed.index(i)] for k, i in enumerate(wanted)))


def test_with_enough_beams_the_search_is_exhaustive(writer: Writer) -> None:
    longest, latent = 2, torch.randn(4, generator=torch.Generator().manual_seed(0))
    every: dict[str, float] = {}
    for n in range(longest + 2):
        for text in itertools.product("xyz", repeat=n):
            # A text that has used all its room is not asked whether it would have ended.
            every[" ".join(text)] = np.exp(log_probability(writer, ["a", "b"], latent, list(text), ends=n <= longest))
    assert sum(every.values()) == pytest.approx(1.0, abs=1e-4)
    texts, scores = writer.candidates(writer.prompt_ids([["a", "b"]]), latent[None], beams=100, longest=longest)
    probabilities = dict(zip(texts[0], scores[0].tolist(), strict=True))
    best = sorted(every, key=lambda text: -every[text])
    assert [text for text in texts[0] if probabilities[text] > 0] == best
    assert all(probabilities[text] == pytest.approx(every[text], abs=1e-5) for text in best)


def test_one_beam_is_the_greedy_text(writer: Writer) -> None:
    latent = torch.randn(4, generator=torch.Generator().manual_seed(1))
    written: list[str] = []
    for _ in range(3):
        options = {word: log_probability(writer, ["c"], latent, [*written, word], ends=False) for word in "xyz"}
        ended = log_probability(writer, ["c"], latent, written, ends=True)
        word = max(options, key=lambda each: options[each])
        if ended > options[word]:
            break
        written.append(word)
    texts, _ = writer.candidates(writer.prompt_ids([["c"]]), latent[None], beams=1, longest=2)
    assert texts[0] == [" ".join(written)]


def test_a_row_gives_the_same_in_any_batch(writer: Writer) -> None:
    prompts, latents = [["a"], ["b", "c", "a", "b"], ["c", "c"]], torch.randn(3, 4)
    together = writer.candidates(writer.prompt_ids(prompts), latents, beams=3, longest=3)
    for k, prompt in enumerate(prompts):
        alone = writer.candidates(writer.prompt_ids([prompt]), latents[k : k + 1], beams=3, longest=3)
        assert alone[0][0] == together[0][k]
        torch.testing.assert_close(alone[1][0], together[1][k], atol=1e-5, rtol=1e-4)


def test_the_loss_is_that_of_the_texts_alone(writer: Writer) -> None:
    prompts, texts, latents = [["a", "b"], ["c"]], ["x", "y z y"], torch.randn(2, 4)
    with torch.no_grad():
        together = writer.loss(writer.prompt_ids(prompts), latents, writer.text_ids(texts))
        alone = [
            writer.loss(writer.prompt_ids([p]), latents[k : k + 1], writer.text_ids([t])) * (len(t.split()) + 1)
            for k, (p, t) in enumerate(zip(prompts, texts, strict=True))
        ]
    assert float(together) == pytest.approx(float(sum(alone)) / 6, abs=1e-4)


def test_the_placeholder_is_overwritten_by_the_latent(writer: Writer) -> None:
    prompt, text = writer.prompt_ids([["a"]]), writer.text_ids(["x"])
    with torch.no_grad():
        one, other = (writer(prompt, latent, text) for latent in (torch.zeros(1, 4), torch.ones(1, 4)))
        before = writer.gpt2.wte.weight[3].clone()
        writer.gpt2.wte.weight[3] += 1.0  # the placeholder's own embedding: hidden behind the latent
        again = writer(prompt, torch.zeros(1, 4), text)
        writer.gpt2.wte.weight[3] = before
    assert (one - other).abs().max() > 1e-3
    seen = [k for k in range(one.shape[-1]) if k != 3]  # it is also the output row of its own logit
    torch.testing.assert_close(again[..., seen], one[..., seen])


def test_a_diverging_training_stops_with_advice() -> None:
    made = Writer(WriterVocabulary(["a"], ["x"]), 2, d_model=8, n_layers=1, n_heads=1, positions=6)
    options = {"updates": 3, "batch_size": 2, "learning_rate": 1e-3, "seed": 0}
    with pytest.raises(CotlensError, match=r"diverged at update 0; lower learning_rate \(0.001\)"):
        train_writer(made, [["a"]] * 4, torch.full((4, 2), torch.nan), ["x"] * 4, **options)


# --- kept on disk -----------------------------------------------------------------------------------------


def test_a_saved_verbalizer_writes_the_same(
    verbalizer: Verbalizer, store: Store, thoughts: tuple, tmp_path: Path
) -> None:
    verbalizer.save(tmp_path / "v")
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == ["model.safetensors", "verbalizer.json"]
    again = Verbalizer.load(tmp_path / "v")
    held = thoughts[2]
    one, other = (v.decode(store, FINAL, held, top_k=2) for v in (verbalizer, again))
    assert (one.texts == other.texts).all()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_a_saved_question_only_verbalizer_comes_back(store: Store, thoughts: tuple, tmp_path: Path) -> None:
    rows, texts, held, _ = thoughts
    made = Verbalizer(mode="question", **{**SMALL, "updates": 5}).fit(store, FINAL, rows, texts)
    made.save(tmp_path)
    assert Verbalizer.load(tmp_path).write(store, held) == made.write(store, held)


def test_the_same_seed_gives_the_same_verbalizer_and_leaves_the_callers_draws_alone(
    store: Store, thoughts: tuple
) -> None:
    rows, texts, held, _ = thoughts
    few = {**SMALL, "updates": 20}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = Verbalizer(**few).fit(store, FINAL, rows, texts)
    torch.testing.assert_close(torch.rand(3), expected)
    other = Verbalizer(**few).fit(store, FINAL, rows, texts)
    assert one.write(store, held) == other.write(store, held)
    third = Verbalizer(**few, seed=1).fit(store, FINAL, rows, texts)
    assert (one.decode(store, FINAL, held).scores != third.decode(store, FINAL, held).scores).any()


# --- the study over all modes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(store: Store) -> pd.DataFrame:
    return interpretations(store, **SMALL)


def test_every_mode_is_asked_for_the_same_held_out_steps(study: pd.DataFrame, traces: TraceSet) -> None:
    assert set(study["mode"]) == {"latent", SWAPPED, "question", "shuffled"}
    asked = {mode: set(zip(part["trace"], part["step"], strict=True)) for mode, part in study.groupby("mode")}
    assert len({frozenset(each) for each in asked.values()}) == 1
    assert all(
        gold == traces[t].problem.steps[s - 1].text
        for t, s, gold in zip(study["trace"], study["step"], study["gold"], strict=True)
    )


@pytest.mark.parametrize("mode", ["question", "shuffled"])
def test_without_the_rows_own_latent_the_value_is_a_guess(mode: str, study: pd.DataFrame) -> None:
    part = study[study["mode"] == mode]
    written, right = (part[column].str.split(" is ", expand=True) for column in ("text", "gold"))
    assert (written[0] == right[0]).mean() > 0.95, "the question says the word"
    assert (written[1] == right[1]).mean() < 1 / 6 + 0.12, "and not the value"


def test_only_the_latent_brings_the_text_back(study: pd.DataFrame) -> None:
    scores = interpretation_scores(study).set_index(["mode", "step"])
    assert (scores.loc["latent"]["exact"] > 0.9).all()
    for control in ("question", "shuffled", SWAPPED):
        assert (scores.loc[control]["exact"] < 0.35).all()
        assert (scores.loc[control]["rouge_l"] > 0.6).all(), "two of three words follow from the question"
    assert ((scores["ci_low"] <= scores["exact"]) & (scores["exact"] <= scores["ci_high"])).all()


def test_scores_are_those_of_their_rows(study: pd.DataFrame) -> None:
    scores = interpretation_scores(study)
    assert scores["n"].sum() == len(study)
    first = study[(study["mode"] == "question") & (study["step"] == 2)]
    row = scores[(scores["mode"] == "question") & (scores["step"] == 2)].iloc[0]
    assert row["exact"] == pytest.approx((first["text"] == first["gold"]).mean())


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "latents"}, "expected a known mode of the verbalizer, got 'latents'; did you mean 'latent'"),
        ({"read_at": "after"}, "expected a known position to read at, got 'after'.*token, before"),
        ({"updates": 0}, "updates to be a whole number of at least 1, got 0"),
        ({"d_model": 30}, "expected d_model to be a multiple of twice n_heads, got 30 and 4"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Verbalizer(**options)


def test_rows_without_texts_are_refused(store: Store, thoughts: tuple) -> None:
    rows, texts = thoughts[:2]
    with pytest.raises(UsageError, match=r"expected rows that each have a text .* got 3 rows with 2 texts"):
        Verbalizer().fit(store, FINAL, rows[:3], np.array(["a", "", "b"], dtype=object))
    with pytest.raises(UsageError, match="got 0 rows with 0 texts"):
        Verbalizer().fit(store, FINAL, rows[:0], texts[:0])


def test_an_unfitted_verbalizer_is_refused(store: Store, thoughts: tuple, tmp_path: Path) -> None:
    for use in (lambda v: v.write(store, thoughts[2]), lambda v: v.save(tmp_path)):
        with pytest.raises(UsageError, match="not fitted; call fit first, or load a saved one"):
            use(Verbalizer())


def test_another_models_store_or_another_address_is_refused(
    verbalizer: Verbalizer, traces: TraceSet, thoughts: tuple, write_store: Callable, tmp_path: Path
) -> None:
    other = write_store(tmp_path / "o", traces, {FINAL.name: planted(traces)}, weights="others")
    with pytest.raises(
        StoreError, match="expected a store of the model that this verbalizer was fitted to, got one of by hand"
    ):
        verbalizer.write(other, thoughts[2])
    with pytest.raises(
        UsageError, match=r"expected ln_final\.hook_out, where this verbalizer was fitted, got blocks\.0\.hook_out"
    ):
        verbalizer.decode(other, Address("blocks.0.hook_out"), thoughts[2])


def test_a_longer_question_than_in_training_is_refused(
    verbalizer: Verbalizer, made_problem: Callable, written_trace: Callable, write_store: Callable, tmp_path: Path
) -> None:
    traces = TraceSet([written_trace(made_problem(" ".join("a" * 20), ["1"]))])
    longer = write_store(tmp_path / "l", traces, {FINAL.name: np.zeros((5, D))})
    with pytest.raises(UsageError, match=r"expected questions of at most 4 words, .* got one of 20"):
        verbalizer.write(longer, longer.thought_rows)


def test_reading_before_needs_the_position_before(
    traces: TraceSet, write_store: Callable, tmp_path: Path, thoughts: tuple
) -> None:
    only = write_store(tmp_path / "s", traces, {FINAL.name: planted(traces)}, channels=["latent"])
    rows, texts = step_thoughts(only)
    with pytest.raises(
        StoreError, match=r"position \d+ of trace 0 is not in .*; capture the channels latent, thought and special"
    ):
        Verbalizer(read_at="before", **SMALL).fit(only, FINAL, rows, texts)


def test_a_store_without_thoughts_cannot_be_interpreted(
    made_problem: Callable, written_trace: Callable, write_store: Callable, tmp_path: Path
) -> None:
    traces = TraceSet([written_trace(made_problem("a b", ["1"]))])
    without = write_store(tmp_path / "w", traces, {FINAL.name: np.zeros((1, D))}, channels=[])
    with pytest.raises(UsageError, match="holds no thoughts whose steps are known"):
        interpretations(without, **SMALL)


def test_a_folder_that_holds_no_whole_verbalizer_is_refused(verbalizer: Verbalizer, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no verbalizer in .*: it has no verbalizer\.json"):
        Verbalizer.load(tmp_path)
    verbalizer.save(tmp_path)
    described = json.loads((tmp_path / "verbalizer.json").read_text(encoding="utf-8"))
    (tmp_path / "verbalizer.json").write_text(json.dumps({**described, "d_model": 64}), encoding="utf-8")
    with pytest.raises(StoreError, match=r"cannot be read \(.*Fit and save it again"):
        Verbalizer.load(tmp_path)
    (tmp_path / "verbalizer.json").write_text(json.dumps(described), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(StoreError, match="cannot be read"):
        Verbalizer.load(tmp_path)
