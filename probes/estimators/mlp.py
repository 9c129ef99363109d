"""A probe with one hidden layer: how much more is there than a linear probe can read."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr
from torch import nn

from interp.errors import checked_count
from probes.estimators.base import SMALL, Probe
from probes.estimators.training import checked_groups, kept_aside, schedule_of, standardisation, train


class MLPProbe(Probe):
    """One hidden layer of GELUs on standardised rows, stopped early on rows kept aside: the nonlinear ceiling.

    What it reads beyond a linear probe is there but not linearly; beside a control task (Hewitt & Liang, arXiv
    1909.03368) it shows how much a flexible probe learns by heart.

    Parameters
    ----------
    hidden : units of the hidden layer.
    epochs : passes over the rows at most.
    learning_rate, weight_decay, batch_size : of AdamW.
    patience : passes without a better validation log-loss before it stops.
    validation_fraction : share of the rows kept aside to stop by. With fewer than 10 different rows aside, none
        are, and all epochs are run.
    random_state : seed of the first weights, of the batches and of the rows kept aside.
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
        """Fit to rows, labels and, where given, row weights.

        Rows of one of the `groups`, for example of one problem, are kept aside together.
        """
        schedule = schedule_of(self)
        grouped = checked_groups(groups, X, sample_weight)
        X, codes, weights = self._begin(X, y, sample_weight)  # noqa: N806
        aside = kept_aside(X, grouped, self.validation_fraction, schedule.seed)
        self.mean_, self.scale_ = standardisation(X, weights)
        working = torch.float64 if X.size <= SMALL else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(schedule.seed)
            inner = nn.Linear(X.shape[1], checked_count("hidden", self.hidden))
            outer = nn.Linear(self.hidden, len(self.classes_))
        module = nn.Sequential(inner, nn.GELU(), outer).to(working)
        rows = torch.from_numpy((X - self.mean_) / self.scale_).to(working)
        counted = torch.ones(len(X)) if weights is None else torch.from_numpy(weights)
        history = train(module, (rows,), torch.from_numpy(codes), counted.to(working), aside, schedule)
        self.inner_weight_, self.inner_bias_ = inner.weight.detach().numpy(), inner.bias.detach().numpy()
        self.outer_weight_, self.outer_bias_ = outer.weight.detach().numpy(), outer.bias.detach().numpy()
        self.n_iter_, self.best_epoch_ = history.epochs, history.best_epoch
        self.validation_loss_ = history.validation_loss
        return self

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows classes"]:  # noqa: N803
        inner = ((X - self.mean_) / self.scale_) @ self.inner_weight_.T.astype(float) + self.inner_bias_
        return (inner * ndtr(inner)) @ self.outer_weight_.T.astype(float) + self.outer_bias_
