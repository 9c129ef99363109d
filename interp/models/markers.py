"""Where a model's visible thought begins and ends: the markers of the chat templates that are known.

Recognised in the model's own vocabulary and chat template, never from its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Markers:
    """The text that opens and the text that closes a thought, and where such a pair was seen first."""

    begin: str
    end: str
    seen_in: str


KNOWN: tuple[Markers, ...] = (
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
# What Coconut's reference code adds to the vocabulary, in its order (facebookresearch/coconut, run.py).
COCONUT = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")


def chat_template(tokenizer: Any) -> str | None:
    """The template that turns messages into a prompt; of several, the default one."""
    found = getattr(tokenizer, "chat_template", None)
    return found.get("default") if isinstance(found, dict) else found


def thinking_markers(tokenizer: Any) -> Markers | None:
    """The markers that this tokenizer's vocabulary or chat template knows, or None.

    A marker of one token counts where it is a token of the vocabulary; a marker of several, or of ordinary text,
    only where the chat template writes it, for any tokenizer can spell it.
    """
    vocabulary, template = tokenizer.get_vocab(), chat_template(tokenizer) or ""
    for markers in KNOWN:
        tokens = all(marker in vocabulary for marker in (markers.begin, markers.end))
        opening = markers.begin.removesuffix("<|message|>")  # the template writes channel names apart
        if tokens or markers.end in template or (opening in template and "<|channel|>" in opening):
            return markers
    return None


def find(ids: Sequence[int], marker: Sequence[int], start: int = 0) -> int | None:
    """Where `marker` stands in `ids` at or after `start`, or None."""
    n = len(marker)
    if not n:
        return None
    return next((k for k in range(start, len(ids) - n + 1) if list(ids[k : k + n]) == list(marker)), None)
