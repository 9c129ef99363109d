"""`cotlens organisms`: list, train and check."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.progress import Progress

app = new_app("List, train and check the organisms: small models whose way of thinking is exactly known.")


@app.command("ls")
def list_organisms(as_json: AsJson = False) -> None:
    """Every organism, what it is, and how well it measured."""
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

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(rows).drop(columns=["weaknesses"]))

    emit({"organisms": rows}, as_json, human)


@app.command("train")
def train(
    name: Annotated[str, typer.Argument(help="an organism of `cotlens organisms ls`")],
    seed: Annotated[int, typer.Option(help="seed of the weights and the data")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder to write; organisms/NAME-seedN by default")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one")] = "cpu",
    keep_every: Annotated[
        int | None, typer.Option(help="also keep the reasoner after every so many updates, in OUT/checkpoints")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train an organism from its recipe and measure it (minutes on one core). Run again, it resumes."""
    import torch

    from interp.organisms.training.build import train_organism

    torch.set_num_threads(1)
    folder = out or Path("organisms") / f"{name}-seed{seed}"
    with Bars() as bars, contextlib.ExitStack() as shown:
        stages: dict[str, Progress] = {}

        def progress(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in stages:
                stages[stage] = shown.enter_context(bars.stage(f"{name}: {stage}"))
            stages[stage](done, total)

        written = train_organism(name, seed, folder, progress, device=device, keep_every=keep_every)

    def human() -> None:
        low, high = written["ci"]
        print(
            f"{name}: accuracy {written['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {written['exam']['n']} held-out problems"
        )
        print(f"by steps: {written['accuracy_by_steps']}")
        print(f"use it: interp.load({str(folder)!r})")

    emit({**written, "folder": str(folder)}, as_json, human)


@app.command("check")
def check(
    name: Annotated[str | None, typer.Argument(help="one organism; all of them by default")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the shipped organisms again and compare them with their cards (exit code 4 if one differs)."""
    from interp.organisms.catalog import shipped
    from interp.organisms.training.build import check_organism, require_ok

    names = [name] if name else shipped()
    with Bars() as bars, bars.stage("checking organisms") as report:
        results = []
        for number, each in enumerate(names):
            results.append(check_organism(each))
            report(number + 1, len(names))

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(results))

    emit({"organisms": results, "ok": all(r["ok"] for r in results)}, as_json, human)
    require_ok(results)
