"""What every command shares: results on stdout, progress and errors on stderr, one way to end."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
STARTED = time.monotonic()
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]


_said: list[bool] = []


def said_json() -> bool:
    """Whether the one JSON object of this command is already on stdout; asking clears it for the next command."""
    said = bool(_said)
    _said.clear()
    return said


def usage_errors() -> type[Exception]:
    """What Typer raises on wrong options and arguments; it has no public name of its own."""
    return typer.BadParameter.__bases__[0]


def new_app(help_text: str, *, single: bool = False) -> typer.Typer:
    """A Typer app with this project's manners: plain help, no shell completion, options from COTLENS_*."""
    app = typer.Typer(
        help=help_text,
        add_completion=False,
        no_args_is_help=not single,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"auto_envvar_prefix": "COTLENS", "help_option_names": ["-h", "--help"]},
    )
    if not single:
        # A callback keeps a group with one command a group.
        app.callback()(lambda: None)
    return app


def emit(result: dict[str, Any], as_json: bool, human: Callable[[], None]) -> None:
    """Print `result` as JSON, or let `human` print it for people."""
    if as_json:
        _said.append(True)
        print(json.dumps({"schema_version": SCHEMA_VERSION, **plain(result)}, allow_nan=False))
    else:
        human()
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """`value` with numpy numbers, paths and NaN made into what JSON knows; NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def print_table(frame: pd.DataFrame, *, digits: int = 3) -> None:
    print(frame.to_string(index=False, float_format=lambda x: f"{x:.{digits}f}", na_rep="–"))


class Bars:
    """Progress bars on stderr, one line for each stage; silent where stderr is not a terminal, but for a line a stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not self.live,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A stage of the work; call what it gives with (done, total)."""
        if not self.live:
            print(title, file=sys.stderr, flush=True)
        task = self._progress.add_task(title, total=None)

        reported = False

        def report(done: int, total: int) -> None:
            nonlocal reported
            reported = True
            self._progress.update(task, completed=done, total=total)

        yield report
        if not reported:
            report(1, 1)
