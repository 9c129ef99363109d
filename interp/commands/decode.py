"""`cotlens decode`: read the thoughts of a store with any decoder, and score all decoders in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import AS_USUAL, Loading
from interp.commands.options import with_options
from interp.errors import QualityError, UsageError, checked_count
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Read the thoughts of a store, and score every decoder beside its controls.")
StorePath = Annotated[Path, typer.Argument(help="folder of an activation store")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="a decoder, as tuned_lens; repeatable, the quick ones by default"),
]
Model = Annotated[str | None, typer.Option(help="the reasoner, if it is not where the store says that it was")]


@app.command("run")
@with_options
def run(
    store: StorePath,
    out: Annotated[Path, typer.Option(help="Parquet file of the read-outs")],
    method: Methods = None,
    model: Model = None,
    loading: Loading = AS_USUAL,
    seed: Annotated[int, typer.Option(help="which problems are fitted on, selected on and held out")] = 0,
    top_k: Annotated[int, typer.Option(help="how many readings are kept for each step")] = 3,
    as_json: AsJson = False,
) -> None:
    """Read the value of every step of every trace, and write what was read."""
    from interp.activations import Store
    from interp.activations.store import parquet_bytes
    from interp.causal.evaluation import QUICK
    from interp.decoders.evaluation.read_outs import decode
    from interp.runtime.files import commit

    checked_count("top_k", top_k)
    checked_count("seed", seed, at_least=0)
    if out.exists():
        raise UsageError(f"{out} exists already; choose another --out, or remove it.")
    opened = Store(store)
    with Bars() as bars, bars.stage(f"decoding {store}") as report:
        read = decode(
            opened,
            method or QUICK,
            reasoner=_reasoner(opened, model, loading),
            seed=seed,
            top_k=top_k,
            progress=lambda name, done, total: report(done, total),
        )
    commit(out, parquet_bytes(read.table()))
    scores = read.scores()
    emit(
        {"out": str(out), "read_outs": len(read.table()), "scores": scores.to_dict("records")},
        as_json,
        lambda: print_table(scores),
    )


@app.command("eval")
@with_options
def evaluate_command(
    store: StorePath,
    method: Methods = None,
    model: Model = None,
    loading: Loading = AS_USUAL,
    seeds: Annotated[int, typer.Option(help="number of problem splits")] = 1,
    other: Annotated[
        list[str] | None,
        typer.Option(help="NAME=STORE: a store that the decoders are taken to, as seed1=runs/s1; repeatable"),
    ] = None,
    causal: Annotated[
        bool, typer.Option("--causal/--no-causal", help="edit what was read, and see whether the answer follows")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="folder for the tables and read-outs")] = None,
    fail_under: Annotated[
        float | None, typer.Option(help="exit with 4 if the best decoder's worst step is below")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One table of all decoders on held-out problems: exact match, controls, calibration, cause and cost."""
    from interp.activations import Store
    from interp.causal.evaluation import QUICK, evaluate

    checked_count("seeds", seeds)
    others = {name: Store(path) for name, path in map(_named, other or [])}
    opened = Store(store)
    with Bars() as bars, bars.stage(f"evaluating decoders on {store}") as report:
        found = evaluate(
            opened,
            method or QUICK,
            reasoner=_reasoner(opened, model, loading),
            seeds=range(seeds),
            causal=causal,
            others=others,
            progress=report,
        )
    if out is not None:
        found.save(out)
    summary = found.summary()
    tables = {"scores": found.table(), "causal": found.causal, "search": found.searched, "transfer": found.transferred}
    said: dict[str, Any] = {name: frame.to_dict("records") for name, frame in tables.items()}
    emit(
        {"summary": summary.to_dict("records"), **said, "notes": found.notes},
        as_json,
        lambda: _print(found, summary),
    )
    if fail_under is not None and summary["top1"].max() < fail_under:
        raise QualityError(f"the best decoder's worst step is read in {summary['top1'].max():.3f}, below {fail_under}.")


def _print(found: Any, summary: Any) -> None:
    steps = found.table()
    print_table(steps[["method", "step", "site", "top1", "ci_low", "ci_high", "chance", "topk", "any_position", "n"]])
    print("\nby method, at its worst step; text scores and calibration over all steps")
    shown = ["method", "top1", "minus_question_only", "minus_other_problem", "minus_before_thinking", "bleu", "rouge_l"]
    more = ["ece", "confabulation", "follow_rate", "fit_seconds", "bytes"]
    print_table(summary[[*shown, *(name for name in more if name in summary)]])
    for title, frame in (("search under the task's verifier", found.searched), ("taken elsewhere", found.transferred)):
        if len(frame):
            print(f"\n{title}")
            print_table(frame)
    for note in found.notes:
        print(f"note: {note}")


def _named(spec: str) -> tuple[str, Path]:
    name, equals, path = spec.partition("=")
    if not (name and equals and path):
        raise UsageError(f"another store is named as NAME=STORE, but {spec!r} came.")
    return name, Path(path)


def _reasoner(store: Any, model: str | None, loading: Loading) -> Any:
    """None leaves it to the decoders, most of which need no model."""
    return None if model is None and loading == AS_USUAL else loading.load_for(store, model)
