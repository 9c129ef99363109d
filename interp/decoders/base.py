"""The decoder contract: the `Decoder` protocol, the traits that the evaluation reads, and ranked texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypedDict, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations import ActivationSource
from interp.models.address import Address

Output = Literal["step_value", "step_text"]
STEP_VALUE: Output = "step_value"
STEP_TEXT: Output = "step_text"


@dataclass(frozen=True)
class DecoderTraits:
    """What the registry and the evaluation need to know about a decoder.

    Every decoder class declares one as its class attribute `traits`. Nothing else about a decoder changes how it is
    made, fitted, placed or scored.

    Attributes:
        output: What it is fitted to predict: `step_value`, the value of a step, or `step_text`, the whole text of it.
        needs_model: The constructor takes the reasoner as its first argument.
        uses_labels: `fit` depends on the labels. Without it, one fit at an address serves every offset and step.
        addresses: Names of the addresses that it reads where the store has them; empty for all.
        follows_probe: Fitting is slow, so it reads at the locations of the `probe` method where that comes first.
        per_step: A single step may get its own location.
        needs_step: It needs the number of the step to read (column `read_step`), so it cannot scan other positions.
        dictionary: It takes its registered name as its first argument and the shared `DictionaryOptions`.
        has_question_only: It has a method `question_only` (see `QuestionOnlyDecoder`), which replaces the linear baseline.
    """

    output: Output = STEP_VALUE
    needs_model: bool = False
    uses_labels: bool = True
    addresses: tuple[str, ...] = ()
    follows_probe: bool = False
    per_step: bool = True
    needs_step: bool = False
    dictionary: bool = False
    has_question_only: bool = False


class DictionaryOptions(TypedDict, total=False):
    """Options that the sparse dictionaries share: their width, active features, and training samples."""

    d_sae: int
    k: int
    samples: int


@dataclass(frozen=True)
class RankedTexts:
    """Ranked texts of each row, best first.

    Attributes:
        texts: Strings, shape (rows, top_k); "" where a row has fewer than `top_k`.
        scores: Scores, shape (rows, top_k), non-negative; each row sums to at most 1.
    """

    texts: np.ndarray
    scores: Float[np.ndarray, "rows top_k"]


@runtime_checkable
class Decoder(Protocol):
    """An object that reads the rows of a store at one address.

    `fit` sees labels of training rows only; `decode` never sees labels.
    """

    name: str
    traits: ClassVar[DecoderTraits]

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Decoder:
        """Fit on training rows and return self.

        Args:
            store: The activations.
            address: Where the rows are read.
            rows: Rows of the store's index, with the step in columns `step` and `read_step`.
            targets: The value or text of each row's step, strings of shape (rows,).
        """
        ...

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the `top_k` likeliest texts of each row."""
        ...


@runtime_checkable
class SharedDecoder(Decoder, Protocol):
    """A decoder of which one object may serve all addresses, such as a lens that was saved.

    Attributes:
        one_for_all: Whether the same object is fitted and read at every address. Otherwise each gets its own.
    """

    one_for_all: bool

    def reads(self, address: Address) -> bool:
        """Return whether it can be read at an address."""
        ...


@runtime_checkable
class QuestionOnlyDecoder(Decoder, Protocol):
    """A decoder with its own `question_only` control; its traits set `has_question_only`."""

    def question_only(self, store: ActivationSource, table: pd.DataFrame) -> np.ndarray:
        """Return the read-outs of the same kind of decoder without any activation, one text for each row of read-outs.

        Args:
            store: The store that was read.
            table: Read-outs of one method, with columns trace, position, step, split and gold.
        """
        ...


def rank_classes(
    scores: Float[np.ndarray, "rows classes"], names: Sequence[str] | np.ndarray, top_k: int
) -> RankedTexts:
    """Return the `top_k` best classes of each row.

    Args:
        scores: One score for each class, shape (rows, classes).
        names: The name of each class, shape (classes,).
        top_k: How many classes to keep; all of them where there are fewer.
    """
    top_k = min(top_k, scores.shape[1])
    part = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
    order = np.take_along_axis(part, np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable"), 1)
    return RankedTexts(np.asarray(names, dtype=object)[order], np.take_along_axis(scores, order, 1))


def pad_ranking(
    texts: Sequence[Sequence[str]], scores: Sequence[Sequence[float] | np.ndarray], top_k: int
) -> RankedTexts:
    """Return rows of ranked texts, of different lengths, as arrays padded with "" and 0.

    Args:
        texts: The texts of each row, best first, at most `top_k`.
        scores: Their scores.
        top_k: Width of the arrays.
    """
    padded = np.full((len(texts), top_k), "", dtype=object)
    values = np.zeros((len(texts), top_k))
    for row, (row_texts, row_scores) in enumerate(zip(texts, scores, strict=True)):
        padded[row, : len(row_texts)] = row_texts
        values[row, : len(row_scores)] = row_scores
    return RankedTexts(padded, values)
