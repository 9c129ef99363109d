"""Self-reasoning tokens (F. Bonetto, reasoning-tokens.ghost.io, April 2024): do tokens trained by the future help it?

Four two-layer models on the `counter` task at matched training compute: reasoning tokens with stopped gradients, the
same with ordinary gradients, pauses, and no extra tokens. Every figure is taken on right text, so that the token
written k steps after the counter was last visible is predicted from the same words by every model.
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
class Taken:
    """What one model predicts on right text: `right` and `loss` (nats) are problems x (steps and the answer)."""

    right: np.ndarray
    loss: np.ndarray

    def row(self, arm: str, which: str) -> dict[str, Any]:
        values = getattr(self, which)
        steps = values.shape[1] - 1
        means = {f"+{k + 1}": float(values[:, k].mean()) for k in range(steps)}
        return {"trained with": arm, **means, "answer": float(values[:, steps].mean()), "n": len(values)}


def gold_trace(reasoner: Reasoner, problem: Problem, number: int) -> Trace:
    """The trace that `reasoner` would have left had it written the problem's own steps and answer."""
    lesson = reasoner.curriculum.lesson(problem, 0)
    words = lesson.words[:-1]  # the end-of-sequence token is predicted, not read
    silent = set(reasoner.curriculum.words())
    end = words.index(reasoner.config.end) if reasoner.config.end else lesson.first_thought
    channel, step, thought = [], [], []
    for k, word in enumerate(words):
        thinking = lesson.first_thought <= k < end
        channel.append(_channel(k, word, len(problem.question.split()), end, word in silent))
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
        text=" ".join([*(each.text for each in problem.steps), problem.answer]),
        answer=problem.answer,
        correct=True,
    )


def _channel(k: int, word: str, question: int, end: int, silent: bool) -> Channel:
    if k < question:
        return Channel.PROMPT
    if silent:
        return Channel.LATENT
    if k > end:
        return Channel.ANSWER
    return Channel.SPECIAL if k in (question, end) else Channel.THOUGHT


def reading_columns(trace: Trace, read: str) -> list[int]:
    """Where each written step and the answer's first word are predicted: at the last text token, or one before."""
    found = []
    for k, channel in enumerate(trace.channel):
        if channel == Channel.THOUGHT or (channel == Channel.ANSWER and trace.channel[k - 1] != Channel.ANSWER):
            back = k - 1
            while read == "text" and trace.channel[back] == Channel.LATENT:
                back -= 1
            found.append(back)
    return found


def predictions(reasoner: Reasoner, traces: Sequence[Trace], interventions: Sequence[Any] = ()) -> Taken:
    """Whether each step and the answer would be written rightly, and the loss on them."""
    import torch

    read = reasoner.config.reasoning_read if reasoner.kind == "self-reasoning" else "reasoning"
    at = [reading_columns(trace, read) for trace in traces]
    wanted = [_targets(trace) for trace in traces]
    right, loss = np.zeros((len(traces), len(at[0]))), np.zeros((len(traces), len(at[0])))

    def keep(activations: Any, batch: Any) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            log_p = torch.log_softmax(reasoner.unembed(activations[b, at[t]]).float(), dim=-1).cpu().numpy()
            loss[t] = -log_p[np.arange(len(at[t])), wanted[t]]
            right[t] = log_p.argmax(-1) == wanted[t]

    reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, interventions=interventions, batch_size=256)
    return Taken(right, loss)


def _targets(trace: Trace) -> list[int]:
    written = [t for t, c in zip(trace.token_ids, trace.channel, strict=True) if c == Channel.THOUGHT]
    answer = next(t for t, c in zip(trace.token_ids, trace.channel, strict=True) if c == Channel.ANSWER)
    return [*written, answer]


def compute(name: str) -> dict[str, Any]:
    """What training the organism `name` cost: tokens in all, and FLOPs by the rule of six per parameter and token."""
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
    """The hidden counter after step k, read by a probe after the first block where step k is, held out."""
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
    """After the first block: traces x steps x d_model, at the last position of `channel` in each step."""
    n_steps = traces[0].problem.n_steps
    at = [_last_of_steps(trace, channel) for trace in traces]
    found = np.zeros((len(traces), n_steps, reasoner.model.cfg.d_model), np.float32)

    def keep(activations: Any, batch: Any) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            found[t] = activations[b, at[t]].float().cpu().numpy()

    reasoner.replay(traces, hooks={"blocks.0.hook_out": keep}, batch_size=256)
    return found


def _last_of_steps(trace: Trace, channel: Channel) -> list[int]:
    """The last position of `channel` before the end of each step's text token."""
    ends = [k for k, c in enumerate(trace.channel) if c == Channel.THOUGHT]
    return [max(k for k in range(end + 1) if trace.channel[k] == channel) for end in ends]


def swapped(reasoner: Reasoner, traces: TraceSet, channel: Channel) -> Taken:
    """Predictions with what the first block left at all positions of `channel` taken from another problem."""
    from interp.models.address import Address
    from interp.reasoners.interventions import Intervention, replace_with

    rows = np.array([(t, k) for t, trace in enumerate(traces) for k, c in enumerate(trace.channel) if c == channel])
    at = {(int(t), int(k)): row for row, (t, k) in enumerate(rows)}
    found = np.zeros((len(rows), reasoner.model.cfg.d_model), np.float32)

    def keep(activations: Any, batch: Any) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            for k in range(activations.shape[1]):
                if (t, k) in at:
                    found[at[t, k]] = activations[b, k].float().cpu().numpy()

    site = Address("blocks.0.hook_out")
    reasoner.replay(traces, hooks={site.name: keep}, batch_size=256)
    donors = np.roll(found.reshape(len(traces), -1, found.shape[1]), 1, axis=0).reshape(found.shape)
    return predictions(reasoner, traces, [Intervention(site, rows, replace_with(donors))])


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Accuracy and loss at +1 to +8 for the four arms, what their tokens hold, and whether that is used."""
    from interp.loading.load import random_init

    n = N_FULL if full else N
    section = Section("self_reasoning", "Self-reasoning tokens: trained by the future alone", paper=PAPER)
    taken: dict[str, Taken] = {}
    costs, swaps, reads = [], [], []
    groups = np.empty(0)
    for done, (name, arm) in enumerate(ARMS.items()):
        reasoner = organisms.load(name)
        sets = {split: _gold(reasoner, n, split) for split in ("val", "test")}
        held = sets["test"]
        groups = np.array([trace.problem.structure for trace in held])
        taken[arm] = predictions(reasoner, held)
        costs.append({"trained with": arm, **compute(name)})
        values = read_value(reasoner, random_init(reasoner), sets["val"], held)
        reads += [{"trained with": arm, **row} for row in values]
        for channel, where in ((Channel.LATENT, "reasoning tokens"), (Channel.PROMPT, "question")):
            if channel in held[0].channel:
                swaps.append(
                    {"trained with": arm, "swapped": where} | swapped(reasoner, held, channel).row(arm, "right")
                )
        progress(done + 1, len(ARMS))
    section.tables["Accuracy on the token written k steps after the counter was last visible"] = _by_arm(taken, "right")
    section.tables["Loss (nats) on the same tokens"] = _by_arm(taken, "loss")
    section.tables["What training cost"] = pd.DataFrame(costs)
    section.tables["Accuracy with another problem's states after the first block"] = pd.DataFrame(swaps)
    section.tables[
        "The hidden counter after step k, read after the first block (chance 0.2, or 0.4 given the parity)"
    ] = pd.DataFrame(reads)
    section.tables[GAPS] = gaps(taken, groups)
    section.notes = notes(section.tables[GAPS])
    for others in organisms.other_seeds(ARMS):
        again: dict[str, Taken] = {}
        for name, arm in ARMS.items():
            reasoner = others.load(name)
            again[arm] = predictions(reasoner, _gold(reasoner, n, "test"))
        of_seed = f"{OF_SEED}{others.seed}"
        section.tables[f"Accuracy on the same tokens{of_seed}"] = _by_arm(again, "right")
        section.tables[f"Loss (nats) on the same tokens{of_seed}"] = _by_arm(again, "loss")
        section.tables[f"{GAPS}{of_seed}"] = gaps(again, groups)
    return section


def _gold(reasoner: Reasoner, n: int, split: Any) -> TraceSet:
    problems = reasoner.task.generate(n, seed=SEED, split=split)
    return TraceSet([gold_trace(reasoner, problem, k) for k, problem in enumerate(problems)])


def _by_arm(taken: dict[str, Taken], which: str) -> pd.DataFrame:
    return pd.DataFrame([each.row(arm, which) for arm, each in taken.items()])


def gaps(taken: dict[str, Taken], groups: np.ndarray) -> pd.DataFrame:
    """The stopped gradients against each other arm: the mean loss over all steps, paired by problem."""
    stopped, *others = taken
    rows = []
    for other in others:
        gap = (taken[stopped].loss[:, :-1] - taken[other].loss[:, :-1]).mean(1)
        low, high = grouped_mean_interval(gap, groups)
        verdict = "worse" if low > 0 else "better" if high < 0 else "no different"
        rows.append({"than": other, "it is": verdict, "nats": float(gap.mean()), "95 %": [low, high]})
    return pd.DataFrame(rows)


def notes(found: pd.DataFrame) -> list[str]:
    """Which way it came out, one line for each other arm."""
    return [
        f"Stopped gradients are {row['it is']} than {row['than']}: the mean loss over all steps differs by "
        f"{row['nats']:+.4f} nats [{row['95 %'][0]:+.4f}, {row['95 %'][1]:+.4f}]."
        for row in found.to_dict("records")
    ]
