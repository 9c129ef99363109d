"""Heima (arXiv 2501.19201): one thinking token for each step, and interpreters that write the steps as text.

- Accuracy of the thinking-token organism beside the text reasoner that it started from, staged pauses on the same
  curriculum, and thinking tokens without the progressive stages.
- Interpreters that read the final state one position before the thinking token, as the paper's code does, or at the
  token. Two controls that the paper lacks: no latent, and another problem's latent.
- Interchange: does the answer follow what is read?
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.swapping import swap_table, swap_thoughts
from interp.decoders.evaluation.interpretation import interpretation_scores, interpretations
from interp.decoders.evaluation.text_scores import exact_matches
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

SEED = 41
TEXT, TOKENS, PAUSES, AT_ONCE = (
    "chain3-text",
    "chain3-thinking-tokens",
    "chain3-staged-pauses",
    "chain3-thinking-tokens-at-once",
)
ARMS = {
    TEXT: "text, every step written",
    TOKENS: "thinking tokens, progressive stages",
    PAUSES: "staged pauses, the same stages",
    AT_ONCE: "thinking tokens, all at once",
}
N_ANSWERS, N_INTERPRETED, N_SWAPPED, UPDATES = 1000, 2500, 300, 800
FULL_ANSWERS, FULL_INTERPRETED, FULL_SWAPPED, FULL_UPDATES = 4000, 6000, 1500, 1500


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure answers, step texts written by interpreters with their controls, and swapped thoughts."""
    interpreted = [(TOKENS, "before", ("latent", "question", "shuffled")), (TOKENS, "token", ("latent",))]
    if full:
        interpreted += [
            (TOKENS, "token", ("shuffled",)),
            (PAUSES, "before", ("latent",)),
            (PAUSES, "token", ("latent",)),
        ]
    done = _Steps(progress, len(ARMS) + 2 + sum(len(modes) for *_, modes in interpreted))
    problems = organisms.load(TEXT).task.generate(FULL_ANSWERS if full else N_ANSWERS, seed=SEED, split="test")
    section = Section("heima", "Heima: one thinking token for each step", paper=PAPER)
    thought: dict[str, TraceSet] = {}
    for name in ARMS:
        control = name not in (TOKENS, TEXT)
        reasoner = organisms.load_or_note(name, section) if control else organisms.load(name)
        if reasoner:
            thought[name] = reasoner.think(problems, batch_size=256)
        done()
    texts = pd.concat(
        [
            _interpret(organisms.load(name), name, at, modes, full, done)
            for name, at, modes in interpreted
            if name in thought
        ]
    )
    swapped = swap_table(_swap(organisms.load(TOKENS), FULL_SWAPPED if full else N_SWAPPED))
    done()
    section.tables["Answers on held-out chains of 2 and 3 steps"] = answers_table(thought)
    section.tables["Step texts written by interpreters, held-out problems"] = texts_table(texts)
    section.tables["All that was computed at a thinking token replaced by a donor's"] = swapped
    section.measures = _measures(thought, texts)
    section.notes += _notes(thought, texts, swapped)
    done()
    return section


def _interpret(
    reasoner: Reasoner, name: str, read_at: Any, modes: Any, full: bool, done: Callable[[], None]
) -> pd.DataFrame:
    """Return interpretations of one organism's thoughts; column `organism` names it."""
    import interp

    problems = reasoner.task.generate(FULL_INTERPRETED if full else N_INTERPRETED, seed=SEED + 1, split="test")
    traces = reasoner.think(problems, batch_size=256)
    store = interp.record(reasoner, traces, sites="final", channels=["special", "latent"])
    parts = []
    for mode in modes:
        updates = FULL_UPDATES if full else UPDATES
        parts.append(interpretations(store, modes=[mode], read_at=read_at, updates=updates))
        done()
    return pd.concat(parts).assign(organism=name)


def _swap(reasoner: Reasoner, n: int) -> pd.DataFrame:
    """Swap the thoughts of held-out problems."""
    import interp

    problems: list[Problem] = reasoner.task.generate(n, seed=SEED + 2, split="test")
    traces = reasoner.think(problems, batch_size=256)
    store = interp.record(reasoner, traces, sites="resid_post", channels=["latent"])
    return swap_thoughts(reasoner, store)


class _Steps:
    """Count finished parts for a progress bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        self.progress(min(self.done, self.total), self.total)


def answers_table(thought: dict[str, TraceSet]) -> pd.DataFrame:
    """Return the accuracy of each arm, over all and by number of steps, and the mean number of thought positions."""
    rows = []
    for name, traces in thought.items():
        right, groups = _right(traces)
        lengths = np.array([trace.problem.n_steps for trace in traces])
        row: dict[str, Any] = {"thinks in": ARMS[name], "organism": name, "right": right.mean()}
        row["95 %"] = list(grouped_mean_interval(right, groups))
        row |= {f"{k} steps": right[lengths == k].mean() for k in np.unique(lengths)}
        row["positions thought"] = np.mean([sum(number > 0 for number in trace.thought) for trace in traces])
        rows.append(row | {"n": len(right)})
    return pd.DataFrame(rows)


def texts_table(texts: pd.DataFrame) -> pd.DataFrame:
    """Return exact match, BLEU and ROUGE-L by organism, input of the interpreter, position read, and step."""
    scores = [interpretation_scores(part).assign(organism=name) for name, part in texts.groupby("organism", sort=False)]
    table = pd.concat(scores, ignore_index=True)
    names = {"mode": "interpreter given", "read_at": "read at", "n_steps": "steps", "exact": "exact match"}
    table["exact, 95 %"] = [[low, high] for low, high in zip(table["ci_low"], table["ci_high"], strict=True)]
    table = table.rename(columns=names | {"bleu": "BLEU", "rouge_l": "ROUGE-L"})
    columns = ["organism", *names.values()]
    columns[-1:] = ["step", "exact match", "exact, 95 %", "BLEU", "ROUGE-L", "n"]
    return table[columns]


def last_steps(texts: pd.DataFrame, mode: str, *, read_at: str = "before", longest: bool = True) -> pd.DataFrame:
    """Return the last step of held-out problems as one interpreter wrote it, in order of trace.

    Args:
        texts: Interpretations.
        mode: What the interpreter was given.
        read_at: Where its latent was read.
        longest: Keep only the longest problems. The last step of a shorter one is an early step, which can be
            computed from the question.

    Returns:
        Their rows, with a column `right`.
    """
    part = texts[(texts["mode"] == mode) & (texts["read_at"] == read_at) & (texts["organism"] == TOKENS)]
    part = part[part["step"] == part["n_steps"]]
    if longest:
        part = part[part["n_steps"] == part["n_steps"].max()]
    part = part.sort_values("trace", ignore_index=True)
    return part.assign(right=exact_matches(part["text"].tolist(), part["gold"].tolist()))


def answer_ratio(ours: TraceSet, text: TraceSet) -> dict[str, Any]:
    """Return our accuracy divided by the text reasoner's; the interval is that of our accuracy, divided in the same way."""
    right, groups = _right(ours)
    peer = float(_right(text)[0].mean())
    low, high = grouped_mean_interval(right, groups)
    value = float(right.mean()) / peer
    return {"value": value, "ci": [low / peer, high / peer], "n": len(right), "peer": f"text {peer:.3f}"}


def _right(traces: TraceSet) -> tuple[np.ndarray, np.ndarray]:
    """Return which answers are right, and the structures of their problems."""
    return np.array([t.correct for t in traces]), np.array([t.problem.structure for t in traces])


def _measures(thought: dict[str, TraceSet], texts: pd.DataFrame) -> dict[str, dict[str, Any]]:
    latent, question = last_steps(texts, "latent"), last_steps(texts, "question")
    shuffled, token = last_steps(texts, "shuffled"), last_steps(texts, "latent", read_at="token")
    groups = latent["structure"].to_numpy()
    gaps = latent["right"].to_numpy(float) - question["right"].to_numpy(float)
    all_lengths = [last_steps(texts, mode, longest=False)["right"].mean() for mode in ("latent", "question")]
    last = f"step {latent['step'].max()} of {latent['step'].max()}"
    others = ", ".join(f"{ARMS[name]} {thought[name].accuracy:.3f}" for name in (PAUSES, AT_ONCE) if name in thought)
    return {
        "papers.heima.answer_ratio": answer_ratio(thought[TOKENS], thought[TEXT]) | {"note": others},
        "papers.heima.text_exact": {
            "value": float(latent["right"].mean()),
            "ci": list(grouped_mean_interval(latent["right"].to_numpy(), groups)),
            "n": len(latent),
            "note": f"{last}, read one position before the token, as the paper's code does; at the token "
            f"{token['right'].mean():.3f}; question-only {question['right'].mean():.3f}, shuffled latents "
            f"{shuffled['right'].mean():.3f}",
        },
        "papers.heima.text_exact_above_question_only": {
            "value": float(gaps.mean()),
            "ci": list(grouped_mean_interval(gaps, groups)),
            "n": len(gaps),
            "note": f"{last}, paired; last steps of all lengths {all_lengths[0] - all_lengths[1]:.3f}",
        },
    }


def _notes(thought: dict[str, TraceSet], texts: pd.DataFrame, swapped: pd.DataFrame) -> list[str]:
    answers = ", ".join(f"{ARMS[name]} {traces.accuracy:.3f}" for name, traces in thought.items())
    scores = interpretation_scores(texts[texts["organism"] == TOKENS])
    alone = scores[scores["mode"] == "question"]
    by_step = [
        f"{row.step} of {row.n_steps}: {row.exact:.3f}" for row in alone.sort_values(["n_steps", "step"]).itertuples()
    ]
    before, token = (last_steps(texts, "latent", read_at=at)["right"].mean() for at in ("before", "token"))
    longest = swapped[swapped["steps"] == swapped["steps"].max()]
    shown = ", ".join(
        f"{row['swapped']}: {_larger(row):.3f} follow, {row['stays']:.3f} stay" for _, row in longest.iterrows()
    )
    return [
        f"Answers: {answers}.",
        f"Exact match of steps written from the question alone: {'; '.join(by_step)}. Only an accuracy above that is "
        "evidence that a latent encodes a step.",
        f"Exact match of the last step: {before:.3f} from the state one position before its token, {token:.3f} from the "
        "state at the token. The earlier state belongs to the previous step. The value of that step is enough, because "
        "the question names the operation and the interpreter can apply it. So a right text from the earlier position "
        "does not show that the model computed the step.",
        f"Are the tokens used? Answers after all states at one token are replaced by a donor's "
        f"({longest['steps'].iloc[0]} steps), by token: {shown}.",
    ]


def _larger(row: pd.Series) -> float:
    """Return the fraction that follows the donor: the larger of its value for this step and for the next."""
    return max(share for name, share in row.items() if str(name).endswith("step's value") and share is not None)


_SOURCE = "arXiv 2501.19201, taken from a secondary note"
PAPER = [
    PaperFigure("answers, mean over benchmarks: thinking tokens / full chain of thought", "58.0 % / 61.1 %", _SOURCE),
    PaperFigure("the same without progressive stages", "56.3 %", _SOURCE),
    PaperFigure("interpreted summary: BLEU / METEOR / ROUGE-L / BERTScore", "15.9 / 40.1 / 41.6 / 73.4", _SOURCE),
    PaperFigure("interpreted caption", "12.8 / 35.5 / 37.9 / 71.4", _SOURCE),
    PaperFigure("interpreted reasoning", "11.2 / 32.7 / 32.7 / 66.6", _SOURCE),
    PaperFigure("question-only and shuffled-latent interpreters", "not reported", _SOURCE),
]
