"""Loaded models: each once, under a cap, and what was built on one goes with it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dashboards.live.models import MOST_PARTS, LoadedModels, size_of
from interp.errors import StoreError

SIZE = 4 * 10 * 10  # bytes of one model


class FakeStore:
    """A store that counts how often its model is loaded."""

    def __init__(self, name: str, wait: float = 0.0) -> None:
        self.meta: dict[str, Any] = {"reasoner": {"name": name, "weights": name}, "origin": {"source": name}}
        self.loads, self.wait = 0, wait

    def load_reasoner(self) -> Any:
        time.sleep(self.wait)
        self.loads += 1
        return SimpleNamespace(model=torch.nn.Linear(10, 10, bias=False), name=self.meta["reasoner"]["name"])


def test_a_model_is_loaded_once_for_all_stores_of_it() -> None:
    models, first, second = LoadedModels(10 * SIZE), FakeStore("a"), FakeStore("a")
    assert not models.holds(first)  # type: ignore[arg-type]
    assert models.model(first) is models.model(second)  # type: ignore[arg-type]
    assert (first.loads, second.loads) == (1, 0) and models.holds(second)  # type: ignore[arg-type]


def test_the_one_used_longest_ago_goes_where_the_cap_is_reached() -> None:
    models = LoadedModels(2 * SIZE)
    stores = {name: FakeStore(name) for name in "abc"}
    for name in ("a", "b", "a", "c"):
        models.model(stores[name])  # type: ignore[arg-type]
    assert [models.holds(stores[name]) for name in "abc"] == [True, False, True]  # type: ignore[arg-type]
    assert models.size == 2 * SIZE


def test_a_model_larger_than_the_cap_can_be_used_alone() -> None:
    models, big, other = LoadedModels(SIZE - 1), FakeStore("big"), FakeStore("other")
    assert models.model(big).name == "big" and len(models) == 1  # type: ignore[arg-type]
    models.model(other)  # type: ignore[arg-type]
    assert len(models) == 1 and models.holds(other)  # type: ignore[arg-type]


def test_what_was_built_on_a_model_is_made_once_and_freed_with_it() -> None:
    models, store = LoadedModels(SIZE), FakeStore("a")
    make = lambda reasoner: SimpleNamespace(reasoner=reasoner)  # noqa: E731
    part = models.part(store, "decoder", make)  # type: ignore[arg-type]
    assert models.part(store, "decoder", make) is part  # type: ignore[arg-type]
    model = weakref.ref(part.reasoner.model)
    models.model(FakeStore("b"))  # type: ignore[arg-type]
    del part
    gc.collect()
    assert model() is None


def test_only_some_parts_of_a_model_are_kept() -> None:
    models, store, made = LoadedModels(SIZE), FakeStore("a"), []
    for key in [*range(MOST_PARTS + 1), 0]:
        models.part(store, key, lambda _, key=key: made.append(key))  # type: ignore[arg-type, misc]
    assert made == [*range(MOST_PARTS + 1), 0]


def test_readers_who_ask_at_once_wait_for_one_loading() -> None:
    models, store, got = LoadedModels(SIZE), FakeStore("a", wait=0.05), []
    threads = [threading.Thread(target=lambda: got.append(models.model(store))) for _ in range(4)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.loads == 1 and len({id(model) for model in got}) == 1 and len(got) == 4


def test_a_model_that_cannot_be_loaded_is_not_kept() -> None:
    class Gone(FakeStore):
        def load_reasoner(self) -> Any:
            raise StoreError("other weights")

    models = LoadedModels(SIZE)
    with pytest.raises(StoreError, match="other weights"):
        models.model(Gone("a"))  # type: ignore[arg-type]
    assert len(models) == 0


def test_tensors_that_share_memory_count_once() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(10, 10, bias=False)])
    module[1].weight = module[0].weight
    assert size_of(SimpleNamespace(model=module)) == SIZE  # type: ignore[arg-type]
