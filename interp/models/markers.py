"""Markers that begin and end a model's visible thought.

They are recognised in the vocabulary and chat template, never by the model's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Markers:
    """The texts that begin and end a thought, and the models that use them."""

    begin: str
    end: str
    seen_in: str


KNOWN_MARKERS: tuple[Markers, ...] = (
    Markers("<think>", "</think>", "DeepSeek-R1 and its distills, Qwen3, QwQ, SmolLM3"),
    Markers("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", "gpt-oss"),
    Markers("<|begin_of_thought|>", "<|end_of_thought|>", "OpenThinker, Sky-T1"),
    Markers("[THINK]", "[/THINK]", "Magistral"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>", "Command A Reasoning"),
    Markers("<seed:think>", "</seed:think>", "Seed-OSS"),
    Markers("<thinking>", "</thinking>", "several fine-tunes"),
    Markers("<thought>", "</thought>", "EXAONE Deep and several fine-tunes"),
    Markers("<reasoning>", "</reasoning>", "several fine-tunes"),
)
# Tokens that Coconut's reference code adds to the vocabulary, in this order (facebookresearch/coconut, run.py).
COCONUT_TOKENS = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")


def chat_template(tokenizer: Any) -> str | None:
    """Return the template that turns messages into a prompt; of several, the default one."""
    template = getattr(tokenizer, "chat_template", None)
    return template.get("default") if isinstance(template, dict) else template


def thinking_markers(tokenizer: Any) -> Markers | None:
    """Return the markers in a tokenizer's vocabulary or chat template, or None.

    Markers count where both are single tokens of the vocabulary. Other markers count only where the chat template
    writes them, because any tokenizer can spell them.
    """
    vocabulary, template = tokenizer.get_vocab(), chat_template(tokenizer) or ""
    for markers in KNOWN_MARKERS:
        are_tokens = all(marker in vocabulary for marker in (markers.begin, markers.end))
        opening = markers.begin.removesuffix("<|message|>")  # templates write channel names separately
        if are_tokens or markers.end in template or (opening in template and "<|channel|>" in opening):
            return markers
    return None


def find_marker(ids: Sequence[int], marker: Sequence[int], start: int = 0) -> int | None:
    """Return the index of `marker` in `ids` at or after `start`, or None."""
    n = len(marker)
    if not n:
        return None
    return next((k for k in range(start, len(ids) - n + 1) if list(ids[k : k + n]) == list(marker)), None)
