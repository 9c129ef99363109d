"""What all commands share: results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.runtime.option_checks import CheckedApp, CheckedGroup
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
STARTED = time.monotonic()
_PRINT_EVERY = 10.0  # seconds between two lines on how far a stage is, where stderr is a file
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

    On a terminal, a table that is too wide is broken into blocks of columns; a file gets whole lines.
    """

    def shown(value: Any) -> Any:
        is_interval = isinstance(value, (list, tuple)) and value and all(isinstance(end, float) for end in value)
        return f"[{', '.join(f'{end:.{digits}f}' for end in value)}]" if is_interval else value

    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None
    intervals = [column for column in frame if frame[column].dtype == object]
    frame = frame.assign(**{str(column): frame[column].map(shown) for column in intervals})
    print(frame.to_string(index=False, float_format=lambda x: f"{x:.{digits}f}", na_rep="–", line_width=width))


class Bars:
    """Progress bars on stderr, one line for each stage.

    Where stderr is not a terminal, the title of each stage is printed, and in long stages how far it is.

    Attributes:
        live: Whether bars are drawn.
    """

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self._progress = progress.Progress(
            progress.TextColumn("{task.description:<44}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=console,
            disable=not self.live,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """Show a stage of the work, and yield the function to call with (done, total)."""
        if not self.live:
            print(title, file=sys.stderr, flush=True)
        task = self._progress.add_task(title, total=None)
        reported = False
        started = printed = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal reported, printed
            reported = True
            self._progress.update(task, completed=done, total=total)
            now = time.monotonic()
            if not self.live and now - printed >= _PRINT_EVERY:
                printed = now
                print(f"{title}: {done} of {total} after {now - started:.0f} s", file=sys.stderr, flush=True)

        yield report
        if not reported:
            report(1, 1)
