"""`cotlens causal follow`: does the answer go with a rewritten problem, and since which checkpoint of the training?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp.commands.asking import Batched, records, said
from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


@with_options
def follow(
    model: Model,
    asked: Batched = Batched(),
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(help="folder of a model, or of checkpoints (`organisms train --keep-every`); repeatable"),
    ] = None,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Change one constant, or one edge, of each problem: does the answer follow? Also over a training's checkpoints."""
    import interp.causal as causal

    reasoner, problems = asked.of(loading, model)
    folders = [folder for given in checkpoints or [] for folder in _models_in(given)]
    with Bars() as bars, bars.stage("rewritten problems") as report:
        models: dict[str, Reasoner] = dict(_loaded(folders, reasoner, loading)) | {reasoner.name: reasoner}
        table = causal.over_checkpoints(models, problems, seed=asked.seed, batch_size=asked.batch_size, progress=report)
    result = said(reasoner, problems, asked.seed, checkpoints=records(table))

    def human() -> None:
        print_table(table)
        print(
            "\nfollowed: the answer became the rewritten problem's; shuffled: that of another rewrite, which luck gives;\n"
            "kept: the old answer stayed; needless: it moved although the rewrite leaves the right answer as it was"
        )

    emit(result, as_json, human)


def _models_in(folder: Path) -> list[Path]:
    """The model that `folder` is, or those that it holds, in the order of their names."""
    from interp.errors import StoreError

    if (folder / "config.json").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/config.json")) if folder.is_dir() else []
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise StoreError(
            f"{folder} is no model and holds none. Give the checkpoints that `cotlens organisms train --keep-every` "
            "left in OUT/checkpoints, or folders in Hugging Face form."
        )
    return found


def _loaded(folders: list[Path], like: Reasoner, loading: Loading) -> list[tuple[str, Reasoner]]:
    """Each checkpoint under its folder's name, loaded as the command was told to load its model.

    Its own `reasoner.json` says how it thinks; one that has none thinks as the model itself does.
    """
    names = [folder.name for folder in folders]
    told = [str(folder) if names.count(folder.name) > 1 else folder.name for folder in folders]
    configs = [None if (folder / "reasoner.json").exists() else like.config.model_dump() for folder in folders]
    return [
        (name, loading.load(str(folder), said=False, reasoner=config))
        for name, folder, config in zip(told, folders, configs, strict=True)
    ]
