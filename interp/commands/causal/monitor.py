"""`cotlens causal monitor`: a saved probe or an SAE feature watches thoughts, and may inject a text or a vector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.commands.causal.options import BATCH_DEFAULTS, BatchOptions, records, result_of
from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import OldName, with_options
from interp.runtime.console import AsJson, Bars, emit, print_table
from interp.runtime.files import refuse_existing

if TYPE_CHECKING:
    import numpy as np
    import torch

    from interp.models.address import Address
    from interp.reasoners import Reasoner
    from interp.reasoners.monitor import Monitor


@with_options
def monitor(
    model: Model,
    watch: Annotated[
        str,
        typer.Option(help="Folder of a saved probe (`cotlens probe train`), or SAE:FEATURE, a folder and a number."),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Score above which the monitor fires.", show_default="0.5 for a probe's probability, 0 for a feature"
        ),
    ] = None,
    says: Annotated[str | None, typer.Option(help="The class of the probe whose probability is watched.")] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(help="Place to watch, such as 'thought 2'. Repeatable.", show_default="every thought"),
    ] = None,
    inject_text: Annotated[
        str | None, typer.Option(help="Text to insert into the thought after the position that fired.")
    ] = None,
    inject_vector: Annotated[
        Path | None, typer.Option(help="A .npy file of d_model numbers to add at the position that fired.")
    ] = None,
    dose: Annotated[float, typer.Option(help="Factor of the vector.")] = 1.0,
    address: Annotated[
        str | None,
        typer.Option(help="Hook name where the vector is added.", show_default="where the probe reads"),
        OldName("--at"),
    ] = None,
    times: Annotated[int, typer.Option(help="Largest number of injections into one trace.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Parquet file for the watched traces with their events.")] = None,
    options: BatchOptions = BATCH_DEFAULTS,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 takes the likeliest token.")] = 0.0,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Watch each thought with a probe or feature, and inject a text or a vector past a threshold.

    Without --inject-text and --inject-vector it only logs. Controls: the same problems without the monitor, other
    content at the same places, and the same content at other places of the same thoughts. With --transfer, a probe or SAE
    of another model is allowed too.

    Example: cotlens causal monitor chain-coconut --watch runs/probe --says 3 --threshold 0.9
    """
    from interp.causal import supervise

    if out is not None:
        refuse_existing(out)
    given = options.problem_set(load_options, model)
    reasoner = given.reasoner
    vector = None if inject_vector is None else _vector(inject_vector, reasoner, dose)
    where = None if address is None else _address(reasoner, address)
    injection = {"text": inject_text, "vector": vector, "times": times, "at": where}
    watching = watcher(reasoner, watch, threshold, says, options.transfer, injection)
    with Bars() as bars, bars.stage(f"monitor on {reasoner.name}") as report:
        result = supervise(
            reasoner,
            given.problems,
            watching,
            places=place or (),
            seed=options.seed,
            batch_size=options.batch_size,
            temperature=temperature,
            progress=report,
        )
    if out is not None:
        result.traces.to_parquet(out)
    record = result_of(
        given,
        watch=watch,
        address=watching.address.name,
        threshold=watching.threshold,
        places=place or [],
        arms=records(result.table),
        beyond={name: more.measure_or_none() for name, more in result.beyond.items()},
        says=result.verdict,
        out=out,
    )

    def print_text() -> None:
        print_table(result.table.drop(columns=["fired_ci", "accuracy_ci"]))
        print(f"\n{result.verdict}")
        if out is not None:
            print(f"traces with their events: {out}")

    emit(record, as_json, print_text)


def watcher(
    reasoner: Reasoner, watch: str, threshold: float | None, says: str | None, transfer: bool, injection: dict[str, Any]
) -> Monitor:
    """Return the monitor that `watch` names.

    Args:
        reasoner: The reasoner that is watched.
        watch: Folder of a saved probe, or folder of an SAE and number of a feature, `FOLDER:NUMBER`.
        threshold: Score above which it fires. Default: 0.5 for a probe, 0 for a feature.
        says: Class of the probe whose probability is watched.
        transfer: Allow a probe or SAE of another model.
        injection: Fields of `Monitor` that say what is injected.

    Returns:
        The monitor.

    Raises:
        StoreError: The probe or SAE belongs to another model.
        UsageError: It does not fit the model, or the class or feature is unknown.
    """
    from interp.errors import UsageError

    folder, colon, number = watch.rpartition(":")
    if colon and number.isdigit() and not Path(watch).exists():
        if says is not None:
            raise UsageError("expected --says with a probe, got a feature, which has no classes; leave --says out.")
        return _of_feature(reasoner, folder, int(number), threshold, transfer, injection)
    return _of_probe(reasoner, watch, threshold, says, transfer, injection)


def _of_probe(
    reasoner: Reasoner,
    folder: str,
    threshold: float | None,
    says: str | None,
    transfer: bool,
    injection: dict[str, Any],
) -> Monitor:
    import torch

    from interp.errors import StoreError, UsageError, unknown
    from interp.reasoners.monitor import Monitor
    from interp.runtime.plugins import load_plugin

    saved = load_plugin("watchers", "probe")(folder)
    if saved.weights != reasoner.weights and not transfer:
        raise StoreError(
            f"expected a probe of {reasoner.name} (weights {reasoner.weights}), got {folder}, which reads {saved.model} "
            f"(weights {saved.weights}). Fit one to this model, or say --transfer."
        )
    if getattr(saved.probe, "over_positions_", 0):
        raise UsageError(
            f"expected a probe that reads single positions, got {folder}, which reads whole traces; fit another one."
        )
    _check_width(reasoner, saved.probe.n_features_in_, f"the probe in {folder}")
    classes = [str(name) for name in saved.probe.classes_]
    if says is None and len(classes) > 2:
        raise UsageError(
            f"expected --says, because the probe in {folder} has {len(classes)} classes; choose one of "
            f"{', '.join(classes)}."
        )
    if says is not None and says not in classes:
        raise unknown(f"class of the probe in {folder}", says, classes)
    column = 1 if says is None else classes.index(says)

    def score(activations: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(saved.probe.predict_proba(activations.float().cpu().numpy())[:, column])

    limit = 0.5 if threshold is None else threshold
    return Monitor(_address(reasoner, saved.address.name), score, limit, **injection)


def _of_feature(
    reasoner: Reasoner, folder: str, feature: int, threshold: float | None, transfer: bool, injection: dict[str, Any]
) -> Monitor:
    from interp.errors import StoreError, UsageError
    from interp.reasoners.monitor import Monitor
    from interp.sae.identity import check_model
    from interp.sae.trained import open_trained

    trained = open_trained(folder)
    metadata = trained.sae.cfg.metadata
    address = trained.record.get("address") or getattr(metadata, "hook_name", None)
    if address is None:
        raise UsageError(f"expected an SAE that names its address, got {folder}, which names none; train it again.")
    check = check_model(trained.sae, reasoner.name, reasoner.weights, transfer=transfer)
    if check.verdict == "fail":
        raise StoreError(f"the SAE in {folder} is refused: {check.message}")
    _check_width(reasoner, trained.sae.cfg.d_in, f"the SAE in {folder}")
    if feature >= trained.sae.cfg.d_sae:
        raise UsageError(
            f"expected one of the features 0 to {trained.sae.cfg.d_sae - 1} of {folder}, got {feature}; choose another."
        )
    limit = 0.0 if threshold is None else threshold
    return Monitor.on_feature(_address(reasoner, address), trained.sae, feature, limit, **injection)


def _address(reasoner: Reasoner, name: str) -> Address:
    from interp.models.address import resolve

    (address,) = resolve(reasoner.model, [name])
    return address


def _check_width(reasoner: Reasoner, width: int, what: str) -> None:
    from interp.errors import UsageError

    expected = reasoner.model.cfg.d_model
    if width != expected:
        raise UsageError(
            f"expected a width of {expected} numbers for {reasoner.name}, got {what}, which reads {width}; fit another one."
        )


def _vector(path: Path, reasoner: Reasoner, dose: float) -> np.ndarray:
    import numpy as np

    from interp.errors import UsageError

    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        raise UsageError(f"{path} cannot be read as a .npy file of numbers; write it with numpy.save.") from None
    width = reasoner.model.cfg.d_model
    if not isinstance(vector, np.ndarray) or vector.shape != (width,) or not np.isfinite(vector.astype(float)).all():
        shape = getattr(vector, "shape", None)
        raise UsageError(f"expected {width} finite numbers in {path}, got shape {shape}; write d_model numbers.")
    return (vector * dose).astype(np.float32)
