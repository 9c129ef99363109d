"""A probe over several positions: one learned query attends over them, and a linear layer reads the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import softmax
from torch import Tensor, nn

from interp.errors import UsageError
from probes.estimators.base import SMALL, Probe
from probes.estimators.training import checked_groups, standardisation, train, training_schedule, validation_rows
from probes.solvers.ridge import check_finite

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 4096


class AttentionProbe(Probe):
    """Attention pooling over positions by one learned query, followed by a linear read-out.

    Inputs are sequences, shape (sequences, positions, features). Positions where `mask` is False are never read. A
    matrix means sequences of one position; the probe is then logistic regression with weight decay. The query starts
    at zero, so training starts from the mean over positions.

    Args:
        epochs: Passes over the sequences at most.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_size: Sequences of a batch.
        patience: Passes without a better validation log-loss before training stops.
        validation_fraction: Share of the sequences used for early stopping, as in `MLPProbe`.
        random_state: Seed of the batches and the validation sequences.

    Attributes:
        n_iter_: Passes over the sequences.
        best_epoch_: The pass whose weights were kept.
        validation_loss_: Validation log-loss at that pass.

    References:
        Attention pooling in probes of whole sequences: Kantamneni et al. (arXiv 2502.16681, multi-token probing).
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
        """Fit the probe.

        Args:
            X: Sequences, shape (sequences, positions, features), or rows, shape (rows, features).
            y: Class labels, shape (sequences,).
            sample_weight: Weight of each sequence, shape (sequences,).
            mask: True where a position is read, shape (sequences, positions); all True by default.
            groups: Group of each sequence, such as its problem, shape (sequences,). A group is used whole, either for
                training or for early stopping.

        Returns:
            The fitted probe itself.

        Raises:
            UsageError: A sequence has no position to read, or is not finite.
        """
        schedule = training_schedule(self)
        row_groups = checked_groups(groups, X, sample_weight)
        checked = _sequences(X, mask)
        # scikit-learn checks matrices only, so it checks the first positions of sequences.
        rows, codes, weights = self._validate_fit(X if checked is None else checked[0][:, 0], y, sample_weight)
        sequences, seen = _single(rows) if checked is None else checked
        if checked is not None and sample_weight is not None:
            kept = np.asarray(sample_weight) > 0
            sequences, seen = sequences[kept], seen[kept]
        self.over_positions_ = int(sequences.shape[1] > 1)
        validation = validation_rows(sequences, row_groups, self.validation_fraction, schedule.seed)
        row_weights = np.ones(len(sequences)) if weights is None else weights
        self.mean_, self.scale_ = standardisation(sequences[seen], np.repeat(row_weights, seen.sum(axis=1)))
        working = torch.float64 if sequences.size <= SMALL else torch.float32
        pooling = AttentionPooling(sequences.shape[2], len(self.classes_)).to(working)
        inputs = torch.from_numpy((sequences - self.mean_) / self.scale_).to(working), torch.from_numpy(seen)
        history = train(
            pooling, inputs, torch.from_numpy(codes), torch.from_numpy(row_weights).to(working), validation, schedule
        )
        self.query_ = pooling.query.detach().numpy()
        self.readout_ = pooling.readout.weight.detach().numpy()
        self.intercept_ = pooling.readout.bias.detach().numpy()
        self.n_iter_, self.best_epoch_ = history.epochs, history.best_epoch
        self.validation_loss_ = history.validation_loss
        return self

    def attention(self, X: Any, mask: Any = None) -> Float[np.ndarray, "sequences positions"]:  # noqa: N803
        """Return the attention weight of each position.

        Args:
            X: Sequences, shape (sequences, positions, features).
            mask: True where a position is read, shape (sequences, positions).

        Returns:
            Weights that sum to 1 in each sequence; 0 where `mask` is False.
        """
        return self._attend(*self._validate_sequences(X, mask))[0]

    def decision_function(self, X: Any, mask: Any = None) -> np.ndarray:  # noqa: N803
        """Return the scores of sequences.

        Args:
            X: Sequences, shape (sequences, positions, features).
            mask: True where a position is read, shape (sequences, positions).

        Returns:
            Scores, shape (sequences, classes); with two classes shape (sequences,), positive for the second class.
        """
        return self._margins(self._attend(*self._validate_sequences(X, mask))[1])

    def predict_proba(self, X: Any, mask: Any = None) -> Float[np.ndarray, "sequences classes"]:  # noqa: N803
        """Return the probability of each of `classes_`.

        Args:
            X: Sequences, shape (sequences, positions, features).
            mask: True where a position is read, shape (sequences, positions).

        Returns:
            Probabilities, shape (sequences, classes).
        """
        return self._probabilities(self.decision_function(X, mask))

    def predict(self, X: Any, mask: Any = None) -> np.ndarray:  # noqa: N803
        """Return the most probable class of each sequence.

        Args:
            X: Sequences, shape (sequences, positions, features).
            mask: True where a position is read, shape (sequences, positions).

        Returns:
            Class labels, shape (sequences,).
        """
        return self._labels(self.decision_function(X, mask))

    def _validate_sequences(self, X: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        checked = _sequences(X, mask)
        rows = self._validate_rows(X if checked is None else checked[0][:, 0])
        return _single(rows) if checked is None else checked

    def _attend(self, sequences: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return attention weights and scores, computed in blocks of sequences."""
        attention = np.empty(seen.shape)
        scores = np.empty((len(seen), len(self.classes_)))
        for start in range(0, len(seen), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = (sequences[block] - self.mean_) / self.scale_
            logits = rows @ self.query_.astype(float) / np.sqrt(rows.shape[2])
            attention[block] = softmax(np.where(seen[block], logits, -np.inf), axis=1)
            pooled = (attention[block, None, :] @ rows)[:, 0]
            scores[block] = pooled @ self.readout_.T.astype(float) + self.intercept_
        return attention, scores


class AttentionPooling(nn.Module):
    """A query and a linear read-out, both zero at first.

    Args:
        d: Number of features.
        classes: Number of classes.
    """

    def __init__(self, d: int, classes: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(d))
        self.readout = nn.Linear(d, classes)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(
        self, rows: Float[Tensor, "sequences positions d"], seen: Bool[Tensor, "sequences positions"]
    ) -> Float[Tensor, "sequences classes"]:
        """Return logits; positions where `seen` is False are not read."""
        logits = (rows @ self.query / rows.shape[2] ** 0.5).masked_fill(~seen, -torch.inf)
        pooled = (logits.softmax(dim=1)[:, None, :] @ rows)[:, 0]
        return self.readout(pooled)


def sequences_by_trace(
    acts: Float[np.ndarray, "rows d"], rows: pd.DataFrame
) -> tuple[Float[np.ndarray, "traces positions d"], Bool[np.ndarray, "traces positions"], np.ndarray]:
    """Group activations of rows of a store's index into one sequence for each trace.

    Args:
        acts: Activations, shape (rows, d).
        rows: Rows of the index, with the column `trace`.

    Returns:
        Sequences in the order in which their traces first occur, positions in the order of the rows, shorter
        sequences padded with zeros; their mask; and the trace of each sequence.
    """
    traces, first, inverse = np.unique(rows["trace"].to_numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.empty(len(order), dtype=int)
    number[order] = np.arange(len(order))
    sequence = number[inverse]
    position = rows.groupby("trace", sort=False).cumcount().to_numpy()
    shape = (len(traces), int(position.max()) + 1 if len(position) else 0)
    sequences, seen = np.zeros((*shape, acts.shape[1]), acts.dtype), np.zeros(shape, dtype=bool)
    sequences[sequence, position], seen[sequence, position] = acts, True
    return sequences, seen, traces[order]


def _sequences(X: Any, mask: Any) -> tuple[np.ndarray, np.ndarray] | None:  # noqa: N803
    """Return checked sequences and their mask, with zeros where nothing is read; None for a matrix."""
    if (np.ndim(X) if isinstance(X, (list, tuple)) else getattr(X, "ndim", 2)) != 3:
        if mask is not None:
            raise UsageError(
                "expected X of shape (sequences, positions, features) with a mask, got a matrix; leave the mask out."
            )
        return None
    sequences = np.array(X, dtype=np.float64)
    seen = np.ones(sequences.shape[:2], dtype=bool) if mask is None else np.asarray(mask)
    if seen.shape != sequences.shape[:2] or seen.dtype != bool:
        raise UsageError(
            f"expected a mask of {sequences.shape[0]} x {sequences.shape[1]} booleans, "
            f"got {' x '.join(map(str, seen.shape)) or 'a single value'} of {seen.dtype}; "
            "give one truth value for each position."
        )
    empty = np.flatnonzero(~seen.any(axis=1))
    if len(empty):
        raise UsageError(
            f"expected a position to read in every sequence, got none in sequence {empty[0]} "
            f"({len(empty)} such sequences); leave them out."
        )
    sequences[~seen] = 0.0
    check_finite(sequences, "the probe's sequences")
    return sequences, seen


def _single(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as sequences of one position, with their mask."""
    return rows[:, None], np.ones((len(rows), 1), dtype=bool)
