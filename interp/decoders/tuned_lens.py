"""Tuned lens (Belrose et al., arXiv 2303.08112): a learned affine translator before the logit lens.

Each address gets its own translator, h + Ah + b. It is fitted to bring the lens's distribution close to the model's final
one at the same position (their section 3: KL divergence, started at the identity), on every captured position of the
training problems, latents included. No label is seen. At the last block's output and after the final norm there is nothing
to translate, and the lens is the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.base import DecoderTraits, RankedTexts
from interp.decoders.lens_files import DESCRIPTION, FOREIGN_DESCRIPTION, WEIGHTS, check_weights
from interp.decoders.logit_lens import rank_tokens, require_same_model, unembed_states, unembedding_hash
from interp.decoders.tuned_lens_folder import read_folder
from interp.errors import StoreError, UsageError, checked_count
from interp.models.address import Address
from interp.runtime.files import commit

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

FINAL = Address("ln_final.hook_out")
SCHEMA_VERSION = 1
# Early stopping: checks without improvement, and updates between checks.
_PATIENCE, _EVERY = 5, 20


class LensOptions(TypedDict, total=False):
    """Options of `TunedLens`."""

    updates: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Translator:
    """An affine map of the residual stream, added to its input.

    Attributes:
        matrix: A, shape (d_model, d_model).
        bias: b, shape (d_model,).
    """

    matrix: Float[Tensor, "d_model d_model"]
    bias: Float[Tensor, " d_model"]

    def __call__(self, states: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
        """Return h + Ah + b for each row h."""
        return states + states @ self.matrix + self.bias


class TunedLens:
    """Translators for one or more addresses of one model, behind the `Decoder` protocol.

    Fitting stops when the KL on a tenth of the training problems has not fallen for five checks. The best translator is
    kept.

    Args:
        reasoner: The model that the store was captured from.
        updates: Largest number of updates.
        batch_size: Rows of an update.
        learning_rate: Learning rate of Adam, falling linearly to 0.
        seed: Seed of the held-out tenth and of the batches.
        source: Folder of a saved lens, of `save` or of the tuned-lens package, which is read instead of fitting one.

    Attributes:
        translators_: Address name to translator.
        losses_: Address name to (updates made, KL of the logit lens, KL reached), both on the held-out tenth, in nats.
    """

    name = "tuned_lens"
    traits: ClassVar[DecoderTraits] = DecoderTraits(needs_model=True, uses_labels=False)

    def __init__(
        self,
        reasoner: Reasoner,
        *,
        updates: int = 250,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        seed: int = 0,
        source: Path | str | None = None,
    ) -> None:
        self.reasoner = reasoner
        self.updates = checked_count("updates", updates)
        self.batch_size = checked_count("batch_size", batch_size)
        self.learning_rate, self.seed = learning_rate, seed
        self.translators_: dict[str, Translator] = {}
        self.losses_: dict[str, tuple[int, float, float]] = {}
        self.one_for_all = source is not None
        if source is not None:
            self.translators_ = TunedLens.load(source, reasoner).translators_

    def reads(self, address: Address) -> bool:
        """Return whether the lens can be read at an address: a saved one only where it was fitted."""
        return not self.one_for_all or address.name in self.translators_ or self._is_last(address)

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray | None = None
    ) -> TunedLens:
        """Fit the translator of `address` to all captured positions of the traces of `rows`; labels are not used.

        A lens that was read from a folder stays as it is.

        Raises:
            StoreError: The store was made by another model, or lacks the final states.
            UsageError: There are no rows.
        """
        if self.one_for_all:
            require_same_model(store, self.reasoner, "this lens")
            return self
        positions = store.index[store.index["trace"].isin(rows["trace"].unique())]
        return self.fit_rows(store, address, positions)

    def fit_rows(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> TunedLens:
        """Fit the translator of `address` to these rows of the store, and no others."""
        require_same_model(store, self.reasoner, "this lens")
        if not len(rows):
            raise UsageError("expected rows to fit a tuned lens to, got none; choose other channels or problems.")
        if self._is_last(address):
            return self
        device = self.reasoner.device
        states = torch.from_numpy(store.acts(address, rows)).to(device)
        targets = model_log_probabilities(store, self.reasoner, rows)
        held_out = _held_out(structures(store, rows), self.seed).to(device)
        translator, losses = self._fit_translator(address, states, targets, held_out)
        self.translators_[address.name], self.losses_[address.name] = translator, losses
        return self

    def _fit_translator(
        self, address: Address, states: Tensor, targets: Tensor, held_out: Tensor
    ) -> tuple[Translator, tuple[int, float, float]]:
        width = states.shape[1]
        # Steps are taken in units of the stream's own spread, so that one learning rate suits all layers and models.
        spread = states.std().clamp(min=1e-6)
        matrix = torch.zeros(width, width, device=states.device, requires_grad=True)
        bias = torch.zeros(width, device=states.device, requires_grad=True)
        optimizer = torch.optim.Adam([matrix, bias], lr=self.learning_rate)
        draw = torch.Generator().manual_seed(self.seed)
        train = torch.nonzero(~held_out)[:, 0]

        def loss(rows: Tensor) -> Tensor:
            translated = Translator(matrix, bias * spread)(states[rows])
            return kl_divergence(targets[rows], self._log_p(translated, address)).mean()

        def snapshot() -> Translator:
            return Translator(matrix.detach().clone(), (bias * spread).detach().clone())

        with torch.no_grad():
            start = best = float(loss(held_out.nonzero()[:, 0]))
        best_translator, checks_without_gain, update = snapshot(), 0, 0
        for update in range(1, self.updates + 1):
            rows = train[torch.randint(len(train), (min(self.batch_size, len(train)),), generator=draw)]
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 - (update - 1) / self.updates)
            optimizer.zero_grad(set_to_none=True)
            loss(rows).backward()
            optimizer.step()
            if update % _EVERY == 0 or update == self.updates:
                with torch.no_grad():
                    now = float(loss(held_out.nonzero()[:, 0]))
                if now < best:
                    best, best_translator, checks_without_gain = now, snapshot(), 0
                    continue
                checks_without_gain += 1
                if checks_without_gain >= _PATIENCE:
                    break
        return best_translator, (update, start, best)

    def _log_p(self, states: Tensor, address: Address) -> Tensor:
        return torch.log_softmax(unembed_states(self.reasoner, states, address.norm).float(), dim=-1)

    def _is_last(self, address: Address) -> bool:
        return address.norm == "post" or address == Address(f"blocks.{self.reasoner.model.cfg.n_layers - 1}.hook_out")

    @torch.no_grad()
    def logits(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        """Return the lens's logits, shape (rows, vocabulary).

        Raises:
            StoreError: The store was made by another model.
            UsageError: The lens was not fitted at this address.
        """
        require_same_model(store, self.reasoner, "this lens")
        states = torch.from_numpy(store.acts(address, rows)).to(self.reasoner.device)
        return self.logits_of(states, address).cpu().numpy()

    @torch.no_grad()
    def logits_of(self, states: Float[Tensor, "rows d_model"], address: Address) -> Float[Tensor, "rows vocab"]:
        """Return the lens's logits of hidden states of an address, in float32.

        Raises:
            UsageError: The lens was not fitted at this address.
        """
        if not self._is_last(address):
            if address.name not in self.translators_:
                fitted = ", ".join(self.translators_) or "none"
                raise UsageError(f"this tuned lens was not fitted at {address} (fitted: {fitted}). Fit it there first.")
            states = self.translators_[address.name](states)
        return unembed_states(self.reasoner, states, address.norm).float()

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the likeliest tokens of each row, with their probabilities."""
        return rank_tokens(self.reasoner, self.logits(store, address, rows), top_k)

    def save(self, folder: Path | str) -> None:
        """Write the translators as safetensors, with a hash of the unembedding that they belong to."""
        tensors: dict[str, Tensor] = {}
        for name, translator in self.translators_.items():
            tensors |= {f"{name}|matrix": translator.matrix.cpu(), f"{name}|bias": translator.bias.cpu()}
        description = {
            "schema_version": SCHEMA_VERSION,
            "model": self.reasoner.name,
            "unembedding": unembedding_hash(self.reasoner),
            "weights": self.reasoner.weights,
            "addresses": list(self.translators_),
            "losses": self.losses_,
            "seed": self.seed,
        }
        commit(Path(folder) / WEIGHTS, save(tensors))
        commit(Path(folder) / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path | str, reasoner: Reasoner, *, transfer: bool = False) -> TunedLens:
        """Return a lens that was saved, here or by the tuned-lens package.

        Args:
            folder: Where it was saved.
            reasoner: The model that it was fitted to.
            transfer: Allow a lens of another model that has the same unembedding.

        Raises:
            StoreError: The folder holds no lens, a damaged one, or one of another model or another unembedding.
        """
        folder = Path(folder)
        if not (folder / DESCRIPTION).exists() and (folder / FOREIGN_DESCRIPTION).exists():
            lens = cls(reasoner)
            maps = read_folder(folder, reasoner, transfer=transfer)
            lens.translators_ = {name: Translator(*parts) for name, parts in maps.items()}
            return lens
        if not (folder / DESCRIPTION).exists():
            raise StoreError(f"no tuned lens in {folder}: it has no {DESCRIPTION}. Fit one and save it there.")
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            unembedding, model = description["unembedding"], description["model"]
            tensors = load((folder / WEIGHTS).read_bytes())
            lens = cls(reasoner, seed=description["seed"])
            lens.losses_ = {name: tuple(losses) for name, losses in description["losses"].items()}
            for name in description["addresses"]:
                parts = (tensors[f"{name}|{part}"].to(reasoner.device) for part in ("matrix", "bias"))
                lens.translators_[name] = Translator(*parts)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise StoreError(f"the tuned lens in {folder} cannot be read ({error}). Fit and save it again.") from None
        if unembedding != unembedding_hash(reasoner):
            raise StoreError(
                f"the tuned lens in {folder} was fitted to {model}'s unembedding, which {reasoner.name} does not have. "
                "Load that model, or fit a lens to this one."
            )
        check_weights(
            description.get("weights"),
            reasoner,
            what="tuned lens",
            of=str(model),
            where=folder,
            compared="unembedding was",
            transfer=transfer,
        )
        return lens


def kl_divergence(log_p: Float[Tensor, "rows vocab"], log_q: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """Return KL(p ‖ q) of each row in nats, from log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@torch.no_grad()
def model_log_probabilities(
    store: ActivationSource, reasoner: Reasoner, rows: pd.DataFrame
) -> Float[Tensor, "rows vocab"]:
    """Return the model's own next-token log-probabilities at each row, shape (rows, vocabulary).

    Raises:
        StoreError: The final states are not stored.
    """
    if FINAL not in store.addresses:
        raise StoreError(
            f"expected the model's final states, which a tuned lens is fitted to, but {store.name} does not hold {FINAL}. "
            "Capture the site `final` too."
        )
    states = torch.from_numpy(store.acts(FINAL, rows)).to(reasoner.device)
    return torch.log_softmax(unembed_states(reasoner, states, "post").float(), dim=-1)


def _held_out(groups: np.ndarray, seed: int) -> Tensor:
    """Return the mask of the rows of a tenth of the problems, for early stopping; at least one problem, and not all."""
    unique, inverse = np.unique(groups, return_inverse=True)
    if len(unique) < 2:
        raise UsageError(
            f"expected at least two problems to fit a tuned lens, one of them for early stopping, got {len(unique)}; use "
            "more problems."
        )
    chosen = np.random.default_rng(seed).permutation(len(unique)) < max(1, len(unique) // 10)
    return torch.from_numpy(chosen[inverse])
