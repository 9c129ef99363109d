"""Which tokens of a finished text are prompt, marker, thought and answer, found among token ids and never in text.

Templates strip thoughts from a conversation's history, and a text that is decoded and encoded again need not have
the same tokens; so spans are looked for where they are, in the ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from interp.models.markers import find
from interp.traces import Channel


def opened(prompt: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> int:
    """How many tokens at the end of a prompt open the thought: the marker and what white space follows it, else 0.

    Templates of DeepSeek-R1's kind end with the marker and a line break. A marker further back than a few tokens
    belongs to the question, and one that is closed again opens nothing.
    """
    if not begin:
        return 0
    first = max(0, len(prompt) - len(begin) - 2)
    at = find(prompt, begin, first)
    if at is None or find(prompt, end, at + len(begin)) is not None:
        return 0
    return len(prompt) - at


def channels(ids: Sequence[int], n_prompt: int, begin: Sequence[int], end: Sequence[int]) -> list[str]:
    """The channel of every token of a text whose first `n_prompt` tokens are the prompt.

    A thought that is never closed runs to the end and leaves no answer. One that is closed without having been
    opened was opened by the prompt. Without either marker everything written is the answer.
    """
    n = len(ids)
    channel = [str(Channel.PROMPT)] * n_prompt + [str(Channel.ANSWER)] * (n - n_prompt)
    before = opened(ids[:n_prompt], begin, end)
    channel[n_prompt - before : n_prompt] = [str(Channel.SPECIAL)] * before
    start = n_prompt
    if not before:
        at = find(ids, begin, n_prompt)
        closes = find(ids, end, n_prompt)
        if at is not None and (closes is None or at < closes):
            channel[n_prompt : at + len(begin)] = [str(Channel.SPECIAL)] * (at + len(begin) - n_prompt)
            start = at + len(begin)
        elif closes is None:
            return channel
    closes = find(ids, end, start)
    stop = n if closes is None else closes
    channel[start:stop] = [str(Channel.THOUGHT)] * (stop - start)
    if closes is not None:
        channel[closes : closes + len(end)] = [str(Channel.SPECIAL)] * len(end)
    return channel
