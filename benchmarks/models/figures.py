"""`cotlens bench models`: what a real pretrained model does on the task `words`, alone and with its adapters."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.harness import SCHEMA_VERSION, keep
from benchmarks.measures import report
from benchmarks.models.answer_cases import CASES
from benchmarks.models.study_cost import study_cost
from benchmarks.smollm2 import MODEL, bare_model
from interp.loading.named_models import require_fetched
from interp.organisms.catalog import card, recipe, recipes, shipped
from interp.problems import task as make_task
from interp.problems.answers import answer_is_right
from interp.runtime.console import Bars, jsonable
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

TEXT, LATENT, PAUSE = "smollm2-words-text", "smollm2-words-coconut", "smollm2-words-pause"
# Questions of each row of the table, problems of each adapter's exam (None for as many as its card has) and of the study.
SIZES: dict[str, tuple[int, int | None, int]] = {"quick": (8, 16, 16), "normal": (100, None, 100)}
FORMS = ("form=again", "form=copy", "form=choice", "steps=1", "steps=2", "form=dial,steps=1", "form=dial,steps=2")
KINDS = ("as it is", "few-shot", "few-shot steps", "chat")
SHOTS = 3
BATCH = 16
_SEED = 2026
_ELSEWHERE = {
    "models.parity_max": "not taken here; held to 1e-4 by tests/interp/models/test_architectures.py",
    "models.architectures": "not taken here; counted by tests/interp/models/test_architectures.py",
    "models.silent_errors": "not taken here; the cases are tests of their own",
}


def bench(bars: Bars, size: str = "normal") -> dict[str, Any]:
    """Take measures of the group `models` on SmolLM2, in float32, and the table of what the base does.

    Args:
        bars: Progress bars.
        size: A key of `SIZES`; only `normal` is kept.

    Returns:
        The result, as `cotlens bench --json` prints it. Measures that this bench does not take are null, with a note.

    Raises:
        UsageError: The model is not on this machine. The message says how to get it.
    """
    import interp

    require_fetched(MODEL)
    n_questions, n_exam, n_study = SIZES[size]
    measures: dict[str, dict[str, Any]] = {name: {"value": None, "note": note} for name, note in _ELSEWHERE.items()}
    measures["models.grading_agreement"] = grading_agreement()
    base = interp.load(MODEL, device="cpu", dtype="float32")
    with bars.stage("the same file in transformers"):
        measures["models.gguf_logit_gap"] = _logit_gap(base)
    with bars.stage("adapters"):
        measures["models.words_accuracy"] = _exam(TEXT, n_exam)
        measures["models.words_latent_accuracy"] = _exam(LATENT, n_exam, beside=PAUSE)
    with bars.stage("a study of the adapter"):
        measures |= _study(TEXT, n_study)
    with bars.stage("the base on every form") as progress:
        table = base_table(base, n_questions, progress)
    rows = jsonable(report("models", measures))
    if size != "normal":
        return {"schema_version": SCHEMA_VERSION, "name": "models", "measures": rows, "table": table}
    return keep("models", rows, table=jsonable(table))


def _logit_gap(reasoner: Reasoner) -> dict[str, Any]:
    """Return the largest difference of logits to transformers' own reading of the file, over the largest logit."""
    own = bare_model()
    questions = [problem.question for form in FORMS for problem in _task(form).generate(2, seed=_SEED, split="test")]
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
        task = _task(form)
        problems = task.generate(n, seed=_SEED, split="test")
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
    (example,) = make_task(f"words:{form},shots={SHOTS},shown={shown}").generate(1, seed=_SEED, split="train")
    before, question, asked = example.question.rpartition("Question: ")
    ending = asked.rpartition("\n")[2]
    return reasoner.with_config(
        prompt=f"{before}{question}{{question}}\n{ending}",
        stops=("\n\n",),
        max_answer_tokens=4 if shown == "answers" else 64,
    )


def _task(form: str) -> Any:
    return make_task(f"words:{form}")
