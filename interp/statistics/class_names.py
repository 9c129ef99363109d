"""Labels that are names, as scikit-learn takes them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def classes_by_name(labels: np.ndarray) -> Iterator[None]:
    """While scikit-learn looks at `labels`: where they are words or texts, many of them may be met only once.

    Of so many classes it asks whether they are numbers to be regressed on; of numbers it may go on asking.
    """
    with warnings.catch_warnings():
        if np.asarray(labels).dtype.kind not in "iufb":
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        yield
