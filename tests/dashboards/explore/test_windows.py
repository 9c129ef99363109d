"""Windows of a trace: they lie in it, have few columns, and compute no more than is affordable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashboards.explore.windows import COLUMNS, TOKENS, ZOOMS, start_at, usual_zoom, window


@given(st.integers(1, 60_000), st.sampled_from(ZOOMS), st.integers(0, 60_000), st.integers(1, 60_000))
def test_a_window_lies_in_the_trace_and_is_affordable(total: int, zoom: str, start: int, affordable: int) -> None:
    part = window(total, zoom, start, affordable=affordable)
    assert 0 <= part.start < part.stop <= total
    assert len(part.positions) <= affordable
    assert part.columns <= COLUMNS
    assert part.factor % part.stride == 0
    assert part.positions[0] == part.start and part.positions[-1] < part.stop


@given(st.integers(1, 60_000), st.integers(0, 60_000), st.integers(1, 60_000))
def test_the_closest_zoom_leaves_nothing_out(total: int, start: int, affordable: int) -> None:
    part = window(total, "tokens", start, affordable=affordable)
    assert part.factor == part.stride == 1
    assert part.stop - part.start == min(total, TOKENS, affordable)
    assert part.note() == ""


def test_what_is_left_out_is_said() -> None:
    part = window(30_000, "whole", 0, affordable=10_000)
    assert part.stride == 3 and "1 of 3 positions is computed" in part.note()
    assert f"extreme value of {part.factor} positions" in part.note()


@given(st.integers(0, 999), st.integers(1, 400))
def test_a_window_around_a_position_holds_it(position: int, size: int) -> None:
    start = start_at(position, "tokens", 1000, size)
    assert start <= position < start + size and start + size <= 1000
    assert usual_zoom(TOKENS) == "tokens" and usual_zoom(TOKENS + 1) == "whole"
