"""Lenses on disk, of either kind: what each was fitted to, without reading its matrices, and the lens itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from interp.decoders.jacobian.lens import JacobianLens
from interp.decoders.jacobian.lens_file import LensFile
from interp.decoders.lens_files import DESCRIPTION, FOREIGN_DESCRIPTION, lens_method, read_json
from interp.decoders.tuned_lens import TunedLens
from interp.errors import StoreError
from interp.models.address import Address

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class LensDescription:
    """What a saved lens says of itself.

    Attributes:
        method: The decoder that reads it: `tuned_lens` or `jacobian_lens`.
        model: Name of the model that it was fitted to; empty where it names none.
        weights: Hash of that model's weights; None where it names none, as lenses of other tools.
        d_model: Width of the residual stream; None where it does not say.
        addresses: Where it was fitted.
        n_tokens: Number of tokens that it reads; None for the whole vocabulary.
    """

    method: str
    model: str
    weights: str | None
    d_model: int | None
    addresses: tuple[str, ...]
    n_tokens: int | None = None


def describe_lens(path: Path | str) -> LensDescription:
    """Return what a saved lens was fitted to; its matrices are not read.

    Args:
        path: A folder of a tuned lens, of this project or of the tuned-lens package, or the file of a Jacobian lens.

    Raises:
        UsageError: Nothing is there.
        StoreError: What is there is no lens, or damaged.
    """
    path = Path(path)
    if lens_method(path) == "jacobian_lens":
        return _describe_jacobian(path)
    try:
        if (path / DESCRIPTION).exists():
            content = read_json(path / DESCRIPTION, "description of the tuned lens")
            names = tuple(Address(name).name for name in content["addresses"])
            return LensDescription("tuned_lens", str(content["model"]), content.get("weights"), None, names)
        content = read_json(path / FOREIGN_DESCRIPTION, "configuration of the tuned lens")
        depth = int(content["num_hidden_layers"])
        # State 0 is the input of the first block, and state N the output of block N - 1.
        names = ("blocks.0.hook_in", *(f"blocks.{n}.hook_out" for n in range(depth - 1)))
        model = str(content.get("base_model_name_or_path") or "")
        return LensDescription("tuned_lens", model, None, int(content["d_model"]), names)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the description of the tuned lens in {path} cannot be read ({error}); fit it again."
        ) from None


def _describe_jacobian(path: Path) -> LensDescription:
    lens = LensFile.read(path, checked=False)
    model = str(lens.metadata.get("reasoner") or lens.metadata.get("model_name") or "")
    weights = lens.metadata.get("weights")
    return LensDescription(
        "jacobian_lens",
        model,
        None if weights is None else str(weights),
        lens.width,
        tuple(f"blocks.{layer}.hook_out" for layer in sorted(lens.matrices)),
        None if lens.candidates is None else len(lens.candidates),
    )


class SavedLens:
    """A saved lens of a model, read through one interface.

    Args:
        path: Its folder or file.
        reasoner: The model that it was fitted to.

    Attributes:
        notes: What about its identity is an assumption, as sentences.
        version: Its path and when it was written, which tell it from others.

    Raises:
        UsageError: Nothing is there.
        StoreError: It is damaged, no lens, or one of another model.
    """

    def __init__(self, path: Path | str, reasoner: Reasoner) -> None:
        path = Path(path)
        self.reasoner = reasoner
        kind = {"tuned_lens": TunedLens, "jacobian_lens": JacobianLens}[lens_method(path)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self._lens = kind(reasoner, source=path)
        file = path / DESCRIPTION if (path / DESCRIPTION).exists() else path
        self.version = f"{path} {file.stat().st_mtime_ns}"
        self.notes = [str(warning.message) for warning in caught if warning.category is UserWarning]

    @property
    def tokens(self) -> tuple[int, ...] | None:
        """Ids of the tokens that it was fitted to; None for the whole vocabulary."""
        return self._lens.tokens if isinstance(self._lens, JacobianLens) else None

    def reads(self, address: Address) -> bool:
        """Return whether the lens can be read at an address."""
        return self._lens.reads(address)

    @torch.no_grad()
    def logits(self, states: Float[Tensor, "rows d_model"], address: Address) -> Float[Tensor, "rows vocab"]:
        """Return the lens's logits of hidden states; minus infinity for tokens that it was not fitted to.

        Args:
            states: Hidden states, shape (rows, d_model).
            address: Where they are from.

        Raises:
            UsageError: The lens cannot be read there.
        """
        logits = self._lens.logits_of(states, address).float()
        if self.tokens is None:
            return logits
        out = logits.new_full((len(logits), len(self.reasoner.unembed.weight)), -torch.inf)
        out[:, list(self.tokens)] = logits
        return out
