"""How close a written text comes to the right one: exact match, BLEU and ROUGE-L, over words.

Words are what white space separates; nothing is lower-cased, stemmed or tokenized further, because the
organisms' steps are already one symbol a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from interp.errors import UsageError

ORDER = 4


def exact_matches(written: Sequence[str], gold: Sequence[str]) -> Bool[np.ndarray, " texts"]:
    """Whether each text is the right one, word for word."""
    _checked(written, gold)
    return np.array([a.split() == b.split() for a, b in zip(written, gold, strict=True)], dtype=bool)


def bleu(written: Sequence[str], gold: Sequence[str]) -> float:
    """Corpus BLEU from 0 to 1 (Papineni et al. 2002), one reference each, n-grams of up to four words.

    Orders that no right text is long enough for are left out, so that one-word steps can reach 1. No
    smoothing: without a single common n-gram of some order it is 0.
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
    length, wanted = sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)
    return math.exp(logs + min(0.0, 1 - wanted / length))


def rouge_l(written: Sequence[str], gold: Sequence[str]) -> Float[np.ndarray, " texts"]:
    """ROUGE-L of each text (Lin 2004): the F1 of the longest common subsequence of words."""
    _checked(written, gold)
    return np.array([_rouge(a.split(), b.split()) for a, b in zip(written, gold, strict=True)])


def _checked(written: Sequence[str], gold: Sequence[str]) -> None:
    if len(written) != len(gold):
        raise UsageError(f"one right text is needed for each written one, but {len(written)} and {len(gold)} came.")
    if not len(gold) or not all(text.strip() for text in gold):
        raise UsageError(
            "texts can only be scored against right texts of at least one word; none, or an empty one, came."
        )


def _ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1))


def _rouge(written: list[str], gold: list[str]) -> float:
    longest = [0] * (len(gold) + 1)
    for word in written:
        before = longest[:]
        for k, other in enumerate(gold, 1):
            longest[k] = before[k - 1] + 1 if word == other else max(before[k], longest[k - 1])
    return 2 * longest[-1] / (len(written) + len(gold))


def token_f1(written: Sequence[str], gold: Sequence[str]) -> Float[np.ndarray, " texts"]:
    """F1 over words whatever their order, a repeated word counting as often as it is repeated (SQuAD's measure)."""
    _checked(written, gold)
    return np.array([_overlap(Counter(a.split()), Counter(b.split())) for a, b in zip(written, gold, strict=True)])


def _overlap(written: Counter[str], gold: Counter[str]) -> float:
    return 2 * (written & gold).total() / (written.total() + gold.total())
