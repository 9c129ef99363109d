"""`evaluate`: every decoder in one table, with its controls, its calibration, its cost, and whether the answer follows.

Decoders know nothing of causal tests, so the two are brought together here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.activations import ActivationSource
from interp.activations.store import parquet_bytes
from interp.causal.interchanges import interchange
from interp.decoders.evaluation.baselines import before_thinking, question_only
from interp.decoders.evaluation.read_outs import ReadOuts, decode
from interp.decoders.evaluation.scores import control_frame, score_table
from interp.decoders.evaluation.search import search
from interp.decoders.evaluation.transfer import transfer
from interp.decoders.registry import decoder_class
from interp.decoders.sites import STEP_TEXT, STEP_VALUE
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.runtime.console import jsonable
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from interp.statistics.calibration import risk_coverage

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Decoders that take seconds; the verbalizers and dictionaries take half a minute each.
QUICK = ("probe", "logit_lens", "tuned_lens", "neighbours", "nearest_token", "nearest_text", "step_embedding")


@dataclass
class Evaluation:
    """What was found. Tables are pandas; `readouts` has one entry for each split."""

    readouts: list[ReadOuts]
    scores: pd.DataFrame
    causal: pd.DataFrame
    searched: pd.DataFrame
    transferred: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """One row for each (method, step), step 0 being all of them; see `interp.decoders.evaluation.scores.score_table`."""
        return self.scores

    def costs(self) -> pd.DataFrame:
        """Columns: method, fit_seconds (at its site), decode_seconds (of 1,000 read-outs), bytes."""
        return pd.DataFrame([{"method": method, **asdict(cost)} for method, cost in self.readouts[0].costs.items()])

    def summary(self) -> pd.DataFrame:
        """One row for each method: its worst step, what is above each control there, calibration, cause and cost."""
        rows = []
        for method, part in self.scores.groupby("method", sort=False):
            whole, steps = part[part["step"] == 0].iloc[0], part[part["step"] > 0]
            worst = steps.loc[steps["top1"].idxmin()]
            row: dict[str, Any] = {"method": method, "worst_step": worst["step"]}
            row |= {name: worst[name] for name in ("top1", "ci_low", "ci_high", "chance")}
            row |= {f"minus_{name}": worst["top1"] - worst[name] for name in CONTROLS}
            row |= {
                name: whole[name] for name in ("token_f1", "bleu", "rouge_l", "ece", "coverage", "confabulation", "n")
            }
            rows.append(row)
        found = pd.DataFrame(rows).merge(self.costs(), on="method")
        if len(self.causal):
            found = found.merge(self.causal[["method", "follow_rate", "same_value_change"]], on="method", how="left")
        return found

    def risk_coverage(self, method: str) -> pd.DataFrame:
        """The risk–coverage curve of one method over the test read-outs of all splits."""
        table = pd.concat([each.of(method) for each in self.readouts])
        test = table[table["split"] == "test"]
        return risk_coverage(test["confidence"].to_numpy(), test["right"].to_numpy())

    def save(self, folder: Path) -> None:
        """Write the tables to a folder: Parquet for the read-outs, one JSON for the rest."""
        for each in self.readouts:
            commit(folder / f"readouts-{each.seed}.parquet", parquet_bytes(each.table()))
        tables = {"scores": self.scores, "causal": self.causal, "search": self.searched, "transfer": self.transferred}
        said = {name: frame.to_dict("records") for name, frame in tables.items()}
        said |= {"costs": self.costs().to_dict("records"), "notes": self.notes}
        commit(folder / "evaluation.json", (json.dumps(jsonable(said), indent=2) + "\n").encode())


CONTROLS = ("question_only", "other_problem", "before_thinking")


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
    **options: Any,
) -> Evaluation:
    """Decode `store` with `methods` over several problem splits, and score all that is held out.

    `causal` asks of every decoder whether the answer follows when the value that it read is replaced by another problem's,
    over at most `edits` read-outs; `others` are stores of other seeds, tasks or reasoners that the decoders are taken to.
    `options` go to `interp.decode`. Raises `UsageError` on unknown methods and where nothing can be read.
    """
    if not methods:
        raise UsageError("no decoding method was named. Name one or more, as probe.")
    if reasoner is None:
        reasoner = store.load_reasoner()
    total, done = len(seeds) + int(causal) + len(others or {}), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    readouts, controls, notes = [], [], []
    for seed in seeds:
        read = decode(store, methods, reasoner=reasoner, seed=seed, top_k=top_k, **options)
        readouts.append(read)
        controls.append(_controls(read, store))
        tick()
    followed = pd.DataFrame()
    if causal:
        followed, said = causal_column(readouts[0], reasoner, edits)
        notes += said
        tick()
    moved = []
    for name, other in (others or {}).items():
        moved.append(transfer(readouts[0], other).assign(to=name))
        tick()
    searched = []
    for method in methods:
        try:
            searched.append(search(readouts[0], method).assign(method=method))
        except UsageError as error:
            notes.append(f"no search over {method}: {error}")
    return Evaluation(
        readouts,
        score_table(readouts, controls),
        followed,
        pd.concat(searched, ignore_index=True) if searched else pd.DataFrame(),
        pd.concat(moved, ignore_index=True) if moved else pd.DataFrame(),
        notes,
    )


def _controls(read: ReadOuts, store: ActivationSource) -> dict[str, pd.DataFrame]:
    """The controls of every method; methods that say the same thing share those that need no latents."""
    shared: dict[str, tuple[Any, Any]] = {}
    out = {}
    for method in read.sites:
        says = getattr(decoder_class(method), "says", STEP_VALUE)
        table = read.of(method)
        if says not in shared:
            shared[says] = question_only(store, table), before_thinking(store, table)
        blind = getattr(read.fitted[method], "question_only", None)
        guessed = blind(store, table) if blind else shared[says][0]
        out[method] = control_frame(read, method, guessed, shared[says][1])
    return out


def causal_column(readouts: ReadOuts, reasoner: Reasoner, edits: int) -> tuple[pd.DataFrame, list[str]]:
    """How often the answer follows the value that each method read, and notes on methods that could not be asked.

    Columns: method, follow_rate, ci_low, ci_high, same_value_change, n. Methods that read the same values at the same
    places share one experiment.
    """
    out, notes, known = [], [], {}
    for method in readouts.sites:
        read = _values(readouts, method, edits)
        if read.table().empty:
            notes.append(f"no edit for {method}: it read no value of the task on test problems.")
            continue
        key = tuple(map(tuple, read.table()[["trace", "position", "address", "text"]].to_numpy().tolist()))
        if key not in known:
            known[key] = _follow(read, reasoner, method)
        out.append({"method": method, **known[key]})
    return pd.DataFrame(out), notes


def _values(readouts: ReadOuts, method: str, edits: int) -> ReadOuts:
    """The test read-outs of one method as values of the task, whole traces, at most `edits` rows."""
    table = readouts.of(method)
    test = table[table["split"] == "test"]
    kept = test["trace"].drop_duplicates().iloc[: max(1, int(edits / max(1.0, len(test) / test["trace"].nunique())))]
    test = test[test["trace"].isin(kept)]
    if getattr(decoder_class(method), "says", STEP_VALUE) == STEP_TEXT:
        values = set(make_task(readouts.store.traces[0].problem.task).values)
        said = [next((w for w in reversed(str(text).split()) if w in values), "") for text in test["text"]]
        test = test.assign(text=said)[[bool(each) for each in said]]
    return ReadOuts(test, {method: readouts.sites[method]}, readouts.store, readouts.seed, readouts.fitted)


def _follow(read: ReadOuts, reasoner: Reasoner, method: str) -> dict[str, Any]:
    """The rates over all steps when what `method` read is replaced where it was read."""
    edits = ("other value", "same value")
    summary = interchange(reasoner, read.store.traces, read, method=method, edits=edits, seed=read.seed).summary()
    whole = summary[summary["step"] == 0].set_index("edit")
    nothing = float("nan")
    other = whole.loc["other value"] if "other value" in whole.index else None
    return {
        "follow_rate": nothing if other is None else other["follow_rate"],
        "ci_low": nothing if other is None else other["ci_low"],
        "ci_high": nothing if other is None else other["ci_high"],
        "same_value_change": whole.loc["same value", "change_rate"] if "same value" in whole.index else nothing,
        "n": 0 if other is None else int(other["n"]),
    }
