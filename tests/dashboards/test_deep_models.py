"""A study of a deep model reads few addresses, the first and the last among them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from dashboards.stages import MAX_ADDRESSES, _read_addresses
from interp.models.address import Address


def stored(n_blocks: int) -> Any:
    names = ["blocks.0.hook_in", *(f"blocks.{k}.hook_out" for k in range(n_blocks)), "ln_final.hook_out"]
    return SimpleNamespace(addresses=[Address(name) for name in names])


def test_a_deep_model_is_read_at_evenly_spaced_addresses() -> None:
    names = _read_addresses(stored(30))
    assert names is not None and len(set(names)) == MAX_ADDRESSES
    assert (names[0], names[-1]) == ("blocks.0.hook_in", "ln_final.hook_out")
    blocks = [int(name.split(".")[1]) for name in names[1:-1]]
    gaps = {after - before for before, after in itertools.pairwise(blocks)}
    assert gaps <= {2, 3} and blocks[-1] >= 27


def test_a_model_of_few_blocks_is_read_everywhere() -> None:
    assert _read_addresses(stored(MAX_ADDRESSES - 2)) is None
