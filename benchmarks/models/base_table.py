"""What a model without an adapter does on every form of the task `words`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from interp.problems import task as make_task
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

FORMS = ("form=again", "form=copy", "form=choice", "steps=1", "steps=2", "form=dial,steps=1", "form=dial,steps=2")
KINDS = ("as it is", "few-shot", "few-shot steps", "chat")
SHOTS = 3
BATCH = 16
SEED = 2026


def base_table(reasoner: Reasoner, n: int, progress: Any = None) -> list[dict[str, Any]]:
    """Return what a model without an adapter does on every form of `words`.

    Args:
        reasoner: The model.
        n: Held-out questions of each row.
        progress: Called with the rows done and all rows.

    Returns:
        A row for every form and kind of prompt: `few-shot` with worked examples that show answers, `few-shot steps`
        with examples that show steps too, and `chat`, the question as a message of the chat template. A list that is
        said again is continued `as it is`.
    """
    prompts = [(form, kind) for form in FORMS for kind in KINDS if (kind == "as it is") == (form == "form=again")]
    rows: list[dict[str, Any]] = []
    for form, kind in prompts:
        task = words_task(form)
        problems = task.generate(n, seed=SEED, split="test")
        traces = prompted(reasoner, form, kind).think(problems, batch_size=BATCH)
        right = np.array([trace.correct for trace in traces])
        accuracy = Estimate.of_mean(right, np.array([problem.structure for problem in problems]))
        rows.append(
            {"task": task.spec, "prompt": kind, "right": accuracy.value, "ci": list(accuracy.interval)}
            | {"n": n, "chance": task.chance}
        )
        if progress is not None:
            progress(len(rows), len(prompts))
    return rows


def prompted(reasoner: Reasoner, form: str, kind: str) -> Reasoner:
    """Return a chat model that reads a question of `words` after worked examples, or as a message.

    The examples are the same for every question, so that they are read once.

    Args:
        reasoner: The model.
        form: Options of the task.
        kind: One of `KINDS`.
    """
    if kind == "as it is":
        return reasoner.with_config(prompt="{question}", stops=(",", "."), max_answer_tokens=4)
    if kind == "chat":
        return reasoner.with_config(max_answer_tokens=48)
    shown = "steps" if kind == "few-shot steps" else "answers"
    (example,) = make_task(f"words:{form},shots={SHOTS},shown={shown}").generate(1, seed=SEED, split="train")
    before, question, asked = example.question.rpartition("Question: ")
    ending = asked.rpartition("\n")[2]
    return reasoner.with_config(
        prompt=f"{before}{question}{{question}}\n{ending}",
        stops=("\n\n",),
        max_answer_tokens=4 if shown == "answers" else 64,
    )


def words_task(form: str) -> Any:
    """Return the task `words` in one of its forms."""
    return make_task(f"words:{form}")
