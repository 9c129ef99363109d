"""What an interpreter makes of each step's thought, beside interpreters that were not shown it.

One verbalizer for each of several modes learns on 60 % of a store's problem structures to write the text of
every step from its question and its thought; the held-out 25 % are what is reported (Heima, arXiv 2501.19201,
section 4.3, reports the same reconstruction without these controls).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.evaluation.text_scores import bleu, exact_matches, rouge_l
from interp.decoders.sites import other_problem, step_rows
from interp.decoders.verbalizer import MODES, Mode, ReadAt, Verbalizer
from interp.errors import UsageError
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import grouped_split

# Read with another problem's thought, though fitted with the right ones: what the text takes from the thought.
SWAPPED = "another problem's latent"


def step_thoughts(store: ActivationSource) -> tuple[pd.DataFrame, np.ndarray]:
    """The row of each step's last thought, and the step's text.

    Raises `UsageError` when the store holds no thoughts whose steps are known.
    """
    rows, _ = step_rows(store, 0)
    rows = rows[rows["step"] > 0].groupby(["trace", "step"], sort=False).tail(1)
    if not len(rows):
        raise UsageError("this store holds no thoughts whose steps are known; capture channels latent or thought.")
    pairs = zip(rows["trace"], rows["step"], strict=True)
    return rows, np.array([store.traces[t].problem.steps[s - 1].text for t, s in pairs], dtype=object)


def interpretations(
    store: ActivationSource,
    *,
    address: str = "ln_final.hook_out",
    modes: Sequence[Mode] = MODES,
    read_at: ReadAt = "token",
    seed: int = 0,
    progress: Progress | None = None,
    **sizes: Any,
) -> pd.DataFrame:
    """What an interpreter of each mode writes for every step of every held-out problem.

    Columns: mode, read_at, trace, step, n_steps, structure, gold, text. Where `latent` is among the modes, the
    same interpreter is also read with another problem's latent (`SWAPPED`). `sizes` go to `Verbalizer`.
    """
    at = Address(str(store.address(address)))
    rows, gold = step_thoughts(store)
    groups = structures(store, rows)
    split = grouped_split(groups, seed)
    held = rows[split.test]
    described = pd.DataFrame(
        {
            "trace": held["trace"].to_numpy(),
            "step": held["step"].to_numpy(),
            "n_steps": [store.traces[t].problem.n_steps for t in held["trace"]],
            "structure": groups[split.test],
            "gold": gold[split.test],
        }
    )
    frames: list[pd.DataFrame] = []
    for number, mode in enumerate(modes):
        if progress:
            progress(number, len(modes))
        made = Verbalizer(mode=mode, read_at=read_at, seed=seed, **sizes).fit(
            store, at, rows[split.train], gold[split.train]
        )
        texts: dict[str, list[str]] = {mode: made.write(store, held)}
        if mode == "latent":
            donors = other_problem(held["step"].to_numpy(), groups[split.test], np.zeros(len(held), int), seed)
            texts[SWAPPED] = made.write(store, held, latents_of=held.iloc[donors])
        frames += [described.assign(mode=name, read_at=read_at, text=text) for name, text in texts.items()]
    if progress:
        progress(len(modes), len(modes))
    return pd.concat(frames, ignore_index=True)[
        ["mode", "read_at", "trace", "step", "n_steps", "structure", "gold", "text"]
    ]


def interpretation_scores(found: pd.DataFrame) -> pd.DataFrame:
    """Scores of `interpretations` by mode, position and step.

    Columns: mode, read_at, n_steps, step, exact, ci_low, ci_high (95 %, resampling structures), bleu, rouge_l, n.
    """
    out = []
    keys = ["mode", "read_at", "n_steps", "step"]
    for key, part in found.groupby(keys, sort=False):
        written, gold = part["text"].tolist(), part["gold"].tolist()
        right = exact_matches(written, gold)
        low, high = grouped_mean_interval(right, part["structure"].to_numpy())
        scores = {
            "exact": right.mean(),
            "ci_low": low,
            "ci_high": high,
            "bleu": bleu(written, gold),
            "rouge_l": rouge_l(written, gold).mean(),
            "n": len(part),
        }
        out.append(dict(zip(keys, key, strict=True)) | scores)
    return pd.DataFrame(out)
