"""Labels of confabulation: the text says a value that is false, though the model's own state held the true one.

The task's verifier says which written step is wrong; the first one counts, for what follows from it may be right given
the text. A wrong step may still say the true value, as where it is not needed; that is no confabulation. A probe that is fitted to other problems reads the state that wrote the value, one position before it. The
probe is fitted where the text is right, so what it reads at a false step is the value that such a state leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.errors import UsageError
from interp.runtime.files import commit
from interp.statistics.calibration import threshold_for
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import first_within_error
from probes.estimators.linear import RidgeProbe
from probes.subtext.readers import FOLDS, folds
from probes.sweeps.controls import question_only, text_only
from probes.trajectories.events import first_wrong_step
from probes.trajectories.places import FEWEST

LABELS = ("wrong", "false_value", "confabulated", "misread")
_MOST_WORDS = 600  # columns of words, as a fit takes the cube of their number
_MOST_LEFT_OUT = 0.2  # share of traces whose right steps may say other tokens than the gold steps in their order


@dataclass(frozen=True)
class Confabulation:
    """The steps of visible thoughts: what was written, what the state held, and what follows.

    Attributes:
        steps: One row for each step up to the first wrong one. Columns: trace, step, position (of the state), true, said,
            decoded, confidence, address, wrong, false_value (wrong, and another value or word is said), confabulated (a false
            value, and the state is read as the true one), misread (the reading is neither the true value nor what is
            said, with confidence), structure.
        agreement: Share of right steps at which the probe reads the true value.
        held: Share of steps with a false value at which it does.
        shuffled: The same share with the state of another such step.
        words: The same share for a reader of the question and the words so far, in place of the state.
        left_out: Traces left out, whose right steps stand in another order than the gold steps.
    """

    steps: pd.DataFrame
    agreement: Estimate
    held: Estimate
    shuffled: float
    words: Estimate
    left_out: int

    def __str__(self) -> str:
        """Return the counts and the verdict."""
        return (
            f"{len(self.steps)} steps: {int(self.steps['wrong'].sum())} wrong, {int(self.steps['false_value'].sum())} of them "
            f"with a false value; there the state held the true value in {self.held} (words alone {self.words}, another "
            f"such step's state {self.shuffled:.3f}); right steps are read right in "
            f"{self.agreement}; {int(self.steps['misread'].sum())} misread with confidence"
            + (f"; {self.left_out} traces in another order left out" if self.left_out else "")
            + f". {self.verdict}"
        )

    @property
    def verdict(self) -> str:
        """Whether wrong steps are confabulations, in words."""
        if self.held.n < FEWEST:
            return f"No verdict on {self.held.n} steps with a false value; {FEWEST} are needed."
        if self.held.low > max(self.shuffled, self.words.high):
            return "Where a false value is said, the state holds the true one more often than words or another step's state."
        return "Where a false value is said, the state is not shown to hold the true one beyond what words tell."

    def labels(self) -> pd.DataFrame:
        """Return the table that `cotlens import labels` reads: trace, step, and `LABELS` as True or False."""
        return self.steps[["trace", "step", *LABELS]]

    def write(self, path: Path | str) -> None:
        """Write `labels` as CSV.

        Args:
            path: The file.

        Raises:
            StoreError: The file cannot be written.
        """
        commit(Path(path), self.labels().to_csv(index=False).encode())

    def record(self) -> dict[str, Any]:
        """Return the counts and shares in the form that the command prints."""
        return {
            "steps": len(self.steps),
            **{name: int(self.steps[name].sum()) for name in LABELS},
            "agreement": self.agreement.measure_or_none(),
            "held": self.held.measure_or_none(),
            "shuffled": self.shuffled,
            "words": self.words.measure_or_none(),
            "left_out": self.left_out,
            "verdict": self.verdict,
        }


def confabulation(
    source: ActivationSource, *, addresses: Sequence[str] | None = None, coverage: float = 0.9, seed: int = 0
) -> Confabulation:
    """Label each written step up to the first wrong one of each trace.

    Args:
        source: A store or a recording of visible thoughts, with the positions just before values.
        addresses: Addresses to choose from; all that were captured by default. Each fold's validation chooses the
            shallowest within one standard error.
        coverage: Share of the validation readings that count as confident.
        seed: Seed of the folds.

    Returns:
        Labels of steps, and how often the state holds the true value.

    Raises:
        UsageError: No step is written, or there are too few problems to cross-fit.
    """
    steps = _written(source)
    if steps.empty:
        raise UsageError(
            f"expected visible thoughts whose steps have a place, got none in {source.name}; use a reasoner that thinks in "
            "text, and capture the positions before its values."
        )
    steps, left_out = _in_gold_order(steps)
    rows = source.index.iloc[steps["row"].to_numpy()]
    names = [str(source.address(name)) for name in addresses or source.addresses]
    true, wrong = steps["true"].to_numpy(str), steps["wrong"].to_numpy(bool)
    said = steps["said"].to_numpy(str)
    false_value = wrong & (said != true)
    fold = folds(steps["structure"].to_numpy(), seed)
    words = _words(source, rows)
    acts = {name: source.acts(name, rows) for name in names}
    decoded, by_words = np.full(len(steps), "", object), np.full(len(steps), "", object)
    confident = np.zeros(len(steps), bool)
    confidence, read_at = np.zeros(len(steps)), np.full(len(steps), "", object)
    for k in range(FOLDS):
        test, val = fold == k, (fold == (k + 1) % FOLDS) & ~wrong
        train = ~test & (fold != (k + 1) % FOLDS) & ~wrong
        if len(set(true[train])) < 2 or not val.any():
            raise UsageError("expected right steps of two values in each fold, got fewer; take more problems.")
        probes = [RidgeProbe().fit(acts[name][train], true[train]) for name in names]
        right = [float((p.predict(acts[n][val]) == true[val]).mean()) for p, n in zip(probes, names, strict=True)]
        best = first_within_error(right, [int(val.sum())] * len(names))
        chance = probes[best].predict_proba(acts[names[best]])
        by_words[test] = RidgeProbe().fit(words[train], true[train]).predict(words[test])
        decoded[test] = probes[best].classes_[chance[test].argmax(axis=1)]
        confidence[test], read_at[test] = chance[test].max(axis=1), names[best]
        confident[test] = confidence[test] >= threshold_for(chance[val].max(axis=1), coverage)
    holds = decoded == true
    steps = steps.assign(
        decoded=decoded,
        confidence=confidence,
        address=read_at,
        false_value=false_value,
        confabulated=false_value & holds,
        misread=confident & ~holds & (decoded != said),
    )
    groups = steps["structure"].to_numpy()
    return Confabulation(
        steps.drop(columns="row"),
        Estimate.of_mean(holds[~wrong], groups[~wrong]),
        Estimate.of_mean(holds[false_value], groups[false_value]),
        _exchanged(decoded[false_value], true[false_value]),
        Estimate.of_mean((by_words == true)[false_value], groups[false_value]),
        left_out,
    )


def _in_gold_order(steps: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the steps of traces whose right steps say the gold values in their order, and how many traces do not.

    The verifier counts steps as they are written, and a position belongs to a gold step, so both must be the same.

    Raises:
        UsageError: More than a fifth of the traces do not, as where a value is written in several tokens.
    """
    other = steps.loc[~steps["wrong"] & (steps["said"] != steps["true"]), "trace"].unique()
    n_traces = steps["trace"].nunique()
    if len(other) > _MOST_LEFT_OUT * n_traces:
        raise UsageError(
            f"expected steps in the order of the gold steps with values of one token, got {len(other)} of {n_traces} traces "
            "with other tokens at right steps; label these steps yourself (`cotlens import labels`)."
        )
    return steps[~steps["trace"].isin(other)].reset_index(drop=True), len(other)


def _words(source: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    """Return the words of the question and of the thought up to each row, as columns: those that vary most."""
    alternatives = [question_only(source, rows), text_only(source, rows)]
    columns = [inputs.inputs[name] for inputs in alternatives for name in inputs.inputs if "embedded" not in name]
    words = np.concatenate(columns, axis=1) if columns else np.zeros((len(rows), 1), np.float32)
    return words[:, np.argsort(-words.var(axis=0), kind="stable")[:_MOST_WORDS]]


def _exchanged(decoded: np.ndarray, true: np.ndarray) -> float:
    """Return how often the reading of one step is the true value of another, over all pairs."""
    n = len(true)
    if n < 2:
        return float("nan")
    same = decoded[:, None] == true[None, :]
    return float((same.sum() - np.trace(same)) / (n * (n - 1)))


def _written(source: ActivationSource) -> pd.DataFrame:
    """Return the steps up to the first wrong one whose state before the value was captured."""
    index = source.index
    number = dict(
        zip(zip(index["trace"].tolist(), index["position"].tolist(), strict=True), range(len(index)), strict=True)
    )
    rows: list[dict[str, Any]] = []
    for k, trace in enumerate(source.traces):
        error = first_wrong_step(trace)
        if not trace.value_positions:
            continue
        for step in range(1, min(trace.problem.n_steps, error or trace.problem.n_steps) + 1):
            position = trace.step_position(step)
            if position is None or (k, position - 1) not in number:
                continue
            rows.append(
                {
                    "trace": k,
                    "step": step,
                    "position": position - 1,
                    "true": trace.problem.steps[step - 1].value,
                    "said": trace.tokens[position].strip(),
                    "wrong": step == error,
                    "structure": trace.problem.structure,
                    "row": number[k, position - 1],
                }
            )
    return pd.DataFrame(rows)
