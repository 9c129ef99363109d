"""An activation oracle asked questions about latents, scored against the truth and beside what needs no latent.

The oracle never sees the problem's question. So beside each score stand the oracle with another problem's latent of the
same step, a linear reader of the problem's words and the number of the step, without any latent, and the most frequent
answer. A question whose answer is in the problem's words shows nothing of the latent, and the word reader says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.oracle import QUESTIONS, Oracle, answers_to
from interp.decoders.step_rows import DecodeInputs
from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.statistics.donors import other_problem
from interp.statistics.estimates import Estimate

_STRENGTH = 10.0
_COLUMNS = ["question", "asked", "right", "ci_low", "ci_high", "other_problem", "question_only", "majority", "n"]
#: Share of updates of an oracle whose address is still being chosen.
_TRIAL = 0.3


def ask_oracle(
    store: ActivationSource,
    questions: Sequence[str] = ("value", "decided", "hint", "intent"),
    *,
    address: Address | None = None,
    updates: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, Address]:
    """Train an oracle on several questions about latents, and score its answers on problems of other structures.

    Args:
        store: Activations at the last thought of each step.
        questions: Names from `interp.decoders.oracle.QUESTIONS`. Those without an answer on this task are left out.
        address: Where latents are read. Default: the address at which a shorter training answers best on validation.
        updates: Updates of the oracle.
        seed: Seed of the split of problems, of the donors and of the oracle.
        progress: Called with (oracles trained, oracles in all).

    Returns:
        One row for each question and the address. Columns: question, asked (its words), right (share of right answers),
        ci_low, ci_high (95 %, grouped by structure), other_problem (another problem's latent of the same step),
        question_only (a ridge classifier over the problem's words at their places, and the step), majority (the most
        frequent answer), n.

    Raises:
        UsageError: A question is unknown, or none has two answers or more on this store.
    """
    for question in questions:
        if question not in QUESTIONS:
            raise unknown("question for the oracle", question, QUESTIONS)
    steps = DecodeInputs(store, seed).step_rows(0)
    rows, parts = steps.rows.reset_index(drop=True), steps.parts
    truths = {question: answers_to(store, rows, question) for question in questions}
    asked = [question for question, truth in truths.items() if len({answer for answer in truth if answer}) > 1]
    if not asked:
        raise UsageError(
            f"expected questions with several answers on this task, got {', '.join(questions)}; choose from "
            f"{', '.join(QUESTIONS)}."
        )
    train, val, test = (rows[parts == part] for part in ("train", "val", "test"))
    candidates = [address] if address is not None else list(store.addresses)
    best, best_score = candidates[0], -1.0
    for number, candidate in enumerate(candidates if len(candidates) > 1 else []):
        trial = Oracle(questions=asked, updates=max(1, round(updates * _TRIAL)), seed=seed).fit(store, candidate, train)
        shares = [_right(trial, store, val, question, truths[question][parts == "val"]).mean() for question in asked]
        if np.mean(shares) > best_score:
            best, best_score = candidate, float(np.mean(shares))
        if progress:
            progress(number + 1, len(candidates) + 1)
    oracle = Oracle(questions=asked, updates=updates, seed=seed).fit(store, best, train)
    structures = np.array([store.traces[t].problem.structure for t in test["trace"]])
    donors = other_problem(test["step"].to_numpy(), structures, np.full(len(test), "test"), seed)
    table = []
    for question in asked:
        truth = truths[question][parts == "test"]
        known = np.array([answer is not None for answer in truth])
        right = _right(oracle, store, test, question, truth)
        other = _right(oracle, store, test.iloc[donors], question, truth)
        share = Estimate.of_mean(right, structures[known])
        learned = truths[question][parts == "train"]
        common = pd.Series([answer for answer in learned if answer is not None]).mode()[0]
        table.append(
            {
                "question": question,
                "asked": QUESTIONS[question][0],
                "right": share.value,
                "ci_low": share.low,
                "ci_high": share.high,
                "other_problem": float(other.mean()),
                "question_only": _from_words(store, train, learned, test, truth),
                "majority": float((truth[known] == common).mean()),
                "n": share.n,
            }
        )
    if progress:
        progress(len(candidates) + 1, len(candidates) + 1)
    return pd.DataFrame(table, columns=_COLUMNS), best


def _right(oracle: Oracle, store: ActivationSource, rows: pd.DataFrame, question: str, truth: np.ndarray) -> np.ndarray:
    """Return 1.0 or 0.0 for each row that has a true answer, whether the oracle gives it."""
    known = np.array([answer is not None for answer in truth])
    said = oracle.ask(store, rows[known], question).texts[:, 0]
    return np.asarray(said == truth[known], float)


def _from_words(
    store: ActivationSource, train: pd.DataFrame, learned: np.ndarray, test: pd.DataFrame, truth: np.ndarray
) -> float:
    """Return the share of answers that a linear reader of the problem's words and the step's number gives right."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import RidgeClassifier

    def features(rows: pd.DataFrame) -> list[dict[str, float]]:
        made = []
        for t, step in zip(rows["trace"], rows["step"], strict=True):
            problem = store.traces[t].problem
            words = problem.question.split()
            of = {f"{k}:{word}": 1.0 for k, word in enumerate(words)}
            made.append({**of, f"step {step}": 1.0, f"step {step} of {problem.n_steps}": 1.0})
        return made

    fitted, scored = ([answer is not None for answer in answers] for answers in (learned, truth))
    vectors = DictVectorizer()
    x = vectors.fit_transform(features(train[fitted]))
    reader = RidgeClassifier(_STRENGTH).fit(x, learned[fitted].astype(str))
    return float((reader.predict(vectors.transform(features(test[scored]))) == truth[scored]).mean())
