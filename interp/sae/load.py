"""SAEs on disk in SAELens's format, and the checks that a loaded one must pass before anybody reads with it.

Beside SAELens's two files lies `reference.safetensors`: a few inputs with the features and the reconstruction that
the SAE gave when it was saved. An SAE that loads as another kind, or without its thresholds, gives others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32

from interp.activations import ActivationSource
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.files import commit, explain_os_errors
from interp.sae.train import silent

if TYPE_CHECKING:
    from sae_lens import SAE

REFERENCE = "reference.safetensors"
_REFERENCE_ROWS = 32
_CLOSE = 1e-4  # of the largest reference value


@dataclass(frozen=True)
class Check:
    """One finding of a preflight."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    said: str


def save_sae(sae: SAE, folder: Path | str, *, inputs: Float32[np.ndarray, "rows d"] | None = None) -> None:
    """Write an SAE in SAELens's format, with its outputs on `inputs` (or on drawn ones) as a reference."""
    import torch
    from safetensors.torch import save

    if inputs is None:
        inputs = np.random.default_rng(0).normal(size=(_REFERENCE_ROWS, sae.cfg.d_in)).astype(np.float32)
    rows = torch.from_numpy(np.ascontiguousarray(inputs[:_REFERENCE_ROWS]))
    with silent(), explain_os_errors(f"writing {folder}"), torch.no_grad():
        sae.save_model(str(folder))
        acts = sae.encode(rows)
        content = {"inputs": rows, "features": acts.contiguous(), "outputs": sae.decode(acts).contiguous()}
    commit(Path(folder) / REFERENCE, save(content))


def load_sae(
    source: Path | str,
    *,
    store: ActivationSource | None = None,
    address: Address | str | None = None,
    sae_id: str | None = None,
) -> SAE:
    """An SAE from a folder in SAELens's format, or with `sae_id` from a release of SAELens's registry or a hub.

    It has to pass the preflight, with `store` and `address` (else the one it was trained at) also that of fitting
    their activations. Raises `StoreError` when it is not there, is damaged, or fails a check.
    """
    sae = _from_hub(str(source), sae_id) if sae_id is not None else _from_folder(Path(source))
    failed = [check for check in preflight(sae, source, store, address) if check.verdict == "fail"]
    if failed:
        raise StoreError(f"the SAE at {source} is refused: {' '.join(check.said for check in failed)}")
    return sae


def preflight(
    sae: SAE,
    source: Path | str | None = None,
    store: ActivationSource | None = None,
    address: Address | str | None = None,
) -> list[Check]:
    """Whether an SAE is what it was when it was saved, and fits the activations of a store at an address."""
    checks = []
    if source is not None:
        checks.append(_reproduces(sae, Path(source)))
    if store is not None:
        checks += _fits(sae, store, address)
    return checks


def address_of(sae: SAE, store: ActivationSource, address: Address | str | None = None) -> Address:
    """The address to read at: the given one, else the one that the SAE was trained at."""
    named = address or sae.cfg.metadata.hook_name
    if named is None:
        raise StoreError("this SAE does not say which address it was trained at; name one with --address.")
    return store.address(named)


def _from_folder(folder: Path) -> SAE:
    from sae_lens import SAE
    from safetensors import SafetensorError

    if not (folder / "cfg.json").exists():
        raise StoreError(f"no SAE at {folder}: a SAELens folder holds cfg.json and sae_weights.safetensors.")
    try:
        with silent():
            return SAE.load_from_disk(str(folder)).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())[:160]
        raise StoreError(f"the SAE at {folder} cannot be loaded ({said}). Save or download it again.") from None


def _from_hub(release: str, sae_id: str) -> SAE:
    from sae_lens import SAE

    try:
        with silent():
            return SAE.from_pretrained(release, sae_id).eval()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise StoreError(
            f"no SAE {sae_id} of release {release} could be had ({said}). Without a hub, give a folder in SAELens's format."
        ) from None


def _reproduces(sae: SAE, folder: Path) -> Check:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / REFERENCE
    if not path.exists():
        return Check(
            "reference", "warn", "it came without reference outputs, so it cannot be told whether it loaded right."
        )
    try:
        found = load_file(path)
        inputs, wanted = found["inputs"], (found["features"], found["outputs"])
    except (SafetensorError, OSError, KeyError) as error:
        return Check("reference", "fail", f"{path.name} is damaged ({error}); save it again.")
    if inputs.shape[1] != sae.cfg.d_in:
        return Check("reference", "fail", f"its reference is {inputs.shape[1]} wide, but it reads {sae.cfg.d_in}.")
    with torch.no_grad():
        acts = sae.encode(inputs)
        given = (acts, sae.decode(acts))
    for name, ours, theirs in zip(("features", "reconstruction"), given, wanted, strict=True):
        gap = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
        if not gap <= _CLOSE * max(float(theirs.abs().max()), 1.0):
            return Check(
                "reference",
                "fail",
                f"its {name} differ by {gap:.3g} from those it gave when it was saved (architecture "
                f"{sae.cfg.architecture()}); the file was changed, or loaded as another kind. Save it again.",
            )
    return Check("reference", "pass", "reproduces its reference outputs.")


def _fits(sae: SAE, store: ActivationSource, address: Address | str | None) -> list[Check]:
    place = address_of(sae, store, address)
    acts = store.acts(place, store.thought_rows.iloc[:2048])
    if acts.shape[1] != sae.cfg.d_in:
        said = f"it reads activations {sae.cfg.d_in} wide, but {place} of {store.name} is {acts.shape[1]} wide; choose an SAE of this model."
        return [Check("width", "fail", said)]
    checks = [Check("width", "pass", f"reads {sae.cfg.d_in} dimensions, as {place} has.")]
    trained_at, weights = sae.cfg.metadata.hook_name, sae.cfg.metadata.weights
    if trained_at is not None and Address(trained_at) != place:
        checks.append(
            Check("address", "fail", f"it was trained at {trained_at}, not at {place}; read there, or train one here.")
        )
    if weights is not None and weights != store.meta["reasoner"]["weights"]:
        checks.append(
            Check(
                "model",
                "warn",
                f"it was trained on {sae.cfg.metadata.model_name}, not on {store.meta['reasoner']['name']}.",
            )
        )
    if len(acts) > 1:
        from interp.sae.quality import explained_variance

        explains = explained_variance(sae, acts)
        told = sae.cfg.metadata.explained_variance
        said = f"it explains {explains:.2f} of the variance at {place}"
        if explains <= 0 and (told is None or told > 0):
            checks.append(
                Check("explains", "fail", f"{said}, less than their mean does; it belongs to other activations.")
            )
        elif told is not None and explains < told / 2:
            checks.append(Check("explains", "warn", f"{said}, but {told:.2f} where it was trained."))
        else:
            checks.append(Check("explains", "pass", f"{said}."))
    return checks
