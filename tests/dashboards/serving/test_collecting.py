"""Garbage collection of the server: what is alive is left out later, and what is let go of is still freed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from dashboards.serving.collecting import settle


class Node:
    """An object that only a collection frees, because it refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    settle()


def test_later_collections_leave_out_what_was_alive() -> None:
    nodes = [Node() for _ in range(1000)]
    settle()
    assert gc.get_freeze_count() >= len(nodes)
    assert not any(isinstance(item, Node) for item in gc.get_objects())


def test_what_is_let_go_of_is_freed_by_the_next_call() -> None:
    node = Node()
    settle()
    kept = weakref.ref(node)
    del node
    gc.collect()
    assert kept() is not None  # it was left out
    settle()
    assert kept() is None
