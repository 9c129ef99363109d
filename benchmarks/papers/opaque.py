"""An organism whose thoughts the logit lens cannot read: what the lens says of it, and whether the values are there."""

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
    """What was found: the best the lens can do, the probe beside it, and what editing the thoughts does."""

    lens: pd.DataFrame  # address, thought, value of step, top1, n, ci_low, ci_high: test problems
    best: pd.Series  # the row of `lens` that was best on validation problems
    probe: pd.DataFrame  # scores of the probe by step
    follow: pd.DataFrame  # interchange by edit, all steps

    def followed(self, edit: str) -> pd.Series:
        """Return the row of one edit."""
        return self.follow[self.follow["edit"] == edit].iloc[0]


def examine(reasoner: Reasoner, problems: list[Problem]) -> Opaque:
    """Read every thought of `problems` with the logit lens at every address and with a probe, then swap thoughts.

    The lens is given every chance: at each address and thought its top-1 is held against the value of every
    step, and the (address, thought, step) that is best on validation problems is the one reported on the test
    problems.
    """
    traces = reasoner.think(problems, batch_size=256)
    store = interp.record(reasoner, traces, channels=["latent", "special"])
    readings = lens_readings(reasoner, store)
    readouts = interp.decode(store, methods=["probe"], reasoner=reasoner, seed=SEED)
    swapped = interp.interchange(reasoner, store.traces, readouts, method="probe", edits=EDITS, seed=SEED)
    lens = lens_table(readings[readings["part"] == "test"])
    tried = lens_table(readings[readings["part"] == "val"])
    chosen = tried.loc[tried["top1"].idxmax(), ["address", "thought", "value"]]
    best = lens[(lens[["address", "thought", "value"]] == chosen).all(axis=1)].iloc[0]
    follow = swapped.summary()
    return Opaque(lens, best, readouts.scores(), follow[follow["step"] == 0].reset_index(drop=True))


def lens_readings(reasoner: Reasoner, store: ActivationSource) -> pd.DataFrame:
    """What the lens says at every address of every thought, and of the begin marker as thought 0.

    One row for each reading, with columns address, thought, said, values (of all steps of its problem), structure, part (of the split).
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
    """How often the lens's first word at each (address, thought) is the value of each step, with 95 % intervals."""
    rows = []
    for (address, thought), part in readings.groupby(["address", "thought"], sort=False):
        for step in range(1, max(map(len, part["values"])) + 1):
            has = part[part["values"].map(len) >= step]
            right = np.array(
                [said == values[step - 1] for said, values in zip(has["said"], has["values"], strict=True)]
            )
            low, high = grouped_mean_interval(right, has["structure"].to_numpy())
            rows.append((address, int(thought), step, right.mean(), low, high, len(right)))
    return pd.DataFrame(rows, columns=["address", "thought", "value", "top1", "ci_low", "ci_high", "n"])
