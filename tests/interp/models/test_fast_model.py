"""A replay stops above the highest recorded block, and records the same activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import interp
from interp.models.fast_model import fast_model
from interp.traces import TraceSet


def seen(reasoner: interp.Reasoner, traces: TraceSet, *names: str, batch_size: int = 5) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        return lambda activations, batch: found[name].append(activations[batch.real].clone())

    reasoner.replay(traces, hooks={name: keep(name) for name in names}, batch_size=batch_size)
    return found


@pytest.fixture
def passed(coconut: interp.Reasoner) -> Any:
    """How often each block of the plain model has run."""
    plain = fast_model(coconut.model)
    assert plain is not None
    runs = [0] * len(plain.base.h)

    def counting(k: int) -> Any:
        def count(*_: Any) -> None:
            runs[k] += 1

        return count

    handles = [block.register_forward_hook(counting(k)) for k, block in enumerate(plain.base.h)]
    yield runs
    for handle in handles:
        handle.remove()


def test_blocks_above_the_last_hook_are_not_run(coconut: interp.Reasoner, traces: TraceSet, passed: list[int]) -> None:
    some = traces[:12]
    everything = [f"blocks.{k}.hook_out" for k in range(len(passed))]
    full = seen(coconut, some, *everything)
    for wanted in (["blocks.1.hook_out"], ["blocks.1.hook_in", "blocks.0.hook_out"], ["blocks.0.attn.hook_out"]):
        seen(coconut, some, *wanted)  # the first use compares with the wrapped model
        passed[:] = [0] * len(passed)
        result = seen(coconut, some, *wanted)
        assert passed[0] in (0, 3) and not any(passed[2:])
        for name in set(wanted) & set(everything):
            assert all(torch.equal(a, b) for a, b in zip(result[name], full[name], strict=True))


def test_a_hook_that_may_run_again_does_not_stop_the_pass(
    coconut: interp.Reasoner, traces: TraceSet, passed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fast_model(coconut.model)
    assert plain is not None
    name = "blocks.0.hook_out"
    seen(coconut, traces[:2], name)
    assert name in plain.single
    monkeypatch.setattr(plain, "single", plain.single - {name})
    passed[:] = [0] * len(passed)
    seen(coconut, traces[:2], name)
    assert passed == [1] * len(passed)


def test_an_exception_of_a_hook_is_raised(coconut: interp.Reasoner, traces: TraceSet) -> None:
    def broken(activations: Tensor, batch: Any) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        coconut.replay(traces[:2], hooks={"blocks.0.hook_out": broken})
