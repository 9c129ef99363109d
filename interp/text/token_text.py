"""Tokens as a reader sees them: pieces of a byte-level or SentencePiece vocabulary with their blanks and letters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from interp.traces import Channel, Trace

# GPT-2's alphabet: bytes that are no printable Latin-1 character stand for themselves plus 256, in order.
_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]


@cache
def _bytes() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for."""
    others = [byte for byte in range(256) if byte not in set(_PRINTED)]
    return {chr(byte): byte for byte in _PRINTED} | {chr(256 + k): byte for k, byte in enumerate(others)}


class TokenText:
    """Turns the tokens of one vocabulary into text.

    Args:
        tokens: Some of its tokens, from which the kind of vocabulary is told.
        close: Whether tokens follow one another without a blank where none of them has one.
    """

    def __init__(self, tokens: Sequence[str], *, close: bool = False) -> None:
        self._byte_level = any(token[:1] in "ĠĊ" for token in tokens if token)
        # Looked for only where it matters: a long trace has ten thousands of tokens.
        self._pieces = not self._byte_level and any(token.startswith("▁") for token in tokens)
        self._close = close

    @classmethod
    def of(cls, trace: Trace) -> TokenText:
        """Return what joins the tokens of a trace as its own tokenizer does, which `trace.text` and the answer tell."""
        texts = {Channel.THOUGHT: trace.text, Channel.ANSWER: trace.answer}
        parts = {
            channel: [token for token, of in zip(trace.tokens, trace.channel, strict=True) if of == channel]
            for channel in texts
        }
        several = [channel for channel, tokens in parts.items() if len(tokens) > 1 and texts[channel].strip()]
        close = any("".join(parts[channel]).strip() == texts[channel].strip() for channel in several)
        return cls(trace.tokens, close=close)

    @property
    def joins_closely(self) -> bool:
        """Whether tokens follow one another without a blank between them."""
        return self._byte_level or self._pieces or self._close

    def text(self, token: str) -> str:
        """Return one token as text; blanks and line breaks are as the model wrote them."""
        return self.join([token])

    def join(self, tokens: Sequence[str]) -> str:
        """Return tokens as one text; tokens of a vocabulary of whole words have blanks between them."""
        if self._byte_level:
            return _from_bytes("".join(tokens))
        if self._pieces:
            return "".join(tokens).replace("▁", " ")
        return ("" if self._close else " ").join(tokens)

    def cell(self, token: str) -> str:
        """Return one token on one line, with signs for blanks and line breaks."""
        text = self.text(token).replace("\n", "⏎").replace("\t", "⇥")
        return text.replace(" ", "·") if not text.strip() else text


def _from_bytes(text: str) -> str:
    known = _bytes()
    if all(letter in known for letter in text):
        return bytes(known[letter] for letter in text).decode("utf-8", errors="replace")
    return text.replace("Ġ", " ").replace("Ċ", "\n")
