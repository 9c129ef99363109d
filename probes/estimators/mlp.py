"""A probe with one hidden layer: reads what is present but not linearly."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr
from torch import nn

from interp.errors import checked_count
from probes.estimators.base import SMALL, Probe
from probes.estimators.training import checked_groups, standardisation, train, training_schedule, validation_rows


class MLPProbe(Probe):
    """One hidden layer of GELUs on standardised rows, with early stopping.

    What it reads beyond a linear probe is present but not linearly. Compare it with a control task, which shows how
    much a flexible probe memorises.

    Args:
        hidden: Units of the hidden layer.
        epochs: Passes over the rows at most.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_size: Rows of a batch.
        patience: Passes without a better validation log-loss before training stops.
        validation_fraction: Share of the rows used for early stopping. If these would be fewer than 10 different
            rows, none are used and all epochs are run.
        random_state: Seed of the initial weights, the batches and the validation rows.

    Attributes:
        n_iter_: Passes over the rows.
        best_epoch_: The pass whose weights were kept.
        validation_loss_: Validation log-loss at that pass.

    References:
        Control tasks: Hewitt and Liang (arXiv 1909.03368).
    """

    fitted_shapes: ClassVar = {
        "mean_": ("features",),
        "scale_": ("features",),
        "inner_weight_": ("hidden", "features"),
        "inner_bias_": ("hidden",),
        "outer_weight_": ("classes", "hidden"),
        "outer_bias_": ("classes",),
        "n_iter_": (),
        "best_epoch_": (),
        "validation_loss_": (),
    }

    def __init__(
        self,
        hidden: int = 64,
        epochs: int = 200,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 128,
        patience: int = 10,
        validation_fraction: float = 0.15,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> MLPProbe:  # noqa: N803
        """Fit the probe.

        Args:
            X: Rows, shape (rows, features).
            y: Class labels, shape (rows,).
            sample_weight: Weight of each row, shape (rows,).
            groups: Group of each row, such as its problem, shape (rows,). A group is used whole, either for training
                or for early stopping.

        Returns:
            The fitted probe itself.
        """
        schedule = training_schedule(self)
        row_groups = checked_groups(groups, X, sample_weight)
        X, codes, weights = self._validate_fit(X, y, sample_weight)  # noqa: N806
        validation = validation_rows(X, row_groups, self.validation_fraction, schedule.seed)
        self.mean_, self.scale_ = standardisation(X, weights)
        working = torch.float64 if X.size <= SMALL else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(schedule.seed)
            inner = nn.Linear(X.shape[1], checked_count("hidden", self.hidden))
            outer = nn.Linear(self.hidden, len(self.classes_))
        module = nn.Sequential(inner, nn.GELU(), outer).to(working)
        rows = torch.from_numpy((X - self.mean_) / self.scale_).to(working)
        row_weights = torch.ones(len(X)) if weights is None else torch.from_numpy(weights)
        history = train(module, (rows,), torch.from_numpy(codes), row_weights.to(working), validation, schedule)
        self.inner_weight_, self.inner_bias_ = inner.weight.detach().numpy(), inner.bias.detach().numpy()
        self.outer_weight_, self.outer_bias_ = outer.weight.detach().numpy(), outer.bias.detach().numpy()
        self.n_iter_, self.best_epoch_ = history.epochs, history.best_epoch
        self.validation_loss_ = history.validation_loss
        return self

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows classes"]:  # noqa: N803
        inner = ((X - self.mean_) / self.scale_) @ self.inner_weight_.T.astype(float) + self.inner_bias_
        return (inner * ndtr(inner)) @ self.outer_weight_.T.astype(float) + self.outer_bias_
