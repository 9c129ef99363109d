"""`cotlens organisms`: list, train and check the shipped organisms."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from interp.commands.options import OldName, with_options
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.progress import Progress

app = new_app("List, train and check organisms: small models with exact ground truth about their thoughts.")


@app.command("ls")
def list_organisms(as_json: AsJson = False) -> None:
    """List every organism with its task, its kind and its accuracy.

    Example: cotlens organisms ls
    """
    from interp.errors import StoreError
    from interp.organisms.catalog import card, recipes

    rows = []
    for name, recipe in recipes().items():
        try:
            written = card(name)
        except (StoreError, FileNotFoundError):
            written = {"accuracy": None, "seed": None, "parameters": None}
        rows.append(
            {
                "name": name,
                "kind": recipe.kind,
                "task": recipe.task,
                "accuracy": written["accuracy"],
                "parameters": written["parameters"],
                "seed": written["seed"],
                "summary": recipe.summary,
                "weaknesses": recipe.weaknesses,
            }
        )

    emit({"organisms": rows}, as_json, lambda: print(_listing(rows)))


def _listing(rows: Sequence[Mapping[str, str | float | None]]) -> str:
    """Return the organisms as text: a line of columns for each, and below it what it does."""
    columns = shutil.get_terminal_size((100, 24)).columns
    lines = [f"{'name':<30}  {'kind':<15}  {'right':>5} task"]
    for row in rows:
        right = "  -  " if row["accuracy"] is None else f"{row['accuracy']:.3f}"
        summary = f"{row['summary']}{'' if row['accuracy'] is not None else ' Not shipped: train it.'}"
        line = f"{row['name']:<30}  {row['kind']:<15}  {right} {row['task']}"
        # A long name of a task has a line of its own on a narrow terminal.
        parts = [line] if len(line) <= columns else [line.removesuffix(f" {row['task']}"), f"    task {row['task']}"]
        lines += parts
        lines.append(textwrap.fill(summary, columns, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines)


@app.command("train")
@with_options
def train(
    name: Annotated[str, typer.Argument(help="Name of an organism, as in `cotlens organisms ls`.")],
    training_seed: Annotated[
        int, typer.Option(help="Seed of the weights and of the training data."), OldName("--seed")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="organisms/NAME-seedN")] = None,
    device: Annotated[str, typer.Option(help="Device to train on: cpu or cuda.")] = "cpu",
    keep_every: Annotated[
        int | None, typer.Option(help="Also keep a copy of the reasoner every N updates, in OUT/checkpoints.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train an organism from its recipe and measure it. It takes minutes on one core, and resumes when run again.

    Example: cotlens organisms train chain-coconut --training-seed 1
    """
    import torch

    from interp.organisms.training.build import train_organism

    torch.set_num_threads(1)
    folder = out or Path("organisms") / f"{name}-seed{training_seed}"
    with Bars() as bars, contextlib.ExitStack() as shown:
        stages: dict[str, Progress] = {}

        def progress(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in stages:
                stages[stage] = shown.enter_context(bars.stage(f"{name}: {stage}"))
            stages[stage](done, total)

        written = train_organism(name, training_seed, folder, progress, device=device, keep_every=keep_every)

    def human() -> None:
        low, high = written["ci"]
        print(
            f"{name}: accuracy {written['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {written['exam']['n']} held-out problems"
        )
        print(f"by steps: {written['accuracy_by_steps']}")
        print(f"use it: cotlens.load({str(folder)!r})")

    emit({**written, "folder": str(folder)}, as_json, human)


@app.command("check")
def check(
    name: Annotated[str | None, typer.Argument(help="Name of one organism.", show_default="every organism")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the shipped organisms again and compare with their cards. The exit code is 4 if one differs.

    Adapters whose base model has not been fetched are left out and named.

    Example: cotlens organisms check chain-coconut
    """
    from interp.loading.named_models import is_fetched
    from interp.organisms.catalog import recipe, shipped
    from interp.organisms.training.build import check_organism, require_ok

    names = [name] if name else shipped()
    for organism in [] if name else shipped():
        base = recipe(organism).base
        if base is not None and not is_fetched(base):
            names.remove(organism)
            print(f"note: {organism} was not checked; fetch its base: cotlens models get {base}", file=sys.stderr)
    with Bars() as bars, bars.stage("checking organisms") as report:
        checks = []
        for number, organism in enumerate(names):
            checks.append(check_organism(organism))
            report(number + 1, len(names))

    results = [check.to_dict() for check in checks]

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(results))

    emit({"organisms": results, "ok": all(check.ok for check in checks)}, as_json, human)
    require_ok(checks)
