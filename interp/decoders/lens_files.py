"""Lenses in files: what kind of lens a path holds, and tensors read without running code."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.errors import StoreError, UsageError
from interp.runtime.written import refuse_other_kinds

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# The files of a lens of this project (`TunedLens.save`), and those of a folder of the tuned-lens package.
DESCRIPTION, WEIGHTS = "tuned_lens.json", "translators.safetensors"
FOREIGN_DESCRIPTION, FOREIGN_WEIGHTS = "config.json", "params.pt"


def lens_method(path: Path | str) -> str:
    """Return the name of the decoder that reads the lens at a path.

    Args:
        path: A folder of a tuned lens, of this project or of the tuned-lens package, or the file of a Jacobian lens.

    Returns:
        `tuned_lens` or `jacobian_lens`.

    Raises:
        UsageError: Nothing is there.
        StoreError: What is there is no lens.
    """
    path = Path(path)
    if path.is_file():
        return "jacobian_lens"
    if not path.is_dir():
        raise UsageError(f"expected the folder or file of a lens, got {path}, which does not exist; check the path.")
    if (path / DESCRIPTION).exists() or (path / FOREIGN_DESCRIPTION).exists():
        return "tuned_lens"
    raise StoreError(
        f"expected a lens in {path}, got a folder without {DESCRIPTION} or {FOREIGN_DESCRIPTION}; name the folder of a "
        "tuned lens, or the .pt file of a Jacobian lens."
    )


def lens_settings(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Return the settings of `interp.decode` with which decoders read saved lenses.

    Args:
        paths: Folders or files of lenses, at most one of each kind.

    Returns:
        For each decoder the path of its lens: `{"tuned_lens": {"source": ...}}`.

    Raises:
        UsageError: A path does not exist, or two lenses are of one kind.
        StoreError: A path holds no lens.
    """
    settings: dict[str, dict[str, Any]] = {}
    for path in paths:
        method = lens_method(path)
        if method in settings:
            raise UsageError(
                f"expected one lens for {method}, got {settings[method]['source']} and {path}; read them one by one."
            )
        settings[method] = {"source": path}
    return settings


def load_pickled(path: Path, what: str, *, mapped: bool = False) -> Any:
    """Return the content of a file of `torch.save`, which may hold tensors and plain values only.

    Args:
        path: The file.
        what: What the message calls it, such as "tuned lens".
        mapped: Map tensors from disk, which reads them only where they are used.

    Raises:
        StoreError: It is missing, damaged, or holds anything that would run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged pickles raise errors of every kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StoreError(
            f"the {what} {path} cannot be read safely as tensors ({reason[:120].rstrip('. ')}); get an intact copy."
        ) from None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        StoreError: It cannot be read, or holds no object.
    """
    refuse_other_kinds(path, f"the {what} as JSON", "give its JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"the {what} {path} cannot be read ({reason}); get an intact copy.") from None
    if not isinstance(content, dict):
        raise StoreError(f"expected an object in the {what} {path}, got {type(content).__name__}; get an intact copy.")
    return content


def check_weights(
    stated: str | None,
    reasoner: Reasoner,
    *,
    what: str,
    of: str,
    where: Path | str,
    compared: str,
    transfer: bool = False,
) -> None:
    """Check that a lens was fitted to a model's weights; where it does not say so, a warning names the assumption.

    Args:
        stated: Hash of the weights that the lens names; None where it names none.
        reasoner: The model.
        what: Kind of the lens, for the message.
        of: The model that the lens names, in words.
        where: File or folder of the lens, for the message.
        compared: What was compared in place of the weights, for the warning.
        transfer: Allow a lens of other weights, and of weights that it does not name.

    Raises:
        StoreError: It was fitted to other weights.
    """
    if transfer or stated == reasoner.weights:
        return
    if stated is None:
        warnings.warn(
            f"the {what} {where} does not say which weights it was fitted to ({of}); that they are those of {reasoner.name} "
            f"is an assumption, and only the {compared} compared.",
            stacklevel=4,
        )
        return
    raise StoreError(
        f"expected a {what} of {reasoner.name} (weights {reasoner.weights}), got one of {of} (weights {stated}) in {where}; "
        "fit one to this model, or allow it with transfer=True."
    )


def checked_matrix(value: Any, shape: tuple[int, ...], name: str, where: Path) -> Tensor:
    """Return a tensor of a lens in float32.

    Args:
        value: What the file holds under `name`.
        shape: The shape that it must have.
        name: Its name in the file.
        where: The file, for the message.

    Raises:
        StoreError: It is no tensor of real numbers of this shape, or not finite.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not value.is_floating_point():
        actual = f"shape {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise StoreError(
            f"expected {name} in {where} to be numbers of shape {shape}, got {actual}; it is a lens of another model, or "
            "damaged."
        )
    matrix = value.detach().float()
    if not bool(torch.isfinite(matrix).all()):
        raise StoreError(f"expected finite numbers in {name} of {where}, got some that are not; fit the lens again.")
    return matrix
