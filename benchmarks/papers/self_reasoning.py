"""Self-reasoning tokens (F. Bonetto, reasoning-tokens.ghost.io, April 2024): do tokens trained only by later losses help?

Four two-layer models on task `counter` with the same training compute: reasoning tokens with stopped gradients,
reasoning tokens with ordinary gradients, pauses, and no extra tokens. Every figure is measured on gold text, so all
models predict the token k steps after the counter was last visible from the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.earlier import OF_SEED
from interp.problems.base import Problem
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 31
N, N_FULL = 1500, 6000
ARMS = {
    "self-reasoning": "stopped gradients",
    "self-reasoning-ordinary": "ordinary gradients",
    "self-reasoning-pause": "pauses",
    "self-reasoning-none": "no extra tokens",
}
GAPS = "Stopped gradients against the others: the mean loss over all steps (below 0: better)"
PAPER = [
    PaperFigure(
        "loss with reasoning tokens against without",
        "no figure that can be relied on was found; ours stand alone",
        "F. Bonetto, reasoning-tokens.ghost.io, April 2024",
    )
]


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model on gold text: `right` and `loss` (nats) are problems x (steps and the answer)."""

    right: np.ndarray
    loss: np.ndarray

    def row(self, arm: str, which: str) -> dict[str, Any]:
        """Return the means of `right` or `loss` as a row of a table."""
        values = getattr(self, which)
        steps = values.shape[1] - 1
        means = {f"+{k + 1}": float(values[:, k].mean()) for k in range(steps)}
        return {"trained with": arm, **means, "answer": float(values[:, steps].mean()), "n": len(values)}


def gold_trace(reasoner: Reasoner, problem: Problem, number: int) -> Trace:
    """Return the trace of a reasoner that writes the problem's gold steps and answer."""
    lesson = reasoner.curriculum.lesson(problem, 0)
    words = lesson.words[:-1]  # the end-of-sequence token is predicted, not read
    latent_words = set(reasoner.curriculum.words())
    end = words.index(reasoner.config.end) if reasoner.config.end else lesson.first_thought
    channel, step, thought = [], [], []
    for k, word in enumerate(words):
        thinking = lesson.first_thought <= k < end
        channel.append(_channel(k, word, len(problem.question.split()), end, word in latent_words))
        written = sum(c == Channel.THOUGHT for c in channel[:-1])
        step.append(min(written + 1, problem.n_steps) if thinking else 0)
        thought.append(k - lesson.first_thought + 1 if thinking else 0)
    return Trace(
        id=number,
        problem=problem,
        reasoner=reasoner.name,
        token_ids=reasoner.tokenizer.convert_tokens_to_ids(words),
        tokens=words,
        channel=[str(c) for c in channel],
        step=step,
        thought=thought,
        entropy=[float("nan")] * len(words),
        logprob=[float("nan")] * len(words),
        text=" ".join([*(gold.text for gold in problem.steps), problem.answer]),
        answer=problem.answer,
        correct=True,
    )


def _channel(k: int, word: str, question: int, end: int, latent: bool) -> Channel:
    """Return the channel of position `k`."""
    if k < question:
        return Channel.PROMPT
    if latent:
        return Channel.LATENT
    if k > end:
        return Channel.ANSWER
    return Channel.SPECIAL if k in (question, end) else Channel.THOUGHT


def reading_columns(trace: Trace, read: str) -> list[int]:
    """Return the positions that predict each step and the answer: the last text token (`read="text"`), or the last token."""
    columns = []
    for k, channel in enumerate(trace.channel):
        if channel == Channel.THOUGHT or (channel == Channel.ANSWER and trace.channel[k - 1] != Channel.ANSWER):
            back = k - 1
            while read == "text" and trace.channel[back] == Channel.LATENT:
                back -= 1
            columns.append(back)
    return columns


def predictions(reasoner: Reasoner, traces: Sequence[Trace], interventions: Sequence[Any] = ()) -> Predictions:
    """Return whether each step and the answer are predicted right, and the loss on them."""
    import torch

    read = reasoner.config.reasoning_read if reasoner.kind == "self-reasoning" else "reasoning"
    columns = [reading_columns(trace, read) for trace in traces]
    targets = [_targets(trace) for trace in traces]
    right, loss = np.zeros((len(traces), len(columns[0]))), np.zeros((len(traces), len(columns[0])))

    def keep(activations: Any, batch: Any) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            log_p = torch.log_softmax(reasoner.unembed(activations[b, columns[t]]).float(), dim=-1).cpu().numpy()
            loss[t] = -log_p[np.arange(len(columns[t])), targets[t]]
            right[t] = log_p.argmax(-1) == targets[t]

    reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, interventions=interventions, batch_size=256)
    return Predictions(right, loss)


def _targets(trace: Trace) -> list[int]:
    """Return the token ids of the steps and of the answer."""
    written = [t for t, c in zip(trace.token_ids, trace.channel, strict=True) if c == Channel.THOUGHT]
    answer = next(t for t, c in zip(trace.token_ids, trace.channel, strict=True) if c == Channel.ANSWER)
    return [*written, answer]


def compute(name: str) -> dict[str, Any]:
    """Return the training cost of an organism; FLOPs are six for each parameter and token."""
    from interp.organisms.catalog import recipe
    from interp.problems import task
    from interp.reasoners.registry import curriculum_of

    made = recipe(name)
    problem = task(made.task).generate(1, seed=0, split="test")[0]
    words = len(curriculum_of(made.reasoner()).lesson(problem, 0).words)
    updates = sum(stage.updates for stage in made.stages)
    weights = 12 * made.model.n_layers * made.model.d_model**2
    tokens = words * updates * made.batch_size
    return {"tokens in a sequence": words, "updates": updates, "10^15 FLOPs": 6 * weights * tokens / 1e15}


def read_value(reasoner: Reasoner, untrained: Reasoner, fit: TraceSet, held: TraceSet) -> list[dict[str, Any]]:
    """Read the hidden counter after step k by a probe after the first block, on held-out problems."""
    from probes.estimators.linear import RidgeProbe

    rows = []
    channels = [c for c in (Channel.THOUGHT, Channel.LATENT) if c in held[0].channel]
    for channel in channels:
        where = "text token k" if channel == Channel.THOUGHT else "reasoning token of step k"
        for weights, model in (("trained", reasoner), ("untrained", untrained)):
            train, test = (_states(model, traces, channel) for traces in (fit, held))
            row: dict[str, Any] = {"read at": where, "weights": weights}
            for k in range(train.shape[1]):
                y = [np.array([t.problem.steps[k].value for t in traces]) for traces in (fit, held)]
                probe = RidgeProbe().fit(train[:, k], y[0])
                row[f"step {k + 1}"] = float((probe.predict(test[:, k]) == y[1]).mean())
            rows.append(row)
    return rows


def _states(reasoner: Reasoner, traces: TraceSet, channel: Channel) -> np.ndarray:
    """Return states after the first block at each step's last position of `channel`, traces x steps x d_model."""
    n_steps = traces[0].problem.n_steps
    columns = [_last_of_steps(trace, channel) for trace in traces]
    states = np.zeros((len(traces), n_steps, reasoner.model.cfg.d_model), np.float32)

    def keep(activations: Any, batch: Any) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            states[t] = activations[b, columns[t]].float().cpu().numpy()

    reasoner.replay(traces, hooks={"blocks.0.hook_out": keep}, batch_size=256)
    return states


def _last_of_steps(trace: Trace, channel: Channel) -> list[int]:
    """Return the last position of `channel` up to each step's text token."""
    ends = [k for k, c in enumerate(trace.channel) if c == Channel.THOUGHT]
    return [max(k for k in range(end + 1) if trace.channel[k] == channel) for end in ends]


def swap_states(reasoner: Reasoner, traces: TraceSet, channel: Channel) -> Predictions:
    """Predict with the states after the first block at all positions of `channel` replaced by another problem's."""
    from interp.models.address import Address
    from interp.reasoners.interventions import Intervention, replace_with

    rows = np.array([(t, k) for t, trace in enumerate(traces) for k, c in enumerate(trace.channel) if c == channel])
    row_of = {(int(t), int(k)): row for row, (t, k) in enumerate(rows)}
    states = np.zeros((len(rows), reasoner.model.cfg.d_model), np.float32)

    def keep(activations: Any, batch: Any) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            for k in range(activations.shape[1]):
                if (t, k) in row_of:
                    states[row_of[t, k]] = activations[b, k].float().cpu().numpy()

    address = Address("blocks.0.hook_out")
    reasoner.replay(traces, hooks={address.name: keep}, batch_size=256)
    donors = np.roll(states.reshape(len(traces), -1, states.shape[1]), 1, axis=0).reshape(states.shape)
    return predictions(reasoner, traces, [Intervention(address, rows, replace_with(donors))])


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure accuracy and loss at +1 to +8 for the four arms, what their tokens encode, and whether it is used."""
    from interp.loading.load import random_init

    n = N_FULL if full else N
    section = Section("self_reasoning", "Self-reasoning tokens: trained by the future alone", paper=PAPER)
    by_arm: dict[str, Predictions] = {}
    costs, swaps, reads = [], [], []
    groups = np.empty(0)
    for number, (name, arm) in enumerate(ARMS.items()):
        reasoner = organisms.load(name)
        sets = {split: _gold(reasoner, n, split) for split in ("val", "test")}
        test = sets["test"]
        groups = np.array([trace.problem.structure for trace in test])
        by_arm[arm] = predictions(reasoner, test)
        costs.append({"trained with": arm, **compute(name)})
        values = read_value(reasoner, random_init(reasoner), sets["val"], test)
        reads += [{"trained with": arm, **row} for row in values]
        for channel, where in ((Channel.LATENT, "reasoning tokens"), (Channel.PROMPT, "question")):
            if channel in test[0].channel:
                swaps.append(
                    {"trained with": arm, "swapped": where} | swap_states(reasoner, test, channel).row(arm, "right")
                )
        progress(number + 1, len(ARMS))
    section.tables["Accuracy on the token written k steps after the counter was last visible"] = _by_arm(
        by_arm, "right"
    )
    section.tables["Loss (nats) on the same tokens"] = _by_arm(by_arm, "loss")
    section.tables["What training cost"] = pd.DataFrame(costs)
    section.tables["Accuracy with another problem's states after the first block"] = pd.DataFrame(swaps)
    section.tables[
        "The hidden counter after step k, read after the first block (chance 0.2, or 0.4 given the parity)"
    ] = pd.DataFrame(reads)
    section.tables[GAPS] = gaps(by_arm, groups)
    section.notes = notes(section.tables[GAPS])
    for others in organisms.other_seeds(ARMS):
        again: dict[str, Predictions] = {}
        for name, arm in ARMS.items():
            reasoner = others.load(name)
            again[arm] = predictions(reasoner, _gold(reasoner, n, "test"))
        of_seed = f"{OF_SEED}{others.seed}"
        section.tables[f"Accuracy on the same tokens{of_seed}"] = _by_arm(again, "right")
        section.tables[f"Loss (nats) on the same tokens{of_seed}"] = _by_arm(again, "loss")
        section.tables[f"{GAPS}{of_seed}"] = gaps(again, groups)
    return section


def _gold(reasoner: Reasoner, n: int, split: Any) -> TraceSet:
    """Return gold traces of one split."""
    problems = reasoner.task.generate(n, seed=SEED, split=split)
    return TraceSet([gold_trace(reasoner, problem, k) for k, problem in enumerate(problems)])


def _by_arm(by_arm: dict[str, Predictions], which: str) -> pd.DataFrame:
    return pd.DataFrame([predicted.row(arm, which) for arm, predicted in by_arm.items()])


def gaps(by_arm: dict[str, Predictions], groups: np.ndarray) -> pd.DataFrame:
    """Compare stopped gradients with each other arm by the mean loss over all steps, paired by problem."""
    stopped, *others = by_arm
    rows = []
    for other in others:
        gap = (by_arm[stopped].loss[:, :-1] - by_arm[other].loss[:, :-1]).mean(1)
        low, high = grouped_mean_interval(gap, groups)
        verdict = "worse" if low > 0 else "better" if high < 0 else "no different"
        rows.append({"than": other, "it is": verdict, "nats": float(gap.mean()), "95 %": [low, high]})
    return pd.DataFrame(rows)


def notes(comparisons: pd.DataFrame) -> list[str]:
    """Return the comparison with each other arm as a sentence."""
    return [
        f"Stopped gradients are {row['it is']} than {row['than']}: the mean loss over all steps differs by "
        f"{row['nats']:+.4f} nats [{row['95 %'][0]:+.4f}, {row['95 %'][1]:+.4f}]."
        for row in comparisons.to_dict("records")
    ]
