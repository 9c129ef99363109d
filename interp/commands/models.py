"""Options of the commands that load a model, and the note about it on stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack, cast

import typer

from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.activations import Store
    from interp.loading.load import LoadArguments
    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class LoadOptions:
    """How a command loads its model. Each field is an option of the commands that use `with_options`."""

    reasoner: Annotated[
        str | None,
        typer.Option(
            help='How the model thinks, as JSON or the path of a JSON file: {"kind": "text", "begin": "<t>", "end": "</t>"}.',
            show_default="recognised from the model",
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(help="Device to run on, such as cpu or cuda:1.", show_default="CUDA where there is one, else cpu"),
    ] = None
    model_dtype: Annotated[
        str | None,
        typer.Option(help="Type to compute in: float32, float16 or bfloat16.", show_default="the model's own"),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            help="Model that an adapter or a bare state dict (Coconut, CODI) was trained from: a folder or a hub id."
        ),
    ] = None
    lora_alpha: Annotated[float | None, typer.Option(help="Scale of the low-rank adapters of a state dict.")] = None
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read weights that are stored as pickle. No code of them is run.")
    ] = False

    def load(self, model: str, *, note: bool = True, **changes: Unpack[LoadArguments]) -> Reasoner:
        """Load a model, and print on stderr what was assumed about it.

        Args:
            model: A shipped organism, a folder or a hub id.
            note: Whether to print it.
            **changes: Options of `interp.load` that replace those of the command.
        """
        from interp.loading.load import load

        arguments = self._arguments()
        arguments.update(changes)
        reasoner = load(model, **arguments)
        unsure = reasoner.loaded.line()
        if unsure and note:
            print(f"note: {reasoner.name}: {unsure}. All of it: cotlens doctor {model}", file=sys.stderr, flush=True)
        return reasoner

    def load_for(self, store: Store, model: str | None = None) -> Reasoner:
        """Load the reasoner that a store was captured from.

        Args:
            store: An activation store. It records how its reasoner was loaded; options of the command win over that.
            model: Another model to load instead.
        """
        from interp.activations.reloading import reload

        if model is not None:
            return self.load(model)
        changes = {name: value for name, value in self._arguments().items() if value}
        return reload(store.meta, **cast("LoadArguments", changes))

    def _arguments(self) -> LoadArguments:
        return {
            "reasoner": _config(self.reasoner),
            "device": self.device,
            "dtype": self.model_dtype,
            "base": self.base,
            "lora_alpha": self.lora_alpha,
            "allow_pickle": self.allow_pickle,
            "strip_prefixes": True,  # the note on stderr says so
        }


LOAD_DEFAULTS = LoadOptions()
MaxThoughtTokens = Annotated[
    int | None,
    typer.Option(
        help="Largest number of thought tokens. A longer thought is closed there.",
        show_default="that of reasoner.json",
    ),
]
MaxAnswerTokens = Annotated[
    int | None, typer.Option(help="Largest number of answer tokens.", show_default="that of reasoner.json")
]
Model = Annotated[
    str,
    typer.Argument(
        help="A shipped organism (`cotlens organisms ls`), a fetched model (`cotlens models ls`), a folder, a GGUF file or "
        "a hub id."
    ),
]


def _config(reasoner: str | None) -> dict[str, Any] | None:
    """Return the value of `--reasoner` as fields of a reasoner's config."""
    if reasoner is None:
        return None
    try:
        is_json = reasoner.lstrip().startswith("{")
        config = json.loads(reasoner if is_json else Path(reasoner).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"expected JSON or the path of a JSON file after --reasoner, got {reasoner[:80]!r} ({error}); "
            'write it such as \'{"kind": "text"}\'.'
        ) from None
    if not isinstance(config, dict):
        raise UsageError(f"expected a JSON object after --reasoner, got {reasoner[:80]!r}.")
    return config
