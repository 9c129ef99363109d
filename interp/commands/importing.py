"""`cotlens import`: what other programs wrote becomes traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import OldName, with_options
from interp.errors import PartialError, UsageError, counted
from interp.runtime.console import AsJson, Bars, emit, new_app
from interp.runtime.files import refuse_existing

app = new_app("Make traces of transcripts that were written elsewhere, and label traces by tables of your own.")
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
    model: Annotated[
        str, typer.Option(help="The local model whose tokens they get: an organism, a folder or a hub id.")
    ],
    out: Annotated[Path, typer.Option(help="Parquet file of traces to write."), OldName("--to")],
    answer: Annotated[
        str | None, typer.Option(help="Column with the right answer.", show_default="found by its name")
    ] = None,
    written_by: Annotated[
        str | None, typer.Option(help="Who wrote the texts.", show_default="what the files say")
    ] = None,
    system: Annotated[
        bool,
        typer.Option("--system/--no-system", help="Keep the system messages of the prompts."),
        OldName("--without-system", value=False),
    ] = True,
    rollouts: Annotated[
        int, typer.Option(help="Thought Anchors: rollouts of each chunk to read, besides the base solutions.")
    ] = 0,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure", help="Let the model read the texts, for entropies and its agreement with them."
        ),
        OldName("--no-pass", value=False),
    ] = True,
    batch_size: Annotated[int, typer.Option(help="Traces that the model reads at once.")] = 16,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Align transcripts to a local model's tokens, for captures, probes and faithfulness.

    What is assumed is listed. Transcripts that cannot be used are named with the reason; the exit code is then 3.

    Example: cotlens import traces chats.jsonl --model smollm2 --out runs/chats.parquet
    """
    from interp.errors import checked_count
    from interp.transcripts.importing import import_traces, summary

    refuse_existing(out)
    checked_count("rollouts", rollouts, at_least=0)
    checked_count("batch_size", batch_size)
    missing = next((path for path in files if not path.exists()), None)
    if missing is not None:
        raise UsageError(f"expected files of transcripts, got {missing}, which does not exist; check the path.")
    reasoner = load_options.load(model)
    with Bars() as bars, bars.stage(f"importing {counted(len(files), 'file')}, read by {reasoner.name}") as report:
        result = import_traces(
            files,
            reasoner,
            answer_column=answer,
            system=system,
            written_by=written_by,
            rollouts=rollouts,
            measure=measure,
            batch_size=batch_size,
            progress=report,
        )
    result.traces.to_parquet(out)
    graded = result.graded
    accuracy = sum(graded) / len(graded) if graded else None
    record: dict[str, Any] = {
        "formats": result.formats,
        "reasoner": reasoner.name,
        **summary(result),
        "fields": result.fields,
        "graded": len(graded),
        "accuracy": accuracy,
        "out": str(out),
    }

    def print_text() -> None:
        for path, name in result.formats.items():
            print(f"{path}: {name}")
        right = "none graded" if accuracy is None else f"{accuracy:.3f} of {len(graded)} right"
        print(
            f"{counted(len(result.traces), 'trace')} ({right}) in {out}, {counted(len(result.refused), 'transcript')} refused"
        )
        print_assumptions(result.assumptions)
        for name, role in result.fields.items():
            print(f"column {name}: {role}")

    emit(record, as_json, print_text)
    if result.refused:
        raise PartialError(
            f"{counted(len(result.refused), 'transcript')} refused, the others are in {out}: {listed(record['refused'])}. "
            "Correct them and import them with another --out."
        )


@app.command("labels")
def labels(
    table: Annotated[
        Path, typer.Argument(help="CSV, TSV, JSONL, JSON or Parquet: a row for each trace, step, sentence or token.")
    ],
    to: Annotated[Path, typer.Option(help="Folder of an activation store, or Parquet file of traces, that it labels.")],
    out: Annotated[
        Path | None, typer.Option(help="Parquet file of labelled traces to write, where --to is a file of traces.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add the columns of a table to traces or a store as labels, which are targets for probes and decoders.

    The table names the trace of each row by `trace` (its number from 0), `id` or `question`, and a `step`, `sentence`
    or `position` in it, if it labels these. Where it has a column `token` or `text`, that is compared with the traces.

    Example: cotlens import labels labels.csv --to runs/text-store
    """
    from interp.activations.labelling import label_store
    from interp.text.label_tables import checked_labels, read_table, with_labels
    from interp.traces import TraceSet

    given = read_table(table)
    if not to.exists():
        raise UsageError(f"expected an activation store or a file of traces for --to, got {to}, which does not exist.")
    if to.is_dir():
        if out is not None:
            raise UsageError(f"expected --out with a file of traces, got it with the folder {to}; leave it out.")
        added, n_traces = label_store(to, given)
        where = to
    else:
        if out is None:
            raise UsageError(
                "expected a new file for --out, where the labelled traces are written, got none; name one."
            )
        refuse_existing(out)
        recorded = TraceSet.from_parquet(to)
        added, n_traces = checked_labels(given, recorded), len(recorded)
        with_labels(recorded, added).to_parquet(out)
        where = out
    record: dict[str, Any] = {
        "to": str(where),
        "traces": n_traces,
        "labels": [
            {
                "label": str(name),
                "of": str(part["unit"].iloc[0]),
                "n": len(part),
                "traces": int(part["trace"].nunique()),
                "values": sorted(part["value"].unique())[:20],
                "n_values": int(part["value"].nunique()),
            }
            for name, part in added.groupby("name", sort=False)
        ],
    }

    def print_text() -> None:
        for row in record["labels"]:
            print(
                f"{row['label']}: {counted(row['n'], 'label')} of a {row['of']}, {counted(row['n_values'], 'value')}, in {row['traces']} of "
                f"{counted(n_traces, 'trace')}"
            )
        print(f"in {where}")

    emit(record, as_json, print_text)


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
