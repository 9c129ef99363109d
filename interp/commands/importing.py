"""`cotlens import`: what other programs wrote becomes traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import with_options
from interp.errors import PartialError, UsageError
from interp.runtime.console import AsJson, Bars, emit, new_app

app = new_app("Make traces of transcripts that were written elsewhere.")
_SHOWN = 5


@app.command("traces")
@with_options
def traces(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Chat messages (JSON, JSONL), logs of Inspect (.eval), Thought Anchors folders, or chat data sets "
            "(Parquet, Arrow)."
        ),
    ],
    to: Annotated[Path, typer.Option(help="Parquet file of traces to write.")],
    model: Annotated[
        str, typer.Option(help="The local model whose tokens they get: an organism, a folder or a hub id.")
    ],
    answer: Annotated[
        str | None, typer.Option(help="Column with the right answer.", show_default="found by its name")
    ] = None,
    written_by: Annotated[
        str | None, typer.Option(help="Who wrote the texts.", show_default="what the files say")
    ] = None,
    without_system: Annotated[
        bool, typer.Option("--without-system", help="Leave system messages out of the prompts.")
    ] = False,
    rollouts: Annotated[
        int, typer.Option(help="Thought Anchors: rollouts of each chunk to read, besides the base solutions.")
    ] = 0,
    no_pass: Annotated[
        bool,
        typer.Option("--no-pass", help="Do not let the model read the texts: no entropies, and no agreement with it."),
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Traces that the model reads at once.")] = 16,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Align transcripts to a local model's tokens, for captures, probes and faithfulness.

    What is assumed is listed. Transcripts that cannot be used are named with the reason; the exit code is then 3.

    Example: cotlens import traces chats.jsonl --model smollm2 --to runs/chats.parquet
    """
    from interp.errors import checked_count
    from interp.transcripts.importing import import_traces, summary

    if to.exists():
        raise UsageError(
            f"expected a new file for --to, got {to}, which exists already; choose another --to, or remove it."
        )
    checked_count("rollouts", rollouts, at_least=0)
    checked_count("batch_size", batch_size)
    missing = next((path for path in files if not path.exists()), None)
    if missing is not None:
        raise UsageError(f"expected files of transcripts, got {missing}, which does not exist; check the path.")
    reasoner = load_options.load(model)
    with Bars() as bars, bars.stage(f"importing {len(files)} files, read by {reasoner.name}") as report:
        result = import_traces(
            files,
            reasoner,
            answer_column=answer,
            system=not without_system,
            written_by=written_by,
            rollouts=rollouts,
            measure=not no_pass,
            batch_size=batch_size,
            progress=report,
        )
    result.traces.to_parquet(to)
    graded = result.graded
    accuracy = sum(graded) / len(graded) if graded else None
    record = {
        "formats": result.formats,
        "reasoner": reasoner.name,
        **summary(result),
        "fields": result.fields,
        "graded": len(graded),
        "accuracy": accuracy,
        "out": str(to),
    }

    def print_text() -> None:
        for path, name in result.formats.items():
            print(f"{path}: {name}")
        right = "none graded" if accuracy is None else f"{accuracy:.3f} of {len(graded)} right"
        print(f"{len(result.traces)} traces ({right}) in {to}, {len(result.refused)} transcripts refused")
        print_assumptions(result.assumptions)
        for name, role in result.fields.items():
            print(f"column {name}: {role}")

    emit(record, as_json, print_text)
    if result.refused:
        raise PartialError(
            f"{len(result.refused)} transcripts refused, the others are in {to}: {listed(record['refused'])}. "
            "Correct them and import them with another --to."
        )


def print_assumptions(assumptions: dict[str, str]) -> None:
    """Print what was assumed, a line each."""
    for name, value in assumptions.items():
        name = name.rstrip("0123456789 ")
        print(f"assumed {name}: {value}")
    sys.stdout.flush()


def listed(reasons: list[str]) -> str:
    """Return the first few of some reasons, and how many more there are."""
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return "; ".join(reason.rstrip(".") for reason in reasons[:_SHOWN]) + more
