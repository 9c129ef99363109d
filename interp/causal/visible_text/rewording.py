"""Words of a visible thought replaced by others of the same meaning: in the whole text, or as the thought goes on.

A model may read its own choice of words later. Forcing the whole rewritten text does not show it: whatever such a model
would have gone on to write, the text puts it back on its rails. So words are also replaced one after another, and after
each the model goes on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interp.causal.visible_text.forcing import ending_ids, resume
from interp.reasoners.base import Reasoner
from interp.text.wording import Word, Wording, words
from interp.traces import Channel, Trace, TraceSet


def reworded_ids(reasoner: Reasoner, trace: Trace, new_words: Sequence[str]) -> list[int]:
    """Return the token ids of a visible thought with its first words replaced; all other tokens stay.

    Args:
        reasoner: The reasoner of the trace.
        trace: The trace.
        new_words: One for each word that is kept or replaced. The thought ends after them, or at its own end where
            they are all of its words.

    Raises:
        UsageError: The reasoner does not know one of the new words.
    """
    spoken = words(trace)
    thought = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    ends = [word.position for word in spoken[1:]] + [thought[-1] + 1 if thought else 0]
    ids: list[int] = []
    position = 0
    for word, end, new in zip(spoken, ends, new_words, strict=False):
        ids += [trace.token_ids[k] for k in thought if position <= k < word.position]
        if word.text == new:
            ids += [trace.token_ids[k] for k in thought if word.position <= k < end]
        else:
            ids += _word_ids(reasoner, trace.tokens[word.position], new)
        position = end
    return ids + ending_ids(trace, reasoner.tokenizer) if len(new_words) >= len(spoken) else ids


def reword_freely(
    reasoner: Reasoner,
    traces: TraceSet,
    wording: Wording,
    choose: Callable[[str, str], str],
    *,
    batch_size: int = 256,
) -> TraceSet:
    """Replace words one after another, and let the model go on by itself, greedily, after each of them.

    The first word with synonyms is replaced in the trace's own thought, each later one in what the model has written
    since.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces with visible thoughts.
        wording: Which words mean the same; a word without synonyms is left alone.
        choose: Returns the word to put in a word's place. It is called with the word that stands there now, and with the
            one that the trace wrote at that choice, where it is of the same meaning (else the word itself).
        batch_size: Problems that are thought about at once.

    Returns:
        The thoughts that came of it, and the answers after them.

    Raises:
        UsageError: The reasoner does not think in text, or does not know a word that is put there.
    """
    current: list[Trace] = list(traces)
    n_kept = [0] * len(current)  # words that have been replaced or have no synonyms
    choices = [[word.text for word in words(trace) if len(wording.options(word.text)) > 1] for trace in current]
    n_chosen = [0] * len(current)
    while True:
        numbers, prefixes = [], []
        for k, trace in enumerate(current):
            spoken = words(trace)
            place = _next_choice(spoken, wording, n_kept[k])
            if place is None:
                continue
            texts = [word.text for word in spoken[:place]]
            word, now = spoken[place].text, choices[k][n_chosen[k] :][:1]
            written = now[0] if now and now[0] in wording.options(word) else word
            numbers.append(k)
            prefixes.append(reworded_ids(reasoner, trace, [*texts, choose(word, written)]))
            n_kept[k], n_chosen[k] = place + 1, n_chosen[k] + 1
        if not numbers:
            return TraceSet(current)
        continued = resume(reasoner, [current[k].problem for k in numbers], prefixes, batch_size=batch_size)
        for k, trace in zip(numbers, continued, strict=True):
            current[k] = trace


def _next_choice(spoken: Sequence[Word], wording: Wording, first: int) -> int | None:
    """Return the index of the first word with synonyms from `first` on, or None."""
    return next((k for k in range(first, len(spoken)) if len(wording.options(spoken[k].text)) > 1), None)


def _word_ids(reasoner: Reasoner, token: str, word: str) -> list[int]:
    """Return the tokens of a word that takes the place of one that begins with `token`."""
    # A byte-level tokenizer writes the space before a word with it. One of SentencePiece's kind adds it by itself, also
    # at the start of a line, where the word without it is a token of its own.
    if not token.startswith(("Ġ", "▁")) and reasoner.vocabulary.knows(word):
        return [reasoner.vocabulary.token_id(word)]
    return reasoner.vocabulary.text_ids(f" {word}" if token.startswith("Ġ") else word)
