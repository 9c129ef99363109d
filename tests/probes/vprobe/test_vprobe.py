"""V-probes: packed questions equal single ones, only head and update are trained, noise stays at chance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

import interp
from interp.errors import UsageError
from interp.models.tokenizers import word_tokenizer
from interp.models.wrapping import weights_hash, wrap
from interp.problems.base import Problem
from interp.reasoners import Reasoner, ReasonerConfig
from interp.reasoners.text import TextReasoner
from interp.statistics.metrics import f1_interval, macro_f1
from interp.traces import Channel, Trace
from probes.vprobe.controls import CONTROLS, bag_of_features, vprobe
from probes.vprobe.fit import VProbe
from probes.vprobe.packing import Item, batches

WORDS = tuple("abcdefghijklmnop")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Reasoner:
    """Two layers of width 32, never trained, drawn large enough that every part of it does something."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer(WORDS).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "attn_implementation": "eager",
        "n_positions": 32,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "initializer_range": 0.2,
    }
    shape: Any = GPT2Config(vocab_size=len(tokenizer), **size)
    model = GPT2LMHeadModel(shape)
    return TextReasoner(wrap(model, tokenizer), tokenizer, ReasonerConfig(kind="text"), name="tiny", weights="none")


@pytest.fixture(scope="module")
def texts(tiny: Reasoner, made_problem: Callable[..., Problem], written_trace: Callable[..., Trace]) -> list[Trace]:
    """160 traces of 4 to 9 random words."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(160):
        words = rng.choice(WORDS, rng.integers(4, 10)).tolist()
        problem = made_problem(" ".join(words), ["1"])
        made.append(written_trace(problem, prompt=[tiny.vocabulary.token_id(w) for w in words]))
    return made


def prompt_length(trace: Trace) -> int:
    return trace.channel.count(Channel.PROMPT)


def asked(texts: Sequence[Trace], label: Callable[[Trace, str], str], seed: int = 0) -> list[Item]:
    """Six random words asked about at the end of each text's prompt."""
    rng = np.random.default_rng(seed)
    return [
        Item(trace, prompt_length(trace), (word,), label(trace, word))
        for trace in texts
        for word in rng.choice(WORDS, 6, replace=False).tolist()
    ]


def states(reasoner: Reasoner, items: Sequence[Item], size: int, rank: int = 8) -> torch.Tensor:
    """The states at [END] of a probe whose update is not zero."""
    probe = VProbe(rank=rank, seed=1)
    probe.classes_, probe._reasoner = np.array(["x", "y"]), reasoner
    probe._start(reasoner)
    with torch.no_grad():
        probe._update[0].copy_(torch.randn(probe._update[0].shape, generator=torch.Generator().manual_seed(2)))
    out = torch.zeros(len(items), probe._table.shape[1])
    for batch in batches(reasoner, items, size):
        out[batch.items] = probe._states(batch).detach()
    return out


# Packing


def test_packed_questions_equal_single_ones(tiny: Reasoner, texts: list[Trace]) -> None:
    items = [Item(t, at, about, "x") for t in texts[:12] for at in (2, 4) for about in (("a",), ("b", "c"))]
    together = states(tiny, items, 8)
    alone = torch.cat([states(tiny, [item], 1) for item in items])
    assert torch.allclose(together, alone, atol=1e-4)


def test_a_question_is_the_text_cut_off_and_the_description_between_two_new_tokens(
    tiny: Reasoner, texts: list[Trace]
) -> None:
    item = Item(texts[0], 3, ("a", "b"), "x")
    probe = VProbe(rank=0)
    probe.classes_, probe._reasoner = np.array(["x", "y"]), tiny
    probe._start(tiny)
    ids = torch.tensor([*texts[0].token_ids[:3], tiny.vocabulary.token_id("a"), tiny.vocabulary.token_id("b")])
    known, new = tiny.embed(ids), tiny.embed.weight.mean(dim=0, keepdim=True)
    inputs = torch.cat([known[:3], new, known[3:], new])[None]
    expected = tiny.base(inputs_embeds=inputs).last_hidden_state[0, -1]
    assert torch.allclose(states(tiny, [item], 1, rank=0)[0], expected, atol=1e-5)


def test_what_comes_after_the_cut_is_not_read(tiny: Reasoner, texts: list[Trace]) -> None:
    import dataclasses

    changed = dataclasses.replace(texts[0], token_ids=[*texts[0].token_ids[:3], *reversed(texts[0].token_ids[3:])])
    for trace in (texts[0], changed):
        both = states(tiny, [Item(trace, 3, ("a",), "x"), Item(trace, len(trace), ("a",), "x")], 4)
        if trace is texts[0]:
            first = both
    assert torch.allclose(first[0], both[0], atol=1e-5)
    assert not torch.allclose(first[1], both[1], atol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_half_precision_is_read_within_its_noise(
    dtype: str, coconut: Reasoner, traces: Sequence[Trace]
) -> None:
    items = [Item(trace, prompt_length(trace), ("3",), label) for trace, label in zip(traces, "xyxyxyxy", strict=False)]
    half = interp.load("chain-coconut", dtype=dtype)
    exact, rounded = states(coconut, items, 4), states(half, items, 4)
    noise = 8 * torch.finfo(getattr(torch, dtype)).eps * float(exact.abs().max())
    assert 0 < float((exact - rounded).abs().max()) < noise
    probe = VProbe(rank=4, seed=1, epochs=1).fit(half, items[:4], items[4:8])
    assert set(probe.predict(items[:2])) <= {"x", "y"}


def test_continuous_thoughts_are_read_as_they_were_thought(coconut: Reasoner, traces: Sequence[Trace]) -> None:
    import dataclasses

    trace = traces[0]
    assert trace.latents is not None
    other = dataclasses.replace(trace, latents=-trace.latents)
    end = len(trace) - 1
    items = [Item(each, at, ("3",), "x") for each in (trace, other) for at in (prompt_length(trace), end)]
    before, after, before_other, after_other = states(coconut, items, 4)
    assert torch.allclose(before, before_other, atol=1e-5)
    assert not torch.allclose(after, after_other, atol=1e-3)
    single = torch.cat([states(coconut, [item], 1) for item in items])
    assert torch.allclose(torch.stack([before, after, before_other, after_other]), single, atol=1e-4)


def test_questions_that_cannot_be_asked_are_refused(tiny: Reasoner, texts: list[Trace]) -> None:
    trace = texts[0]
    with pytest.raises(UsageError, match=f"expected `n_positions` from 1 to the trace's {len(trace)} positions, got 0"):
        batches(tiny, [Item(trace, 0, ("a",), "x")], 1)
    with pytest.raises(UsageError, match="expected a token of tiny's tokenizer, got 'unicorn'"):
        batches(tiny, [Item(trace, 3, ("unicorn",), "x")], 1)
    with pytest.raises(
        UsageError, match="expected at most 32 positions, the maximum of tiny, got a question of 42 tokens after 3"
    ):
        batches(tiny, [Item(trace, 3, ("a",) * 40, "x")], 1)


# Training


def by_kind(trace: Trace, word: str) -> str:
    return "vowel" if word in "aeio" else "consonant"


def test_a_planted_label_is_recovered_and_the_model_is_left_alone(tiny: Reasoner, texts: list[Trace]) -> None:
    before = weights_hash(tiny.model.original_model)
    items = asked(texts, by_kind)
    probe = VProbe(epochs=6, batch_size=8, rate=3.0).fit(tiny, items[:660], items[660:780])
    assert probe.score(items[780:]) > 0.7, "the majority alone has 0.43"
    assert weights_hash(tiny.model.original_model) == before
    assert all(not p.requires_grad and p.grad is None for p in tiny.model.original_model.parameters())
    assert len(probe.losses_) == len(probe.val_scores_) == 6 and probe.losses_[-1] < probe.losses_[0]


def test_what_is_trained_is_a_head_and_a_matrix_of_the_stated_rank(tiny: Reasoner, texts: list[Trace]) -> None:
    items = asked(texts, by_kind)
    probe = VProbe(rank=3, epochs=1).fit(tiny, items[:300], items[300:])
    left, right = probe._update
    assert left.shape == (len(tiny.tokenizer) + 2, 3) and right.shape == (3, 32)
    assert torch.linalg.matrix_rank((left @ right).detach()) == 3
    assert sum(p.numel() for p in probe._parameters) == left.numel() + right.numel() + 2 * 32 + 2


def test_the_update_of_the_embeddings_reads_what_a_head_alone_does_not(tiny: Reasoner, texts: list[Trace]) -> None:
    """Whether two words of the description are of one kind is no linear function of an untrained state."""
    rng = np.random.default_rng(3)
    items = []
    for trace in texts:
        for _ in range(8):
            a, b = rng.choice(WORDS, 2).tolist()
            same = by_kind(trace, a) == by_kind(trace, b)
            items.append(Item(trace, 4, (a, b), "same" if same else "other"))
    train, val, test = items[:800], items[800:1000], items[1000:]
    alone = VProbe(rank=0, epochs=6, batch_size=8, rate=3.0).fit(tiny, train, val).score(test)
    updated = VProbe(rank=8, epochs=6, batch_size=8, rate=3.0).fit(tiny, train, val).score(test)
    assert updated > alone + 0.05


def test_the_same_seed_reads_the_same(tiny: Reasoner, texts: list[Trace]) -> None:
    items = asked(texts, by_kind)
    fits = [VProbe(epochs=2, seed=5).fit(tiny, items[:400], items[400:]) for _ in range(2)]
    assert fits[0].losses_ == fits[1].losses_ and fits[0].val_scores_ == fits[1].val_scores_
    assert VProbe(epochs=2, seed=6).fit(tiny, items[:400], items[400:]).losses_ != fits[0].losses_


def test_the_epoch_that_is_best_on_validation_is_kept(tiny: Reasoner, texts: list[Trace]) -> None:
    rng = np.random.default_rng(0)
    items = asked(texts[:60], lambda trace, word: str(rng.integers(2)))
    probe = VProbe(epochs=6, rate=5.0).fit(tiny, items[:120], items[120:])
    assert probe.score(items[120:]) == pytest.approx(max(probe.val_scores_))
    assert probe.val_scores_[-1] != max(probe.val_scores_), "noise that peaks at the end tests nothing"


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (0, 5, "expected items to train on and to select on, got 0 and 5"),
        (5, 0, "got 5 and 0"),
        (5, 5, "expected at least two labels, got only 'x'"),
    ],
)
def test_too_little_to_train_on_is_refused(
    tiny: Reasoner, texts: list[Trace], train: int, val: int, message: str
) -> None:
    items = [Item(texts[0], 3, ("a",), "x")] * 5
    with pytest.raises(UsageError, match=message):
        VProbe().fit(tiny, items[:train], items[:val])


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="rank to be a whole number of at least 0, got -1"):
        VProbe(rank=-1)
    with pytest.raises(UsageError, match="epochs to be a whole number of at least 1"):
        VProbe(epochs=0)


# Beside its controls


def test_controls_stand_beside_the_probe(tiny: Reasoner, texts: list[Trace]) -> None:
    result = vprobe(tiny, asked(texts, by_kind), epochs=8, batch_size=4, rate=3.0)
    scores = result.table.set_index("reader")["macro_f1"]
    assert list(scores.index) == ["vprobe", *CONTROLS]
    assert scores["vprobe"] > 0.7
    assert scores["bag_of_features"] > 0.95, "the description alone gives this label away, and the baseline says so"
    assert scores["shuffled_labels"] < 0.65 and scores["majority"] < 0.5
    lead, (low, high), best = result.lead(["random_init", "bag_of_features"])
    assert best == "bag_of_features" and low <= lead <= high
    assert lead == pytest.approx(scores["vprobe"] - scores["bag_of_features"])
    assert result.notes["seed"] == 0 and result.notes["options"] == {"epochs": 8, "batch_size": 4, "rate": 3.0}


def test_noise_is_at_chance_for_every_reader(tiny: Reasoner, texts: list[Trace]) -> None:
    rng = np.random.default_rng(1)
    noise = asked(texts, lambda trace, word: str(rng.integers(2)))
    result = vprobe(tiny, noise, epochs=3, controls=("random_init", "shuffled_labels", "bag_of_features"))
    assert result.table["macro_f1"].between(0.3, 0.63).all(), result.table


def test_parts_share_no_structure_and_predictions_belong_to_the_test_items(tiny: Reasoner, texts: list[Trace]) -> None:
    items = asked(texts, by_kind)
    result = vprobe(tiny, items, epochs=1, controls=("majority",))
    tested = {items[k].group for k in result.test}
    assert not tested & {item.group for k, item in enumerate(items) if k not in set(result.test)}
    assert result.gold.tolist() == [items[k].label for k in result.test]
    row = result.table.set_index("reader").loc["vprobe"]
    assert row["macro_f1"] == pytest.approx(f1_score(result.gold, result.read["vprobe"], average="macro"))
    assert row["accuracy"] == pytest.approx((result.gold == result.read["vprobe"]).mean())
    assert (row["n"], row["structures"]) == (len(result.test), len(tested))


def test_given_models_take_the_place_of_a_random_one(tiny: Reasoner, texts: list[Trace]) -> None:
    items = asked(texts[:60], by_kind)
    result = vprobe(tiny, items, epochs=1, controls=("random_init",), untrained={"start": tiny})
    assert list(result.table["reader"]) == ["vprobe", "start"]
    assert (result.read["start"] == result.read["vprobe"]).all()


def test_unknown_controls_and_no_items_are_refused(tiny: Reasoner, texts: list[Trace]) -> None:
    with pytest.raises(
        UsageError, match=re.escape("expected a known control of a V-probe, got 'majorty'; did you mean 'majority'")
    ):
        vprobe(tiny, asked(texts, by_kind), controls=("majorty",))
    with pytest.raises(UsageError, match="expected items to probe, got none"):
        vprobe(tiny, [])


def test_the_bag_of_features_holds_words_read_description_and_own_features(texts: list[Trace]) -> None:
    import dataclasses

    short, long = Item(texts[0], 2, ("a",), "x"), Item(texts[0], 4, ("b",), "y")
    bare = bag_of_features([short, long])
    assert bare.sum(axis=1).tolist() == [1.0, 3.0], "two words that both have read are constant and left out"
    own = [dataclasses.replace(item, features=np.array([k, 5.0])) for k, item in enumerate((short, long))]
    assert bag_of_features(own).shape[1] == bare.shape[1] + 1
    with pytest.raises(UsageError, match="got them for 1 of 2"):
        bag_of_features([own[0], long])


# Macro-F1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_macro_f1_is_scikit_learns_over_the_gold_labels(pairs: list[tuple[str, str]]) -> None:
    gold, read = (np.array(part) for part in zip(*pairs, strict=True))
    expected = f1_score(gold, read, labels=np.unique(gold), average="macro", zero_division=0)
    assert macro_f1(gold, read) == pytest.approx(expected)


def test_intervals_resample_groups_not_rows() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    gold = rng.integers(0, 2, 1000).astype(str)
    right = np.repeat(rng.random(40) < 0.8, 25)  # a whole group is read well or badly
    read = np.where(right, gold, np.where(gold == "0", "1", "0"))
    low, high = f1_interval(gold, read, groups)
    assert low < macro_f1(gold, read) < high
    narrow = f1_interval(gold, read, np.arange(1000))
    assert high - low > 2 * (narrow[1] - narrow[0])


def test_the_interval_of_a_lead_is_paired() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 600).astype(str)
    worse = np.where(rng.random(600) < 0.7, gold, "0")
    better = np.where(rng.random(600) < 0.5, gold, worse)
    low, high = f1_interval(gold, better, np.arange(600), against=worse)
    assert 0 < low < macro_f1(gold, better) - macro_f1(gold, worse) < high
    assert f1_interval(gold, worse, np.arange(600), against=worse) == (0.0, 0.0)
