"""Old names of modules, which can be imported until version 0.3, with a warning."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from interp.runtime.environment import warn_renamed

MOVED = {
    "interp.activations.exports": "interp.activations.formats.exports",
    "interp.activations.imports": "interp.activations.formats.imports",
    "interp.causal.anchors": "interp.causal.visible_text.anchors",
    "interp.causal.donors": "interp.causal.patching.donors",
    "interp.causal.faithfulness": "interp.causal.visible_text.faithfulness",
    "interp.causal.forcing": "interp.causal.visible_text.forcing",
    "interp.causal.interchange_result": "interp.causal.interchanges.results",
    "interp.causal.maps": "interp.causal.interchanges.maps",
    "interp.causal.positions": "interp.causal.patching.positions",
    "interp.causal.reading": "interp.causal.interchanges.reading",
    "interp.causal.rewording": "interp.causal.visible_text.rewording",
    "interp.causal.states": "interp.causal.patching.states",
    "interp.causal.text_edits": "interp.causal.visible_text.edits",
    "interp.causal.usage": "interp.causal.interchanges.usage",
    "interp.problems.free_text": "interp.problems.questions.free_text",
    "interp.problems.own_splits": "interp.problems.questions.own_splits",
    "interp.problems.question_file": "interp.problems.questions.file",
    "interp.problems.question_labels": "interp.problems.questions.labels",
}


class _MovedModules(MetaPathFinder):
    """Finds modules by their old names. It is asked last, after everything that is really there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MOVED:
            return None
        warn_renamed(f"the module {fullname}", MOVED[fullname])
        return ModuleSpec(fullname, _Alias(MOVED[fullname]))


class _Alias(Loader):
    """Gives the module of the new name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: Any) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # importing replaces it with that of the old name


def allow_old_names() -> None:
    """Let old names of modules be imported."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
