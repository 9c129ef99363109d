"""Read-outs: what decoders say of every step of every trace, with gold labels and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import Decoder
from interp.decoders.evaluation.chance import blind_guess
from interp.decoders.evaluation.costs import Cost
from interp.decoders.locations import FittedDecoder, Location, Share
from interp.decoders.step_rows import DecodeInputs
from interp.errors import unknown
from interp.statistics.estimates import Estimate


@dataclass(frozen=True)
class MethodResult:
    """One method of `decode`: its decoders and what they cost.

    Attributes:
        common: The decoder and location that serve all steps.
        by_step: Decoders of single steps that are read elsewhere.
        cost: Seconds and bytes of all of them.
    """

    common: FittedDecoder
    by_step: Mapping[int, FittedDecoder]
    cost: Cost

    @property
    def validation(self) -> dict[int, Share]:
        """The share of validation rows read right, by step."""
        return self.common.validation | {step: fitted.validation[step] for step, fitted in self.by_step.items()}


@dataclass(frozen=True)
class ReadOuts:
    """The read-outs of every step of every trace of a store.

    Attributes:
        frame: The read-outs, as `table()` describes them.
        methods: Decoders, locations and costs by method.
        inputs: The store, with the rows, labels and split that the decoders were given.
    """

    frame: pd.DataFrame = field(repr=False)
    methods: Mapping[str, MethodResult]
    inputs: DecodeInputs = field(repr=False)

    @property
    def store(self) -> ActivationSource:
        """The store that was read."""
        return self.inputs.store

    @property
    def seed(self) -> int:
        """Seed of the split into train, validation and test problems."""
        return self.inputs.split_seed

    @property
    def locations(self) -> dict[str, Location]:
        """The common location of each method."""
        return {method: result.common.location for method, result in self.methods.items()}

    @property
    def decoders(self) -> dict[str, Decoder]:
        """The fitted decoder of each method at its common location."""
        return {method: result.common.decoder for method, result in self.methods.items()}

    def table(self) -> pd.DataFrame:
        """Return one row for each method, trace and step.

        Returns:
            Columns method, trace, step, position, address, split, structure, gold, text (top-1), right, top_k (texts),
            scores (of `top_k`, on the decoder's scale), confidence (the probability of being right, calibrated on
            validation rows), offers (see `interp.decoders.evaluation.chance`), other_problem (the text read from
            another problem's latents).
        """
        return self.frame

    def of(self, method: str) -> pd.DataFrame:
        """Return the rows of one method.

        Args:
            method: Name of the decoding method.

        Returns:
            The rows of `table()` of this method.

        Raises:
            UsageError: The method is not among the read-outs.
        """
        if method not in self.methods:
            raise unknown("decoding method in these read-outs", method, self.methods)
        return self.frame[self.frame["method"] == method]

    def with_rows(self, frame: pd.DataFrame) -> ReadOuts:
        """Return read-outs with other rows, for the methods that these rows name.

        Args:
            frame: Rows with the columns of `table()`.

        Returns:
            The read-outs; methods without a row are left out.
        """
        methods = {method: result for method, result in self.methods.items() if (frame["method"] == method).any()}
        return ReadOuts(frame, methods, self.inputs)

    @cached_property
    def train_structures(self) -> np.ndarray:
        """The problem structures that decoders were fitted on."""
        return self.frame.loc[self.frame["split"] == "train", "structure"].unique()

    @cached_property
    def used_structures(self) -> np.ndarray:
        """The problem structures that decoders were fitted or selected on."""
        return self.frame.loc[self.frame["split"] != "test", "structure"].unique()

    def scores(self) -> pd.DataFrame:
        """Return held-out top-1 by method and step, with intervals, the other-problem control and chance.

        Returns:
            One row for each method and step; see `pooled_scores` for the columns.
        """
        return pooled_scores([self])

    def at(self, method: str, step: int | None = None) -> FittedDecoder:
        """Return the decoder that reads a step, with its location.

        Args:
            method: Name of the decoding method.
            step: Number of the step, from 1; None for the decoder at the common location.

        Returns:
            The fitted decoder and its location.
        """
        result = self.methods[method]
        return result.common if step is None else result.by_step.get(step, result.common)

    def at_all_positions(self, method: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Read every thinking position of some traces at the common address of a method.

        Args:
            method: Name of the decoding method.
            rows: Rows of `table()`, whose traces are read.

        Returns:
            One row for each position. Columns: trace, position, text (top-1).
        """
        common, readable = self.methods[method].common, self.inputs.readable
        positions = readable[readable["trace"].isin(rows["trace"].unique())]
        if "read_step" not in positions:
            positions = positions.assign(read_step=positions["step"].clip(lower=1))
        ranking = common.decoder.decode(self.store, common.location.address, positions, top_k=1)
        return positions[["trace", "position"]].assign(text=ranking.texts[:, 0])


def pooled_scores(readouts: Sequence[ReadOuts]) -> pd.DataFrame:
    """Return held-out scores over several splits of the same store.

    A problem counts once in an interval, however often it was tested.

    Args:
        readouts: One entry for each split.

    Returns:
        Columns method, step, site (the location in the first split), top1, ci_low, ci_high, topk, other_problem, chance
        (the best blind guess), n (read-outs scored).
    """
    frame = pd.concat([read.table() for read in readouts], ignore_index=True)
    scores = []
    for (method, step), part in frame[frame["split"] == "test"].groupby(["method", "step"], sort=False):
        top1 = Estimate.of_mean(part["right"].to_numpy(), part["structure"].to_numpy())
        scores.append(
            {
                "method": method,
                "step": step,
                "site": readouts[0].at(method, step).location.label,
                "top1": top1.value,
                "ci_low": top1.low,
                "ci_high": top1.high,
                "topk": np.mean([gold in top for gold, top in zip(part["gold"], part["top_k"], strict=True)]),
                "other_problem": (part["other_problem"] == part["gold"]).mean(),
                "chance": blind_guess(part["gold"], part["offers"]),
                "n": top1.n,
            }
        )
    return pd.DataFrame(scores)
