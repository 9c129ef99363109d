"""Text scores: exact match, BLEU, ROUGE-L and token F1, over words.

White space separates words. Nothing is lower-cased, stemmed or tokenized further, because the organisms' steps have one
symbol a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from interp.errors import UsageError

# Longest n-grams of BLEU, in words.
ORDER = 4


def exact_matches(written: Sequence[str], gold: Sequence[str]) -> Bool[np.ndarray, " texts"]:
    """Return whether each text equals its gold text, word for word, shape (texts,).

    Args:
        written: The texts to score.
        gold: The gold text of each.

    Returns:
        Booleans, shape (texts,).

    Raises:
        UsageError: The lengths differ, or a gold text has no words.
    """
    _checked(written, gold)
    return np.array([a.split() == b.split() for a, b in zip(written, gold, strict=True)], dtype=bool)


def bleu(written: Sequence[str], gold: Sequence[str]) -> float:
    """Return corpus BLEU from 0 to 1, with one reference each and n-grams of up to four words.

    Orders that no gold text is long enough for are left out, so that one-word steps can reach 1. There is no smoothing:
    without a common n-gram of some order it is 0.

    Args:
        written: The texts to score.
        gold: The gold text of each.

    Raises:
        UsageError: The lengths differ, there are no texts, or a gold text is empty.

    References:
        Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation".
    """
    _checked(written, gold)
    pairs = [(a.split(), b.split()) for a, b in zip(written, gold, strict=True)]
    order = min(ORDER, max(len(reference) for _, reference in pairs))
    logs = 0.0
    for n in range(1, order + 1):
        common = sum((_ngrams(a, n) & _ngrams(b, n)).total() for a, b in pairs)
        possible = sum(max(len(a) - n + 1, 0) for a, _ in pairs)
        if not common:
            return 0.0
        logs += math.log(common / possible) / order
    n_written, n_gold = sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)
    return math.exp(logs + min(0.0, 1 - n_gold / n_written))


def rouge_l(written: Sequence[str], gold: Sequence[str]) -> Float[np.ndarray, " texts"]:
    """Return ROUGE-L of each text (Lin 2004): the F1 of the longest common subsequence of words, shape (texts,)."""
    _checked(written, gold)
    return np.array([_rouge(a.split(), b.split()) for a, b in zip(written, gold, strict=True)])


def _checked(written: Sequence[str], gold: Sequence[str]) -> None:
    if len(written) != len(gold):
        raise UsageError(
            f"expected one gold text for each written text, got {len(gold)} for {len(written)}; pass lists of one length."
        )
    if not len(gold) or not all(text.strip() for text in gold):
        raise UsageError(
            "expected gold texts of at least one word, got none or an empty one; leave out steps without a text."
        )


def _ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1))


def _rouge(written: list[str], gold: list[str]) -> float:
    # Length of the longest common subsequence with each beginning of the gold text.
    longest = [0] * (len(gold) + 1)
    for word in written:
        previous = longest[:]
        for k, gold_word in enumerate(gold, 1):
            longest[k] = previous[k - 1] + 1 if word == gold_word else max(previous[k], longest[k - 1])
    return 2 * longest[-1] / (len(written) + len(gold))


def token_f1(written: Sequence[str], gold: Sequence[str]) -> Float[np.ndarray, " texts"]:
    """Return the F1 over words of each text, whatever their order (SQuAD's measure), shape (texts,).

    A repeated word counts as often as it is repeated.
    """
    _checked(written, gold)
    return np.array([_overlap(Counter(a.split()), Counter(b.split())) for a, b in zip(written, gold, strict=True)])


def _overlap(written: Counter[str], gold: Counter[str]) -> float:
    return 2 * (written & gold).total() / (written.total() + gold.total())
