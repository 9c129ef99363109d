"""A sweep on real clusters gives the table of this process: two raylets of Ray, and a SLURM of one node."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import probes
from interp.activations import Store
from interp.runtime.engines import executor
from tests.clusters import SLURM_PROGRAMS, program, slurm_of_one_node, two_raylets

MISSING = [name for name in SLURM_PROGRAMS if program(name) is None]
AT = {"targets": ["value_1", "value_2"], "places": ["thought 2"], "splits": 2}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(planted_store: Callable[..., Store]) -> Store:
    return planted_store("blocks.1.hook_out", "blocks.0.hook_out")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs cotlens[ray], 250 MB")
def test_a_sweep_on_two_raylets_is_that_of_this_process(store: Store) -> None:
    def node(seconds: float) -> str:
        import ray

        time.sleep(seconds)
        return ray.get_runtime_context().get_node_id()

    with two_raylets() as address:
        swept = probes.sweep(store, engine=f"ray:address={address}", workers=2, **AT)
        nodes = {name for _, name in executor(f"ray:address={address}", 2).map(node, [1.0] * 4)}
    pd.testing.assert_frame_equal(probes.sweep(store, **AT).table(), swept.table())
    assert len(nodes) == 2


@pytest.mark.skipif(bool(MISSING), reason=f"needs slurmctld, slurmd and munge: {', '.join(MISSING)} not found")
def test_a_sweep_by_slurm_is_that_of_this_process(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    with slurm_of_one_node(tmp_path) as conf:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        swept = probes.sweep(store, engine=f"slurm:cluster=slurm,folder={tmp_path / 'jobs'}", workers=2, **AT)
    assert len(list((tmp_path / "jobs").glob("*_result.pkl"))) == 2
    pd.testing.assert_frame_equal(probes.sweep(store, **AT).table(), swept.table())
