"""Transcripts in rollout folders of Thought Anchors: `problem_*/problem.json`, `base_solution.json`, `chunk_*/solutions.json`.

References:
    Bogdan et al., "Thought Anchors: Which LLM Reasoning Steps Matter?", arXiv 2506.19143; the data set
    uzaymacar/math-rollouts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.transcripts.records import Refusal, Transcript

# The folder of a model's rollouts with one sampling, MODEL/temperature_0.6_top_p_0.95.
_SETTING = re.compile(r"([^/]+)/temperature_([0-9.]+)_top_p_[0-9.]+")


def problem_folders(folder: Path) -> list[Path]:
    """Return the folders of problems below a folder, in the order of their numbers."""
    folders = [path.parent for path in folder.rglob("base_solution.json")]
    return sorted(folders, key=lambda path: (str(path.parent), _number(path), path.name))


def read_rollouts(folder: Path, *, rollouts: int = 0) -> Iterator[Transcript | Refusal]:
    """Yield the base solution of each problem, and some of the rollouts of each chunk.

    Args:
        folder: A folder with folders of problems, at any depth.
        rollouts: How many rollouts of each chunk are read; their first part is the base solution's text.
    """
    for problem_folder in problem_folders(folder):
        source = str(problem_folder.relative_to(folder.parent))
        try:
            about = _read(problem_folder / "problem.json")
            base = _read(problem_folder / "base_solution.json")
        except StoreError as error:
            yield Refusal(source, str(error))
            continue
        yield _transcript(about, base, problem_folder, source, {})
        for chunk in sorted(problem_folder.glob("chunk_*"), key=_number):
            if rollouts and (chunk / "solutions.json").exists():
                solutions = _read(chunk / "solutions.json")
                for number, solution in enumerate(solutions[:rollouts]):
                    where = {"chunk": chunk.name.removeprefix("chunk_"), "rollout": number}
                    text = str(solution.get("full_cot", "")).removeprefix(base.get("prompt", ""))
                    whole = {**solution, "prompt": base.get("prompt"), "solution": text}
                    yield _transcript(about, whole, problem_folder, f"{source}/{chunk.name} rollout {number}", where)


def n_rollout_files(folder: Path) -> int:
    """Return how many files of rollouts a folder holds."""
    return sum(1 for _ in folder.rglob("chunk_*/solutions.json"))


def _transcript(
    about: dict[str, Any], solution: dict[str, Any], folder: Path, source: str, where: dict[str, Any]
) -> Transcript | Refusal:
    question, prompt, text = about.get("problem"), solution.get("prompt"), solution.get("solution")
    if solution.get("error") or not isinstance(text, str) or not text.strip():
        return Refusal(source, f"it holds no solution ({solution.get('error') or 'empty'})")
    if not isinstance(question, str) or not isinstance(prompt, str) or question not in prompt:
        return Refusal(source, "its prompt does not hold its problem")
    question = question.strip()
    setting = _SETTING.search(folder.resolve().as_posix())
    others = {key: value for key, value in about.items() if key not in ("problem", "gt_answer", "gt_solution")}
    return Transcript(
        source=source,
        question=question,
        text=text,
        prompt=prompt.replace("{question}", "{ question }").replace(question, "{question}", 1),
        writer=setting[1] if setting else "",
        temperature=float(setting[2]) if setting else None,
        notes=("writer and temperature are those of the folder's name",) if setting else (),
        columns={
            **{key: value for key, value in others.items() if isinstance(value, str | int | float)},
            **where,
            "gt_answer": about.get("gt_answer"),
            "problem_folder": folder.name,
            "is_correct": solution.get("is_correct"),
        },
    )


def _number(path: Path) -> int:
    """Return the number at the end of a folder's name; 0 where it has none."""
    digits = re.search(r"\d+$", path.name)
    return int(digits[0]) if digits else 0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path.name} cannot be read ({error})") from None
