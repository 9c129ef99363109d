"""Text scores: exact match, BLEU and ROUGE-L agree with independent references and refuse what cannot be scored."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu

from interp.decoders.evaluation.text_scores import bleu, exact_matches, rouge_l
from interp.errors import UsageError

words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=6)
# NLTK counts one n-gram in a text that is too short for any, so parity is asked for where none is.
long_pairs = st.lists(
    st.tuples(st.lists(st.sampled_from("abcd"), min_size=4, max_size=8).map(" ".join), words), min_size=1, max_size=6
)


def longest_common(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The length of the longest common subsequence, straight from its definition."""

    @cache
    def of(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        return max(of(i + 1, j), of(i, j + 1), 1 + of(i + 1, j + 1) if a[i] == b[j] else 0)

    return of(0, 0)


@given(long_pairs)
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")  # NLTK recommends smoothing
def test_bleu_is_nltks(samples: list[tuple[str, str]]) -> None:
    written, gold = [a for a, _ in samples], [b for _, b in samples]
    order = min(4, max(len(text.split()) for text in gold))
    theirs = corpus_bleu([[b.split()] for b in gold], [a.split() for a in written], weights=[1 / order] * order)
    assert bleu(written, gold) == pytest.approx(theirs if theirs > 1e-50 else 0.0, abs=1e-9)


@given(long_pairs)
@settings(max_examples=100, deadline=None)
def test_bleu_is_sacrebleus(samples: list[tuple[str, str]]) -> None:
    from sacrebleu.metrics import BLEU

    written, gold = [a for a, _ in samples], [b for _, b in samples]
    order = min(4, max(len(text.split()) for text in gold))
    theirs = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    assert bleu(written, gold) == pytest.approx(theirs.corpus_score(written, [gold]).score / 100, abs=1e-9)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_rouge_l_is_rouge_scores(samples: list[tuple[str, str]]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rougeL"])
    written, gold = [a for a, _ in samples], [b for _, b in samples]
    expected = [theirs.score(b, a)["rougeL"].fmeasure for a, b in samples]
    np.testing.assert_allclose(rouge_l(written, gold), expected)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(samples: list[tuple[str, str]]) -> None:
    for (a, b), score in zip(samples, rouge_l([a for a, _ in samples], [b for _, b in samples]), strict=True):
        common = longest_common(tuple(a.split()), tuple(b.split()))
        precision, recall = common / len(a.split()), common / len(b.split())
        assert score == pytest.approx(2 * precision * recall / (precision + recall) if common else 0.0)


@given(st.lists(words, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_right_text_scores_one_everywhere(texts: list[str]) -> None:
    assert exact_matches(texts, texts).all()
    assert bleu(texts, texts) == pytest.approx(1.0)
    np.testing.assert_allclose(rouge_l(texts, texts), 1.0)


def test_white_space_does_not_count_and_order_does() -> None:
    assert exact_matches(["4 +3  = 7 ;"], ["4 +3 = 7 ;"]).all()
    assert not exact_matches(["+3 4 = 7 ;"], ["4 +3 = 7 ;"]).any()


def test_a_known_case_by_hand() -> None:
    written, gold = ["the cat sat"], ["the cat sat down"]
    assert bleu(written, gold) == 0.0, "no four words in a row were written"
    assert bleu(["the cat sat down here"], gold) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert rouge_l(written, gold)[0] == pytest.approx(6 / 7)


def test_short_writing_is_penalised() -> None:
    gold = ["a b c d e f g h"]
    assert bleu(["a b c d"], gold) == pytest.approx(np.exp(1 - 8 / 4))


@pytest.mark.parametrize("empty", ["", "   "])
def test_an_empty_written_text_scores_nothing(empty: str) -> None:
    assert bleu([empty], ["a b"]) == 0.0 and rouge_l([empty], ["a b"])[0] == 0.0
    assert not exact_matches([empty], ["a b"]).any()


@pytest.mark.parametrize("score", [exact_matches, bleu, rouge_l])
def test_what_cannot_be_scored_is_refused(score) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="expected one gold text for each written text, got 1 for 2"):
        score(["a", "b"], ["a"])
    with pytest.raises(UsageError, match="expected gold texts of at least one word, got none or an empty one"):
        score([], [])
    with pytest.raises(UsageError, match="at least one word"):
        score(["a"], ["  "])
