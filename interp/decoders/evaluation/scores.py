"""The score table of decoders: accuracy, controls without thoughts, calibration.

Everything is counted on test problems. Thresholds come from validation problems. A problem counts once in an interval,
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
    abstention,
    area_under_risk,
    calibration_error,
    certain_and_wrong,
    threshold_for,
)
from interp.statistics.estimates import Estimate

COVERAGE = 0.9
ALL_STEPS = 0


def score_table(
    readouts: Sequence[ReadOuts], controls: Sequence[Mapping[str, pd.DataFrame]], *, coverage: float = COVERAGE
) -> pd.DataFrame:
    """Return scores by method and step over several splits, and over all steps (step 0).

    Args:
        readouts: One entry for each split.
        controls: The controls of each method (`control_frame`), one entry for each split.
        coverage: The share of validation read-outs that are answered at the threshold of `confabulation`.

    Returns:
        Columns:
        method, step, site (the location in the first split);
        top1, ci_low, ci_high: exact match; majority: the most frequent value's share; chance: the best blind guess, that
        value or a word that the question offers (`interp.decoders.evaluation.chance`);
        topk, topk_chance: gold text among the k likeliest, and the same for k blind guesses;
        any_position, any_position_chance: gold text read at any thinking position, and at those of another problem;
        token_f1, bleu, rouge_l: closeness of the text;
        question_only, other_problem, before_thinking: exact match of the controls;
        ece, aurc: calibration; coverage, confabulation: the share answered at the threshold, and the share wrong of it;
        certain_and_wrong: wrong at a confidence of at least 0.99; n.
    """
    table = pd.concat([_joined(read, more) for read, more in zip(readouts, controls, strict=True)], ignore_index=True)
    scores = []
    for method, of_method in table.groupby("method", sort=False):
        thresholds = {
            seed: threshold_for(part.loc[part["split"] == "val", "confidence"].to_numpy(), coverage)
            for seed, part in of_method.groupby("seed")
        }
        test = of_method[of_method["split"] == "test"]
        for step in [ALL_STEPS, *sorted(test["step"].unique())]:
            part = test if step == ALL_STEPS else test[test["step"] == step]
            site = "each step's own" if step == ALL_STEPS else readouts[0].at(str(method), int(step)).location.label
            scores.append({"method": method, "step": int(step), "site": site, **_scores(part, thresholds)})
    return pd.DataFrame(scores)


def _joined(read: ReadOuts, controls: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    frames = [
        read.of(method).reset_index(drop=True).join(controls[method].reset_index(drop=True)) for method in read.methods
    ]
    return pd.concat(frames, ignore_index=True).assign(seed=read.seed)


def _scores(part: pd.DataFrame, thresholds: Mapping[Any, float]) -> dict[str, Any]:
    right, confidence = part["right"].to_numpy(bool), part["confidence"].to_numpy(float)
    gold, texts = part["gold"].astype(str).tolist(), part["text"].astype(str).tolist()
    top1 = Estimate.of_mean(right, part["structure"].to_numpy())
    answered = confidence - part["seed"].map(thresholds).to_numpy() >= 0
    selected = abstention(answered.astype(float), right, 1.0)
    most_frequent, chance, topk_chance = _chances(part)
    return {
        "top1": top1.value,
        "ci_low": top1.low,
        "ci_high": top1.high,
        "majority": most_frequent,
        "chance": chance,
        "topk": np.mean([text in list(top) for text, top in zip(gold, part["top_k"], strict=True)]),
        "topk_chance": topk_chance,
        "any_position": part["anywhere"].mean(),
        "any_position_chance": part["anywhere_else"].mean(),
        "token_f1": token_f1(texts, gold).mean(),
        "bleu": bleu(texts, gold),
        "rouge_l": rouge_l(texts, gold).mean(),
        "question_only": (part["question_only"] == part["gold"]).mean(),
        "other_problem": (part["other_problem"] == part["gold"]).mean(),
        "before_thinking": (part["before_thinking"] == part["gold"]).mean(),
        "ece": calibration_error(confidence, right),
        "aurc": area_under_risk(confidence, right),
        "coverage": selected["coverage"],
        "confabulation": selected["confabulation"],
        "certain_and_wrong": certain_and_wrong(confidence, right),
        "n": top1.n,
    }


def _chances(part: pd.DataFrame) -> tuple[float, float, float]:
    """Return the rates of the most frequent value, of the best blind guess and of k guesses, averaged over rows."""
    chances, weights = [], []
    for _, of_step in part.groupby("step"):
        gold, offers, k = of_step["gold"], of_step["offers"].tolist(), len(of_step["top_k"].iloc[0])
        chances.append([majority(gold), blind_guess(gold, offers), blind_guess(gold, offers, k)])
        weights.append(len(of_step))
    most_frequent, chance, topk_chance = np.average(chances, axis=0, weights=weights)
    return float(most_frequent), float(chance), float(topk_chance)


def control_frame(read: ReadOuts, method: str, question_only: np.ndarray, before_thinking: np.ndarray) -> pd.DataFrame:
    """Return the controls of one method, row by row of its table.

    Args:
        read: The read-outs.
        method: One of their methods.
        question_only: The text of each row predicted from the question alone.
        before_thinking: The text of each row predicted from the state at the question's end.

    Returns:
        Columns question_only, before_thinking, anywhere (whether the gold text is read at any thinking position of the
        problem) and anywhere_else (whether it is at those of another problem with as many positions). The last two are
        NaN outside the test split, and for a decoder that needs the number of the step.
    """
    table = read.of(method).reset_index(drop=True)
    controls = pd.DataFrame({"question_only": question_only, "before_thinking": before_thinking})
    if read.decoders[method].traits.needs_step:
        return controls.assign(anywhere=np.nan, anywhere_else=np.nan)
    # Only test read-outs are scored, so only their traces are read at every position.
    test = table[table["split"] == "test"]
    texts = read.at_all_positions(method, test).groupby("trace")["text"].agg(list)
    lengths = texts.map(len)
    rng = np.random.default_rng(read.seed)
    donors: dict[Any, Any] = {}
    for _, traces in lengths.groupby(lengths).groups.items():
        order = rng.permutation(np.asarray(traces))
        donors |= dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    pairs = list(zip(test["gold"], test["trace"], strict=True))
    columns = {
        "anywhere": [gold in texts[trace] for gold, trace in pairs],
        "anywhere_else": [gold in texts[donors[trace]] for gold, trace in pairs],
    }
    return controls.join(pd.DataFrame(columns, index=test.index, dtype=float))
