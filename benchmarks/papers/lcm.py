"""Large concept models (arXiv 2412.08821): reasoning in step embeddings instead of words.

The organism predicts the embedding of the next step of a `chain` trace (`4 +3 = 7 ;`) and feeds it back. Measured are
the autoencoder alone on unseen step texts, the next step after the true embeddings, and the whole trace from its own
predictions. A prediction is right when its decoded words are those of the gold step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.detection import bag_of_words
from interp.runtime.progress import Progress
from interp.statistics.donors import other_problem
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.models.step_autoencoder import StepAutoencoder
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

NAME = "lcm-chain"
SEED = 53
N, N_FULL = 1000, 4000
FITTED = 6000  # problems that the question-only predictor is fitted on


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure step reconstruction, next-step accuracy with controls, and the answers of whole traces."""
    reasoner = organisms.load(NAME)
    autoencoder = autoencoder_of(organisms)
    problems = reasoner.task.generate(N_FULL if full else N, seed=SEED, split="test")
    section = Section("lcm", "Large concept models: the next step as an embedding", paper=PAPER)
    section.tables["Step texts through the autoencoder"] = _reconstruction(reasoner, autoencoder)
    progress(1, 5)
    steps = gold_steps(problems)
    gold = autoencoder.encode(autoencoder.ids_of(steps["text"].tolist(), reasoner.tokenizer))
    thought = reasoner.think(problems, batch_size=256)
    progress(2, 5)
    arms = {"next step, true steps before it": predict_steps(reasoner, with_steps(thought, gold, reasoner))}
    arms["whole trace, its own steps before it"] = concepts_of(reasoner, thought)
    progress(3, 5)
    arms |= _controls(reasoner, thought, gold, arms["next step, true steps before it"], steps)
    progress(4, 5)
    right = {
        arm: np.array(autoencoder.texts(concepts, reasoner.tokenizer)) == steps["text"]
        for arm, concepts in arms.items()
    }
    right["question's words alone (ridge regression)"] = _from_question(reasoner, autoencoder, problems, steps)
    right["the commonest text of that step"] = _commonest(reasoner, steps)
    table = accuracy(right, steps)
    section.tables["Steps whose words are exactly right"] = table
    section.tables["Answers"] = _answers(thought)
    section.measures["papers.lcm.next_step_accuracy"] = _measure(table)
    section.notes = _notes(table, section.tables["Answers"])
    progress(5, 5)
    return section


def autoencoder_of(organisms: Organisms) -> StepAutoencoder:
    """Return the step autoencoder saved beside the organism's weights."""
    from interp.models.step_autoencoder import StepAutoencoder as Autoencoder
    from interp.organisms.catalog import weights_folder

    if organisms.folder is None:
        return Autoencoder.read(weights_folder(NAME))
    return Autoencoder.read(Path(organisms.folder) / f"{NAME}-seed{organisms.seed}")


def gold_steps(problems: Sequence[Problem]) -> pd.DataFrame:
    """Return one row for each step of each problem. Columns: problem, step (from 1), text, structure."""
    rows = [
        (k, number, step.text, problem.structure)
        for k, problem in enumerate(problems)
        for number, step in enumerate(problem.steps, 1)
    ]
    return pd.DataFrame(rows, columns=["problem", "step", "text", "structure"])


def with_steps(traces: TraceSet, concepts: Tensor, reasoner: Reasoner) -> TraceSet:
    """Return the traces with other step embeddings as their thoughts, in the order of the steps."""
    from interp.traces import TraceSet as Traces

    counts = [trace.problem.n_steps for trace in traces]
    parts = np.split((concepts * reasoner.config.latent_scale).numpy(), np.cumsum(counts)[:-1])
    return Traces([dataclasses.replace(trace, latents=part) for trace, part in zip(traces, parts, strict=True)])


def concepts_of(reasoner: Reasoner, traces: TraceSet) -> Tensor:
    """Return the embeddings of the traces' thoughts, steps x d_concept."""
    return torch.from_numpy(np.concatenate([trace.latents for trace in traces])) / reasoner.config.latent_scale


def predict_steps(reasoner: Reasoner, traces: TraceSet) -> Tensor:
    """Return the embedding predicted for each thought from the thoughts before it, steps x d_concept."""
    states_of: dict[int, Tensor] = {}

    def keep(states: Tensor, batch: Any) -> None:
        for b, k in enumerate(batch.traces.tolist()):
            valid = states[b][batch.real[b]]
            columns = [p - 1 for p, thought in enumerate(traces[k].thought) if thought]
            states_of[k] = valid[columns].float()

    reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, batch_size=256)
    assert reasoner.projection is not None
    return reasoner.projection(torch.cat([states_of[k] for k in range(len(traces))]))


def _controls(
    reasoner: Reasoner, thought: TraceSet, gold: Tensor, next_step: Tensor, steps: pd.DataFrame
) -> dict[str, Tensor]:
    """Return the controls: another problem's predictions, predictions after its steps, and an untrained predictor's."""
    from interp.loading.load import random_init

    lengths = np.array([trace.problem.n_steps for trace in thought])[steps["problem"]]
    alike = steps["step"].to_numpy() + 10 * lengths
    donors = other_problem(alike, steps["structure"].to_numpy(), np.zeros(len(steps), int), SEED)
    untrained = random_init(reasoner)
    return {
        "another problem's prediction (shuffled)": next_step[donors],
        "after another problem's steps": predict_steps(reasoner, with_steps(thought, gold[donors], reasoner)),
        "untrained predictor (random init)": predict_steps(untrained, with_steps(thought, gold, untrained)),
    }


def _from_question(
    reasoner: Reasoner, autoencoder: StepAutoencoder, problems: Sequence[Problem], steps: pd.DataFrame
) -> np.ndarray:
    """Return which steps ridge regression on the question's words and the step number gets right."""
    train_problems = reasoner.task.generate(FITTED, seed=SEED, split="train")
    train_steps = gold_steps(train_problems)
    words = bag_of_words(
        [*(problem.question for problem in train_problems), *(problem.question for problem in problems)]
    )
    rows = [train_steps["problem"].to_numpy(), len(train_problems) + steps["problem"].to_numpy()]
    numbers = [train_steps["step"].to_numpy(), steps["step"].to_numpy()]
    longest = int(max(part.max() for part in numbers))
    x, test = (_by_step(words[row], number, longest) for row, number in zip(rows, numbers, strict=True))
    y = autoencoder.encode(autoencoder.ids_of(train_steps["text"].tolist(), reasoner.tokenizer)).numpy()
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    texts = autoencoder.texts(torch.from_numpy((test @ weights).astype(np.float32)), reasoner.tokenizer)
    return np.array(texts) == steps["text"].to_numpy()


def _by_step(words: np.ndarray, number: np.ndarray, longest: int) -> np.ndarray:
    """Return word counts and a constant, in a block of columns for each step number."""
    rows = np.concatenate([words, np.ones((len(words), 1))], axis=1)
    out = np.zeros((len(rows), longest, rows.shape[1]))
    out[np.arange(len(rows)), number - 1] = rows
    return out.reshape(len(rows), -1)


def _commonest(reasoner: Reasoner, steps: pd.DataFrame) -> np.ndarray:
    """Return which steps the commonest training text of that step number gets right."""
    train_steps = gold_steps(reasoner.task.generate(FITTED, seed=SEED, split="train"))
    common = train_steps.groupby("step")["text"].agg(lambda texts: texts.value_counts().index[0])
    return (steps["step"].map(common) == steps["text"]).to_numpy()


def accuracy(right: dict[str, np.ndarray], steps: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each arm: the fraction of right steps, over all (with a 95 % interval) and by step."""
    rows = []
    for arm, arm_right in right.items():
        row: dict[str, Any] = {"arm": arm, "all steps": arm_right.mean()}
        row["95 %"] = list(grouped_mean_interval(np.asarray(arm_right), steps["structure"].to_numpy()))
        row |= {f"step {k}": np.asarray(arm_right)[steps["step"] == k].mean() for k in sorted(steps["step"].unique())}
        rows.append(row | {"n": len(arm_right)})
    return pd.DataFrame(rows)


def _reconstruction(reasoner: Reasoner, autoencoder: StepAutoencoder) -> pd.DataFrame:
    """Return the fraction of step texts that the autoencoder reconstructs exactly."""
    from interp.organisms.training.concepts import step_texts

    out = []
    for split, which in (("train", "texts that it was trained on"), ("test", "texts that it was not")):
        texts = step_texts(reasoner.task, split, seed=SEED)  # type: ignore[arg-type]
        reconstructed = autoencoder.texts(
            autoencoder.encode(autoencoder.ids_of(texts, reasoner.tokenizer)), reasoner.tokenizer
        )
        exact = np.mean([one == other for one, other in zip(texts, reconstructed, strict=True)])
        out.append({"step texts": which, "reconstructed exactly": exact, "n": len(texts)})
    return pd.DataFrame(out)


def _answers(traces: TraceSet) -> pd.DataFrame:
    """Return the accuracy of whole traces, over all and by number of steps."""
    right = np.array([trace.correct for trace in traces])
    lengths = np.array([trace.problem.n_steps for trace in traces])
    groups = np.array([trace.problem.structure for trace in traces])
    row: dict[str, Any] = {"organism": NAME, "right": right.mean(), "95 %": list(grouped_mean_interval(right, groups))}
    return pd.DataFrame(
        [row | {f"{n} steps": right[lengths == n].mean() for n in np.unique(lengths)} | {"n": len(right)}]
    )


def _measure(table: pd.DataFrame) -> dict[str, Any]:
    first, controls = table.iloc[0], table.iloc[2:]
    controls_text = ", ".join(f"{row['arm']} {row['all steps']:.3f}" for _, row in controls.iterrows())
    return {
        "value": round(float(first["all steps"]), 4),
        "ci": first["95 %"],
        "n": int(first["n"]),
        "note": f"exact words, after true steps; after its own predictions {table.iloc[1]['all steps']:.3f}; {controls_text}",
    }


def _notes(table: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
    alone, controls = table.iloc[1], table.iloc[2:]
    best = controls.loc[controls["all steps"].idxmax()]
    first, second = ("step 1", "step 2") if "step 2" in table else ("step 1", "step 1")
    others = table[table["arm"] == "after another problem's steps"].iloc[0]
    return [
        f"From its own predictions the model gets {alone['all steps']:.3f} of the steps and {answers['right'].iloc[0]:.3f} "
        f"of the answers right; the best control, {best['arm']}, gets {best['all steps']:.3f} of the steps.",
        f"After another problem's steps, {others[first]:.3f} of first steps are right (no step precedes them) and "
        f"{others[second]:.3f} of second steps: the next step depends on the embedding of the previous one.",
    ]


PAPER = [
    PaperFigure(
        "what is predicted", "sentence embeddings (SONAR), 1.6B and 7B parameters", "arXiv 2412.08821, abstract"
    ),
]
