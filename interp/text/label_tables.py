"""Labels of a user's own table: one row for each problem, step, sentence or token of some traces.

A table names the trace of each row (`trace`, its number from 0, or `id` or `question` of its problem), and may name a `step`,
a `sentence` (both from 1) or a `position` (from 0) in it. Every other column is a label. The columns `token` beside `position`,
and `text` beside `sentence`, are compared with the traces, so that a label never stands at another token in silence.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import StoreError, UsageError, counted
from interp.problems.questions.labels import label_text
from interp.text.token_text import TokenText
from interp.traces import Trace, TraceSet

_TRACE_KEYS = ("trace", "id", "question")
#: What a row labels, by the column that numbers it; a table without one labels whole traces.
UNITS = ("step", "sentence", "position")
_CHECKED = {"sentence": "text", "position": "token"}
_COLUMNS = ["trace", "unit", "number", "name", "value"]
_SHOWN = 3


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of labels as it stands in a file.

    Args:
        path: CSV, TSV, JSONL, JSON or Parquet, by the ending of its name.

    Raises:
        UsageError: The file cannot be read, or its ending is another.
    """
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda file: pd.read_csv(file, dtype=object, keep_default_na=False, na_values=[""]),
        ".tsv": lambda file: pd.read_csv(file, sep="\t", dtype=object, keep_default_na=False, na_values=[""]),
        ".jsonl": lambda file: pd.read_json(file, lines=True, dtype=False),
        ".json": lambda file: pd.read_json(file, dtype=False),
        ".parquet": pd.read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise UsageError(f"expected a table that ends in {', '.join(readers)}, got {path}; save it as one of them.")
    try:
        return readers[path.suffix.lower()](path)
    except (OSError, ValueError) as error:
        raise UsageError(f"expected a table of labels in {path}, got a file that cannot be read ({error}).") from None


def checked_labels(table: pd.DataFrame, traces: Sequence[Trace]) -> pd.DataFrame:
    """Return the labels of a table in one form, each checked against the traces.

    Args:
        table: The table.
        traces: The traces that it labels.

    Returns:
        One row for each label. Columns: trace (number from 0), unit (`trace` or one of `UNITS`), number (of the unit, -1
        for a trace), name, value.

    Raises:
        UsageError: The table names no trace, names units of two kinds or none that is there, says another token or text
            than the traces have, labels something twice, has no label, or a label's name is taken.
    """
    keys, units = ([name for name in names if name in table] for names in (_TRACE_KEYS, UNITS))
    if len(keys) != 1:
        raise UsageError(
            f"expected one column that names the trace of each row ({', '.join(_TRACE_KEYS)}), got "
            f"{' and '.join(keys) or 'none'}; keep one."
        )
    if len(units) > 1:
        raise UsageError(
            f"expected at most one of the columns {', '.join(UNITS)}, got {' and '.join(units)}; keep one."
        )
    unit = units[0] if units else "trace"
    checked = _CHECKED.get(unit)
    names = [name for name in table if name not in (*keys, *units, checked)]
    if not names or table.empty:
        raise UsageError(f"expected rows and a column of labels, got {len(table)} rows with the columns {list(table)}.")
    _refuse_taken(names, traces)
    numbers = _trace_numbers(table[keys[0]], keys[0], traces)
    rows: list[tuple[int, str, int, str, str]] = []
    for line, (number, record) in enumerate(zip(numbers, table.to_dict("records"), strict=True), 1):
        place = _unit_number(record, unit, traces[number], line)
        if checked in record:
            _check_text(record[checked], unit, place, traces[number], line)
        labels = {name: label_text(record[name]) for name in names}
        rows += [(number, unit, place, str(name), text) for name, text in labels.items() if text is not None]
    labels = pd.DataFrame(rows, columns=_COLUMNS)
    twice = labels[labels.duplicated(["trace", "number", "name"])]
    if len(twice):
        first = twice.iloc[0]
        raise UsageError(
            f"expected one label {first['name']} for each {unit}, got two for trace {first['trace']}"
            f"{'' if unit == 'trace' else f', {unit} ' + str(first['number'])}; keep one row."
        )
    return labels


def with_labels(traces: Sequence[Trace], labels: pd.DataFrame) -> TraceSet:
    """Return traces with labels beside those that they have.

    Args:
        traces: The traces.
        labels: As `checked_labels` returns them, of these traces.
    """
    out = list(traces)
    for number, of_trace in labels.groupby("trace"):
        trace = out[int(number)]
        own: dict[str, Any] = dict(trace.labels)
        of_tokens = {name: list(values) for name, values in trace.token_labels.items()}
        for (unit, name), part in of_trace.groupby(["unit", "name"], sort=False):
            values = dict(zip(part["number"].tolist(), part["value"].tolist(), strict=True))
            if unit == "trace":
                own[name] = values[-1]
            elif unit == "step":
                own[name] = [values.get(step) for step in range(1, max(trace.problem.n_steps, *values) + 1)]
            else:
                numbers = range(len(trace)) if unit == "position" else trace.sentence
                of_tokens[name] = [values.get(n) for n in numbers]
        out[int(number)] = trace.with_labels(own, of_tokens)
    return TraceSet(out)


def labels_bytes(labels: pd.DataFrame) -> bytes:
    """Return labels as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    labels.to_parquet(buffer, index=False)
    return buffer.getvalue()


def read_labels(path: Any) -> pd.DataFrame:
    """Return labels from a file of `labels_bytes`.

    Raises:
        StoreError: The file is damaged.
    """
    try:
        with path.open("rb") as file:
            return pd.read_parquet(io.BytesIO(file.read()))[_COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"expected labels in {path}, got a file that cannot be read ({error}); remove it and import the labels again."
        ) from None


def _refuse_taken(names: Sequence[str], traces: Sequence[Trace]) -> None:
    taken = {name for t in traces for name in (*t.own_labels, *t.token_labels)}
    both = [name for name in names if name in taken]
    if both:
        raise UsageError(
            f"expected new names of labels, got {', '.join(both)}, which these traces have already; name the column otherwise."
        )


def _trace_numbers(column: pd.Series, key: str, traces: Sequence[Trace]) -> list[int]:
    if key == "trace":
        known = {str(number): [number] for number in range(len(traces))}
    else:
        known = {}
        for number, trace in enumerate(traces):
            known.setdefault(trace.problem.id if key == "id" else trace.problem.question, []).append(number)
    asked = [label_text(value) or "" for value in column]
    missing = [value for value in dict.fromkeys(asked) if value not in known]
    if missing:
        raise UsageError(
            f"expected {key}s of the {counted(len(traces), 'trace')}, got {len(missing)} others, such as {missing[:_SHOWN]}; correct "
            "the table, or name the traces that it labels."
        )
    several = next((value for value in asked if len(known[value]) > 1), None)
    if several is not None:
        raise UsageError(f"expected one trace with {key} {several!r}, got {len(known[several])}; use the column trace.")
    return [known[value][0] for value in asked]


def _unit_number(record: dict[str, Any], unit: str, trace: Trace, line: int) -> int:
    """Return the number of the step, sentence or position of a row, -1 for a whole trace."""
    if unit == "trace":
        return -1
    text = label_text(record[unit]) or ""
    number = int(text) if text.isdecimal() else -1
    if unit == "position":
        last, first = len(trace) - 1, 0
    else:
        last = max(trace.sentence, default=0) if unit == "sentence" else max([trace.problem.n_steps, *trace.step])
        first = 1
    if not first <= number <= last:
        there = f"{first} to {last}" if last >= first else "none"
        raise UsageError(
            f"expected a {unit} of trace {trace.id} in row {line} ({there}), got {text!r}; correct the table."
        )
    return number


def _check_text(given: Any, unit: str, number: int, trace: Trace, line: int) -> None:
    """Refuse a row whose text is not what the trace has there."""
    if label_text(given) is None:
        return
    numbers = [number] if unit == "position" else [k for k, n in enumerate(trace.sentence) if n == number]
    tokens = [trace.tokens[k] for k in numbers]
    there = TokenText(trace.tokens).join(tokens)
    if "".join(str(given).split()) not in ("".join(there.split()), "".join(tokens)):
        raise UsageError(
            f"expected {there!r}, the {unit} {number} of trace {trace.id}, in row {line}, got {str(given)!r}; the table "
            "belongs to other traces, or counts otherwise."
        )
