"""A text as features: what each word means, and which of the words of that meaning was chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp.text.wording import Wording

_MAX_PLACES = 48  # words up to here have columns by place; later words share one bag
_MIN_COUNT = 5  # columns that fewer traces have are left out


def meaning_features(texts: Sequence[Sequence[str]], wording: Wording) -> Float[np.ndarray, "traces d"]:
    """Return columns for the meaning of each word, whichever synonym was chosen.

    Args:
        texts: The words of each trace.
        wording: Which words mean the same.
    """
    return token_columns([[wording.meaning(word) for word in text] for text in texts])


def choice_features(texts: Sequence[Sequence[str]], wording: Wording) -> Float[np.ndarray, "traces d"]:
    """Return columns for which synonym was chosen at each place, whatever it means.

    Args:
        texts: The words of each trace.
        wording: Which words mean the same.
    """
    return token_columns(
        [[str(wording.choice(word)) if len(wording.options(word)) > 1 else "" for word in text] for text in texts]
    )


def token_columns(sequences: Sequence[Sequence[str]]) -> Float[np.ndarray, "rows d"]:
    """Return one 0/1 column for each (place, word) that at least 5 rows have and at least one lacks.

    Args:
        sequences: The words of each row; an empty word gives no column. Places from 48 on share their columns.
    """
    cells = [{(min(k, _MAX_PLACES), word) for k, word in enumerate(words) if word} for words in sequences]
    counts = Counter(cell for row in cells for cell in row)
    kept = sorted(cell for cell, count in counts.items() if _MIN_COUNT <= count < len(sequences))
    column = {cell: k for k, cell in enumerate(kept)}
    out = np.zeros((len(sequences), len(kept)), np.float32)
    for number, row in enumerate(cells):
        out[number, [column[cell] for cell in row if cell in column]] = 1.0
    return out
