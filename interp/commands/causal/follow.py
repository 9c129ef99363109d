"""`cotlens causal follow`: test whether the answer follows a rewritten problem, also over training checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp.commands.causal.options import BATCH_DEFAULTS, BatchOptions, records, result_of
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.results import ResultFile, write_result

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


@with_options
def follow(
    model: Model,
    options: BatchOptions = BATCH_DEFAULTS,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a model, or of checkpoints (`organisms train --keep-every`). Repeatable."),
    ] = None,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Change one constant or one edge of each problem, and test whether the answer follows.

    Example: cotlens causal follow chain-coconut --n 200
    """
    from interp import causal

    given = options.problem_set(load_options, model)
    reasoner = given.reasoner
    folders = [folder for path in checkpoints or [] for folder in _models_in(path)]
    with Bars() as bars, bars.stage("rewritten problems") as report:
        models: dict[str, Reasoner] = dict(_load_checkpoints(folders, reasoner, load_options)) | {
            reasoner.name: reasoner
        }
        table = causal.over_checkpoints(
            models, given.problems, seed=options.seed, batch_size=options.batch_size, progress=report
        )
    record = result_of(given, checkpoints=records(table))

    def print_text() -> None:
        print_table(table)
        print(
            "\nfollowed: the answer is the rewritten problem's; shuffled: it is that of another rewrite, which measures "
            "chance;\nkept: the old answer stayed; needless: the answer changed although the rewrite leaves the right "
            "answer as it was"
        )

    write_result(out, "causal follow", reasoner.describe(), record)
    emit(record, as_json, print_text)


def _models_in(folder: Path) -> list[Path]:
    """Return `folder` if it is a model, or the models in it, sorted by name."""
    from interp.errors import StoreError

    if (folder / "config.json").is_file():
        return [folder]
    models = sorted(path.parent for path in folder.glob("*/config.json")) if folder.is_dir() else []
    models = [path for path in models if not path.name.startswith(".")]
    if not models:
        raise StoreError(
            f"expected a model or a folder of models, got {folder}, which is no model and holds none; give the "
            "checkpoints in OUT/checkpoints of `cotlens organisms train --keep-every`, or Hugging Face folders."
        )
    return models


def _load_checkpoints(folders: list[Path], like: Reasoner, load_options: LoadOptions) -> list[tuple[str, Reasoner]]:
    """Return each checkpoint with its folder's name.

    Its `reasoner.json` says how it thinks; without one it thinks as `like` does.
    """
    names = [folder.name for folder in folders]
    labels = [str(folder) if names.count(folder.name) > 1 else folder.name for folder in folders]
    configs = [None if (folder / "reasoner.json").exists() else like.config.model_dump() for folder in folders]
    return [
        (label, load_options.load(str(folder), note=False, reasoner=config))
        for label, folder, config in zip(labels, folders, configs, strict=True)
    ]
