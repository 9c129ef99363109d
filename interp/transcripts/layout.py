"""Where the thought stands in a reply's text, and which white space a model puts around its markers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.models.markers import KNOWN_MARKERS
from interp.reasoners.config import CHAT, ReasonerConfig

_THOUGHT, _ANSWER = "ITS-THOUGHT", "ITS-ANSWER"
_FIELDS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class TaggedText:
    """A reply that holds its thought between markers.

    Attributes:
        begin: The begin marker; None where the prompt has it, or there is none.
        end: The end marker.
        thought: The text up to the end marker, without the begin marker.
        answer: The text after the end marker; None where the thought is never closed.
    """

    begin: str | None
    end: str
    thought: str
    answer: str | None

    @property
    def inside(self) -> str:
        """The text without its begin marker, as it was written."""
        return self.thought if self.answer is None else f"{self.thought}{self.end}{self.answer}"


def tagged_text(text: str, begin: str | None, end: str | None) -> TaggedText | None:
    """Return a reply's text with its thought found, or None where it holds no marker.

    Args:
        text: The text.
        begin: The begin marker that is looked for first.
        end: The end marker that is looked for first.

    Raises:
        ValueError: Text stands before the begin marker.
    """
    pairs = [(begin, end)] if end else []
    for opening, closing in [*pairs, *((markers.begin, markers.end) for markers in KNOWN_MARKERS)]:
        opens = text.find(opening) if opening else -1
        closes = text.find(closing) if closing else -1
        if opens >= 0 and (closes < 0 or opens < closes):
            if text[:opens].strip():
                raise ValueError(f"text stands before its thought: {text[:opens].strip()[:40]!r}")
            start = opens + len(opening or "")
        elif closes >= 0:
            opening, start = None, 0
        else:
            continue
        thought, marker, answer = text[start:].partition(closing or "")
        return TaggedText(opening, str(closing), thought, answer if marker else None)
    return None


@dataclass(frozen=True)
class Layout:
    """The white space around a thought.

    Attributes:
        before: After the begin marker.
        after: Before the end marker.
        gap: After the end marker.
        source: How it is known.
    """

    before: str
    after: str
    gap: str
    source: str


def layout_of(tokenizer: Any, config: ReasonerConfig) -> Layout:
    """Return the white space that a model's chat template writes around a thought, else the usual one.

    Args:
        tokenizer: The tokenizer, with its chat template.
        config: How the model thinks.
    """
    begin, end = config.begin or "", config.end or ""
    for name in _FIELDS if config.prompt == CHAT else ():
        reply = {"role": "assistant", "content": _ANSWER, name: _THOUGHT}
        try:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": "?"}, reply], tokenize=False, **config.chat_options
            )
        except Exception:  # a template is a program of the model's makers: it may raise anything
            continue
        thought = text.rfind(_THOUGHT)
        opens, closes = text.rfind(begin, 0, max(thought, 0)), text.find(end, thought)
        answer = text.find(_ANSWER, closes)
        if min(thought, opens, closes, answer) < 0:
            continue
        spaces = (
            text[opens + len(begin) : thought],
            text[thought + len(_THOUGHT) : closes],
            text[closes + len(end) : answer],
        )
        if not any(space.strip() for space in spaces):
            return Layout(*spaces, source="as its chat template writes it")
    if end.startswith("</"):
        return Layout(
            "\n", "\n", "\n\n", source="line breaks, as models with such markers write; its template does not say"
        )
    if end[:1].isalnum():
        return Layout("", "\n", " ", source="a line break before the marker and a space after it")
    return Layout("", "", "", source="none; its template does not say")
