"""`cotlens`: the table of commands. Each is imported only when it is used, so `--help` stays instant."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys

from cotlens import __version__
from interp.errors import INTERRUPTED, CotlensError, Interrupted, unknown

# Idle OpenMP threads that spin make two busy cores many times slower; this has to be said before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Names, not imports: the packages above this one draw no arrow from here.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "dashboards.commands:demo",
        "the whole story on a shipped organism: think, capture, probe, decode, intervene, report",
    ),
    "organisms": ("interp.commands.organisms:app", "list, train and check the shipped organisms"),
    "think": ("interp.commands.think:app", "let a reasoner think about problems and keep its traces"),
    "capture": ("interp.commands.capture:app", "record activations of traces in a store"),
    "probe": ("probes.commands.probe:app", "sweep linear probes over a store, with their controls"),
    "decode": ("interp.commands.decode:app", "read thoughts with any decoder, and score them all in one table"),
    "subtext": (
        "probes.commands.subtext:app",
        "what a chain of thought says beyond its text: measure, locate, discover, commitment, foresight, uncertainty",
    ),
    "sae": ("interp.commands.sae:app", "train sparse autoencoders on a store, evaluate them, name their features"),
    "causal": (
        "interp.commands.causal:app",
        "interchange, ablate, steer, monitor, attribute, swap, follow: is what was read also used?",
    ),
    "report": ("dashboards.commands:report", "write a run as one self-contained HTML file"),
    "dash": ("dashboards.commands:dash", "open the dashboard over a run"),
    "bench": ("cotlens.bench:app", "take measures beside their peers, in a checkout"),
    "doctor": ("interp.commands.doctor:app", "check versions, threads, device and disk"),
}


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code: 0, 1 failure, 2 usage, 3 partial, 4 quality gate, 5 store, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGINT, _interrupt)
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"cotlens {__version__}")
        return 0
    as_json = "--json" in arguments
    try:
        from interp.runtime.console import json_was_printed, usage_errors

        json_was_printed()
        name, *rest = arguments
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        module, _, attribute = COMMANDS[name][0].partition(":")
        app = getattr(importlib.import_module(module), attribute)
        code = app(args=rest, prog_name=f"cotlens {name}", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except CotlensError as error:
        return _fail(str(error), error.exit_code, as_json)
    except Interrupted:
        return _fail(
            "interrupted. What was committed is kept; run the same command again to go on.", INTERRUPTED, as_json
        )
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if isinstance(error, usage_errors()):
            said = error.format_message()  # type: ignore[attr-defined]
            if "\n" in said:  # a group without a command: its help, which says enough
                print(said, file=sys.stderr)
                return 2
            return _fail(f"{said} See `cotlens {arguments[0]} --help`.", 2, as_json)
        if os.environ.get("COTLENS_DEBUG"):
            raise
        detail = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return _fail(
            f"unexpected {type(error).__name__}: {detail} This is a defect; set COTLENS_DEBUG=1 to see where.",
            1,
            as_json,
        )


def _interrupt(*_: object) -> None:
    raise Interrupted


def _fail(message: str, code: int, as_json: bool) -> int:
    print(f"error: {message}", file=sys.stderr)
    # Asked of the module only if it is there: an error may come while it is being imported.
    json_was_printed = getattr(sys.modules.get("interp.runtime.console"), "json_was_printed", lambda: False)
    if not json_was_printed() and as_json:
        print(json.dumps({"schema_version": 1, "error": message, "exit_code": code}))
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {said}" for name, (_, said) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cotlens COMMAND [options]",
            "",
            "Read the latents behind a chain of thought, and test whether the model uses what was read.",
            "",
            *lines,
            "",
            "`cotlens COMMAND --help` says more. Results go to stdout, progress and errors to stderr; --json prints one object.",
        ]
    )


if __name__ == "__main__":
    main()
