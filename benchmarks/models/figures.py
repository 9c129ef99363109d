"""`cotlens bench models`: real architectures beside Hugging Face, and SmolLM2 with its adapters on the task `words`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.models.answer_cases import CASES
from benchmarks.models.base_table import FORMS, SEED, base_table, words_task
from benchmarks.models.parity import parity
from benchmarks.models.reading import value_before_it_is_written
from benchmarks.models.silent import silent_errors
from benchmarks.models.study_cost import study_cost
from benchmarks.models.swaps import follow_inside
from benchmarks.parts import Measures, PartResult, run_parts
from benchmarks.smollm2 import MODEL, bare_model
from interp.loading.named_models import require_fetched
from interp.organisms.catalog import card, recipe, recipes, shipped
from interp.problems import task as make_task
from interp.problems.answers import answer_is_right
from interp.runtime.console import Bars
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

TEXT, LATENT, PAUSE = "smollm2-words-text", "smollm2-words-coconut", "smollm2-words-pause"
# Questions of each row of the base's table, problems of the study, of reading, and of the interchange.
N_QUESTIONS, N_STUDY, N_READ, N_SWAPPED = 40, 100, 240, 60
# Blocks of SmolLM2, of 30, that are read, and after which values are exchanged.
READ_AFTER = (9, 14, 17, 20, 22, 24, 26, 29)
SWAPPED_AFTER = (10, 14, 18, 22, 24, 26)


def bench(bars: Bars, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Take the measures of the group `models`, in float32.

    Args:
        bars: Progress bars.
        parts: Which to take: `parity`, `silent`, `grading`, `gguf`, `adapters`, `study`, `reading`, `follow` or `base`;
            all by default.

    Returns:
        The kept result, as `cotlens bench --json` prints it, with the tables of its parts.

    Raises:
        UsageError: A part is unknown, or SmolLM2 is not on this machine. The message says how to get it.
    """

    def staged(stage: str, take: Callable[[Any], PartResult]) -> PartResult:
        with bars.stage(stage) as progress:
            return take(progress)

    available: dict[str, Callable[[], PartResult]] = {
        "parity": partial(staged, "architectures beside Hugging Face", lambda progress: parity(progress=progress)),
        "silent": partial(staged, "the wrong-in-silence suite", lambda progress: silent_errors(progress=progress)),
        "grading": lambda: PartResult({"models.grading_agreement": grading_agreement()}),
        "gguf": partial(staged, "the same file in transformers", lambda progress: _gguf()),
        "adapters": partial(staged, "adapters", lambda progress: PartResult(_exams())),
        "study": partial(staged, "a study of the adapter", lambda progress: PartResult(_study(TEXT, N_STUDY))),
        "reading": partial(staged, "values before they are written", lambda progress: _reading()),
        "follow": partial(staged, "values exchanged inside", _follow),
        "base": partial(
            staged,
            "the base on every form",
            lambda progress: PartResult({}, {"table": base_table(_loaded(MODEL), N_QUESTIONS, progress)}),
        ),
    }
    if set(parts or available) - {"parity", "silent", "grading"}:
        require_fetched(MODEL)
    return run_parts("models", available, parts)


def _loaded(name: str) -> Reasoner:
    import interp

    return interp.load(name, device="cpu", dtype="float32")


def _gguf() -> PartResult:
    return PartResult({"models.gguf_logit_gap": _logit_gap(_loaded(MODEL))})


def _exams() -> Measures:
    return {
        "models.words_accuracy": _exam(TEXT, None),
        "models.words_latent_accuracy": _exam(LATENT, None, beside=PAUSE),
    }


def _reading() -> PartResult:
    return value_before_it_is_written(_loaded(TEXT), N_READ, READ_AFTER, seed=SEED)


def _follow(progress: Any) -> PartResult:
    return follow_inside(_loaded(TEXT), N_SWAPPED, SWAPPED_AFTER, seed=SEED, progress=progress)


def _logit_gap(reasoner: Reasoner) -> dict[str, Any]:
    """Return the largest difference of logits to transformers' own reading of the file, over the largest logit."""
    own = bare_model()
    questions = [
        problem.question for form in FORMS for problem in words_task(form).generate(2, seed=SEED, split="test")
    ]
    gaps = []
    with torch.no_grad():
        for question in questions:
            ids = reasoner.tokenizer(question, return_tensors="pt").input_ids
            expected = own(ids).logits
            states = reasoner.base(
                inputs_embeds=reasoner.embed(ids), attention_mask=torch.ones_like(ids)
            ).last_hidden_state
            gaps.append(float((reasoner.unembed(states) - expected).abs().max() / expected.abs().max()))
    return {
        "value": max(gaps),
        "n": len(gaps),
        "peer": "transformers, the same file",
        "peer_version": version("transformers"),
        "note": "largest difference over the largest logit, at every position of a question, float32",
    }


def grading_agreement() -> dict[str, Any]:
    """Return the share of answers that are graded as by hand (`benchmarks.models.answer_cases`)."""
    agreed = np.array([answer_is_right(text, gold) is right for text, gold, right in CASES])
    differing = [f"{text!r} for {gold!r}" for (text, gold, _), same in zip(CASES, agreed, strict=True) if not same]
    share = Estimate.of_mean(agreed, np.arange(len(agreed)))
    note = "numbers, expressions, units, choices and words, each with the verdict of a person"
    note += f"; otherwise: {'; '.join(differing)}" if differing else ""
    return {"value": share.value, "ci": list(share.interval), "n": len(agreed), "note": note}


def _exam(name: str, n: int | None, beside: str | None = None) -> dict[str, Any]:
    """Return the accuracy of an adapter on held-out problems; null where it is not shipped."""
    import interp
    from interp.organisms.training.build import examine

    if name not in shipped():
        return {"value": None, "note": f"{name} is not shipped: {recipe(name).weaknesses}"}
    its_recipe = recipe(name)
    measured = examine(its_recipe, interp.load(name, device="cpu"), n)
    by_steps = ", ".join(f"{share:.3f}" for share in measured["accuracy_by_steps"].values())
    task: Any = make_task(its_recipe.task)
    note = f"{task.spec}, by steps {by_steps}; chance {task.chance:g}"
    if beside is not None and beside in shipped():
        note += f"; {beside} {card(beside)['accuracy']:.3f} by its card"
    elif beside is not None and beside in recipes():
        note += f"; {beside} is not shipped: {recipe(beside).weaknesses}"
    return {"value": measured["accuracy"], "ci": measured["ci"], "n": measured["exam"]["n"], "note": note}


def _study(name: str, n: int) -> dict[str, dict[str, Any]]:
    """Return what a study of an adapter takes, in a process of its own; null where the adapter is not shipped."""
    if name not in shipped():
        return {
            f"models.study_{what}": {"value": None, "note": f"{name} is not shipped"} for what in ("minutes", "rss_mb")
        }
    cost = study_cost(name, n)
    note = f"cotlens study {name} --n {n}, {torch.get_num_threads()} threads"
    note += f"; skipped: {', '.join(cost['skipped'])}" if cost["skipped"] else "; no stage skipped"
    return {
        "models.study_minutes": {"value": cost["seconds"] / 60, "n": n, "note": note},
        "models.study_rss_mb": {"value": cost["peak"] / 2**20, "n": n, "note": note},
    }
