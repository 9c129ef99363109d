"""The text of each token of a text: pieces that join to the tokenizer's own decoding, whatever the tokens are.

Decoding is not a map from tokens to texts. A letter may take several tokens, bytes may form no letter at all, and one
byte more may turn a letter that was there into replacement characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds to those before it.

    A letter of several tokens is added by the last of them. Bytes that form no letter are replacement characters, as in
    the tokenizer's own decoding.

    Args:
        tokenizer: A Hugging Face tokenizer.
        ids: Token ids.

    Returns:
        One text for each token. Joined they are `tokenizer.decode(ids)`.
    """
    ids = list(map(int, ids))
    if not ids:
        return []
    text = tokenizer.decode(ids)
    for split in (_streamed, _grouped):
        pieces = split(tokenizer, ids)
        if pieces is not None and "".join(pieces) == text:
            return pieces
    return _settled(tokenizer, ids, text)


def _streamed(tokenizer: Any, ids: list[int]) -> list[str] | None:
    """Return the pieces by the tokenizer's own stream, which is fast but loses bytes that form no letter."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    try:
        pieces = [stream.step(backend, token) or "" for token in ids]
    except Exception:  # the stream gives up where a byte changes what was read before it
        return None
    # A token that ends inside a letter is held back whole, with the letters that it does complete.
    return None if any(not held and len(piece) > 1 for held, piece in pairwise(pieces)) else pieces


def _grouped(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return the pieces, found in groups of tokens whose text no later token changes."""
    pieces: list[str] = []
    context = start = 0  # the group before, which keeps the white space between groups; the group itself
    for k in range(len(ids)):
        before = tokenizer.decode(ids[context:start])
        text = tokenizer.decode(ids[context : k + 1])
        is_last = k + 1 == len(ids)
        following = text if is_last else tokenizer.decode(ids[context : k + 2])
        if is_last or (following.startswith(text) and not text.endswith(_REPLACEMENT)):
            pieces += _settled(tokenizer, ids[start : k + 1], text[len(before) :], ids[context:start])
            context, start = start, k + 1
    return pieces


def _settled(tokenizer: Any, ids: list[int], text: str, before: Sequence[int] = ()) -> list[str]:
    """Return the pieces of `text`: each token adds what decoding up to it has in common with the whole."""
    skipped = len(tokenizer.decode(list(before))) if before else 0
    pieces, done = [], 0
    for n in range(1, len(ids)):
        known = tokenizer.decode([*before, *ids[:n]])[skipped:]
        differing = (k for k, (one, other) in enumerate(zip(known, text, strict=False)) if one != other)
        end = max(done, next(differing, min(len(known), len(text))))
        pieces.append(text[done:end])
        done = end
    return [*pieces, text[done:]]
