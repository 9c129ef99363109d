"""`cotlens decode`: read the thoughts of a store with any decoder, and score all decoders in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import OldName, with_options
from interp.errors import QualityError, UsageError, checked_count
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.files import refuse_existing, refuse_results
from interp.text.limits import MAX_UNPLACED

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations import Store
    from interp.causal.evaluation import Evaluation
    from interp.reasoners import Reasoner
    from interp.text.placement import StepPlacement

app = new_app("Read the thoughts of a store, and score every decoder beside its controls.")
StorePath = Annotated[Path, typer.Argument(help="Folder of an activation store.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="A decoder, such as tuned_lens. Repeatable.", show_default="the quick ones"),
]
MaxUnplaced = Annotated[
    float, typer.Option(help="Largest share of the steps of visible thoughts that may have no place in the text.")
]
Lenses = Annotated[
    list[Path] | None,
    typer.Option(
        "--lens",
        help="A saved lens to read with: a folder of a tuned lens (ours or the tuned-lens package's), or the .pt file of "
        "a Jacobian lens. Repeatable.",
    ),
]
Model = Annotated[
    str | None, typer.Option(help="The reasoner.", show_default="the one that the store was captured from")
]


@app.command("run")
@with_options
def run(
    store: StorePath,
    out: Annotated[Path, typer.Option(help="Parquet file of the read-outs.")],
    method: Methods = None,
    lens: Lenses = None,
    model: Model = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    split_seed: Annotated[
        int,
        typer.Option(help="Which problems are fitted on, selected on and held out."),
        OldName("--seed"),
    ] = 0,
    top_k: Annotated[int, typer.Option(help="Number of ranked texts for each step.")] = 3,
    max_unplaced: MaxUnplaced = MAX_UNPLACED,
    as_json: AsJson = False,
) -> None:
    """Read the value of every step of every trace, and write the read-outs.

    Example: cotlens decode run runs/store --method probe --method logit_lens --out runs/readouts.parquet
    """
    from interp.activations import Store
    from interp.activations.splits import describe_split
    from interp.activations.store import parquet_bytes
    from interp.causal.evaluation import QUICK
    from interp.decoders.evaluation.decoding import decode
    from interp.decoders.evaluation.dictionaries import dictionary_notes
    from interp.decoders.lens_files import lens_settings
    from interp.runtime.files import commit
    from interp.text.placement import step_placement

    settings = lens_settings(lens or [])
    checked_count("top_k", top_k)
    checked_count("split_seed", split_seed, at_least=0)
    refuse_existing(out)
    activations = Store(store)
    with Bars() as bars, bars.stage(f"decoding {store}") as report:
        read = decode(
            activations,
            [*dict.fromkeys([*(method or QUICK), *settings])],
            reasoner=_reasoner(activations, model, load_options),
            settings=settings,
            seed=split_seed,
            top_k=top_k,
            max_unplaced=max_unplaced,
            progress=lambda name, done, total: report(done, total),
        )
    commit(out, parquet_bytes(read.table()))
    scores = read.scores()
    placement = step_placement(activations.traces)
    notes = dictionary_notes(read)
    split = describe_split(activations, split_seed)
    result = {"out": str(out), "read_outs": len(read.table()), "scores": scores.to_dict("records"), "notes": notes}
    result |= {"split": split, **_steps(placement)}
    emit(result, as_json, lambda: _print_table(scores, placement, [*_split_note(split), *notes]))


@app.command("eval")
@with_options
def evaluate_command(
    store: StorePath,
    method: Methods = None,
    lens: Lenses = None,
    model: Model = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    splits: Annotated[int, typer.Option(help="Number of problem splits."), OldName("--seeds")] = 1,
    other: Annotated[
        list[str] | None,
        typer.Option(help="NAME=STORE: a store that the decoders read too, such as seed1=runs/s1. Repeatable."),
    ] = None,
    causal: Annotated[
        bool,
        typer.Option("--causal/--no-causal", help="Edit what was read, and see whether the answer follows."),
    ] = True,
    max_unplaced: MaxUnplaced = MAX_UNPLACED,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables and read-outs.")] = None,
    fail_under: Annotated[
        float | None, typer.Option(help="Exit with 4 if the best decoder's worst step is below this exact match.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score all decoders on held-out problems: exact match, controls, calibration, cause and cost.

    Example: cotlens decode eval runs/store --method probe --method logit_lens --out runs/evaluation
    """
    from interp.activations import Store
    from interp.causal.evaluation import QUICK, evaluate
    from interp.decoders.lens_files import lens_settings
    from interp.statistics.splits import MAX_SPLITS
    from interp.text.placement import step_placement

    refuse_results(out, "evaluation.json")
    settings = lens_settings(lens or [])
    checked_count("splits", splits, at_most=MAX_SPLITS)
    others = {name: Store(path) for name, path in map(_name_and_path, other or [])}
    activations = Store(store)
    with Bars() as bars, bars.stage(f"evaluating decoders on {store}") as report:
        evaluation = evaluate(
            activations,
            [*dict.fromkeys([*(method or QUICK), *settings])],
            reasoner=_reasoner(activations, model, load_options),
            settings=settings,
            seeds=range(splits),
            causal=causal,
            others=others,
            max_unplaced=max_unplaced,
            progress=report,
        )
    if out is not None:
        evaluation.save(out)
    summary = evaluation.summary()
    placement = step_placement(activations.traces)
    records = evaluation.records()
    emit(
        {"summary": summary.to_dict("records"), **records, **_steps(placement)},
        as_json,
        lambda: _print(evaluation, summary, placement, _split_note(records["split"])),
    )
    best = summary["top1"].max()
    if fail_under is not None and not best >= fail_under:
        raise QualityError(
            f"expected an exact match of at least {fail_under} at the best decoder's worst step, got {best:.3f}."
        )


@app.command("ask")
@with_options
def ask_command(
    store: StorePath,
    question: Annotated[
        list[str] | None,
        typer.Option(
            help="value, previous, even, rule, decided, hint or intent. Repeatable.",
            show_default="value, decided, hint, intent, as far as the task answers them",
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Where latents are read.", show_default="chosen on validation")
    ] = None,
    updates: Annotated[int, typer.Option(help="Updates of the oracle.")] = 500,
    split_seed: Annotated[int, typer.Option(help="Which problems are fitted on, selected on and held out.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask an activation oracle questions about latents, beside answers from another latent and from the words alone.

    Example: cotlens decode ask runs/store --question value --question decided
    """
    from interp.activations import Store
    from interp.decoders.evaluation.asking import ask_oracle

    checked_count("updates", updates)
    activations = Store(store)
    chosen = {"questions": question} if question else {}
    with Bars() as bars, bars.stage("training the oracle") as progress:
        table, where = ask_oracle(
            activations,
            **chosen,
            address=activations.address(address) if address else None,
            updates=updates,
            seed=split_seed,
            progress=progress,
        )
    emit(
        {"address": where.name, "answers": table.to_dict("records")}, as_json, lambda: _print_answers(table, where.name)
    )


def _print_answers(table: pd.DataFrame, address: str) -> None:
    print_table(table.drop(columns="asked"))
    print(f"read at {address}, on problems of other structures")
    for row in table.to_dict("records"):
        control = max(row["other_problem"], row["question_only"], row["majority"])
        shown = (
            "the latent says more than its controls" if row["ci_low"] > control else "nothing is shown of the latent"
        )
        print(f"{row['asked']} {shown}: {row['right']:.3f} right, the best control {control:.3f}")


def _steps(placement: StepPlacement | None) -> dict[str, Any]:
    """Return the entry `steps` of a result; nothing for latent thoughts, whose steps all have a place."""
    return {} if placement is None else {"steps": placement.to_dict()}


def _print_table(table: pd.DataFrame, placement: StepPlacement | None, notes: list[str]) -> None:
    print_table(table)
    if placement is not None:
        print(placement)
    for note in notes:
        print(f"note: {note}")


def _split_note(split: dict[str, Any]) -> list[str]:
    """Return a note on the split of the user's own, if there is one."""
    from interp.activations.splits import split_sentence

    return [sentence] if (sentence := split_sentence(split)) else []


def _with_all(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that calls step 0, which stands for all steps together, by that name."""
    return table.assign(step=table["step"].map(lambda step: step or "all")) if "step" in table else table


def _print(
    evaluation: Evaluation, summary: pd.DataFrame, placement: StepPlacement | None, first_notes: list[str]
) -> None:
    steps = _with_all(evaluation.table().rename(columns={"site": "location"}))
    columns = ["method", "step", "location", "top1", "ci_low", "ci_high", "chance", "topk", "any_position", "n"]
    print_table(steps[columns])
    print("\nby method, at its worst step; text scores and calibration over all steps")
    columns = [
        "method",
        "top1",
        "minus_question_only",
        "minus_other_problem",
        "minus_before_thinking",
        "bleu",
        "rouge_l",
    ]
    columns += ["ece", "confabulation", "follow_rate", "fit_seconds", "bytes"]
    print_table(summary[[name for name in columns if name in summary]])
    whole = [name for name in evaluation.searched if name.startswith(("whole", "gain"))]
    by_step = evaluation.searched.drop(columns=whole)
    for title, frame in {
        "search under the task's verifier": by_step,
        "on other stores": evaluation.transferred,
    }.items():
        if len(frame):
            print(f"\n{title}")
            print_table(_with_all(frame))
    for row in evaluation.searched.query("step == 0").to_dict("records") if whole else ():
        print(
            f"whole traces by {row['method']}: {row['whole']:.3f} with the search, {row['whole_unconstrained']:.3f} without, "
            f"{row['whole_shuffled']:.3f} with the search over another problem's readings; the latents add "
            f"{row['gain']:.3f} [{row['gain_low']:.3f}, {row['gain_high']:.3f}]"
        )
    if placement is not None:
        print(f"\n{placement}")
    for note in [*first_notes, *evaluation.notes]:
        print(f"note: {note}")


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(f"expected NAME=STORE, got {text!r}; write for example --other seed1=runs/s1.")
    return name, Path(path)


def _reasoner(store: Store, model: str | None, load_options: LoadOptions) -> Reasoner | None:
    """Return the reasoner that the options name; None if the store's own is meant, which is loaded on demand."""
    return None if model is None and load_options == LOAD_DEFAULTS else load_options.load_for(store, model)
