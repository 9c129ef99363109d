"""Reasoners: a model together with the way it thinks."""

from __future__ import annotations

from interp.reasoners.base import Reasoner
from interp.reasoners.concepts import ConceptReasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.direct import DirectReasoner
from interp.reasoners.interventions import Intervention
from interp.reasoners.monitor import Monitor
from interp.reasoners.recurrent import RecurrentReasoner
from interp.reasoners.self_reasoning import SelfReasoner
from interp.reasoners.silent import ContinuousReasoner, PauseReasoner
from interp.reasoners.text import TextReasoner
from interp.reasoners.thinking_tokens import ThinkingTokenReasoner

__all__ = ["REASONERS", "Intervention", "Monitor", "Reasoner", "ReasonerConfig"]

REASONERS: dict[str, type[Reasoner]] = {
    kind.kind: kind
    for kind in (
        DirectReasoner,
        TextReasoner,
        PauseReasoner,
        ContinuousReasoner,
        ThinkingTokenReasoner,
        SelfReasoner,
        RecurrentReasoner,
        ConceptReasoner,
    )
}
