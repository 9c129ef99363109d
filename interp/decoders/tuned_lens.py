"""Tuned lens (Belrose et al., arXiv 2303.08112): a learned affine translator before the logit lens.

Each address gets its own translator, h + Ah + b, fitted so that the lens's distribution comes close to the model's final
one at the same position (their section 3: KL divergence, started at the identity). It is fitted on every captured
position of the training problems, latents included, and no label is seen. At the last block's output and after the final
norm there is nothing to translate, and it is the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.base import Readings
from interp.decoders.logit_lens import ranked_tokens, refuse_other_model, unembedded, unembedding_hash
from interp.errors import StoreError, UsageError, checked_count
from interp.models.address import Address
from interp.runtime.files import commit

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

FINAL = Address("ln_final.hook_out")
DESCRIPTION, WEIGHTS = "tuned_lens.json", "translators.safetensors"
SCHEMA_VERSION = 1
_PATIENCE, _EVERY = 5, 20


@dataclass(frozen=True)
class Translator:
    """An affine map of the residual stream, added to what comes in."""

    matrix: Float[Tensor, "d_model d_model"]
    bias: Float[Tensor, " d_model"]

    def __call__(self, states: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
        return states + states @ self.matrix + self.bias


class TunedLens:
    """Translators for one or more addresses of one model, behind the `Decoder` protocol.

    `updates` is the most; fitting stops when the KL on a tenth of the training problems has not fallen for a while, and
    the best translator is kept. `losses_` maps each address to (updates made, KL of the logit lens, KL reached), both on
    that tenth, in nats.
    """

    name = "tuned_lens"
    needs_model = True
    label_free = True

    def __init__(
        self,
        reasoner: Reasoner,
        *,
        updates: int = 250,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ) -> None:
        self.reasoner = reasoner
        self.updates = checked_count("updates", updates)
        self.batch_size = checked_count("batch_size", batch_size)
        self.learning_rate, self.seed = learning_rate, seed
        self.translators_: dict[str, Translator] = {}
        self.losses_: dict[str, tuple[int, float, float]] = {}

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray | None = None
    ) -> TunedLens:
        """Fit the translator of `address` to all captured positions of the traces of `rows`; labels are not used.

        Raises `StoreError` where the store was made by another model or lacks the final states, `UsageError` on no rows.
        """
        taken = store.index[store.index["trace"].isin(rows["trace"].unique())]
        return self.fit_rows(store, address, taken)

    def fit_rows(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> TunedLens:
        """Fit the translator of `address` to these rows of the store, and no others."""
        refuse_other_model(store, self.reasoner, "this lens")
        if not len(rows):
            raise UsageError(
                "a tuned lens is fitted to rows of a store, but none came. Choose other channels or problems."
            )
        if self._is_last(address):
            return self
        device = self.reasoner.device
        states = torch.from_numpy(store.acts(address, rows)).to(device)
        wanted = model_log_probabilities(store, self.reasoner, rows)
        held = _held_out(structures(store, rows), self.seed).to(device)
        self.translators_[address.name], self.losses_[address.name] = self._fitted(address, states, wanted, held)
        return self

    def _fitted(
        self, address: Address, states: Tensor, wanted: Tensor, held: Tensor
    ) -> tuple[Translator, tuple[int, float, float]]:
        width = states.shape[1]
        # Steps are taken in units of the stream's own spread, so that one learning rate suits all layers and models.
        spread = states.std().clamp(min=1e-6)
        matrix = torch.zeros(width, width, device=states.device, requires_grad=True)
        bias = torch.zeros(width, device=states.device, requires_grad=True)
        optimizer = torch.optim.Adam([matrix, bias], lr=self.learning_rate)
        draw = torch.Generator().manual_seed(self.seed)
        train = torch.nonzero(~held)[:, 0]

        def loss(rows: Tensor) -> Tensor:
            made = Translator(matrix, bias * spread)(states[rows])
            return kl_divergence(wanted[rows], self._log_p(made, address)).mean()

        def kept() -> Translator:
            return Translator(matrix.detach().clone(), (bias * spread).detach().clone())

        with torch.no_grad():
            start = best = float(loss(held.nonzero()[:, 0]))
        best_translator, waited, update = kept(), 0, 0
        for update in range(1, self.updates + 1):
            rows = train[torch.randint(len(train), (min(self.batch_size, len(train)),), generator=draw)]
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 - (update - 1) / self.updates)
            optimizer.zero_grad(set_to_none=True)
            loss(rows).backward()
            optimizer.step()
            if update % _EVERY == 0 or update == self.updates:
                with torch.no_grad():
                    now = float(loss(held.nonzero()[:, 0]))
                if now < best:
                    best, best_translator, waited = now, kept(), 0
                elif (waited := waited + 1) >= _PATIENCE:
                    break
        return best_translator, (update, start, best)

    def _log_p(self, states: Tensor, address: Address) -> Tensor:
        return torch.log_softmax(unembedded(self.reasoner, states, address.norm).float(), dim=-1)

    def _is_last(self, address: Address) -> bool:
        return address.norm == "post" or address == Address(f"blocks.{self.reasoner.model.cfg.n_layers - 1}.hook_out")

    @torch.no_grad()
    def logits(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        """The lens's logits, rows x vocabulary. Raises `UsageError` at an address that was not fitted."""
        refuse_other_model(store, self.reasoner, "this lens")
        states = torch.from_numpy(store.acts(address, rows)).to(self.reasoner.device)
        if not self._is_last(address):
            if address.name not in self.translators_:
                fitted = ", ".join(self.translators_) or "none"
                raise UsageError(f"this tuned lens was not fitted at {address} (fitted: {fitted}). Fit it there first.")
            states = self.translators_[address.name](states)
        return unembedded(self.reasoner, states, address.norm).float().cpu().numpy()

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        return ranked_tokens(self.reasoner, self.logits(store, address, rows), top_k)

    def save(self, folder: Path | str) -> None:
        """Write the translators as safetensors, with a hash of the unembedding that they belong to."""
        tensors: dict[str, Tensor] = {}
        for name, each in self.translators_.items():
            tensors |= {f"{name}|matrix": each.matrix.cpu(), f"{name}|bias": each.bias.cpu()}
        said = {
            "schema_version": SCHEMA_VERSION,
            "model": self.reasoner.name,
            "unembedding": unembedding_hash(self.reasoner),
            "addresses": list(self.translators_),
            "losses": self.losses_,
            "seed": self.seed,
        }
        commit(Path(folder) / WEIGHTS, save(tensors))
        commit(Path(folder) / DESCRIPTION, (json.dumps(said, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path | str, reasoner: Reasoner) -> TunedLens:
        """A lens that was saved. Raises `StoreError` where it is not there, damaged, or of another unembedding."""
        folder = Path(folder)
        if not (folder / DESCRIPTION).exists():
            raise StoreError(f"no tuned lens in {folder}: it has no {DESCRIPTION}. Fit one and save it there.")
        try:
            said = json.loads((folder / DESCRIPTION).read_text())
            of, model, addresses = said["unembedding"], said["model"], said["addresses"]
            tensors = load((folder / WEIGHTS).read_bytes())
            made = cls(reasoner, seed=said["seed"])
            made.losses_ = {name: tuple(each) for name, each in said["losses"].items()}
            for name in addresses:
                parts = (tensors[f"{name}|{part}"].to(reasoner.device) for part in ("matrix", "bias"))
                made.translators_[name] = Translator(*parts)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise StoreError(f"the tuned lens in {folder} cannot be read ({error}). Fit and save it again.") from None
        if of != unembedding_hash(reasoner):
            raise StoreError(
                f"the tuned lens in {folder} was fitted to {model}'s unembedding, which {reasoner.name} does not have. "
                "Load that model, or fit a lens to this one."
            )
        return made


def kl_divergence(log_p: Float[Tensor, "rows vocab"], log_q: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """KL(p ‖ q) of each row in nats, from log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@torch.no_grad()
def model_log_probabilities(
    store: ActivationSource, reasoner: Reasoner, rows: pd.DataFrame
) -> Float[Tensor, "rows vocab"]:
    """The model's own next-token distribution at each row. Raises `StoreError` where the final states are not stored."""
    if FINAL not in store.addresses:
        raise StoreError(
            f"a tuned lens is fitted to the model's final states, but {store.name} does not hold {FINAL}. "
            "Capture the site `final` too."
        )
    states = torch.from_numpy(store.acts(FINAL, rows)).to(reasoner.device)
    return torch.log_softmax(unembedded(reasoner, states, "post").float(), dim=-1)


def _held_out(groups: np.ndarray, seed: int) -> Tensor:
    """A tenth of the problems, for early stopping; at least one, and not all."""
    unique, inverse = np.unique(groups, return_inverse=True)
    if len(unique) < 2:
        raise UsageError("a tuned lens needs at least two problems to be fitted: one of them says when to stop.")
    chosen = np.random.default_rng(seed).permutation(len(unique)) < max(1, len(unique) // 10)
    return torch.from_numpy(chosen[inverse])


def lens_divergences(
    store: ActivationSource, lens: TunedLens, rows: pd.DataFrame, addresses: Sequence[Address] | None = None
) -> pd.DataFrame:
    """KL from the model's distribution to each lens's, in nats, by address: columns address, logit_lens, tuned_lens, n.

    `lens` must be fitted at every address but the last ones.
    """
    wanted = model_log_probabilities(store, lens.reasoner, rows)
    plain = TunedLens(lens.reasoner)
    out = []
    for address in addresses or store.addresses:
        plain.translators_[address.name] = _identity(store.meta["d_model"], lens.reasoner.device)
        found = []
        for each in (plain, lens):
            logits = torch.from_numpy(each.logits(store, address, rows)).to(wanted.device)
            found.append(float(kl_divergence(wanted, torch.log_softmax(logits, dim=-1)).mean()))
        out.append({"address": address.name, "logit_lens": found[0], "tuned_lens": found[1], "n": len(rows)})
    return pd.DataFrame(out)


def _identity(width: int, device: torch.device) -> Translator:
    return Translator(torch.zeros(width, width, device=device), torch.zeros(width, device=device))


def position_transfer(
    store: ActivationSource,
    reasoner: Reasoner,
    address: Address,
    train: pd.DataFrame,
    test: pd.DataFrame,
    **options: int,
) -> pd.DataFrame:
    """A translator fitted to the positions of each kind, read at those of each other, on other problems.

    Kinds are the store's channels. Columns: fitted_on, read_at, kl (nats), logit_lens (its KL there), n.
    """
    out = []
    kinds = [kind for kind in test["channel"].unique() if (train["channel"] == kind).sum() > 1]
    for fitted_on in [*kinds, "all"]:
        rows = train if fitted_on == "all" else train[train["channel"] == fitted_on]
        lens = TunedLens(reasoner, **options).fit_rows(store, address, rows)
        for read_at in kinds:
            there = test[test["channel"] == read_at]
            found = lens_divergences(store, lens, there, [address]).iloc[0]
            kls = {"kl": found["tuned_lens"], "logit_lens": found["logit_lens"], "n": len(there)}
            out.append({"fitted_on": fitted_on, "read_at": read_at, **kls})
    return pd.DataFrame(out)
