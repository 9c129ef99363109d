"""The bytes that the grid draws: quantising, pooling and packing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dashboards.explore.cells import NO_VALUE, Scale, dequantise, pack, pool, quantise, scale_of, unpack, with_lock

GRIDS = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.floats(-1e6, 1e6, width=32) | st.just(float("nan")),
)


@given(GRIDS)
def test_a_byte_stands_for_a_value_within_the_error_of_the_scale(values: np.ndarray) -> None:
    scale = scale_of(values)
    back = dequantise(quantise(values, scale), scale)
    known = np.isfinite(values)
    assert (np.isnan(back) == ~known).all()
    assert (np.abs(back - values)[known] <= scale.error * (1 + 1e-9) + 1e-9).all()


@given(GRIDS)
def test_a_diverging_scale_has_zero_in_the_middle(values: np.ndarray) -> None:
    scale = scale_of(values, diverging=True)
    assert scale.low == -scale.high < 0
    assert quantise(np.zeros((1, 1)), scale)[0, 0] == 127


def test_values_outside_a_scale_become_its_ends() -> None:
    cells = quantise(np.array([[-3.0, 0.0, 1.0, 7.0, np.nan]]), Scale(0, 1))
    assert cells.tolist() == [[0, 0, 254, 254, NO_VALUE]]


@given(GRIDS, st.integers(1, 30))
def test_a_pooled_column_holds_the_largest_of_its_columns(values: np.ndarray, factor: int) -> None:
    pooled, columns = pool(values, factor)
    assert pooled.shape == (values.shape[0], -(-values.shape[1] // factor))
    for row in range(values.shape[0]):
        for column in range(pooled.shape[1]):
            part = values[row, column * factor : (column + 1) * factor]
            if np.isnan(part).all():
                assert np.isnan(pooled[row, column])
            else:
                assert pooled[row, column] == np.nanmax(part)
                assert values[row, columns[row, column]] == pooled[row, column]


@given(GRIDS, st.integers(1, 30))
def test_pooling_a_difference_keeps_what_is_farthest_from_zero(values: np.ndarray, factor: int) -> None:
    pooled, _ = pool(values, factor, "farthest")
    for column in range(pooled.shape[1]):
        part = np.abs(values[:, column * factor : (column + 1) * factor])
        known = ~np.isnan(part).all(axis=1)
        assert (np.abs(pooled[known, column]) == np.nanmax(part[known], axis=1)).all()


@given(st.text(max_size=40), st.integers(1, 5), st.integers(0, 9))
def test_a_packed_grid_comes_back_whole(text: str, rows: int, columns: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    cells = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    header, back = unpack(pack({"rows": ["r"] * rows, "token": [text]}, cells))
    assert header["token"] == [text] and header["lock"] is None
    assert (back == cells).all() and back.shape == cells.shape
    for lock in ({"row": 0, "before": text}, None):
        locked = unpack(with_lock(pack(header, cells), lock))
        assert locked[0] == header | {"lock": lock} and (locked[1] == cells).all()
