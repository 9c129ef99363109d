"""Two conversations in every format of transcripts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUESTIONS = ("What is 2 plus 2?", "What is 3 plus 5?")
THOUGHTS = ("Two and two. So it is 4.", "First 3, then 5 more.\n\nThat gives 8.")
REPLIES = ("The answer is 4.", "So 8.")
GOLD = ("4", "8")


def conversation(k: int, **reply: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": QUESTIONS[k]}, {"role": "assistant", **reply}]


def _lines(path: Path, records: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return path


def _fields(path: Path, name: str) -> Path:
    replies = [{name: thought, "content": reply} for thought, reply in zip(THOUGHTS, REPLIES, strict=True)]
    return _lines(
        path / "chat.jsonl",
        [{"messages": conversation(k, **reply), "answer": GOLD[k], "level": k} for k, reply in enumerate(replies)],
    )


def _tags(path: Path, begin: str, end: str) -> Path:
    texts = [f"{begin}\n{t}\n{end}\n\n{r}" for t, r in zip(THOUGHTS, REPLIES, strict=True)]
    records = [{"messages": conversation(k, content=text), "answer": GOLD[k]} for k, text in enumerate(texts)]
    (path / "chat.json").write_text(json.dumps(records), encoding="utf-8")
    return path / "chat.json"


def _choices(path: Path) -> Path:
    records = [
        {
            "request": {"messages": conversation(k)[:1], "temperature": 0.5},
            "response": {
                "model": "far-away",
                "choices": [{"message": {"role": "assistant", "reasoning": t, "content": r}, "finish_reason": "stop"}],
            },
            "answer": GOLD[k],
        }
        for k, (t, r) in enumerate(zip(THOUGHTS, REPLIES, strict=True))
    ]
    return _lines(path / "responses.jsonl", records)


def _share(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "conversations": [
                {"from": "human", "value": QUESTIONS[k]},
                {"from": "gpt", "value": f"<think>{THOUGHTS[k]}</think>{REPLIES[k]}"},
            ],
            "answer": GOLD[k],
        }
        for k in range(2)
    ]


def _parquet(path: Path) -> Path:
    import pandas as pd

    pd.DataFrame(_share(path)).to_parquet(path / "train.parquet")
    return path / "train.parquet"


def _arrow(path: Path) -> Path:
    import datasets

    datasets.Dataset.from_list(_share(path)).save_to_disk(path / "set")
    return path / "set"


def inspect_samples() -> list[dict[str, Any]]:
    return [
        {
            "id": k,
            "epoch": 1,
            "input": QUESTIONS[k],
            "target": [GOLD[k]],
            "messages": [
                {"role": "user", "content": QUESTIONS[k], "source": "input"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "reasoning": "attachment://t" if k else THOUGHTS[k]},
                        {"type": "text", "text": REPLIES[k]},
                    ],
                },
            ],
            "output": {"model": "far/away", "choices": [{"stop_reason": "stop"}]},
            "scores": {"match": {"value": "C"}},
            "metadata": {"level": k},
            "attachments": {"t": THOUGHTS[1]},
            "events": [{"event": "model"}],
        }
        for k in range(2)
    ]


def _inspect(path: Path) -> Path:
    header = {"version": 2, "eval": {"model": "far/away", "model_generate_config": {"temperature": 0.7, "seed": 3}}}
    with zipfile.ZipFile(path / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(header))
        for sample in inspect_samples():
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
        archive.writestr("summaries.json", "[]")
    return path / "log.eval"


def _inspect_json(path: Path) -> Path:
    content = {"version": 2, "eval": {"model": "far/away"}, "samples": inspect_samples()}
    (path / "log.json").write_text(json.dumps(content), encoding="utf-8")
    return path / "log.json"


def _anchors(path: Path) -> Path:
    root = path / "rollouts" / "far-away" / "temperature_0.6_top_p_0.95" / "correct_base_solution"
    for k in range(2):
        folder = root / f"problem_{9 + k}"
        chunk = folder / "chunk_0"
        chunk.mkdir(parents=True)
        prompt = f"Solve this. Problem: {QUESTIONS[k]} Solution: \n<think>\n"
        solution = f"{THOUGHTS[k]}\n</think>\n\n{REPLIES[k]}"
        about = {"problem": QUESTIONS[k], "gt_answer": GOLD[k], "level": "Level 5", "type": "Algebra"}
        base = {"prompt": prompt, "solution": solution, "full_cot": prompt + solution, "answer": GOLD[k]}
        rollout = {"chunk_removed": "", "rollout": solution, "full_cot": prompt + solution, "is_correct": True}
        (folder / "problem.json").write_text(json.dumps(about), encoding="utf-8")
        (folder / "base_solution.json").write_text(json.dumps({**base, "is_correct": True}), encoding="utf-8")
        (chunk / "solutions.json").write_text(json.dumps([rollout] * 3), encoding="utf-8")
    return path / "rollouts"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "reasoning_content": lambda path: _fields(path, "reasoning_content"),
    "reasoning": lambda path: _fields(path, "reasoning"),
    "thinking": lambda path: _fields(path, "thinking"),
    "tags": lambda path: _tags(path, "<think>", "</think>"),
    "other tags": lambda path: _tags(path, "[THINK]", "[/THINK]"),
    "choices": _choices,
    "parquet": _parquet,
    "arrow": _arrow,
    "inspect": _inspect,
    "inspect json": _inspect_json,
    "thought anchors": _anchors,
}
