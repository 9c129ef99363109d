"""Folders of the tuned-lens package (Belrose et al., arXiv 2303.08112): `config.json` and `params.pt`.

The file holds a linear map for each hidden state but the last, `N.weight` and `N.bias`, which is added to its input: state
0 is the input of the first block, state N the output of block N - 1. The configuration names the base model and a hash of
its unembedding.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from interp.decoders.lens_files import (
    FOREIGN_DESCRIPTION,
    FOREIGN_WEIGHTS,
    checked_matrix,
    load_pickled,
    read_json,
)
from interp.errors import StoreError

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_LINEAR = "linear_tuned_lens"


def read_folder(folder: Path, reasoner: Reasoner, *, transfer: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the maps of a lens of the tuned-lens package.

    A warning says what of the model's identity the folder leaves open.

    Args:
        folder: A folder with `config.json` and `params.pt`.
        reasoner: The model that the lens is read with.
        transfer: Allow a lens whose unembedding is another one.

    Returns:
        For each address the matrix A, shape (d_model, d_model), and the bias b of h + hA + b.

    Raises:
        StoreError: The folder holds another kind of lens, a damaged one, or one of another model.
    """
    config = read_json(folder / FOREIGN_DESCRIPTION, "configuration of the tuned lens")
    if not (folder / FOREIGN_WEIGHTS).exists():
        raise StoreError(f"expected {FOREIGN_WEIGHTS} beside {folder / FOREIGN_DESCRIPTION}, got none; copy it too.")
    lens_type = config.get("lens_type", _LINEAR)
    if lens_type != _LINEAR:
        raise StoreError(
            f"expected a lens of type {_LINEAR} in {folder}, got {lens_type!r}; only that type can be read."
        )
    model = reasoner.model.cfg
    width, depth = config.get("d_model"), config.get("num_hidden_layers")
    if (width, depth) != (model.d_model, model.n_layers):
        raise StoreError(
            f"expected a lens for {model.n_layers} layers of width {model.d_model} ({reasoner.name}), got one for {depth} of "
            f"width {width} in {folder}; load the model that it was tuned for ({_base(config)})."
        )
    _check_identity(config, reasoner, folder, transfer)
    return _maps(folder, model.n_layers, model.d_model, has_bias=bool(config.get("bias", True)), device=reasoner.device)


def _maps(
    folder: Path, n_layers: int, width: int, *, has_bias: bool, device: object
) -> dict[str, tuple[Tensor, Tensor]]:
    file = folder / FOREIGN_WEIGHTS
    tensors = load_pickled(file, "tuned lens")
    parts = ("weight", "bias") if has_bias else ("weight",)
    expected = {f"{n}.{part}" for n in range(n_layers) for part in parts}
    names = set(tensors) if isinstance(tensors, dict) else set()
    if names != expected:
        missing, extra = sorted(expected - names), sorted(map(str, names - expected))
        raise StoreError(
            f"expected the tensors 0.weight to {n_layers - 1}.{parts[-1]} in {file}, got {len(missing)} missing and "
            f"{len(extra)} others (such as {(missing + extra)[0]}); it is a lens of another model, or damaged."
        )
    maps = {}
    for n in range(n_layers):
        matrix = checked_matrix(tensors[f"{n}.weight"], (width, width), f"{n}.weight", file)
        bias = (
            checked_matrix(tensors[f"{n}.bias"], (width,), f"{n}.bias", file) if has_bias else matrix.new_zeros(width)
        )
        address = f"blocks.{n - 1}.hook_out" if n else "blocks.0.hook_in"
        maps[address] = (matrix.T.contiguous().to(device), bias.to(device))  # type: ignore[call-overload]
    return maps


def _check_identity(config: dict[str, object], reasoner: Reasoner, folder: Path, transfer: bool) -> None:
    """Compare the lens's unembedding with the model's, and warn of what remains an assumption."""
    stated = config.get("unembed_hash")
    if stated and stated != package_hash(reasoner.unembed.weight.detach().float().cpu().numpy()):
        if transfer:
            return
        raise StoreError(
            f"the tuned lens in {folder} was tuned for the unembedding of {_base(config)}, which {reasoner.name} does not "
            "have. Load that model, or allow it with transfer=True."
        )
    compared = (
        "a hash of the unembedding's corners agrees, which fine-tuned copies share"
        if stated
        else "it names no hash, so that only its size was compared"
    )
    warnings.warn(
        f"the tuned lens in {folder} was tuned for {_base(config)}; that {reasoner.name} has the same weights is an "
        f"assumption: {compared}.",
        stacklevel=4,
    )


def _base(config: dict[str, object]) -> str:
    revision = config.get("base_model_revision")
    return f"{config.get('base_model_name_or_path', 'an unnamed model')}{f' at {revision}' if revision else ''}"


def package_hash(unembedding: Float[np.ndarray, "vocab d_model"]) -> str:
    """Return the hash by which the tuned-lens package knows an unembedding.

    It is a hash of the matrix as numpy prints it, with one digit. Of large matrices only the corners are printed, so that
    it is weak.
    """
    # The printing options of whoever calls must not change the hash.
    with np.printoptions(threshold=1000, edgeitems=3, linewidth=75, suppress=False, sign="-", floatmode="maxprec"):
        text = np.array_str(unembedding, precision=1)
    return hashlib.sha256(text.encode()).hexdigest()
