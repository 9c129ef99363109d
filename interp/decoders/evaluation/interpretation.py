"""Interpretation: what verbalizers write for each step's thought, with and without being shown it.

One verbalizer for each mode learns on 60 % of a store's problem structures to write the text of every step from its
question and its thought. The held-out 25 % are reported (Heima, arXiv 2501.19201, section 4.3, reports the same
reconstruction without these controls).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.evaluation.text_scores import bleu, exact_matches, rouge_l
from interp.decoders.step_rows import DecodeInputs, StepRows
from interp.decoders.verbalizer import MODES, Mode, ReadAt, Verbalizer
from interp.decoders.writer import WriterOptions
from interp.errors import UsageError
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.statistics.donors import other_problem
from interp.statistics.estimates import Estimate

# A verbalizer fitted with the right latents reads another problem's: measures how much of the text comes from the latent.
SWAPPED = "another problem's latent"


def step_thoughts(store: ActivationSource) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the row of each step's last thought, and the text of the step.

    Raises:
        UsageError: The store holds no thoughts whose steps are known.
    """
    thoughts = _thoughts(DecodeInputs(store, 0))
    return thoughts.rows, thoughts.texts


def _thoughts(inputs: DecodeInputs) -> StepRows:
    thoughts = inputs.step_rows(0)
    if not len(thoughts):
        raise UsageError("this store holds no thoughts whose steps are known; capture channels latent or thought.")
    return thoughts


def interpretations(
    store: ActivationSource,
    *,
    address: str = "ln_final.hook_out",
    modes: Sequence[Mode] = MODES,
    read_at: ReadAt = "token",
    seed: int = 0,
    progress: Progress | None = None,
    **options: Unpack[WriterOptions],
) -> pd.DataFrame:
    """Return what a verbalizer of each mode writes for every step of every held-out problem.

    Args:
        store: Activations with the channels latent or thought.
        address: Where the latents are read.
        modes: What the verbalizers are given. With `latent`, that one also reads another problem's latent (`SWAPPED`).
        read_at: The position of the latent.
        seed: Seed of the split, of the donors and of training.
        progress: Called with (modes done, number of modes).
        **options: Sizes and training of the verbalizers.

    Returns:
        Columns mode, read_at, trace, step, n_steps, structure, gold, text.
    """
    where = Address(str(store.address(address)))
    thoughts = _thoughts(DecodeInputs(store, seed))
    split = thoughts.split()
    train, test = thoughts.select(split.train), thoughts.select(split.test)
    described = pd.DataFrame(
        {
            "trace": test.rows["trace"].to_numpy(),
            "step": test.steps,
            "n_steps": [store.traces[trace].problem.n_steps for trace in test.rows["trace"]],
            "structure": test.structures,
            "gold": test.texts,
        }
    )
    frames: list[pd.DataFrame] = []
    for number, mode in enumerate(modes):
        if progress:
            progress(number, len(modes))
        verbalizer = Verbalizer(mode=mode, read_at=read_at, seed=seed, **options)
        verbalizer.fit(store, where, train.rows, train.texts)
        texts: dict[str, list[str]] = {mode: verbalizer.write(store, test.rows)}
        if mode == "latent":
            donors = other_problem(test.steps, test.structures, np.zeros(len(test), int), seed)
            texts[SWAPPED] = verbalizer.write(store, test.rows, latents_of=test.rows.iloc[donors])
        frames += [described.assign(mode=name, read_at=read_at, text=written) for name, written in texts.items()]
    if progress:
        progress(len(modes), len(modes))
    return pd.concat(frames, ignore_index=True)[
        ["mode", "read_at", "trace", "step", "n_steps", "structure", "gold", "text"]
    ]


def interpretation_scores(written: pd.DataFrame) -> pd.DataFrame:
    """Return scores of `interpretations` by mode, position, number of steps and step.

    Args:
        written: The table of `interpretations`.

    Returns:
        Columns mode, read_at, n_steps, step, exact, ci_low, ci_high (95 %, resampling structures), bleu, rouge_l, n.
    """
    scores = []
    keys = ["mode", "read_at", "n_steps", "step"]
    for key, part in written.groupby(keys, sort=False):
        texts, gold = part["text"].tolist(), part["gold"].tolist()
        exact = Estimate.of_mean(exact_matches(texts, gold), part["structure"].to_numpy())
        scores.append(
            dict(zip(keys, key, strict=True))
            | {
                "exact": exact.value,
                "ci_low": exact.low,
                "ci_high": exact.high,
                "bleu": bleu(texts, gold),
                "rouge_l": rouge_l(texts, gold).mean(),
                "n": exact.n,
            }
        )
    return pd.DataFrame(scores)
