"""`cotlens sae`: train sparse autoencoders on a store, evaluate them beside baselines, and name their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import OldName, with_options
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.files import refuse_results

if TYPE_CHECKING:
    from interp.activations import Store
    from interp.sae.trained import TrainedSAE

app = new_app("Train sparse autoencoders (SAEs), evaluate them beside baselines, and name their features.")
StoreFolder = Annotated[Path, typer.Argument(help="Folder of an activation store.")]
SAEFolder = Annotated[
    str, typer.Argument(metavar="sae", help="Folder in SAELens's format, or the name of a release with --sae-id.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="Activation to use, such as blocks.1.hook_out.", show_default="the store's only one"
    ),
]
SAEId = Annotated[str | None, typer.Option(help="Id in a release of SAELens's registry; needs access to the hub.")]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channels",
        help="Channel of the positions to train on, such as latent. Repeatable.",
        show_default="thought and latent",
    ),
    OldName("--channel"),
]
Transfer = Annotated[bool, typer.Option("--transfer", help="Allow activations of another model than the SAE's.")]
Sinks = Annotated[
    float, typer.Option(help="Leave out attention sinks: rows whose norm is more than this many times the median.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="Concept to compare features with, such as step_value. Repeatable.",
        show_default="step_value, next_step and answer",
    ),
]
Model = Annotated[
    str | None, typer.Option(help="The reasoner.", show_default="the one that the store was captured from")
]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML or TOML file with training settings.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One training setting, such as learning_rate=3e-4. Repeatable.")
]


@dataclass(frozen=True)
class OpenOptions:
    """How a trained SAE is opened beside a store; the fields are options."""

    address: AddressOption = None
    sae_id: SAEId = None
    transfer: Transfer = False
    model: Model = None

    def open(self, source: str, store: Store) -> TrainedSAE:
        """Return an SAE from a folder, or from a release of SAELens."""
        from interp.sae.load import load_sae
        from interp.sae.trained import TrainedSAE, open_trained

        if self.sae_id is not None:
            sae = load_sae(source, store=store, address=self.address, sae_id=self.sae_id, transfer=self.transfer)
            return TrainedSAE(sae, None, None, 0, {})
        return open_trained(source, store, self.address, transfer=self.transfer)


OPEN_DEFAULTS = OpenOptions()


@app.command("train")
@with_options
def train(
    store: StoreFolder,
    out: Annotated[Path, typer.Option(help="Folder of the SAE. An unfinished training there is resumed.")],
    address: AddressOption = None,
    config: ConfigFile = None,
    settings: Settings = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="topk, batchtopk, matryoshka or jumprelu.", show_default="topk"),
        OldName("--kind"),
    ] = None,
    d_sae: Annotated[int | None, typer.Option(help="Number of features.", show_default="512")] = None,
    k: Annotated[int | None, typer.Option(help="Active features per row.", show_default="16")] = None,
    samples: Annotated[int | None, typer.Option(help="Rows seen in training.", show_default="200000")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the weights and of the order of rows.", show_default="0")
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="Use SAELens's dense training in place of the sparse kernels.")
    ] = False,
    channels: Channels = None,
    sink_factor: Sinks = 10.0,
    split_seed: Annotated[int, typer.Option(help="Seed of the split that holds problem structures out.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a sparse autoencoder on the thoughts of a store. Run the same command again to resume.

    Example: cotlens sae train runs/store --address ln_final.hook_out --d-sae 128 --k 4 --out runs/sae
    """
    from interp.activations import Store
    from interp.runtime.config import resolve_config
    from interp.sae.settings import SAESettings
    from interp.sae.trained import train_into
    from interp.traces import THINKING

    options = {
        "architecture": architecture,
        "d_sae": d_sae,
        "k": k,
        "samples": samples,
        "seed": seed,
        "fast": False if dense else None,
    }
    opened = Store(store)
    chosen = resolve_config(SAESettings, config, settings or [], options=options, command=("sae", "train"))
    where = _address(opened, address)
    with Bars() as bars, bars.stage(f"training an SAE at {where}") as report:
        trained = train_into(
            out,
            opened,
            where,
            chosen,
            channels=channels or THINKING,
            sink_factor=sink_factor,
            split_seed=split_seed,
            progress=report,
        )
    record = trained.record

    def human() -> None:
        held_out, mask, made = record["held_out"], record["mask"], record["settings"]
        print(f"{made['architecture']} SAE of {made['d_sae']} features at {record['address']} in {out}")
        print(
            f"trained on {mask['rows']} rows; {mask['special']} special and {mask['sinks']} sink positions are left out"
        )
        print(
            f"held out: explained variance {held_out['explained_variance']:.3f}, {held_out['l0']:.1f} active features, "
            f"{held_out['dead']:.1%} dead"
        )

    emit({"out": str(out), **record}, as_json, human)


@app.command("eval")
@with_options
def evaluate(
    sae: SAEFolder,
    store: Annotated[Path, typer.Option(help="Activation store to evaluate on.")],
    options: OpenOptions = OPEN_DEFAULTS,
    load_options: LoadOptions = LOAD_DEFAULTS,
    out: Annotated[Path | None, typer.Option(help="Folder to write the tables to.")] = None,
    target: Targets = None,
    splice: Annotated[bool, typer.Option(help="Also splice the SAE into the model and let it think again.")] = True,
    as_json: AsJson = False,
) -> None:
    """Evaluate an SAE beside baselines: explained variance, dead features, splicing, sparse probing, absorption.

    Example: cotlens sae eval runs/sae --store runs/store
    """
    from interp.activations import Store
    from interp.sae.concepts import TARGETS
    from interp.sae.evaluate import evaluate as run

    refuse_results(out, "measures.parquet", "concepts.parquet", "splice.parquet")
    opened = Store(store)
    trained = options.open(sae, opened)
    with Bars() as bars, bars.stage("evaluating") as report:
        result = run(
            trained.sae,
            opened,
            options.address,
            reasoner=load_options.load_for(opened, options.model) if splice else None,
            settings=trained.settings,
            targets=target or TARGETS,
            seed=trained.split_seed,
            trained_split=trained.record.get("split"),
            progress=lambda _, done, total: report(done, total),
            **trained.mask_options,
        )
    if out is not None:
        _keep(out, measures=result.measures, concepts=result.concepts, splice=result.splice)
    record: dict[str, Any] = {
        "address": result.address.name,
        "measures": result.measures.to_dict("records"),
        "splice": result.splice.to_dict("records") if result.splice is not None else None,
        "mask": result.mask.to_dict(),
        "notes": list(result.notes),
    }

    def human() -> None:
        print_table(result.measures.set_index("dictionary").T.rename_axis("measure").reset_index())
        if result.splice is not None:
            print("\nspliced into the model while it thinks:")
            print_table(result.splice)
        for note in result.notes:
            print(note)

    emit(record, as_json, human)


@app.command("features")
@with_options
def features(
    sae: SAEFolder,
    store: Annotated[Path, typer.Option(help="Activation store to name features on.")],
    options: OpenOptions = OPEN_DEFAULTS,
    load_options: LoadOptions = LOAD_DEFAULTS,
    out: Annotated[Path | None, typer.Option(help="Folder to write features.parquet to.")] = None,
    target: Targets = None,
    logits: Annotated[bool, typer.Option(help="Also measure what each feature does to the logits.")] = True,
    explainer: Annotated[
        str | None, typer.Option(help="Also ask a language model: URL of an OpenAI-compatible endpoint, up to /v1.")
    ] = None,
    explainer_model: Annotated[str, typer.Option(help="Name of the model at that endpoint.")] = "default",
    explain: Annotated[int, typer.Option(help="Number of features to ask about.")] = 10,
    show: Annotated[int, typer.Option(help="Number of features to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Name each feature after what it detects, with evidence and score. No language model is needed.

    Example: cotlens sae features runs/sae --store runs/store --out runs/features
    """
    import os

    from interp.activations import Store
    from interp.sae.concepts import TARGETS
    from interp.sae.load import address_of
    from interp.sae.naming import name_features
    from interp.sae.rows import select

    refuse_results(out, "features.parquet")
    opened = Store(store)
    trained = options.open(sae, opened)
    where = address_of(trained.sae, opened, options.address)
    rows, _ = select(opened, where, **trained.mask_options)
    reasoner = load_options.load_for(opened, options.model) if logits else None
    features = name_features(
        trained.sae, opened, where, rows, reasoner=reasoner, targets=target or TARGETS, seed=trained.split_seed
    )
    if explainer is not None:
        from interp.sae.explainer import Explainer, explain_features

        client = Explainer(explainer, explainer_model, os.environ.get("OPENAI_API_KEY"))
        features = explain_features(features, trained.sae, opened, where, rows, client, count=explain)
    if out is not None:
        _keep(out, features=features)
    shown = ["feature", "name", "score", "precision", "recall", "q", "rate"]
    shown += ["explanation", "detection"] if explainer is not None else []
    n_named = int(features["name"].notna().sum())

    def human() -> None:
        print_table(features[shown].head(show))
        print(f"{n_named} of {len(features)} features have a name; {int((features['rate'] == 0).sum())} never fire.")

    emit({"named": n_named, "features": features.to_dict("records")}, as_json, human)


@app.command("share")
def share(
    first: Annotated[Path, typer.Argument(help="Store of one reasoner, such as one that thinks in text.")],
    second: Annotated[Path, typer.Argument(help="Store of another reasoner on the same problems.")],
    first_address: Annotated[str, typer.Option(help="Address in the first store.")],
    second_address: Annotated[
        str | None, typer.Option(help="Address in the second store.", show_default="that of the first")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the SAE and its features to.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    show: Annotated[int, typer.Option(help="Number of features to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Train one SAE on the thoughts of two reasoners, and find the features that mean the same in both.

    Example: cotlens sae share runs/text-store runs/store --first-address ln_final.hook_out --out runs/shared
    """
    from interp.activations import Store
    from interp.runtime.config import resolve_config
    from interp.sae.load import save_sae
    from interp.sae.settings import SAESettings
    from interp.sae.shared import share as run

    refuse_results(out, "cfg.json", "features.parquet")
    chosen = resolve_config(SAESettings, config, settings or [], command=("sae", "share"))
    with Bars() as bars, bars.stage("training one SAE for both reasoners") as report:
        shared = run(
            Store(first),
            Store(second),
            first_address,
            second_address or first_address,
            settings=chosen,
            progress=report,
        )
    if out is not None:
        save_sae(shared.sae, out)
        _keep(out, features=shared.features)
    table = shared.features.sort_values(["same", "first_f1"], ascending=False)

    def human() -> None:
        shown = ["feature", "first_name", "second_name", "first_f1", "second_f1", "same", "correlation", "mismatched"]
        print_table(table[shown].head(show))
        for name, value in shared.summary.to_dict().items():
            print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")

    emit({"summary": shared.summary.to_dict(), "features": table.to_dict("records")}, as_json, human)


def _address(store: Any, address: str | None) -> Any:
    """Return the address to train at: the named one, or else the store's only one."""
    from interp.errors import UsageError

    if address is None and len(store.addresses) > 1:
        raise UsageError(
            "expected one address to train at, got none; name one with --address: "
            f"{', '.join(known.name for known in store.addresses)}."
        )
    return store.address(address or store.addresses[0])


def _keep(out: Path, **tables: Any) -> None:
    """Write each table that is not None to `out`/NAME.parquet."""
    from interp.activations.store import parquet_bytes
    from interp.runtime.files import commit

    for name, table in tables.items():
        if table is not None:
            commit(out / f"{name}.parquet", parquet_bytes(table))
