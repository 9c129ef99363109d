"""Scikit-learn gives no warning about many classes when the labels are names."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from interp.statistics.class_names import classes_by_name
from probes import RidgeProbe

ROWS = np.random.default_rng(0).normal(size=(40, 3))
CODES = np.arange(40) % 30


@pytest.mark.parametrize("names", [CODES.astype(str), CODES.astype(str).astype(object)])
def test_many_names_give_no_warning(names: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with classes_by_name(names):
            KNeighborsClassifier(1).fit(ROWS, names)
        RidgeProbe().fit(ROWS, names)


def test_many_numbers_still_warn() -> None:
    with pytest.warns(UserWarning, match="could represent a regression problem"), classes_by_name(CODES):
        KNeighborsClassifier(1).fit(ROWS, CODES)
