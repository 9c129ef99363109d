"""`cotlens sae`: train dictionaries on a store, evaluate them beside baselines, name their features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.commands.models import AS_USUAL, Loading
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Sparse autoencoders: train, evaluate beside baselines, name features, share one over two reasoners.")
StoreFolder = Annotated[Path, typer.Argument(help="folder of an activation store")]
SAEFolder = Annotated[str, typer.Argument(metavar="SAE", help="folder in SAELens's format, or a release with --sae-id")]
At = Annotated[str | None, typer.Option("--address", help="where to read, such as blocks.1.hook_out")]
SAEId = Annotated[str | None, typer.Option(help="id within a release of SAELens's registry (needs a hub)")]
Channels = Annotated[list[str] | None, typer.Option("--channel", help="repeatable; thought and latent by default")]
Sinks = Annotated[float, typer.Option(help="rows whose norm is above this many medians are left out as sinks")]
Targets = Annotated[list[str] | None, typer.Option("--target", help="repeatable; step_value, next_step and answer")]
Model = Annotated[str | None, typer.Option(help="the reasoner; the one that made the store by default")]


@app.command("train")
def train(
    store: StoreFolder,
    out: Annotated[Path, typer.Option(help="folder of the SAE; an unfinished training is resumed")],
    address: At = None,
    config: Annotated[Path | None, typer.Option(help="YAML or TOML file with settings")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="one setting, as learning_rate=3e-4")] = None,
    kind: Annotated[str | None, typer.Option(help="topk, batchtopk, matryoshka or jumprelu")] = None,
    d_sae: Annotated[int | None, typer.Option(help="number of features (512)")] = None,
    k: Annotated[int | None, typer.Option(help="active features of a row (16)")] = None,
    samples: Annotated[int | None, typer.Option(help="rows seen in training (200000)")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of weights and order (0)")] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="SAELens's own dense training, not the sparse kernels")
    ] = False,
    channel: Channels = None,
    sink_factor: Sinks = 10.0,
    split_seed: Annotated[int, typer.Option(help="which structures are held out")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a sparse autoencoder on the thoughts of a store. Run it again to go on after an interruption."""
    from interp.activations import Store
    from interp.runtime.config import resolve_config
    from interp.sae.settings import SAESettings
    from interp.sae.trained import train_into
    from interp.traces import THINKING

    given = {
        "architecture": kind,
        "d_sae": d_sae,
        "k": k,
        "samples": samples,
        "seed": seed,
        "fast": False if dense else None,
    }
    made = resolve_config(SAESettings, config, settings or [], options=given)
    opened = Store(store)
    place = _place(opened, address)
    with Bars() as bars, bars.stage(f"training an SAE at {place}") as report:
        found = train_into(
            out,
            opened,
            place,
            made,
            channels=channel or THINKING,
            sink_factor=sink_factor,
            split_seed=split_seed,
            progress=report,
        )
    told = found.record

    def human() -> None:
        held, mask = told["held_out"], told["mask"]
        print(
            f"{told['settings']['architecture']} SAE of {told['settings']['d_sae']} features at {told['address']} in {out}"
        )
        print(
            f"learned from {mask['rows']} rows ({mask['special']} special and {mask['sinks']} sink positions left out)"
        )
        print(
            f"held out: explained variance {held['explained_variance']:.3f}, {held['l0']:.1f} active features, "
            f"{held['dead']:.1%} dead"
        )

    emit({"out": str(out), **told}, as_json, human)


@app.command("eval")
@with_options
def evaluate(
    sae: SAEFolder,
    store: Annotated[Path, typer.Option(help="activation store to evaluate on")],
    address: At = None,
    sae_id: SAEId = None,
    model: Model = None,
    loading: Loading = AS_USUAL,
    out: Annotated[Path | None, typer.Option(help="folder for the tables")] = None,
    target: Targets = None,
    splice: Annotated[bool, typer.Option(help="let the model think again with the SAE in its loop")] = True,
    as_json: AsJson = False,
) -> None:
    """Explained variance, dead features, splicing, sparse probing, splitting and absorption, beside baselines."""
    from interp.activations import Store
    from interp.sae.concepts import TARGETS
    from interp.sae.evaluate import evaluate as run

    opened = Store(store)
    found = _open(sae, sae_id, opened, address)
    channels = {"channels": found.mask.channels, "sink_factor": found.mask.sink_factor} if found.mask else {}
    with Bars() as bars, bars.stage("evaluating") as report:
        result = run(
            found.sae,
            opened,
            address,
            reasoner=loading.load_for(opened, model) if splice else None,
            settings=found.settings,
            targets=target or TARGETS,
            seed=found.split_seed,
            progress=lambda _, done, total: report(done, total),
            **channels,
        )
    if out is not None:
        _keep(out, measures=result.measures, concepts=result.concepts, splice=result.splice)
    said: dict[str, Any] = {
        "address": result.address.name,
        "measures": result.measures.to_dict("records"),
        "splice": result.splice.to_dict("records") if result.splice is not None else None,
        "mask": result.mask.to_dict(),
        "notes": list(result.notes),
    }

    def human() -> None:
        print_table(result.measures.set_index("dictionary").T.rename_axis("measure").reset_index())
        if result.splice is not None:
            print("\nspliced into the loop:")
            print_table(result.splice)
        for note in result.notes:
            print(note)

    emit(said, as_json, human)


@app.command("features")
@with_options
def features(
    sae: SAEFolder,
    store: Annotated[Path, typer.Option(help="activation store to name features on")],
    address: At = None,
    sae_id: SAEId = None,
    model: Model = None,
    loading: Loading = AS_USUAL,
    out: Annotated[Path | None, typer.Option(help="folder for features.parquet")] = None,
    target: Targets = None,
    logits: Annotated[bool, typer.Option(help="also what each feature does to the logits")] = True,
    explainer: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible endpoint, up to /v1")] = None,
    explainer_model: Annotated[str, typer.Option(help="the model's name there")] = "default",
    explain: Annotated[int, typer.Option(help="how many features the explainer is asked about")] = 10,
    show: Annotated[int, typer.Option(help="features to print")] = 20,
    as_json: AsJson = False,
) -> None:
    """A name for each feature with its evidence and score, or no name; no language model is needed."""
    import os

    from interp.activations import Store
    from interp.sae.concepts import TARGETS
    from interp.sae.load import address_of
    from interp.sae.naming import name_features
    from interp.sae.rows import select
    from interp.traces import THINKING

    opened = Store(store)
    found = _open(sae, sae_id, opened, address)
    place = address_of(found.sae, opened, address)
    mask = (
        {"channels": found.mask.channels, "sink_factor": found.mask.sink_factor}
        if found.mask
        else {"channels": THINKING}
    )
    rows, _ = select(opened, place, **mask)  # type: ignore[arg-type]
    reasoner = loading.load_for(opened, model) if logits else None
    named = name_features(
        found.sae, opened, place, rows, reasoner=reasoner, targets=target or TARGETS, seed=found.split_seed
    )
    if explainer is not None:
        from interp.sae.explainer import Explainer, explain_features

        asked = Explainer(explainer, explainer_model, os.environ.get("OPENAI_API_KEY"))
        named = explain_features(named, found.sae, opened, place, rows, asked, count=explain)
    if out is not None:
        _keep(out, features=named)
    shown = ["feature", "name", "score", "precision", "recall", "q", "rate"]
    shown += ["explanation", "detection"] if explainer is not None else []
    count = int(named["name"].notna().sum())

    def human() -> None:
        print_table(named[shown].head(show))
        print(f"{count} of {len(named)} features have a name; {int((named['rate'] == 0).sum())} never fire.")

    emit({"named": count, "features": named.to_dict("records")}, as_json, human)


@app.command("share")
def share(
    first: Annotated[Path, typer.Argument(help="store of one reasoner, such as one that thinks in text")],
    second: Annotated[Path, typer.Argument(help="store of another on the same problems")],
    first_address: Annotated[str, typer.Option(help="address in the first store")],
    second_address: Annotated[str | None, typer.Option(help="address in the second; the same by default")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the SAE and its features")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or TOML file with settings")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="one setting, as k=8")] = None,
    show: Annotated[int, typer.Option(help="features to print")] = 20,
    as_json: AsJson = False,
) -> None:
    """One dictionary over two reasoners' thoughts on the same problems, and which features mean the same in both."""
    from interp.activations import Store
    from interp.runtime.config import resolve_config
    from interp.sae.load import save_sae
    from interp.sae.settings import SAESettings
    from interp.sae.shared import share as run

    made = resolve_config(SAESettings, config, settings or [])
    with Bars() as bars, bars.stage("one dictionary for both") as report:
        found = run(
            Store(first), Store(second), first_address, second_address or first_address, settings=made, progress=report
        )
    if out is not None:
        save_sae(found.sae, out)
        _keep(out, features=found.features)
    table = found.features.sort_values(["same", "first_f1"], ascending=False)

    def human() -> None:
        shown = ["feature", "first_name", "second_name", "first_f1", "second_f1", "same", "correlation", "mismatched"]
        print_table(table[shown].head(show))
        for name, value in found.summary.to_dict().items():
            print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")

    emit({"summary": found.summary.to_dict(), "features": table.to_dict("records")}, as_json, human)


def _place(store: Any, address: str | None) -> Any:
    from interp.errors import UsageError

    if address is None and len(store.addresses) > 1:
        raise UsageError(
            f"say at which --address to train; this store has {', '.join(a.name for a in store.addresses)}."
        )
    return store.address(address or store.addresses[0])


def _open(source: str, sae_id: str | None, store: Any, address: str | None) -> Any:
    from interp.sae.load import load_sae
    from interp.sae.trained import TrainedSAE, open_trained

    if sae_id is not None:
        return TrainedSAE(load_sae(source, store=store, address=address, sae_id=sae_id), None, None, 0, {})
    return open_trained(source, store, address)


def _keep(out: Path, **tables: Any) -> None:
    from interp.activations.store import parquet_bytes
    from interp.runtime.files import commit

    for name, table in tables.items():
        if table is not None:
            commit(out / f"{name}.parquet", parquet_bytes(table))
