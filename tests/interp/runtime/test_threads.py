"""How many threads numpy's linear algebra gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from interp.runtime.engines import Processes
from interp.runtime.threads import limit_threads, one_thread_if_narrow


def blas_threads(_: object = None) -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def threads_of_worker(_: object) -> tuple[set[int], int]:
    return blas_threads(), torch.get_num_threads()


@pytest.fixture
def three_threads() -> object:
    before, of_torch = blas_threads(), torch.get_num_threads()
    limit_threads(3)
    yield
    limit_threads(max(before))
    torch.set_num_threads(of_torch)


def test_narrow_matrices_get_one_thread_and_wide_ones_keep_theirs(three_threads: None) -> None:
    with one_thread_if_narrow(256):
        assert blas_threads() == {1}
    assert blas_threads() == {3} and torch.get_num_threads() == 3
    with one_thread_if_narrow(4096):
        assert blas_threads() == {3}


def test_the_threads_come_back_after_an_error(three_threads: None) -> None:
    with pytest.raises(ZeroDivisionError), one_thread_if_narrow(8):
        1 / 0  # noqa: B018
    assert blas_threads() == {3}


@pytest.mark.parametrize("what", ["lda", "mass_mean", "ridge", "pca", "random_dictionary"])
def test_narrow_fits_factorise_with_one_thread(three_threads: None, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The class-means probes, ridge, and the untrained dictionaries."""
    from interp.sae.dictionaries import baseline
    from probes.estimators.registry import estimator_class

    rng, seen = np.random.default_rng(0), []
    rows, labels = rng.normal(size=(200, 6)).astype(np.float32), rng.integers(0, 3, 200)
    for name in ("eigh", "svd", "solve"):
        made = getattr(np.linalg, name)

        def watched(*arguments: Any, made: Callable = made, **options: Any) -> Any:
            seen.append(blas_threads())
            return made(*arguments, **options)

        monkeypatch.setattr(np.linalg, name, watched)
    if what in ("pca", "random_dictionary"):
        baseline(what, rows, d_sae=12, k=4)
    else:
        options = {"whitening": True} if what == "mass_mean" else {}
        estimator_class(what)(**options).fit(rows, labels)
    assert seen and all(threads == {1} for threads in seen)
    assert blas_threads() == {3}


def test_workers_share_the_cores_in_linear_algebra_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.runtime.engines.cores", lambda: 2)
    (result,) = [result for _, result in Processes(2).map(threads_of_worker, [None])]
    assert result == ({1}, 1)
