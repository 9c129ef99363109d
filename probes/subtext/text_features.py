"""A text as features: what it means, word by word, and which of the words of each meaning was chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp.text.wording import Wording

_PLACES = 48  # words by place up to here; the later ones in one bag
_RARE = 5  # columns that fewer traces have are left out


def meaning_features(said: Sequence[Sequence[str]], wording: Wording) -> Float[np.ndarray, "traces d"]:
    """What was said, word by word, whatever the choice of words."""
    return token_columns([[wording.meaning(word) for word in each] for each in said])


def choice_features(said: Sequence[Sequence[str]], wording: Wording) -> Float[np.ndarray, "traces d"]:
    """Which word was chosen where there was a choice, place by place, whatever it means."""
    return token_columns(
        [[str(wording.choice(word)) if len(wording.options(word)) > 1 else "" for word in each] for each in said]
    )


def token_columns(sequences: Sequence[Sequence[str]]) -> Float[np.ndarray, "rows d"]:
    """One column for each (place, word) that at least 5 rows have and at least one lacks; late places share theirs."""
    marked = [{(min(k, _PLACES), word) for k, word in enumerate(each) if word} for each in sequences]
    counts = Counter(cell for each in marked for cell in each)
    kept = sorted(cell for cell, count in counts.items() if _RARE <= count < len(sequences))
    column = {cell: k for k, cell in enumerate(kept)}
    out = np.zeros((len(sequences), len(kept)), np.float32)
    for row, each in enumerate(marked):
        out[row, [column[cell] for cell in each if cell in column]] = 1.0
    return out
