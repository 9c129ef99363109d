"""What commands that load a model share: its options, and what is said about it on stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.activations import Store
    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class Loading:
    """How a command was told to load its model; the fields are the options that `with_options` gives it."""

    reasoner: Annotated[
        str | None,
        typer.Option(
            help='how the model thinks, as JSON or a file of it: {"kind": "text", "begin": "<t>", "end": "</t>"}'
        ),
    ] = None
    device: Annotated[str | None, typer.Option(help="as cpu or cuda:1; CUDA where there is one by default")] = None
    model_dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16 to compute in")] = None
    base: Annotated[
        str | None, typer.Option(help="the model that a bare state dict (Coconut, CODI) began as: a folder or a hub id")
    ] = None
    lora_alpha: Annotated[float | None, typer.Option(help="the scale of a state dict's low-rank adapters")] = None
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="read weights kept as pickle, without running code")
    ] = False

    def load(self, model: str, *, said: bool = True, **changes: Any) -> Reasoner:
        """Load a model, and say on stderr what was only assumed about it or not found out.

        `changes` are options of `interp.load` that differ from what the command was told.
        """
        from interp.loading.load import load

        found = load(model, **self._options() | changes)
        unsure = found.loaded.line()
        if unsure and said:
            print(f"note: {found.name}: {unsure}. All of it: cotlens doctor {model}", file=sys.stderr, flush=True)
        return found

    def load_for(self, store: Store, model: str | None = None) -> Reasoner:
        """The model given, else the one that a store was captured from, as it was loaded then but for what was asked."""
        from interp.activations.reloading import reload

        if model is not None:
            return self.load(model)
        asked = {name: value for name, value in self._options().items() if value}
        return reload(store.meta, **asked)

    def _options(self) -> dict[str, Any]:
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        dtype = said.pop("model_dtype")
        return said | {"reasoner": _config(self.reasoner), "dtype": dtype}


AS_USUAL = Loading()
Model = Annotated[str, typer.Argument(help="a shipped organism, a folder or a hub id")]


def _config(reasoner: str | None) -> dict[str, Any] | None:
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
