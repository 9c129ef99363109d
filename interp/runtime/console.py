"""What all commands share: results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.errors import counted
from interp.runtime.option_checks import CheckedApp, CheckedGroup
from interp.runtime.progress import WritingProgress, Written, duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress as RichProgress

SCHEMA_VERSION = 1
STARTED = time.monotonic()
# Where stderr is a file: seconds between two lines on how far a stage is, at least this share of its time so far, and
# seconds before the first line of a stage that writes, as one of its batches can take minutes.
_PRINT_EVERY, _PRINT_SHARE, _FIRST_NOTE = 10.0, 0.05, 3.0
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]

_json_printed = False


def json_was_printed() -> bool:
    """Return whether this command has printed its JSON object, and forget it for the next command."""
    global _json_printed
    printed, _json_printed = _json_printed, False
    return printed


def usage_errors() -> type[Exception]:
    """Return the class that Typer raises on wrong options and arguments, which has no public name."""
    return typer.BadParameter.__bases__[0]


def new_app(help_text: str, *, single: bool = False) -> typer.Typer:
    """Make a Typer app with plain help, no shell completion, and options from `COTLENS_*` variables.

    Args:
        help_text: The first line of its help.
        single: Whether it is one command, not a group.
    """
    app = CheckedApp(
        cls=CheckedGroup,
        help=help_text,
        add_completion=False,
        no_args_is_help=not single,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"auto_envvar_prefix": "COTLENS", "help_option_names": ["-h", "--help"]},
    )
    if not single:
        # Without a callback, Typer would turn a group of one command into that command.
        app.callback()(lambda: None)
    return app


def emit(result: dict[str, Any], as_json: bool, print_text: Callable[[], None]) -> None:
    """Print the result of a command.

    Args:
        result: The content of the JSON object.
        as_json: Whether to print JSON.
        print_text: Prints the result for people; called where `as_json` is False.
    """
    global _json_printed
    if as_json:
        _json_printed = True
        print(json.dumps({"schema_version": SCHEMA_VERSION, **jsonable(result)}, allow_nan=False))
    else:
        print_text()
    sys.stdout.flush()


def jsonable(value: Any) -> Any:
    """Convert numpy numbers, paths and containers to types that JSON has; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [jsonable(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def print_table(frame: pd.DataFrame, *, digits: int = 3) -> None:
    """Print a table to stdout, with `digits` decimals and "–" for missing values.

    On a terminal, a table that is too wide is broken into blocks of columns, and each block repeats the first columns,
    which name the rows. A file gets whole lines.
    """
    import pandas as pd

    def shown(value: Any) -> Any:
        is_interval = isinstance(value, (list, tuple)) and value and all(isinstance(end, float) for end in value)
        return f"[{', '.join(f'{end:.{digits}f}' for end in value)}]" if is_interval else value

    intervals = [column for column in frame if frame[column].dtype == object]
    frame = frame.assign(**{str(column): frame[column].map(shown) for column in intervals})
    to_text = partial(pd.DataFrame.to_string, index=False, float_format=lambda x: f"{x:.{digits}f}", na_rep="–")
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None
    blocks = [list(range(frame.shape[1]))] if width is None else _blocks(frame, width, to_text)
    print("\n\n".join(to_text(frame.iloc[:, block]) for block in blocks))


def _blocks(frame: pd.DataFrame, width: int, to_text: Callable[[pd.DataFrame], str]) -> list[list[int]]:
    """Return the columns of each block of a table whose lines fit `width`, as far as single columns do."""

    def fits(columns: list[int], room: float = width) -> bool:
        return max(map(len, to_text(frame.iloc[:, columns]).splitlines())) <= room

    columns = list(range(frame.shape[1]))
    if not columns or fits(columns):
        return [columns]
    keys: list[int] = []  # the texts at the beginning, as far as they leave half of the line to others
    for k in columns[:-1]:
        if frame.iloc[:, k].dtype.kind in "fc" or not fits([*keys, k], width / 2):
            break
        keys.append(k)
    blocks: list[list[int]] = []
    for k in columns[len(keys) :]:
        if blocks and fits([*blocks[-1], k]):
            blocks[-1].append(k)
        else:  # beside a wide column there may be room for fewer of the first columns, or for none
            n_keys = next((n for n in range(len(keys), 0, -1) if fits([*keys[:n], k])), 0)
            blocks.append([*keys[:n_keys], k])
    return blocks


class Bars:
    """Progress bars on stderr, one line for each stage.

    Where stderr is not a terminal, the title of each stage is printed, and in long stages how far it is.

    Attributes:
        live: Whether bars are drawn.
    """

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        width = console.width
        drawn = [progress.BarColumn(bar_width=max(8, min(40, width - 92)))] if width >= 80 else []
        elapsed = [progress.TimeElapsedColumn()] if width >= 80 else []
        self._progress = progress.Progress(
            progress.TextColumn(f"{{task.description:<{min(44, max(width - 55, 20))}}}"),
            *drawn,
            progress.MofNCompleteColumn(),
            *elapsed,
            progress.TextColumn(
                "{task.fields[note]}", table_column=Column(no_wrap=True, max_width=max(width - 36, 12))
            ),
            console=console,
            disable=not self.live,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[WritingProgress]:
        """Show a stage of the work, and yield the function to call with (done, total)."""
        if not self.live:
            print(title, file=sys.stderr, flush=True)
        stage = _Stage(title, None if not self.live else self._progress)
        yield stage
        if not stage.reported:
            stage(1, 1)
        stage.end()


class _Stage:
    """Shows one stage: in a bar, or in lines where there is none."""

    def __init__(self, title: str, bars: RichProgress | None) -> None:
        self._title, self._bars = title, bars
        self._task = None if bars is None else bars.add_task(title, total=None, note="")
        self._started = self._printed = time.monotonic()
        self._writes = self.reported = False

    def __call__(self, done: int, total: int) -> None:
        self.reported = True
        self._show(done, total, None)

    def written(self, written: Written) -> None:
        """Show how far thinking is."""
        self._writes = True
        self._show(written.done, written.total, written)

    def end(self) -> None:
        """Take away the note, which says what is left."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, note="")

    def _show(self, done: int, total: int, written: Written | None) -> None:
        now = time.monotonic()
        seconds = now - self._started
        if written is not None:
            note = _note_written(written)
        else:  # a stage that writes says itself how long it takes
            note = "" if self._writes else _note_left(done, total, seconds)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, note=note)
            return
        is_first = written is not None and self._printed == self._started
        pause = _FIRST_NOTE if is_first else max(_PRINT_EVERY, _PRINT_SHARE * seconds)
        if now - self._printed >= pause:
            self._printed = now
            line = f"{self._title}: {done} of {total} after {seconds:.0f} s"
            print(", ".join([line, *filter(None, [note])]), file=sys.stderr, flush=True)


def _note_written(written: Written) -> str:
    tokens = counted(written.n_tokens, "token")
    if written.seconds_left is None:
        return tokens
    return f"{tokens}, {'at most' if written.is_bound else 'about'} {duration(written.seconds_left)} left"


def _note_left(done: int, total: int, seconds: float) -> str:
    """Return the time left at the pace so far; empty where there is none, or nothing is known of it."""
    if done >= total or not done or seconds < _FIRST_NOTE:
        return ""
    return f"about {duration(seconds * (total - done) / done)} left"
