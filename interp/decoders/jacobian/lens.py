"""Jacobian lens (Gurnee et al. 2026): carry a state to the end of the network by the average Jacobian, then unembed.

The lens of layer l is unembed(norm(J h)), where J is how the last block's output changes with the output of block l, to
first order and averaged over contexts. With J = 1 it is the logit lens. No label is seen. The rows of the unembedding times
J are directions of tokens in layer l, which `interp.causal.lens_edits` swaps and holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, RankedTexts, rank_classes
from interp.decoders.jacobian.candidates import Candidates
from interp.decoders.jacobian.estimate import Positions
from interp.decoders.jacobian.fitting import fit_jacobians
from interp.decoders.jacobian.lens_file import LensFile
from interp.decoders.logit_lens import rank_tokens, require_same_model, unembed_states
from interp.errors import UsageError, checked_count
from interp.models.address import Address

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.traces import Trace


class JacobianLens:
    """A Jacobian lens of one model, behind the `Decoder` protocol.

    Args:
        reasoner: The model that the store was captured from.
        source: File of a saved lens, which is read instead of fitting one.
        contexts: Number of training traces that `fit` averages over.
        batch_size: Traces that run at once.
        skip_first: Positions at the beginning of each trace that do not count.
        channels: Channels whose positions are sources, such as `["latent"]`; None for all.
        candidates: Tokens, if only their rows are wanted. Where the vocabulary is large, a few rows take a fraction of the
            time of the whole lens.

    Attributes:
        lens_: The fitted matrices; None before `fit`.
    """

    name = "jacobian_lens"
    traits: ClassVar[DecoderTraits] = DecoderTraits(needs_model=True, uses_labels=False)

    def __init__(
        self,
        reasoner: Reasoner,
        *,
        source: Path | str | None = None,
        contexts: int = 64,
        batch_size: int = 16,
        skip_first: int = 0,
        channels: Sequence[str] | None = None,
        candidates: Sequence[str] | None = None,
    ) -> None:
        self.reasoner, self.one_for_all = reasoner, True
        self.contexts, self.batch_size = checked_count("contexts", contexts), batch_size
        self.positions = Positions(skip_first, None if channels is None else tuple(channels))
        self.candidates = None if candidates is None else token_ids(reasoner, candidates)
        self.lens_: LensFile | None = None
        self._rows: Candidates | None = None
        if source is not None:
            self.use(JacobianLens.load(source, reasoner).lens)

    @property
    def lens(self) -> LensFile:
        """The fitted matrices.

        Raises:
            UsageError: Nothing was fitted.
        """
        if self.lens_ is None:
            raise UsageError("this Jacobian lens was not fitted; fit it, or load one.")
        return self.lens_

    @classmethod
    def load(cls, path: Path | str, reasoner: Reasoner, *, transfer: bool = False) -> JacobianLens:
        """Return a lens that was saved here, by the reference implementation or by transformer_lens.

        Args:
            path: Its `.pt` file.
            reasoner: The model that it was fitted to.
            transfer: Allow a lens of other weights.

        Raises:
            StoreError: The file is no lens, damaged, or a lens of another model.
        """
        lens = LensFile.read(path)
        lens.check_model(reasoner, path, transfer=transfer)
        made = cls(reasoner)
        made.use(lens)
        return made

    def save(self, path: Path | str, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the lens in the format of the reference implementation, with the hash of the model's weights."""
        self.lens.write(path, dtype=dtype)

    def use(self, lens: LensFile) -> None:
        """Read with these matrices."""
        self.lens_ = lens
        self._rows = None if lens.candidates is None else Candidates.of(self.reasoner, lens.candidates)

    def reads(self, address: Address) -> bool:
        """Return whether the lens can be read at an address: outputs of fitted blocks, and the end of the network."""
        if self._is_last(address):
            return self._rows is None and self.candidates is None
        if address.hook != "hook_out" or address.layer is None:
            return False
        return self.lens_ is None or address.layer in self.lens_.matrices

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray | None = None
    ) -> JacobianLens:
        """Fit all layers to the traces of `rows`, at most `contexts` of them, in the first call; labels are not used.

        Raises:
            StoreError: The store was made by another model.
            UsageError: No trace has a position that counts.
        """
        require_same_model(store, self.reasoner, "this lens")
        if self.lens_ is None:
            numbers = rows["trace"].unique()
            # Evenly over the traces, which a task may have sorted.
            chosen = numbers[np.linspace(0, len(numbers) - 1, min(self.contexts, len(numbers))).astype(int)]
            self.fit_traces([store.traces[int(k)] for k in chosen])
        return self

    def fit_traces(self, traces: Sequence[Trace]) -> JacobianLens:
        """Fit all layers to traces of the model."""
        options = {"positions": self.positions, "candidates": self.candidates, "batch_size": self.batch_size}
        self.use(fit_jacobians(self.reasoner, list(traces), **options))  # type: ignore[arg-type]
        return self

    def transport(self, states: Float[Tensor, "rows d_model"], layer: int) -> Float[Tensor, "rows k"]:
        """Return J times each state of a layer, or its products with the candidates' vectors, in float32.

        Raises:
            UsageError: The layer was not fitted.
        """
        if layer not in self.lens.matrices:
            raise UsageError(
                f"this Jacobian lens was not fitted at layer {layer} (fitted: {sorted(self.lens.matrices)}); choose another."
            )
        return states.float() @ self.lens.matrices[layer].to(states.device).T

    @torch.no_grad()
    def logits(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        """Return the lens's logits, shape (rows, vocabulary), or (rows, candidates).

        Raises:
            StoreError: The store was made by another model.
            UsageError: The lens was not fitted at this address.
        """
        require_same_model(store, self.reasoner, "this lens")
        states = torch.from_numpy(store.acts(address, rows)).to(self.reasoner.device)
        return self.logits_of(states, address).cpu().numpy()

    @property
    def tokens(self) -> tuple[int, ...] | None:
        """Ids of the tokens that its logits are of, in their order; None for the whole vocabulary."""
        return None if self._rows is None else self._rows.tokens

    @torch.no_grad()
    def logits_of(self, states: Float[Tensor, "rows d_model"], address: Address) -> Float[Tensor, "rows tokens"]:
        """Return the lens's logits of hidden states of an address, in float32, for `tokens`.

        Raises:
            UsageError: The lens was not fitted at this address.
        """
        if not self.reads(address):
            raise UsageError(f"a Jacobian lens reads the outputs of blocks, got {address}; choose blocks.K.hook_out.")
        if self._is_last(address):
            return unembed_states(self.reasoner, states, address.norm).float()
        assert address.layer is not None
        carried = self.transport(states, address.layer)
        if self._rows is not None:
            return self._rows.logits(self.reasoner, carried).float()
        return unembed_states(self.reasoner, carried, "pre").float()

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the likeliest tokens of each row, with their probabilities; among the candidates where there are any."""
        logits = self.logits(store, address, rows)
        if self._rows is None:
            return rank_tokens(self.reasoner, logits, top_k)
        names = self.reasoner.tokenizer.convert_ids_to_tokens(list(self._rows.tokens))
        return rank_classes(torch.softmax(torch.from_numpy(logits), dim=-1).numpy(), names, top_k)

    @torch.no_grad()
    def directions(self, tokens: Sequence[str], layer: int) -> Float[Tensor, "tokens d_model"]:
        """Return the direction of each token in a layer: its row of the unembedding times J.

        Where only candidates were fitted, the final norm's weights are part of it.

        Args:
            tokens: Tokens of the model.
            layer: A fitted layer.

        Raises:
            UsageError: A token or the layer is not in the lens.
        """
        ids = token_ids(self.reasoner, tokens)
        if layer not in self.lens.matrices:
            self.transport(torch.zeros(1, self.lens.width), layer)
        matrix = self.lens.matrices[layer]
        if self._rows is None:
            return self.reasoner.unembed.rows(ids)[0].cpu() @ matrix
        missing = [token for token, n in zip(tokens, ids, strict=True) if n not in self._rows.tokens]
        if missing:
            raise UsageError(f"expected candidates of this lens, got {missing}; fit it with them.")
        return matrix[[self._rows.tokens.index(n) for n in ids]]

    def _is_last(self, address: Address) -> bool:
        return address.norm == "post" or address == Address(f"blocks.{self.reasoner.model.cfg.n_layers - 1}.hook_out")


def token_ids(reasoner: Reasoner, tokens: Sequence[str]) -> list[int]:
    """Return the id of each token.

    Args:
        reasoner: The model.
        tokens: Tokens as the tokenizer has them, or texts that it makes one token of.

    Raises:
        UsageError: A text is not one token.
    """
    ids = []
    for token in tokens:
        known = reasoner.tokenizer.get_vocab().get(token)
        encoded = [known] if known is not None else reasoner.tokenizer(token, add_special_tokens=False)["input_ids"]
        if len(encoded) != 1:
            raise UsageError(
                f"expected tokens of {reasoner.name}, got {token!r}, which is {len(encoded)}; choose another."
            )
        ids.append(int(encoded[0]))
    return ids
