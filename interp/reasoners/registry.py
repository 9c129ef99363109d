"""The kinds of reasoner by name: built in, and added by other packages through entry points."""

from __future__ import annotations

from interp.errors import unknown
from interp.reasoners.base import Reasoner
from interp.reasoners.concepts import ConceptReasoner
from interp.reasoners.config import ReasonerConfig, known_kinds
from interp.reasoners.curriculum import Curriculum
from interp.reasoners.direct import DirectReasoner
from interp.reasoners.recurrent import RecurrentReasoner
from interp.reasoners.self_reasoning import SelfReasoner
from interp.reasoners.silent import ContinuousReasoner, PauseReasoner, ThinkingTokenReasoner
from interp.reasoners.text import TextReasoner
from interp.runtime.plugins import load_plugin, plugins

_BUILT_IN: tuple[type[Reasoner], ...] = (
    DirectReasoner,
    TextReasoner,
    PauseReasoner,
    ContinuousReasoner,
    ThinkingTokenReasoner,
    SelfReasoner,
    RecurrentReasoner,
    ConceptReasoner,
)
#: The classes of the built-in kinds; `interp.reasoners.config.KINDS` describes them.
REASONERS: dict[str, type[Reasoner]] = {reasoner.kind: reasoner for reasoner in _BUILT_IN}


def reasoner_class(kind: str) -> type[Reasoner]:
    """Return the class of a kind of reasoner.

    Other packages add kinds as entry points of the group `cotlens.reasoners`. A built-in kind takes precedence.

    Args:
        kind: The name of the kind, as in `reasoner.json`.

    Raises:
        UsageError: There is no such kind, or the package that adds it cannot be imported.
    """
    if kind in REASONERS:
        return REASONERS[kind]
    if kind not in plugins("reasoners"):
        raise unknown("kind of reasoner", kind, known_kinds())
    return load_plugin("reasoners", kind)


def curriculum_of(config: ReasonerConfig) -> Curriculum:
    """Return how a reasoner with this config is trained."""
    return reasoner_class(config.kind).curriculum_class(config)
