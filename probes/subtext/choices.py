"""The choices among synonyms in a set of traces, and the distribution that the writer itself drew each one from.

A word is drawn from the model's next-token distribution, so the written word depends on the hidden state through that
distribution alone (data processing). Restricted to the synonyms of one meaning it is therefore all that the state says
about the choice, in a few numbers and without any fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import poisson

from interp.errors import UsageError
from interp.models.address import resolve
from interp.text.wording import Wording, words
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_UNEMBEDDED_AT_ONCE = 512
# Traces count as greedy where sampling would give as few unlikely words less often than this, and far fewer than usual.
_GREEDY_P, _GREEDY_SHARE = 1e-4, 0.1


@dataclass(frozen=True)
class Choices:
    """One row for each written word that has a synonym.

    Attributes:
        trace: Number of the row's trace, shape (rows,).
        place: Number of the word in its text, from 1, shape (rows,).
        position: Position of the word's first token in its trace, shape (rows,).
        code: Which of the options was written, shape (rows,).
        meaning: Name of the meaning, shape (rows,).
        known: Which options of the row's meaning the traces contain, shape (rows, options).
        own: Log-probability that the writer gave each known option, renormalised over them; -inf for the others; shape
            (rows, options).
        told_apart: Whether the first tokens of the known options differ, so that `own` tells them apart, shape (rows,).
        drawn: Whether the writer chose the word itself, shape (rows,); False where it was forced.
        before: The words before each row's word.
    """

    trace: Int[np.ndarray, " rows"]
    place: Int[np.ndarray, " rows"]
    position: Int[np.ndarray, " rows"]
    code: Int[np.ndarray, " rows"]
    meaning: np.ndarray
    known: Bool[np.ndarray, "rows options"]
    own: Float[np.ndarray, "rows options"]
    told_apart: Bool[np.ndarray, " rows"]
    drawn: Bool[np.ndarray, " rows"]
    before: list[list[str]]


def choices_of(
    reasoner: Reasoner, traces: Sequence[Trace], wording: Wording, address: str | None = None
) -> tuple[Choices, Float[np.ndarray, "rows d"] | None]:
    """Return the choices of some traces, and the state before each word.

    Args:
        reasoner: The reasoner that wrote the traces. They are replayed once.
        traces: The traces.
        wording: Which words mean the same.
        address: Activation to read before each word besides the final state; None for none.

    Returns:
        The choices, and the activations at `address`, shape (rows, d), or None.

    Raises:
        UsageError: No word of the traces has a synonym.
    """
    texts = [words(trace) for trace in traces]
    cells = [
        (number, k, word)
        for number, text in enumerate(texts)
        for k, word in enumerate(text, 1)
        if len(wording.options(word.text)) > 1
    ]
    if not cells:
        raise UsageError("expected words with synonyms in these traces, got none; give another wording (--synonyms).")
    first_tokens: dict[str, set[int]] = defaultdict(set)
    for number, _, word in cells:
        first_tokens[word.text].add(traces[number].token_ids[word.position])
    options = [wording.options(word.text) for _, _, word in cells]
    width = max(map(len, options))
    tokens = [[first_tokens.get(option, set()) for option in row] for row in options]
    known = np.zeros((len(cells), width), bool)
    for row, row_tokens in enumerate(tokens):
        known[row, : len(row_tokens)] = [bool(ids) for ids in row_tokens]
    trace = np.array([number for number, _, _ in cells])
    position = np.array([word.position for _, _, word in cells])
    final, extra = _states_before(reasoner, traces, trace, position, address)
    return (
        Choices(
            trace=trace,
            place=np.array([k for _, k, _ in cells]),
            position=position,
            code=np.array([wording.choice(word.text) for _, _, word in cells]),
            meaning=np.array([wording.meaning(word.text) for _, _, word in cells]),
            known=known,
            own=_own_distribution(reasoner, final, tokens, known),
            told_apart=np.array([sum(map(len, row)) == len(set().union(*row)) for row in tokens]),
            drawn=np.array([not np.isnan(traces[number].logprob[word.position]) for number, _, word in cells]),
            before=[[word.text for word in texts[number][: k - 1]] for number, k, _ in cells],
        ),
        extra,
    )


def _states_before(
    reasoner: Reasoner, traces: Sequence[Trace], trace: np.ndarray, position: np.ndarray, address: str | None
) -> tuple[Float[np.ndarray, "rows d"], Float[np.ndarray, "rows d"] | None]:
    """Return the final state one position before each row's, and that at `address`."""
    (final,) = (found.name for found in resolve(reasoner.model, ["final"]))
    names = [final, *([resolve(reasoner.model, [address])[0].name] if address else [])]
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(trace):
        rows_of[int(number)].append(row)
    states: dict[str, np.ndarray] = {}

    def recorder(name: str):  # type: ignore[no-untyped-def]
        def hook(activations, batch):  # type: ignore[no-untyped-def]
            pairs = [(k, row) for k, number in enumerate(batch.traces) for row in rows_of[int(number)]]
            if not pairs:
                return
            batch_rows, rows = np.array(pairs).T
            read = activations[batch_rows, position[rows] - 1].float().cpu().numpy()
            states.setdefault(name, np.zeros((len(trace), read.shape[1]), np.float32))[rows] = read

        return hook

    reasoner.replay(traces, hooks={name: recorder(name) for name in dict.fromkeys(names)}, batch_size=256)
    return states[final], states[names[1]] if address else None


@torch.no_grad()
def _own_distribution(
    reasoner: Reasoner, final: Float[np.ndarray, "rows d"], tokens: list[list[set[int]]], known: np.ndarray
) -> Float[np.ndarray, "rows options"]:
    """Return the writer's log-probability of each known option, renormalised over them."""
    own = np.full(known.shape, -np.inf)
    for start in range(0, len(final), _UNEMBEDDED_AT_ONCE):
        states = torch.from_numpy(final[start : start + _UNEMBEDDED_AT_ONCE]).to(reasoner.device)
        logits = reasoner.unembed(states).double().cpu().numpy()
        for row, row_logits in enumerate(logits, start):
            for option in np.flatnonzero(known[row]):
                own[row, option] = np.logaddexp.reduce(row_logits[list(tokens[row][option])])
    return own - np.logaddexp.reduce(own, axis=1, keepdims=True)


def refuse_greedy(choices: Choices, temperatures: Sequence[float | None]) -> None:
    """Refuse traces in which the writer took the likeliest word although it was of two minds.

    Where the temperature is known and above 0 nothing is tested. Else the words are compared with the writer's own
    distribution: in `expected` of them a writer that samples would not take the likeliest. Where every word has a
    probability near 1 that is almost never, and greedy words are what sampling gives, so they are not refused.

    Args:
        choices: The choices.
        temperatures: Temperature of each trace; None where it is not known.

    Raises:
        UsageError: The traces look greedily written.
    """
    sampled = np.array([temperature is not None and temperature > 0 for temperature in temperatures])
    tested = ~sampled[choices.trace] & choices.drawn & choices.told_apart
    own, code = choices.own[tested], choices.code[tested]
    expected = float((1 - np.exp(own.max(axis=1, initial=-np.inf))).sum())
    unlikely = int((own.argmax(axis=1) != code).sum()) if len(own) else 0
    if unlikely <= _GREEDY_SHARE * expected and poisson.cdf(unlikely, expected) < _GREEDY_P:
        raise UsageError(
            f"expected sampled traces, got ones that look greedily written: sampling would leave the likeliest synonym in "
            f"about {expected:.0f} of {len(own)} choices, these do in {unlikely}. A greedy choice follows from the state "
            "whatever it says; think again at temperature 1 (--temperature 1)."
        )
