"""`cotlens lens`: fit Jacobian lenses to texts or traces, merge them, and show what a lens was fitted to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.layers import layer_numbers
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.errors import StoreError, UsageError, counted
from interp.runtime.console import AsJson, Bars, emit, new_app
from interp.runtime.files import refuse_existing

if TYPE_CHECKING:
    from interp.decoders.jacobian.estimate import Context
    from interp.decoders.jacobian.lens_file import LensFile
    from interp.reasoners import Reasoner

app = new_app("Fit a Jacobian lens to texts or to a model's own traces, merge lenses, and show what one was fitted to.")
Out = Annotated[Path, typer.Option(help="File of the lens, such as lens.pt.")]


@app.command("fit")
@with_options
def fit(
    model: Model,
    out: Out,
    traces: Annotated[Path | None, typer.Option(help="Parquet file of the model's own traces.")] = None,
    texts: Annotated[Path | None, typer.Option(help="Text file, one text a line, in place of --traces.")] = None,
    contexts: Annotated[int | None, typer.Option(help="Use only so many of them, the first ones.", min=1)] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Blocks whose output is read, such as 0,2,4 or 0-3.", show_default="all but the last"),
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            help="Positions of traces that are sources: prompt, thought, latent, answer or special. Repeatable.",
            show_default="every channel",
        ),
    ] = None,
    skip_first: Annotated[
        int | None,
        typer.Option(help="Positions at the beginning that do not count.", show_default="16 of texts, 0 of traces"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Texts are cut to so many tokens.")] = 128,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            help="Fit only the rows of this token. Repeatable. Of a large vocabulary, a few take far less time."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Contexts that run at once.")] = 16,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Fit a Jacobian lens. Run the same command again to resume a fit that was cut off.

    Example: cotlens lens fit chain-coconut --traces runs/traces.parquet --out lens.pt
    """
    from interp.decoders.jacobian.estimate import Positions
    from interp.decoders.jacobian.fitting import SKIP_FIRST, fit_jacobians
    from interp.decoders.jacobian.lens import token_ids

    if (traces is None) == (texts is None):
        raise UsageError("expected --traces or --texts, and not both; name the contexts to average over.")
    if texts is not None and channels:
        raise UsageError("expected --channels with --traces, got --texts, which have one channel; leave it out.")
    refuse_existing(out)
    reasoner = load_options.load(model)
    given = _contexts(reasoner, traces, texts, max_tokens)[:contexts]
    checkpoint = out.with_name(f"{out.name}.part")
    skipped = skip_first if skip_first is not None else SKIP_FIRST if texts is not None else 0
    with Bars() as bars, bars.stage(f"Jacobian lens of {reasoner.name}") as report:
        lens = fit_jacobians(
            reasoner,
            given,
            layers=layer_numbers(layers),
            positions=Positions(skipped, tuple(channels) if channels else None),
            candidates=token_ids(reasoner, candidate) if candidate else None,
            batch_size=batch_size,
            checkpoint=checkpoint,
            progress=report,
        )
    lens.write(out)
    checkpoint.unlink(missing_ok=True)
    _emit(lens, out, as_json)


@app.command("merge")
def merge(
    lenses: Annotated[list[Path], typer.Argument(help="Files of lenses that were fitted to different contexts.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Merge lenses of one model into the lens of all their contexts.

    Example: cotlens lens merge part1.pt part2.pt --out lens.pt
    """
    from interp.decoders.jacobian.lens_file import LensFile
    from interp.decoders.jacobian.lens_file import merge as merged

    refuse_existing(out)
    lens = merged([LensFile.read(path) for path in lenses])
    lens.write(out)
    _emit(lens, out, as_json)


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="File of a Jacobian lens.")],
    as_json: AsJson = False,
) -> None:
    """Show what a Jacobian lens was fitted to.

    Example: cotlens lens show lens.pt
    """
    from interp.decoders.jacobian.lens_file import LensFile

    _emit(LensFile.read(path), path, as_json)


def _contexts(reasoner: Reasoner, traces: Path | None, texts: Path | None, max_tokens: int) -> list[Context]:
    from interp.activations.identity import check_own
    from interp.decoders.jacobian.fitting import text_contexts
    from interp.traces import TraceSet

    if traces is not None:
        own = TraceSet.from_parquet(traces)
        check_own(reasoner, own)
        return list(own)
    assert texts is not None
    try:
        lines = [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"expected a text file with one text a line, got {texts} ({error}); name another.") from None
    return text_contexts(reasoner, lines, max_tokens)


def _emit(lens: LensFile, path: Path, as_json: bool) -> None:
    record: dict[str, Any] = {
        "path": str(path),
        "layers": sorted(lens.matrices),
        "width": lens.width,
        "contexts": lens.n_contexts,
        "candidates": None if lens.candidates is None else list(lens.candidates),
        "finished": lens.next_context is None,
        "metadata": lens.metadata,
    }

    def print_text() -> None:
        layers, of = record["layers"], lens.metadata.get("reasoner") or lens.metadata.get("model_name") or "unnamed"
        rows = "" if lens.candidates is None else f", for {len(lens.candidates)} tokens"
        print(
            f"{path}: Jacobian lens of {of}, layers {layers[0]} to {layers[-1]}, width {lens.width}, "
            f"{counted(lens.n_contexts, 'context')}{rows}"
        )

    emit(record, as_json, print_text)
