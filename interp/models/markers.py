"""Markers that begin and end a model's visible thought.

They are recognised in the vocabulary and chat template, never by the model's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interp.models.pieces import token_texts


@dataclass(frozen=True)
class Markers:
    """The texts that begin and end a thought, and the models that use them.

    Attributes:
        begin: The text before the thought.
        end: The text after it.
        seen_in: Models that use them.
        asked_for: Whether the model writes them only where the prompt asks for them.
    """

    begin: str
    end: str
    seen_in: str
    asked_for: bool = False


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
    Markers("<|inner_prefix|>", "<|inner_suffix|>", "Apertus"),
    Markers("◁think▷", "◁/think▷", "Kimi-VL-Thinking"),
    Markers("Here is my thought process:", "Here is my response:", "Granite 3.2", asked_for=True),
)
# Tokens that Coconut's reference code adds to the vocabulary, in this order (facebookresearch/coconut, run.py).
COCONUT_TOKENS = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")


def chat_template(tokenizer: Any) -> str | None:
    """Return the template that turns messages into a prompt; of several, the default one."""
    template = getattr(tokenizer, "chat_template", None)
    return template.get("default") if isinstance(template, dict) else template


def thinking_markers(tokenizer: Any, chat_options: Mapping[str, Any] | None = None) -> Markers | None:
    """Return the markers in a tokenizer's vocabulary or chat template, or None.

    Markers count where both are single tokens of the vocabulary. Other markers count only where the chat template
    writes them, because any tokenizer can spell them.

    Args:
        tokenizer: The tokenizer.
        chat_options: What the chat template is applied with.
    """
    vocabulary, template = tokenizer.get_vocab(), chat_template(tokenizer) or ""
    for markers in KNOWN_MARKERS:
        are_tokens = all(marker in vocabulary for marker in (markers.begin, markers.end))
        if are_tokens or (_in_template(markers, template) and not markers.asked_for):
            return markers
        if markers.asked_for and markers.end in template and markers.end in _prompt(tokenizer, chat_options or {}):
            return markers
    return None


def template_writes(tokenizer: Any, markers: Markers) -> bool:
    """Return whether the chat template names a marker, in a prompt or where it takes thoughts out of the history."""
    template = chat_template(tokenizer) or ""
    return _in_template(markers, template) or markers.begin in template


def _in_template(markers: Markers, template: str) -> bool:
    opening = markers.begin.removesuffix("<|message|>")  # templates write channel names separately
    return markers.end in template or (opening in template and "<|channel|>" in opening)


def _prompt(tokenizer: Any, chat_options: Mapping[str, Any]) -> str:
    """Return the prompt of some question; empty where the template cannot be applied."""
    messages = [{"role": "user", "content": "?"}]
    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **chat_options)
    except Exception:  # a template is a program of the model's makers: it may raise anything
        return ""


def find_marker(ids: Sequence[int], marker: Sequence[int], start: int = 0) -> int | None:
    """Return the index of `marker` in `ids` at or after `start`, or None."""
    n = len(marker)
    if not n:
        return None
    return next((k for k in range(start, len(ids) - n + 1) if list(ids[k : k + n]) == list(marker)), None)


class MarkerMatch(NamedTuple):
    """A marker at the end of some tokens.

    Attributes:
        n_tokens: How many of the last tokens hold a piece of it.
        before: What the first of them holds before the marker.
        after: What the last of them holds after the marker.
    """

    n_tokens: int
    before: str = ""
    after: str = ""


class MarkerFinder:
    """Finds a marker where its last token has just been written, by its own tokens or in the text.

    A marker of ordinary text need not have the tokens that it has alone: a tokenizer merges its first or last letters
    with what stands around it.

    Args:
        tokenizer: A Hugging Face tokenizer.
        text: The marker; None is a marker that is nowhere.
        ids: The tokens that it has alone.

    Attributes:
        look_back: How many of the last tokens can hold a piece of the marker.
    """

    def __init__(self, tokenizer: Any, text: str | None, ids: Sequence[int]) -> None:
        self.text, self.ids = text or "", list(ids)
        self._tokenizer = tokenizer
        # Some tokens add no text; a letter outside ASCII may take four of them.
        self.look_back = 4 + len(self.text) * (1 if self.text.isascii() else 4)
        self._may_complete: dict[int, bool] = {}

    def at_end(self, ids: Sequence[int]) -> MarkerMatch | None:
        """Return the match where the last of these tokens completes the marker, else None."""
        if not self.ids or not ids:
            return None
        if list(ids[-len(self.ids) :]) == self.ids:
            return MarkerMatch(len(self.ids))
        last = int(ids[-1])
        if last not in self._may_complete:
            self._may_complete[last] = self._overlaps(self._tokenizer.decode([last]))
        if not self._may_complete[last]:
            return None
        pieces = token_texts(self._tokenizer, ids[-self.look_back :])
        joined = "".join(pieces)
        start = joined.rfind(self.text)
        end = start + len(self.text)
        if start < 0 or end <= len(joined) - len(pieces[-1]):
            return None
        first = first_start = 0
        for k, piece in enumerate(pieces):
            if first_start + len(piece) > start:
                first = k
                break
            first_start += len(piece)
        while first and start == first_start and not pieces[first - 1]:
            first -= 1  # bytes of its first letter
        return MarkerMatch(len(pieces) - first, joined[first_start:start], joined[end:])

    def _overlaps(self, piece: str) -> bool:
        """Return whether a token of this text may complete the marker. Alone, some tokens lose a leading space."""
        if not piece or (not piece.isascii() and not self.text.isascii()):
            return True
        return any(
            self.text in text or any(self.text.endswith(text[:n]) for n in range(1, len(text) + 1))
            for text in (piece, f" {piece}")
        )
