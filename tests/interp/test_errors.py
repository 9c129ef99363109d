"""One family of errors; every message names the expected and the actual value."""

from __future__ import annotations

import math

import pytest

from interp.errors import (
    CotlensError,
    PartialError,
    QualityError,
    StoreError,
    UsageError,
    checked_count,
    unknown,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(CotlensError, 1), (UsageError, 2), (PartialError, 3), (QualityError, 4), (StoreError, 5)],
)
def test_each_kind_has_its_exit_code_and_one_base(kind: type[CotlensError], code: int) -> None:
    assert kind.exit_code == code
    assert issubclass(kind, CotlensError)


def test_a_usage_error_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        raise UsageError("x")


def test_unknown_suggests_the_closest_name_and_lists_what_is_known() -> None:
    error = unknown("animal", "hrose", ["cow", "horse"])
    assert isinstance(error, UsageError)
    assert "expected a known animal, got 'hrose'" in str(error)
    assert "did you mean 'horse'?" in str(error)
    assert "cow, horse" in str(error)


def test_unknown_suggests_nothing_where_no_name_is_close() -> None:
    assert "did you mean" not in str(unknown("animal", "xyz", ["cow", "horse"]))
    assert "Known: none." in str(unknown("animal", "xyz", []))


def test_unknown_stays_readable_when_hundreds_of_names_are_known() -> None:
    message = str(unknown("address", "blocks.0.hook_otu", [f"blocks.{k}.hook_out" for k in range(400)]))
    assert "did you mean 'blocks.0.hook_out'?" in message
    assert len(message) < 1500


@pytest.mark.parametrize("value", [1, 7, 3.0])
def test_whole_counts_pass(value: float) -> None:
    assert checked_count("n", value) == value
    assert type(checked_count("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None, math.nan, math.inf])
def test_other_values_are_refused_by_name(value: object) -> None:
    with pytest.raises(UsageError, match=r"n_things to be a whole number of at least 1"):
        checked_count("n_things", value)  # type: ignore[arg-type]
