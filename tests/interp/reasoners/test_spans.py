"""Channels of token ids: thoughts opened by the prompt, by the model, or not at all; closed or not."""

from __future__ import annotations

import pytest

from interp.reasoners.spans import channels, n_opening_ids

BEGIN, END, LONG = [90], [91], [92, 93, 94]
SHORT = {"prompt": "p", "special": "s", "thought": "t", "answer": "a"}


@pytest.mark.parametrize(
    ("ids", "n_prompt", "expected"),
    [
        ([1, 2, 90, 5, 6, 91, 7], 2, "ppsttsa"),
        ([1, 2, 90, 10, 5, 6, 91, 7], 4, "ppssttsa"),  # the template opens it and breaks the line
        ([1, 2, 90, 5, 6], 2, "ppstt"),  # dangling: never closed
        ([1, 2, 90, 5, 6], 3, "ppstt"),
        ([1, 2, 5, 6, 91, 7], 2, "ppttsa"),  # closed without having been n_opening_ids
        ([1, 2, 5, 6], 2, "ppaa"),
        ([1, 90, 2, 3, 4, 5, 6], 5, "pppppaa"),  # a marker in the question opens nothing
        ([1, 2, 90, 91, 5], 4, "ppppa"),  # opened and closed again by the template
        ([1, 2, 90, 5, 91, 7, 91, 8], 2, "ppstsaaa"),  # only the first one closes
    ],
)
def test_spans(ids: list[int], n_prompt: int, expected: str) -> None:
    assert "".join(SHORT[c] for c in channels(ids, n_prompt, BEGIN, END)) == expected


def test_markers_of_several_tokens() -> None:
    result = channels([1, 90, 5, 92, 6, 92, 93, 94, 7], 1, BEGIN, LONG)
    assert "".join(SHORT[c] for c in result) == "pstttsssa"


def test_without_a_begin_marker_nothing_opens_the_thought() -> None:
    assert n_opening_ids([1, 2, 3], [], END) == 0
