"""Saving and loading of SAEs in SAELens's format, with checks of a loaded SAE.

`reference.safetensors` beside SAELens's two files holds a few inputs with the features and the reconstruction that the
SAE gave when it was saved. An SAE that loads with another architecture, or without its thresholds, gives others.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from interp.activations import ActivationSource
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.written import refuse_other_kinds
from interp.sae.foreign import read_foreign
from interp.sae.identity import Check, check_model, require_affine
from interp.sae.train import nonfinite_weights, silent

if TYPE_CHECKING:
    from sae_lens import SAE

REFERENCE = "reference.safetensors"
_REFERENCE_ROWS = 32
_CLOSE = 1e-4  # of the largest reference value


def save_sae(sae: SAE, folder: Path | str, *, inputs: Float32[np.ndarray, "rows d"] | None = None) -> None:
    """Save an SAE in SAELens's format, with reference outputs.

    Args:
        sae: An SAE of SAELens.
        folder: Where to write.
        inputs: Activations to record outputs for, shape (rows, d); the first 32 are used. Normal noise by default.

    Raises:
        StoreError: When the folder cannot be written.
    """
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
    transfer: bool = False,
) -> SAE:
    """Load an SAE and check it.

    Args:
        source: A folder of SAELens, sparsify or dictionary_learning, or a release of SAELens's registry.
        store: Activations that the SAE must fit.
        address: Where to read them; the address it was trained at by default.
        sae_id: Id within the release. Without it `source` is a folder.
        transfer: Allow activations of another model than it was trained on.

    Returns:
        The SAE, ready for inference.

    Raises:
        StoreError: When it does not exist, is damaged, holds weights that are not finite, or fails a check of `preflight`.
    """
    sae = _from_hub(str(source), sae_id) if sae_id is not None else _from_folder(Path(source))
    nonfinite = nonfinite_weights(sae)
    if nonfinite:
        raise StoreError(
            f"expected finite weights in the SAE at {source}, got some that are not, in {', '.join(nonfinite)}; train or "
            "download it again."
        )
    checks = preflight(sae, source, store, address, transfer=transfer)
    failed, doubtful = ([c.message for c in checks if c.verdict == verdict] for verdict in ("fail", "warn"))
    if failed:
        raise StoreError(f"the SAE at {source} is refused: {' '.join(failed)}")
    for message in doubtful:
        warnings.warn(f"the SAE at {source}: {message}", stacklevel=2)
    return sae


def preflight(
    sae: SAE,
    source: Path | str | None = None,
    store: ActivationSource | None = None,
    address: Address | str | None = None,
    *,
    transfer: bool = False,
) -> list[Check]:
    """Check that an SAE is unchanged since it was saved, and fits some activations.

    Args:
        sae: An SAE of SAELens.
        source: Its folder, which holds the reference outputs; not checked where it is None.
        store: Activations that it must fit; not checked where it is None.
        address: Where to read them; the address it was trained at by default.
        transfer: Only warn where the activations are of another model.

    Returns:
        The checks that were made.
    """
    checks = []
    if source is not None:
        checks.append(_check_reference(sae, Path(source)))
    if store is not None:
        checks += _check_fit(sae, store, address, transfer)
    return checks


def address_of(sae: SAE, store: ActivationSource, address: Address | str | None = None) -> Address:
    """Return the address to read at: `address`, or the one that the SAE was trained at.

    Raises:
        StoreError: When neither is known.
        UsageError: When the address was not captured.
    """
    name = address or sae.cfg.metadata.hook_name
    if name is None:
        raise StoreError("this SAE does not record which address it was trained at; name one with --address.")
    return store.address(name)


def _from_folder(folder: Path) -> SAE:
    from sae_lens import SAE
    from safetensors import SafetensorError

    foreign = read_foreign(folder)
    if foreign is not None:
        return foreign
    if not (folder / "cfg.json").exists():
        refuse_other_kinds(folder, "a sparse autoencoder", "train one with `cotlens sae train`")
        raise StoreError(
            f"no SAE at {folder}: a SAELens folder holds cfg.json and sae_weights.safetensors, one of sparsify cfg.json and "
            "sae.safetensors, one of dictionary_learning config.json and ae.pt."
        )
    try:
        with silent():
            return require_affine(SAE.load_from_disk(str(folder)).eval(), folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise StoreError(f"the SAE at {folder} cannot be loaded ({reason}). Save or download it again.") from None


def _from_hub(release: str, sae_id: str) -> SAE:
    from sae_lens import SAE

    try:
        with silent():
            return require_affine(SAE.from_pretrained(release, sae_id).eval(), Path(release))
    except StoreError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(
            f"the SAE {sae_id} of release {release} cannot be downloaded ({reason}). Without a hub, give a folder in "
            "SAELens's format."
        ) from None


def _check_reference(sae: SAE, folder: Path) -> Check:
    """Check that an SAE reproduces its reference outputs."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / REFERENCE
    if not path.exists():
        return Check("reference", "warn", "it has no reference outputs, so that loading cannot be checked.")
    try:
        reference = load_file(path)
        inputs, expected = reference["inputs"], (reference["features"], reference["outputs"])
    except (SafetensorError, OSError, KeyError) as error:
        return Check("reference", "fail", f"{path.name} is damaged ({error}); save it again.")
    if inputs.shape[1] != sae.cfg.d_in:
        return Check("reference", "fail", f"its reference is {inputs.shape[1]} wide, and it reads {sae.cfg.d_in}.")
    with torch.no_grad():
        features = sae.encode(inputs)
        outputs = (features, sae.decode(features))
    for name, now, saved in zip(("features", "reconstruction"), outputs, expected, strict=True):
        gap = float((now - saved).abs().max()) if now.shape == saved.shape else float("inf")
        if not gap <= _CLOSE * max(float(saved.abs().max()), 1.0):
            return Check(
                "reference",
                "fail",
                f"its {name} differ by {gap:.3g} from those it gave when it was saved (architecture "
                f"{sae.cfg.architecture()}); the file was changed, or loaded as another architecture. Save it again.",
            )
    return Check("reference", "pass", "reproduces its reference outputs.")


def _check_fit(sae: SAE, store: ActivationSource, address: Address | str | None, transfer: bool) -> list[Check]:
    """Check that an SAE belongs to the activations at an address."""
    read_at = address_of(sae, store, address)
    acts = store.acts(read_at, store.thought_rows.iloc[:2048])
    if acts.shape[1] != sae.cfg.d_in:
        message = (
            f"it reads activations {sae.cfg.d_in} wide, and {read_at} of {store.name} is {acts.shape[1]} wide; choose an "
            "SAE of this model."
        )
        return [Check("width", "fail", message)]
    checks = [Check("width", "pass", f"reads {sae.cfg.d_in} dimensions, as {read_at} has.")]
    metadata, reasoner = sae.cfg.metadata, store.meta["reasoner"]
    if metadata.hook_name is not None and Address(metadata.hook_name) != read_at:
        message = f"it was trained at {metadata.hook_name}, not at {read_at}; read there, or train one here."
        checks.append(Check("address", "fail", message))
    checks.append(check_model(sae, reasoner["name"], reasoner["weights"], transfer=transfer))
    if len(acts) > 1:
        checks.append(_check_variance(sae, acts, read_at))
    return checks


def _check_variance(sae: SAE, acts: np.ndarray, address: Address) -> Check:
    """Check that an SAE explains about as much variance as on its training data."""
    from interp.sae.quality import explained_variance

    explained, trained = explained_variance(sae, acts), sae.cfg.metadata.explained_variance
    message = f"it explains {explained:.2f} of the variance at {address}"
    if explained <= 0 and (trained is None or trained > 0):
        return Check("explains", "fail", f"{message}, less than the mean does; it belongs to other activations.")
    if trained is not None and explained < trained / 2:
        return Check("explains", "warn", f"{message}, and {trained:.2f} where it was trained.")
    return Check("explains", "pass", f"{message}.")
