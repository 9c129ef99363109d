"""One table for all decoders: what each gets right, what it would have got without the thoughts, and what it knows of that.

Everything is counted on test problems; thresholds come from validation problems. A problem counts once in an interval,
however many splits it was tested in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.decoders.evaluation.chance import blind_guess, majority
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.decoders.evaluation.text_scores import bleu, rouge_l, token_f1
from interp.statistics.calibration import (
    abstaining,
    area_under_risk,
    calibration_error,
    certain_and_wrong,
    threshold_for,
)
from interp.statistics.intervals import grouped_mean_interval

COVERAGE = 0.9
ALL_STEPS = 0


def score_table(
    readouts: Sequence[ReadOuts], controls: Sequence[Mapping[str, pd.DataFrame]], *, coverage: float = COVERAGE
) -> pd.DataFrame:
    """Scores by method and step over several splits, and over all steps (step 0).

    `controls` holds for each of `readouts` the controls of each method (`control_frame`). Columns:
    method, step, site;
    top1, ci_low, ci_high: exact match at the matched position; majority: the most frequent value's share; chance: the
    best blind guess, that value or a word of those that the question offers (`interp.decoders.evaluation.chance`);
    topk, topk_chance: among the `k` likeliest; its chance is that of k blind guesses;
    any_position, any_position_chance: said at any thinking position; its chance is what another problem's positions say;
    token_f1, bleu, rouge_l: closeness of the text;
    question_only, other_problem, before_thinking: the three controls' exact match;
    ece, aurc: calibration; coverage, confabulation: what is answered at the threshold that answers 90 % of validation
    read-outs, and the share wrong of it; certain_and_wrong: wrong at a confidence of at least 0.99; n.
    """
    table = pd.concat([_joined(read, more) for read, more in zip(readouts, controls, strict=True)], ignore_index=True)
    out = []
    for method, of_method in table.groupby("method", sort=False):
        thresholds = {
            split_seed: threshold_for(part.loc[part["split"] == "val", "confidence"].to_numpy(), coverage)
            for split_seed, part in of_method.groupby("seed")
        }
        test = of_method[of_method["split"] == "test"]
        for step in [ALL_STEPS, *sorted(test["step"].unique())]:
            part = test if step == ALL_STEPS else test[test["step"] == step]
            site = "each step's own" if step == ALL_STEPS else readouts[0].at(str(method), int(step))[0].label
            out.append({"method": method, "step": int(step), "site": site, **_scored(part, thresholds)})
    return pd.DataFrame(out)


def _joined(read: ReadOuts, controls: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    frames = [
        read.of(method).reset_index(drop=True).join(controls[method].reset_index(drop=True)) for method in read.sites
    ]
    return pd.concat(frames, ignore_index=True).assign(seed=read.seed)


def _scored(part: pd.DataFrame, thresholds: Mapping[Any, float]) -> dict[str, Any]:
    right, confidence = part["right"].to_numpy(bool), part["confidence"].to_numpy(float)
    gold, text = part["gold"].astype(str).tolist(), part["text"].astype(str).tolist()
    low, high = grouped_mean_interval(right, part["structure"].to_numpy())
    answered = part["confidence"].to_numpy() - part["seed"].map(thresholds).to_numpy() >= 0
    selected = abstaining(answered.astype(float), right, 1.0)
    most, chance, several = _chances(part)
    return {
        "top1": right.mean(),
        "ci_low": low,
        "ci_high": high,
        "majority": most,
        "chance": chance,
        "topk": np.mean([each in list(top) for each, top in zip(gold, part["top_k"], strict=True)]),
        "topk_chance": several,
        "any_position": part["anywhere"].mean(),
        "any_position_chance": part["anywhere_else"].mean(),
        "token_f1": token_f1(text, gold).mean(),
        "bleu": bleu(text, gold),
        "rouge_l": rouge_l(text, gold).mean(),
        "question_only": (part["question_only"] == part["gold"]).mean(),
        "other_problem": (part["other_problem"] == part["gold"]).mean(),
        "before_thinking": (part["before_thinking"] == part["gold"]).mean(),
        "ece": calibration_error(confidence, right),
        "aurc": area_under_risk(confidence, right),
        "coverage": selected["coverage"],
        "confabulation": selected["confabulation"],
        "certain_and_wrong": certain_and_wrong(confidence, right),
        "n": len(part),
    }


def _chances(part: pd.DataFrame) -> tuple[float, float, float]:
    """The most frequent value, the best blind guess and k of them, for each step and then over all rows."""
    found, weights = [], []
    for _, of_step in part.groupby("step"):
        gold, offers, k = of_step["gold"], of_step["offers"].tolist(), len(of_step["top_k"].iloc[0])
        found.append([majority(gold), blind_guess(gold, offers), blind_guess(gold, offers, k)])
        weights.append(len(of_step))
    most, chance, several = np.average(found, axis=0, weights=weights)
    return float(most), float(chance), float(several)


def control_frame(read: ReadOuts, method: str, question_only: np.ndarray, before_thinking: np.ndarray) -> pd.DataFrame:
    """The controls of one method, row by row of its table.

    Columns: question_only, before_thinking (texts), anywhere (whether the right text is said at any thinking position of
    the problem) and anywhere_else (whether it is at those of another problem with as many); the last two are NaN outside
    the test split, and for a decoder that has to be told which step it reads.
    """
    table = read.of(method).reset_index(drop=True)
    controls = pd.DataFrame({"question_only": question_only, "before_thinking": before_thinking})
    if getattr(read.fitted[method], "asks_for_step", False):
        return controls.assign(anywhere=np.nan, anywhere_else=np.nan)
    # Only test read-outs are scored, so only their traces are read at every position.
    test = table[table["split"] == "test"]
    said = read.everywhere(method, test).groupby("trace")["text"].agg(list)
    lengths = said.map(len)
    rng = np.random.default_rng(read.seed)
    donor: dict[Any, Any] = {}
    for _, traces in lengths.groupby(lengths).groups.items():
        order = rng.permutation(np.asarray(traces))
        donor |= dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    pairs = list(zip(test["gold"], test["trace"], strict=True))
    found = {"anywhere": [g in said[t] for g, t in pairs], "anywhere_else": [g in said[donor[t]] for g, t in pairs]}
    return controls.join(pd.DataFrame(found, index=test.index, dtype=float))
