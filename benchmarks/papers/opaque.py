"""Examine an organism whose thoughts the logit lens cannot read: logit lens, probe and interchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import interp
from interp.activations.targets import structures
from interp.decoders.logit_lens import LogitLens
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import grouped_split

if TYPE_CHECKING:
    from interp.activations import ActivationSource
    from interp.problems import Problem
    from interp.reasoners import Reasoner

SEED = 0
EDITS = ("other value", "same value", "random vector")


@dataclass(frozen=True)
class Opaque:
    """The result of `examine`.

    Attributes:
        lens: Logit-lens accuracy on test problems: address, thought, value (of step), top1, ci_low, ci_high, n.
        best: The row of `lens` that was best on validation problems.
        probe: Scores of the probe by step.
        follow: Interchange by edit, over all steps.
    """

    lens: pd.DataFrame
    best: pd.Series
    probe: pd.DataFrame
    follow: pd.DataFrame

    def followed(self, edit: str) -> pd.Series:
        """Return the row of one edit."""
        return self.follow[self.follow["edit"] == edit].iloc[0]


def examine(reasoner: Reasoner, problems: list[Problem]) -> Opaque:
    """Read every thought with the logit lens at every address and with a probe, then swap thoughts.

    The logit lens gets its best case: at each address and thought its top-1 is compared with the value of every step.
    The best (address, thought, step) on validation problems is reported on the test problems.

    Args:
        reasoner: A continuous reasoner.
        problems: Held-out problems.

    Returns:
        The tables of all three measurements.
    """
    traces = reasoner.think(problems, batch_size=256)
    store = interp.record(reasoner, traces, channels=["latent", "special"])
    readings = lens_readings(reasoner, store)
    readouts = interp.decode(store, methods=["probe"], reasoner=reasoner, seed=SEED)
    swapped = interp.interchange(reasoner, store.traces, readouts, method="probe", edits=EDITS, seed=SEED)
    lens = lens_table(readings[readings["part"] == "test"])
    validation = lens_table(readings[readings["part"] == "val"])
    selected = validation.loc[validation["top1"].idxmax(), ["address", "thought", "value"]]
    best = lens[(lens[["address", "thought", "value"]] == selected).all(axis=1)].iloc[0]
    follow = swapped.summary()
    return Opaque(lens, best, readouts.scores(), follow[follow["step"] == 0].reset_index(drop=True))


def lens_readings(reasoner: Reasoner, store: ActivationSource) -> pd.DataFrame:
    """Return the logit lens's first word at every address of every thought; the begin marker is thought 0.

    Columns: address, thought, said (the word), values (of all steps of the problem), structure, part (of the split).
    """
    rows = store.index[(store.index["channel"] == "latent") | (store.index["place"] == "begin")]
    groups = structures(store, rows)
    split = grouped_split(groups, SEED)
    part = np.where(split.train, "train", np.where(split.val, "val", "test"))
    values = [tuple(step.value for step in store.traces[t].problem.steps) for t in rows["trace"]]
    lens = LogitLens(reasoner)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "address": address.name,
                    "thought": rows["thought"].to_numpy(),
                    "said": lens.decode(store, address, rows, top_k=1).texts[:, 0],
                    "values": values,
                    "structure": groups,
                    "part": part,
                }
            )
            for address in store.addresses
        ],
        ignore_index=True,
    )


def lens_table(readings: pd.DataFrame) -> pd.DataFrame:
    """Return how often the first word at each (address, thought) is the value of each step, with 95 % intervals."""
    rows = []
    for (address, thought), part in readings.groupby(["address", "thought"], sort=False):
        for step in range(1, max(map(len, part["values"])) + 1):
            with_step = part[part["values"].map(len) >= step]
            right = np.array(
                [word == values[step - 1] for word, values in zip(with_step["said"], with_step["values"], strict=True)]
            )
            low, high = grouped_mean_interval(right, with_step["structure"].to_numpy())
            rows.append((address, int(thought), step, right.mean(), low, high, len(right)))
    return pd.DataFrame(rows, columns=["address", "thought", "value", "top1", "ci_low", "ci_high", "n"])
