"""`cotlens causal monitor`: a kept probe or a feature watches the thoughts, and may step in."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.asking import Batched, measured, records, said
from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.runtime.console import AsJson, Bars, emit, print_table

if TYPE_CHECKING:
    import numpy as np

    from interp.reasoners import Reasoner
    from interp.reasoners.monitor import Monitor

# A name and not an import: kept probes belong to a package above this one.
_LOAD_PROBE = "probes.estimators.saved:load_probe"


@with_options
def monitor(
    model: Model,
    watch: Annotated[
        str, typer.Option(help="folder of a kept probe (`cotlens probe train`), or SAE:FEATURE, a folder and a number")
    ],
    threshold: Annotated[
        float | None, typer.Option(help="fires above it; a probe's probability (0.5) or a feature's activation (0)")
    ] = None,
    says: Annotated[str | None, typer.Option(help="the class of the probe whose probability is watched")] = None,
    place: Annotated[
        list[str] | None, typer.Option(help="watch only here, as 'thought 2'; repeatable; every thought by default")
    ] = None,
    inject_text: Annotated[str | None, typer.Option(help="words put into the thought after that position")] = None,
    inject_vector: Annotated[
        Path | None, typer.Option(help=".npy file, d_model numbers that are added at that position")
    ] = None,
    dose: Annotated[float, typer.Option(help="multiplies the vector")] = 1.0,
    at: Annotated[str | None, typer.Option(help="hook name where the vector is added; where it is watched")] = None,
    times: Annotated[int, typer.Option(help="how often it may step into one trace")] = 1,
    transfer: Annotated[bool, typer.Option("--transfer", help="a probe or SAE of another model is meant")] = False,
    out: Annotated[Path | None, typer.Option(help="Parquet file of the watched traces, with what was done")] = None,
    asked: Batched = Batched(),
    temperature: Annotated[float, typer.Option(help="0 is greedy")] = 0.0,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """A probe or feature watches each thought while it is thought; past a threshold it injects a text or a vector.

    Without --inject-text and --inject-vector it only logs. Beside it stand the same problems without it, other content
    at the same places, and the same content at other places of the same thoughts.
    """
    from interp.causal import supervise
    from interp.errors import UsageError

    if out is not None and out.exists():
        raise UsageError(f"{out} exists already; choose another --out, or remove it.")
    reasoner, problems = asked.of(loading, model)
    injected = None if inject_vector is None else _vector(inject_vector, reasoner, dose)
    options = {"text": inject_text, "vector": injected, "times": times, "at": None if at is None else _at(reasoner, at)}
    watching = watcher(reasoner, watch, threshold, says, transfer, options)
    with Bars() as bars, bars.stage(f"{reasoner.name} is watched") as report:
        found = supervise(
            reasoner,
            problems,
            watching,
            places=place or (),
            seed=asked.seed,
            batch_size=asked.batch_size,
            temperature=temperature,
            progress=report,
        )
    if out is not None:
        found.traces.to_parquet(out)
    result = said(
        reasoner,
        problems,
        asked.seed,
        watch=watch,
        address=watching.address.name,
        threshold=watching.threshold,
        places=place or [],
        arms=records(found.table),
        beyond={name: measured(more) for name, more in found.beyond.items()},
        says=found.says,
        out=out,
    )

    def human() -> None:
        print_table(found.table.drop(columns=["fired_ci", "accuracy_ci"]))
        print(f"\n{found.says}")
        if out is not None:
            print(f"traces with their events: {out}")

    emit(result, as_json, human)


def watcher(
    reasoner: Reasoner, watch: str, threshold: float | None, says: str | None, transfer: bool, options: dict[str, Any]
) -> Monitor:
    """The monitor that `watch` names: a kept probe's folder, or an SAE's folder and the number of a feature."""
    from interp.errors import UsageError

    folder, colon, number = watch.rpartition(":")
    if colon and number.isdigit() and not Path(watch).exists():
        if says is not None:
            raise UsageError("--says is the class of a probe; a feature of an SAE has only its activation.")
        return _of_feature(reasoner, folder, int(number), threshold, transfer, options)
    return _of_probe(reasoner, watch, threshold, says, transfer, options)


def _of_probe(
    reasoner: Reasoner, folder: str, threshold: float | None, says: str | None, transfer: bool, options: dict[str, Any]
) -> Monitor:
    import torch

    from interp.errors import StoreError, UsageError, unknown
    from interp.reasoners.monitor import Monitor

    module, _, name = _LOAD_PROBE.partition(":")
    kept = getattr(importlib.import_module(module), name)(folder)
    if kept.weights != reasoner.weights and not transfer:
        raise StoreError(
            f"the probe in {folder} reads {kept.model} (weights {kept.weights}), not {reasoner.name} (weights "
            f"{reasoner.weights}). Fit one to this model, or say --transfer."
        )
    if getattr(kept.probe, "over_positions_", 0):
        raise UsageError(f"the probe in {folder} reads whole traces; a monitor needs one that reads single positions.")
    _fits(reasoner, kept.probe.n_features_in_, f"the probe in {folder}")
    classes = [str(each) for each in kept.probe.classes_]
    if says is None and len(classes) > 2:
        raise UsageError(
            f"the probe in {folder} has {len(classes)} classes; say with --says which: {', '.join(classes)}."
        )
    if says is not None and says not in classes:
        raise unknown(f"class of the probe in {folder}", says, classes)
    column = 1 if says is None else classes.index(says)

    def score(found: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(kept.probe.predict_proba(found.float().cpu().numpy())[:, column])

    return Monitor(_at(reasoner, kept.address.name), score, 0.5 if threshold is None else threshold, **options)


def _of_feature(
    reasoner: Reasoner, folder: str, feature: int, threshold: float | None, transfer: bool, options: dict[str, Any]
) -> Monitor:
    from interp.errors import StoreError, UsageError
    from interp.reasoners.monitor import Monitor
    from interp.sae.trained import open_trained

    sae = open_trained(folder)
    where = sae.record.get("address") or getattr(sae.sae.cfg.metadata, "hook_name", None)
    if where is None:
        raise UsageError(f"the SAE in {folder} does not say at which address it was trained.")
    weights = getattr(sae.sae.cfg.metadata, "weights", None)
    if weights not in (None, reasoner.weights) and not transfer:
        raise StoreError(
            f"the SAE in {folder} was trained on weights {weights}, not on {reasoner.name} (weights {reasoner.weights}). "
            "Train one on this model, or say --transfer."
        )
    _fits(reasoner, sae.sae.cfg.d_in, f"the SAE in {folder}")
    if feature >= sae.sae.cfg.d_sae:
        raise UsageError(f"the SAE in {folder} has features 0 to {sae.sae.cfg.d_sae - 1}, but {feature} came.")
    return Monitor.on_feature(
        _at(reasoner, where), sae.sae, feature, 0.0 if threshold is None else threshold, **options
    )


def _at(reasoner: Reasoner, name: str) -> Any:
    from interp.models.address import resolve

    (address,) = resolve(reasoner.model, [name])
    return address


def _fits(reasoner: Reasoner, width: int, what: str) -> None:
    from interp.errors import UsageError

    if width != reasoner.model.cfg.d_model:
        raise UsageError(
            f"{what} reads {width} numbers, but {reasoner.name} has a width of {reasoner.model.cfg.d_model}."
        )


def _vector(path: Path, reasoner: Reasoner, dose: float) -> np.ndarray:
    import numpy as np

    from interp.errors import UsageError

    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        raise UsageError(f"{path} cannot be read as a .npy file of numbers; write it with numpy.save.") from None
    width = reasoner.model.cfg.d_model
    if not isinstance(found, np.ndarray) or found.shape != (width,) or not np.isfinite(found.astype(float)).all():
        shape = getattr(found, "shape", None)
        raise UsageError(f"{path} should hold {width} finite numbers, but its shape is {shape}.")
    return (found * dose).astype(np.float32)
