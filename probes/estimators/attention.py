"""A probe over positions: which of them matter is learned together with what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import softmax
from torch import Tensor, nn

from interp.errors import UsageError
from probes.estimators.base import SMALL, Probe, refuse_unfinished
from probes.estimators.training import checked_groups, kept_aside, schedule_of, standardisation, train

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 4096


class AttentionProbe(Probe):
    """One learned query attends over positions, and what it gathers is read linearly.

    Pooling by attention, as probes of whole sequences do it (Kantamneni et al., arXiv 2502.16681, on multi-token
    probing). Rows are sequences, sequences x positions x features; positions where `mask` is False are never read,
    whatever they hold. A matrix is sequences of a single position, and then this is logistic regression with weight
    decay. The query starts at zero, so that training starts from the mean over positions.

    Parameters
    ----------
    epochs, learning_rate, weight_decay, batch_size, patience, validation_fraction, random_state : as in `MLPProbe`.
    """

    fitted_shapes: ClassVar = {
        "mean_": ("features",),
        "scale_": ("features",),
        "query_": ("features",),
        "readout_": ("classes", "features"),
        "intercept_": ("classes",),
        "over_positions_": (),
        "n_iter_": (),
        "best_epoch_": (),
        "validation_loss_": (),
    }

    def __init__(
        self,
        epochs: int = 200,
        learning_rate: float = 2e-2,
        weight_decay: float = 1e-2,
        batch_size: int = 128,
        patience: int = 10,
        validation_fraction: float = 0.15,
        random_state: int = 0,
    ) -> None:
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        mask: Any = None,
        groups: Any = None,
    ) -> AttentionProbe:
        """Fit to sequences, one label and, where given, one weight and one row of the mask each.

        Sequences of one of the `groups`, for example of one problem, are kept aside together. Raises `UsageError` on
        a sequence without any position, or one that is not finite, with its number.
        """
        schedule = schedule_of(self)
        grouped = checked_groups(groups, X, sample_weight)
        found = _sequences(X, mask)
        # scikit-learn's checks are for matrices; of sequences they see the first positions.
        rows, codes, weights = self._begin(X if found is None else found[0][:, 0], y, sample_weight)
        sequences, seen = _single(rows) if found is None else found
        if found is not None and sample_weight is not None:
            kept = np.asarray(sample_weight) > 0
            sequences, seen = sequences[kept], seen[kept]
        self.over_positions_ = int(sequences.shape[1] > 1)
        aside = kept_aside(sequences, grouped, self.validation_fraction, schedule.seed)
        counted = np.ones(len(sequences)) if weights is None else weights
        self.mean_, self.scale_ = standardisation(sequences[seen], np.repeat(counted, seen.sum(axis=1)))
        working = torch.float64 if sequences.size <= SMALL else torch.float32
        pooling = Pooling(sequences.shape[2], len(self.classes_)).to(working)
        inputs = torch.from_numpy((sequences - self.mean_) / self.scale_).to(working), torch.from_numpy(seen)
        history = train(
            pooling, inputs, torch.from_numpy(codes), torch.from_numpy(counted).to(working), aside, schedule
        )
        self.query_ = pooling.query.detach().numpy()
        self.readout_ = pooling.readout.weight.detach().numpy()
        self.intercept_ = pooling.readout.bias.detach().numpy()
        self.n_iter_, self.best_epoch_ = history.epochs, history.best_epoch
        self.validation_loss_ = history.validation_loss
        return self

    def attention(self, X: Any, mask: Any = None) -> Float[np.ndarray, "sequences positions"]:  # noqa: N803
        """How much of what is read comes from each position; 0 where `mask` is False."""
        return self._attended(*self._to_read(X, mask))[0]

    def decision_function(self, X: Any, mask: Any = None) -> np.ndarray:  # noqa: N803
        """Scores, sequences x classes; with two classes one number a sequence, positive for the second."""
        return self._margins(self._attended(*self._to_read(X, mask))[1])

    def predict_proba(self, X: Any, mask: Any = None) -> Float[np.ndarray, "sequences classes"]:  # noqa: N803
        """The probability of each of `classes_`."""
        return self._probabilities(self.decision_function(X, mask))

    def predict(self, X: Any, mask: Any = None) -> np.ndarray:  # noqa: N803
        """The likeliest class of each sequence."""
        return self._labels(self.decision_function(X, mask))

    def _to_read(self, X: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        found = _sequences(X, mask)
        rows = self._rows(X if found is None else found[0][:, 0])
        return _single(rows) if found is None else found

    def _attended(self, sequences: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Attention and scores, some thousand sequences at a time."""
        attention = np.empty(seen.shape)
        scores = np.empty((len(seen), len(self.classes_)))
        for start in range(0, len(seen), _BLOCK):
            here = slice(start, start + _BLOCK)
            rows = (sequences[here] - self.mean_) / self.scale_
            logits = rows @ self.query_.astype(float) / np.sqrt(rows.shape[2])
            attention[here] = softmax(np.where(seen[here], logits, -np.inf), axis=1)
            pooled = (attention[here, None, :] @ rows)[:, 0]
            scores[here] = pooled @ self.readout_.T.astype(float) + self.intercept_
        return attention, scores


class Pooling(nn.Module):
    """A query of zeros and a linear read-out of what it gathers; logits of sequences x positions x features."""

    def __init__(self, d: int, classes: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(d))
        self.readout = nn.Linear(d, classes)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(
        self, rows: Float[Tensor, "sequences positions d"], seen: Bool[Tensor, "sequences positions"]
    ) -> Float[Tensor, "sequences classes"]:
        logits = (rows @ self.query / rows.shape[2] ** 0.5).masked_fill(~seen, -torch.inf)
        pooled = (logits.softmax(dim=1)[:, None, :] @ rows)[:, 0]
        return self.readout(pooled)


def by_trace(
    acts: Float[np.ndarray, "rows d"], rows: pd.DataFrame
) -> tuple[Float[np.ndarray, "traces positions d"], Bool[np.ndarray, "traces positions"], np.ndarray]:
    """Activations of rows of a store's index as one sequence a trace, with its mask, and the traces in their order.

    Traces come in the order in which they first occur, positions in the order of the rows; shorter ones end in zeros.
    """
    traces, first, inverse = np.unique(rows["trace"].to_numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.empty(len(order), dtype=int)
    number[order] = np.arange(len(order))
    of_row = number[inverse]
    place = rows.groupby("trace", sort=False).cumcount().to_numpy()
    shape = (len(traces), int(place.max()) + 1 if len(place) else 0)
    sequences, seen = np.zeros((*shape, acts.shape[1]), acts.dtype), np.zeros(shape, dtype=bool)
    sequences[of_row, place], seen[of_row, place] = acts, True
    return sequences, seen, traces[order]


def _sequences(X: Any, mask: Any) -> tuple[np.ndarray, np.ndarray] | None:  # noqa: N803
    """Sequences and mask, checked and with zeros where nothing is read; None for a matrix."""
    if (np.ndim(X) if isinstance(X, (list, tuple)) else getattr(X, "ndim", 2)) != 3:
        if mask is not None:
            raise UsageError("a mask says which positions of sequences count, but X is not sequences x positions x d.")
        return None
    sequences = np.array(X, dtype=np.float64)
    seen = np.ones(sequences.shape[:2], dtype=bool) if mask is None else np.asarray(mask)
    if seen.shape != sequences.shape[:2] or seen.dtype != bool:
        raise UsageError(
            f"the mask should be {sequences.shape[0]} x {sequences.shape[1]} of True and False, "
            f"but {' x '.join(map(str, seen.shape)) or 'a single value'} of {seen.dtype} came."
        )
    empty = np.flatnonzero(~seen.any(axis=1))
    if len(empty):
        raise UsageError(f"sequence {empty[0]} has no position to read ({len(empty)} such). Leave them out.")
    sequences[~seen] = 0.0
    refuse_unfinished(sequences, "the probe's sequences")
    return sequences, seen


def _single(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows[:, None], np.ones((len(rows), 1), dtype=bool)
