"""How close lenses come to the model: KL from its distribution to a lens's, by address and by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import pandas as pd
import torch

from interp.activations import ActivationSource
from interp.decoders.tuned_lens import LensOptions, Translator, TunedLens, kl_divergence, model_log_probabilities
from interp.models.address import Address

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def lens_divergences(
    store: ActivationSource, lens: TunedLens, rows: pd.DataFrame, addresses: Sequence[Address] | None = None
) -> pd.DataFrame:
    """Return the KL from the model's distribution to each lens's, in nats, by address.

    Args:
        store: The activations, with the final states.
        lens: A lens fitted at every address but the last ones.
        rows: Rows to read.
        addresses: Where to read; all of the store's where None.

    Returns:
        Columns address, logit_lens, tuned_lens, n.
    """
    targets = model_log_probabilities(store, lens.reasoner, rows)
    logit_lens = TunedLens(lens.reasoner)
    table = []
    for address in addresses or store.addresses:
        logit_lens.translators_[address.name] = _identity(store.meta["d_model"], lens.reasoner.device)
        divergences = []
        for reader in (logit_lens, lens):
            logits = torch.from_numpy(reader.logits(store, address, rows)).to(targets.device)
            divergences.append(float(kl_divergence(targets, torch.log_softmax(logits, dim=-1)).mean()))
        table.append(
            {"address": address.name, "logit_lens": divergences[0], "tuned_lens": divergences[1], "n": len(rows)}
        )
    return pd.DataFrame(table)


def _identity(width: int, device: torch.device) -> Translator:
    return Translator(torch.zeros(width, width, device=device), torch.zeros(width, device=device))


def position_transfer(
    store: ActivationSource,
    reasoner: Reasoner,
    address: Address,
    train: pd.DataFrame,
    test: pd.DataFrame,
    **options: Unpack[LensOptions],
) -> pd.DataFrame:
    """Return how well a translator fitted to the positions of one channel serves those of each other.

    Args:
        store: The activations, with the final states.
        reasoner: The model that the store was captured from.
        address: Where translators are fitted and read.
        train: Rows to fit.
        test: Rows to read, of other problems.
        **options: Options of `TunedLens`.

    Returns:
        Columns fitted_on, read_at (channels), kl (nats), logit_lens (its KL there), n.
    """
    table = []
    channels = [channel for channel in test["channel"].unique() if (train["channel"] == channel).sum() > 1]
    for fitted_on in [*channels, "all"]:
        rows = train if fitted_on == "all" else train[train["channel"] == fitted_on]
        lens = TunedLens(reasoner, **options).fit_rows(store, address, rows)
        for read_at in channels:
            read = test[test["channel"] == read_at]
            divergences = lens_divergences(store, lens, read, [address]).iloc[0]
            kls = {"kl": divergences["tuned_lens"], "logit_lens": divergences["logit_lens"], "n": len(read)}
            table.append({"fitted_on": fitted_on, "read_at": read_at, **kls})
    return pd.DataFrame(table)
