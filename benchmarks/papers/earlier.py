"""Keep the rows of an earlier run whose organisms are missing in a later one.

Not all organisms are shipped. Measuring the shipped ones again must not lose the results of the others.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

# Part of the caption of a table of another training seed.
OF_SEED = ", training seed "
NOTE = "Rows of missing organisms are from an earlier run."


def with_earlier_rows(section: dict[str, Any], before: dict[str, Any], missing: list[str]) -> dict[str, Any]:
    """Return a section completed with what only an earlier run measured.

    A row is identified by the words in its first two columns, up to the first number.

    Args:
        section: A section as plain values.
        before: The same section of an earlier run, or an empty dict.
        missing: Organisms that the section could not measure.

    Returns:
        The section with the earlier tables of other training seeds and, where organisms are missing, their earlier
        rows. A section without tables is replaced by the earlier one.
    """
    if not before.get("tables"):
        return section
    if not section["tables"]:
        return {key: value for key, value in before.items() if key != "seeds"}
    tables, notes = dict(section["tables"]), list(section["notes"])
    for caption, rows in before["tables"].items():
        if caption not in tables and OF_SEED in caption:
            tables[caption] = rows
        elif caption in tables and missing:
            tables[caption] = _merge_rows(tables[caption], rows)
            if len(tables[caption]) > len(section["tables"][caption]) and NOTE not in notes:
                notes.append(NOTE)
    return section | {"tables": tables, "notes": notes}


def _merge_rows(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows and those that are only in `earlier`, in the order of `earlier`.

    Earlier rows whose first column has another name are left out: what they hold goes by other words now.
    """
    names = {next(iter(row)) for row in rows}
    earlier = [row for row in earlier if not names or next(iter(row)) in names]
    present = set(map(_key, rows))
    order = list(dict.fromkeys(map(_key, [*earlier, *rows])))
    return sorted(
        [*rows, *(row for row in earlier if _key(row) not in present)], key=lambda row: order.index(_key(row))
    )


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the words that identify a row."""
    return tuple(takewhile(lambda value: isinstance(value, str), list(row.values())[:2]))
