"""Scikit-learn on labels that are names."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def classes_by_name(labels: np.ndarray) -> Iterator[None]:
    """Silence scikit-learn's warning about many classes, where labels are texts.

    It suspects a regression problem where over half of the labels are distinct. Numeric labels still warn.

    Args:
        labels: Labels that are given to scikit-learn, shape (rows,).
    """
    with warnings.catch_warnings():
        if np.asarray(labels).dtype.kind not in "iufb":
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        yield
