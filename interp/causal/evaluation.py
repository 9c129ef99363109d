"""`evaluate`: all decoders in one table, with controls, calibration, cost, and whether the answer follows their readings.

`interp.decoders` does not import causal tests, so the two are combined here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.splits import describe_split, seeds_of_splits
from interp.activations.store import parquet_bytes
from interp.causal.interchanges.run import interchange
from interp.decoders.base import STEP_TEXT, QuestionOnlyDecoder
from interp.decoders.evaluation.baselines import before_thinking, question_only
from interp.decoders.evaluation.decoding import DecodeOptions, decode
from interp.decoders.evaluation.dictionaries import dictionary_notes
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.decoders.evaluation.scores import control_frame, score_table
from interp.decoders.evaluation.search import search
from interp.decoders.evaluation.transfer import transfer
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.runtime.console import jsonable
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from interp.statistics.calibration import risk_coverage
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Decoders that take seconds. The verbalizers and dictionaries take half a minute each.
QUICK = ("probe", "logit_lens", "tuned_lens", "neighbours", "nearest_token", "nearest_text", "step_embedding")
CONTROLS = ("question_only", "other_problem", "before_thinking")


@dataclass(frozen=True)
class CausalScore:
    """How the answer reacts to edits of what a decoder read.

    Attributes:
        follow_rate: The share of answers that follow another problem's value.
        same_value_change: The share of answers that change with another problem's state of the same value.
    """

    follow_rate: Estimate
    same_value_change: float

    def columns(self) -> dict[str, float]:
        """Return table columns: follow_rate, ci_low, ci_high, same_value_change, n."""
        follow = self.follow_rate
        row = {"follow_rate": follow.value, "ci_low": follow.low, "ci_high": follow.high}
        return row | {"same_value_change": self.same_value_change, "n": follow.n}


@dataclass(frozen=True)
class Evaluation:
    """The tables of an evaluation.

    Attributes:
        readouts: The read-outs, one entry for each split.
        scores: Scores by method and step (`interp.decoders.evaluation.scores.score_table`).
        causal: Follow rates by method (`causal_table`); empty with `causal=False`.
        searched: Exact match with search, by method and step (`interp.decoders.evaluation.search.search`).
        transferred: Scores on other stores, by method and alignment (`interp.decoders.evaluation.transfer.transfer`).
        notes: Methods that a part of the evaluation leaves out, and why.
    """

    readouts: list[ReadOuts]
    scores: pd.DataFrame
    causal: pd.DataFrame
    searched: pd.DataFrame
    transferred: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """Return one row for each method and step, step 0 being all of them."""
        return self.scores

    def costs(self) -> pd.DataFrame:
        """Return the cost of each method in the first split.

        Columns: method, fit_seconds (at its location), decode_seconds (of 1,000 read-outs), bytes.
        """
        return pd.DataFrame(
            [{"method": method, **asdict(result.cost)} for method, result in self.readouts[0].methods.items()]
        )

    def summary(self) -> pd.DataFrame:
        """Return one row for each method: its worst step minus each control there, calibration, cause and cost."""
        rows = []
        for method, part in self.scores.groupby("method", sort=False):
            all_steps, steps = part[part["step"] == 0].iloc[0], part[part["step"] > 0]
            worst = steps.loc[steps["top1"].idxmin()]
            row: dict[str, Any] = {"method": method, "worst_step": worst["step"]}
            row |= {name: worst[name] for name in ("top1", "ci_low", "ci_high", "chance")}
            row |= {f"minus_{name}": worst["top1"] - worst[name] for name in CONTROLS}
            texts_and_calibration = ("token_f1", "bleu", "rouge_l", "ece", "coverage", "confabulation", "n")
            row |= {name: all_steps[name] for name in texts_and_calibration}
            rows.append(row)
        summary = pd.DataFrame(rows).merge(self.costs(), on="method")
        if len(self.causal):
            columns = ["method", "follow_rate", "same_value_change"]
            summary = summary.merge(self.causal[columns], on="method", how="left")
        return summary

    def risk_coverage(self, method: str) -> pd.DataFrame:
        """Return the risk–coverage curve of one method over the test read-outs of all splits."""
        table = pd.concat([read.of(method) for read in self.readouts])
        test = table[table["split"] == "test"]
        return risk_coverage(test["confidence"].to_numpy(), test["right"].to_numpy())

    def records(self) -> dict[str, Any]:
        """Return the tables as lists of rows, the notes, and who decided the split."""
        tables = {"scores": self.scores, "causal": self.causal, "search": self.searched, "transfer": self.transferred}
        records: dict[str, Any] = {name: frame.to_dict("records") for name, frame in tables.items()}
        return records | {"notes": self.notes, "split": describe_split(self.readouts[0].store)}

    def save(self, folder: Path) -> None:
        """Write the read-outs as Parquet and the rest as one JSON file.

        Args:
            folder: Where to write; made if it does not exist.
        """
        for read in self.readouts:
            commit(folder / f"readouts-{read.seed}.parquet", parquet_bytes(read.table()))
        records = self.records() | {"costs": self.costs().to_dict("records")}
        commit(folder / "evaluation.json", (json.dumps(jsonable(records), indent=2) + "\n").encode())


def evaluate(
    store: ActivationSource,
    methods: Sequence[str] = QUICK,
    *,
    reasoner: Reasoner | None = None,
    seeds: Sequence[int] = (0,),
    top_k: int = 3,
    causal: bool = True,
    edits: int = 400,
    others: Mapping[str, ActivationSource] | None = None,
    progress: Progress | None = None,
    **options: Unpack[DecodeOptions],
) -> Evaluation:
    """Decode a store with several decoders over several problem splits, and score the held-out problems.

    Args:
        store: Activations with the channels latent or thought, and the place `question end`.
        methods: Names of decoders (`interp.decoders.registry.decoder_names`).
        reasoner: The model; loaded from the store's description where None.
        seeds: Seeds of the problem splits. The first alone counts where a questions file has splits of its own.
        top_k: Number of ranked texts for each read-out.
        causal: Whether to replace what each decoder read by another problem's state, and see if the answer follows.
        edits: Largest number of read-outs that are edited for each method.
        others: Other stores by name, which the decoders of the first split read too.
        progress: Called with (parts done, number of parts).
        **options: Options of `interp.decode`.

    Returns:
        The tables.

    Raises:
        UsageError: No method is named, a method is unknown, or nothing can be read.
    """
    if not methods:
        raise UsageError("expected one or more decoding methods, got none; name one, such as probe.")
    if reasoner is None:
        reasoner = store.load_reasoner()
    seeds = seeds_of_splits(store, list(seeds))
    total, done = len(seeds) + int(causal) + len(others or {}), 0

    def part_done() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    readouts, controls, notes = [], [], []
    for seed in seeds:
        read = decode(store, methods, reasoner=reasoner, seed=seed, top_k=top_k, **options)
        readouts.append(read)
        controls.append(_controls(read))
        part_done()
    follow_rates = pd.DataFrame()
    if causal:
        follow_rates, left_out = causal_table(readouts[0], reasoner, edits)
        notes += left_out
        part_done()
    transferred = []
    for name, other in (others or {}).items():
        transferred.append(transfer(readouts[0], other).assign(to=name))
        part_done()
    notes += dictionary_notes(readouts[0])
    searched = []
    for method in methods:
        try:
            searched.append(search(readouts[0], method).assign(method=method))
        except UsageError as error:
            notes.append(f"no search over {method}: {error}")
    return Evaluation(
        readouts,
        score_table(readouts, controls),
        follow_rates,
        pd.concat(searched, ignore_index=True) if searched else pd.DataFrame(),
        pd.concat(transferred, ignore_index=True) if transferred else pd.DataFrame(),
        notes,
    )


def _controls(read: ReadOuts) -> dict[str, pd.DataFrame]:
    """Return the controls of every method. Methods with the same kind of output share those that need no latents."""
    by_output: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    frames = {}
    for method, decoder in read.decoders.items():
        output, table = decoder.traits.output, read.of(method)
        if output not in by_output:
            by_output[output] = question_only(read.store, table), before_thinking(read.store, table)
        from_question, from_state = by_output[output]
        if decoder.traits.has_question_only:
            from_question = cast(QuestionOnlyDecoder, decoder).question_only(read.store, table)
        frames[method] = control_frame(read, method, from_question, from_state)
    return frames


def causal_table(readouts: ReadOuts, reasoner: Reasoner, edits: int) -> tuple[pd.DataFrame, list[str]]:
    """Return how often the answer follows the value that each method read, and notes on methods that are left out.

    Methods that read the same values at the same positions share one experiment.

    Args:
        readouts: The read-outs.
        reasoner: The model that was read.
        edits: Largest number of read-outs that are edited for each method.

    Returns:
        A table with columns method, follow_rate, ci_low, ci_high, same_value_change, n, and the notes.
    """
    rows, notes = [], []
    scores: dict[tuple, CausalScore] = {}
    for method in readouts.methods:
        read = _values(readouts, method, edits)
        if read.table().empty:
            notes.append(f"no edit for {method}: it read no value of the task on test problems.")
            continue
        key = tuple(map(tuple, read.table()[["trace", "position", "address", "text"]].to_numpy().tolist()))
        if key not in scores:
            scores[key] = _follow(read, reasoner, method)
        rows.append({"method": method, **scores[key].columns()})
    return pd.DataFrame(rows), notes


def _values(readouts: ReadOuts, method: str, edits: int) -> ReadOuts:
    """Return the test read-outs of one method as values of the task, whole traces, at most `edits` rows."""
    table = readouts.of(method)
    test = table[table["split"] == "test"]
    rows_per_trace = max(1.0, len(test) / test["trace"].nunique())
    traces = test["trace"].drop_duplicates().iloc[: max(1, int(edits / rows_per_trace))]
    test = test[test["trace"].isin(traces)]
    if readouts.decoders[method].traits.output == STEP_TEXT:
        values = set(make_task(readouts.store.traces[0].problem.task).values)
        last_values = [next((w for w in reversed(str(text).split()) if w in values), "") for text in test["text"]]
        test = test.assign(text=last_values)[[bool(value) for value in last_values]]
    return readouts.with_rows(test)


def _follow(read: ReadOuts, reasoner: Reasoner, method: str) -> CausalScore:
    """Return the rates over all steps when what `method` read is replaced where it was read."""
    edits = ("other value", "same value")
    summary = interchange(reasoner, read.store.traces, read, method=method, edits=edits, seed=read.seed).summary()
    by_edit = summary[summary["step"] == 0].set_index("edit")
    follow = Estimate(float("nan"), float("nan"), float("nan"), 0)
    if "other value" in by_edit.index:
        row = by_edit.loc["other value"]
        follow = Estimate(row["follow_rate"], row["ci_low"], row["ci_high"], int(row["n"]))
    same = by_edit.loc["same value", "change_rate"] if "same value" in by_edit.index else float("nan")
    return CausalScore(follow, float(same))
