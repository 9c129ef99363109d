"""What commands that load a model share: its options, and what is said about it on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

HowItThinks = Annotated[
    str | None,
    typer.Option(help='how the model thinks, as JSON or a file of it: {"kind": "text", "begin": "<t>", "end": "</t>"}'),
]
Device = Annotated[str | None, typer.Option(help="as cpu or cuda:1; CUDA where there is one by default")]
Dtype = Annotated[str | None, typer.Option("--model-dtype", help="float32, float16 or bfloat16 to compute in")]
Base = Annotated[str | None, typer.Option(help="the model that a bare state dict (Coconut, CODI) began as")]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="read weights kept as pickle, without running code")]


def load_said(model: str, reasoner: str | None = None, **options: Any) -> Reasoner:
    """Load a model for a command, and say on stderr what was only assumed about it or not found out."""
    from interp.loading import load

    found = load(model, reasoner=given(reasoner), **options)
    unsure = found.loaded.line()
    if unsure:
        print(f"note: {found.name}: {unsure}. All of it: cotlens doctor {model}", file=sys.stderr, flush=True)
    return found


def given(reasoner: str | None) -> dict[str, Any] | None:
    """`--reasoner` as the fields of a config."""
    if reasoner is None:
        return None
    try:
        text = reasoner if reasoner.lstrip().startswith("{") else Path(reasoner).read_text()
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--reasoner is JSON or the path of a JSON file, but {reasoner[:80]!r} came ({error})."
        ) from None
    if not isinstance(found, dict):
        raise UsageError(f"--reasoner is a JSON object, but {reasoner[:80]!r} came.")
    return found
