"""Loaded models under one cap of memory, with what was built on each."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from dashboards.serving.collecting import settle

if TYPE_CHECKING:
    from interp.activations import Store
    from interp.reasoners import Reasoner

MOST_PARTS = 4  # of one model: decoders that were fitted to it, and the like
_SHARE = 0.25  # of the machine's memory

Part = TypeVar("Part")


@dataclass
class _Entry:
    reasoner: Reasoner
    size: int
    parts: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)


class LoadedModels:
    """The models of some stores, each loaded once.

    Where their weights take more than the cap, the one that was used longest ago is removed with all that was built on
    it. A single model that is larger than the cap stays until another is asked for.

    Args:
        cap: Bytes that the weights of all of them may take.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changing = threading.RLock()
        self._loading: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of all weights."""
        with self._changing:
            return sum(entry.size for entry in self._entries.values())

    def holds(self, store: Store) -> bool:
        """Return whether the model of a store can be had at once; loading one takes seconds."""
        return key_of(store) in self._entries

    def model(self, store: Store) -> Reasoner:
        """Return the model of a store; see `Store.load_reasoner` for what is raised."""
        return self._entry(store).reasoner

    def part(self, store: Store, key: Hashable, make: Callable[[Reasoner], Part]) -> Part:
        """Return something that is built on the model of a store, and is kept and removed with it.

        Args:
            store: The store.
            key: What it is, among the parts of this model.
            make: Makes it, given the model.
        """
        entry = self._entry(store)
        with self._changing:
            if key in entry.parts:
                entry.parts.move_to_end(key)
                return entry.parts[key]  # type: ignore[no-any-return]
        made = make(entry.reasoner)
        with self._changing:
            entry.parts[key] = made
            while len(entry.parts) > MOST_PARTS:
                entry.parts.popitem(last=False)
        return made

    def _entry(self, store: Store) -> _Entry:
        key = key_of(store)
        with self._changing:
            own = self._loading.setdefault(key, threading.Lock())
        with own:  # two readers who ask at once wait for the same loading
            with self._changing:
                if key in self._entries:
                    self._entries.move_to_end(key)
                    return self._entries[key]
            reasoner = store.load_reasoner()
            entry = _Entry(reasoner, size_of(reasoner))
            with self._changing:
                self._entries[key] = entry
                while self.size > self.cap and len(self._entries) > 1:
                    self._entries.popitem(last=False)
            settle()
            return entry


def key_of(store: Store) -> str:
    """Return what the model of a store is told by: its weights, how it thinks, and how it is loaded."""
    parts = {name: store.meta.get(name) for name in ("reasoner", "origin", "computed")}
    return json.dumps(parts, sort_keys=True, default=str)


def size_of(reasoner: Reasoner) -> int:
    """Return the bytes of a model's weights; tensors that share memory count once."""
    tensors = [*reasoner.model.parameters(), *reasoner.model.buffers()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def usual_cap() -> int:
    """Return a quarter of this machine's memory, in bytes."""
    return int(_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
