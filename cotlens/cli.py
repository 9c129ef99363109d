"""The command `cotlens`. Each subcommand is imported on first use, so that `--help` is fast."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import shutil
import signal
import sys
import textwrap

from cotlens import __version__
from cotlens.options_file import defaults_for
from interp.errors import INTERRUPTED, CotlensError, Interrupted, StoreError, unknown
from interp.runtime.environment import COMPLETION, variable_prefix
from interp.runtime.terminal import print_anywhere

# Idle OpenMP threads that spin slow busy cores down many times. It must be set before PyTorch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


# Name to the Typer app (module:attribute) and the line in `cotlens --help`.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "dashboards.commands:demo",
        "run a whole study on a shipped organism: think, capture, probe, decode, intervene, report",
    ),
    "study": (
        "dashboards.commands:study",
        "the same story for any model: an organism, a folder or a hub id, on your questions or a task",
    ),
    "organisms": ("interp.commands.organisms:app", "list, train and check the shipped organisms"),
    "models": ("interp.commands.named_models:app", "fetch small pretrained models by name, and list them"),
    "think": ("interp.commands.think:app", "let a reasoner think about problems, and keep its traces"),
    "import": (
        "interp.commands.importing:app",
        "make traces of transcripts that were written elsewhere, and label traces by your own tables",
    ),
    "capture": ("interp.commands.capture:app", "record activations of traces in a store"),
    "probe": ("probes.commands.probe:app", "sweep linear probes over a store, with controls"),
    "decode": ("interp.commands.decode:app", "read thoughts with any decoder, and score all decoders in one table"),
    "lens": ("interp.commands.lens:app", "fit and merge Jacobian lenses, which `decode` and `causal` read with"),
    "subtext": (
        "probes.commands.subtext:app",
        "find what a chain of thought carries beyond its text, when the answer is decided, and whether a step will be wrong",
    ),
    "sae": ("interp.commands.sae:app", "train sparse autoencoders on a store, evaluate them, and name their features"),
    "causal": (
        "interp.commands.causal.app:app",
        "test whether the model uses what was read: swap, ablate, steer, edit and watch thoughts; judge the text",
    ),
    "report": ("dashboards.commands:report", "write a run as one self-contained HTML file"),
    "dash": ("dashboards.commands:dash", "open the dashboard over anything that this toolkit wrote"),
    "bench": ("cotlens.bench:app", "run the benches of a checkout and compare with other tools"),
    "config": (
        "cotlens.config:app",
        "write, show and check a file of options; list environment variables; completion of a shell",
    ),
    "doctor": ("interp.commands.doctor:app", "check versions, threads, device and disk"),
}
# Where people look for a subcommand that stands in another group.
STANDS_IN = {("causal", "commitment"): "subtext", ("subtext", "faithfulness"): "causal"}


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 0 for success, 1 for a failure, 2 for wrong usage, 3 for a partial result, 4 for a quality gate,
    5 for a store and 130 for an interruption.

    Args:
        argv: The arguments; those of the process by default.
    """
    arguments = sys.argv[1:] if argv is None else argv
    print_anywhere()
    signal.signal(signal.SIGINT, _interrupt)
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    if os.environ.get(COMPLETION):
        from cotlens.completion import answer

        return answer(COMMANDS)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        try:
            print(_help(), flush=True)
        except BrokenPipeError:  # `cotlens --help | head`
            return _leave_quietly()
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"cotlens {__version__}")
        return 0
    as_json = "--json" in arguments
    try:
        from interp.runtime.console import json_was_printed, usage_errors
        from interp.runtime.results import remember_command

        json_was_printed()
        remember_command(arguments)
        name, *options = arguments
        if (name, *options[:1]) in STANDS_IN:
            group = STANDS_IN[name, options[0]]
            print(f"note: `{name} {options[0]}` is `cotlens {group} {options[0]}`; that is run.", file=sys.stderr)
            name = group
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        app = pkgutil.resolve_name(COMMANDS[name][0])
        code = app(
            args=options,
            prog_name=f"cotlens {name}",
            standalone_mode=False,
            auto_envvar_prefix=variable_prefix(name),
            default_map=defaults_for(name, options, COMMANDS),
            obj=dict(COMMANDS),  # typer writes into it
        )
        return code if isinstance(code, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except CotlensError as error:
        return _fail(str(error), error.exit_code, as_json)
    except Interrupted:
        return _fail(
            "interrupted. Committed results are kept; run the same command again to resume.", INTERRUPTED, as_json
        )
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as error:
        if isinstance(error, usage_errors()):
            message = error.format_message()  # type: ignore[attr-defined]
            if "\n" in message:  # the help of a group without a command
                print(message, file=sys.stderr)
                return 2
            return _fail(f"{message} See `cotlens {arguments[0]} --help`.", 2, as_json)
        if os.environ.get("COTLENS_DEBUG"):
            raise
        known = _environment_error(error)
        if known is not None:
            return _fail(str(known), known.exit_code, as_json)
        detail = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return _fail(
            f"unexpected {type(error).__name__}: {detail} This is a defect; set COTLENS_DEBUG=1 to see where.",
            1,
            as_json,
        )


def _leave_quietly() -> int:
    """Return the exit code after a closed pipe, and keep Python from reporting the pipe once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _environment_error(error: Exception) -> CotlensError | None:
    """Return the error for the user where the file system or the memory gave out; None for a defect."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        from interp.runtime.files import os_error_hint

        unwritable = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)
        hint = os_error_hint(error) if unwritable else f"{error.strerror}. Check the path and its permissions."
        return StoreError(f"cannot read or write {_shortened(str(error.filename))}: {hint}")
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        reason = _shortened(" ".join(str(error).split()))
        return CotlensError(
            f"this needs more memory than there is{f' ({reason})' if reason else ''}; ask for less: fewer problems, "
            "a smaller batch or smaller sizes."
        )
    return None


def _shortened(text: str) -> str:
    """Return a text of at most 200 characters."""
    return text if len(text) <= 200 else f"{text[:120]} … {text[-60:]}"


def _interrupt(*_: object) -> None:
    """Turn Ctrl-C into an exception."""
    raise Interrupted


def _fail(message: str, code: int, as_json: bool) -> int:
    """Print an error, and the JSON object where the command has printed none; return the exit code."""
    message = " ".join(message.splitlines())  # names of files may hold line breaks
    print(f"error: {message}", file=sys.stderr)
    # The module may be missing where the error came while it was imported.
    json_was_printed = getattr(sys.modules.get("interp.runtime.console"), "json_was_printed", lambda: False)
    if not json_was_printed() and as_json:
        print(json.dumps({"schema_version": 1, "error": message, "exit_code": code}))
    return code


def _help() -> str:
    """Return the text of `cotlens --help`, no wider than the terminal."""
    columns = shutil.get_terminal_size((100, 24)).columns
    wide = max(map(len, COMMANDS)) + 4
    lines = [
        textwrap.fill(summary, columns, initial_indent=f"  {name}".ljust(wide), subsequent_indent=" " * wide)
        for name, (_, summary) in COMMANDS.items()
    ]
    return "\n".join(
        [
            "usage: cotlens COMMAND [options]",
            "",
            textwrap.fill(
                "Read the latents behind a chain of thought, and test whether the model uses what was read.", columns
            ),
            "",
            *lines,
            "",
            textwrap.fill(
                "Run `cotlens COMMAND --help` for its options and an example. Results go to stdout, progress and errors "
                "to stderr; --json prints one JSON object. Every option can be set by an environment variable: "
                "`cotlens config env`.",
                columns,
                break_on_hyphens=False,
            ),
            "",
            "Example:",
            "  cotlens demo --out runs/demo && cotlens dash runs/demo",
        ]
    )


if __name__ == "__main__":
    main()
