"""One edit of one visible thought: another value written at a step, after which the model goes on in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.activations import record
from interp.causal.interchanges.single import ThoughtEdit
from interp.causal.patching.chosen import checked_prediction
from interp.causal.patching.donors import implied_answer
from interp.causal.visible_text.edits import visible_thought, with_value
from interp.causal.visible_text.forcing import resume
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def edit_written_thought(
    reasoner: Reasoner,
    traces: TraceSet,
    trace: int,
    step: int,
    value: str,
    *,
    sites: str | Sequence[str] = "resid",
) -> ThoughtEdit:
    """Write another value at a step of a visible thought, and let the model go on after it.

    Controls: its own text up to the step is given back and must change nothing; and the value is written at another step
    (`wrong step`), from which the predicted answer does not follow.

    Args:
        reasoner: A reasoner that thinks in text.
        traces: Its traces.
        trace: Index of the one to edit.
        step: Number of the step, from 1.
        value: The value to write.
        sites: Activations to record.

    Returns:
        The edit and its controls; there is no donor.

    Raises:
        UsageError: The reasoner does not think in text, the step does not write its value, or the value implies no other
            answer.

    References:
        Lanham et al., "Measuring Faithfulness in Chain-of-Thought Reasoning", arXiv 2307.13702, section 3.2.
    """
    recipient = traces[trace]
    problem, task = recipient.problem, make_task(recipient.problem.task)
    predicted = checked_prediction(task, recipient, step, value)
    changed = with_value(reasoner, recipient, step, value)
    if changed is None:
        raise UsageError(
            f"expected a step whose value can be written over, got step {step} of problem {recipient.id}: its text does not "
            "write it; choose another step."
        )
    starts = {
        "other value": changed.first(step),
        "same value": visible_thought(recipient, reasoner.tokenizer).first(step),
    }
    for other in (step + 1, step - 1):
        elsewhere = with_value(reasoner, recipient, other, value) if 1 <= other <= problem.n_steps else None
        # Not where the same answer follows from the value.
        if elsewhere is not None and implied_answer(task, problem, other, value) not in (predicted, problem.answer):
            starts["wrong step"] = elsewhere.first(other)
            break
    after = resume(reasoner, [problem] * len(starts), list(starts.values()))
    rows: list[dict[str, Any]] = []
    for edit, new in zip(starts, after, strict=True):
        implied = problem.answer if edit == "same value" else predicted
        rows.append(
            {
                "trace": trace,
                "step": step,
                "donor": -1,
                "edit": edit,
                "value": problem.steps[step - 1].value,
                "donor_value": problem.steps[step - 1].value if edit == "same value" else value,
                "predicted": implied,
                "answer_before": recipient.answer,
                "answer_after": new.answer,
                "followed": task.says(problem, new.answer, implied),
                "changed": not task.same_answer(problem, new.answer, recipient.answer),
            }
        )
    return ThoughtEdit(step, value, predicted, pd.DataFrame(rows), TraceSet([]), record(reasoner, after, sites=sites))
