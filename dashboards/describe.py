"""What pages, report and messages say of a run: how its model thinks, and the command that makes it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from interp.errors import counted

HOW_IT_THINKS = {
    "continuous": "The model writes nothing between question and answer: each step is one hidden state, fed back as "
    "the next input.",
    "pause": "The model writes nothing between question and answer: each step has a pause token, and nothing is fed "
    "back.",
    "thinking-tokens": "The model writes nothing between question and answer: each step has a special token of its own.",
    "recurrent": "The model writes nothing between question and answer: it iterates some of its layers at one position.",
    "concepts": "The model thinks in embeddings of whole steps, one for each step, and writes nothing in between.",
    "self-reasoning": "The model writes its steps as text, with silent reasoning tokens in between.",
    "text": "The model writes its steps as text.",
    "direct": "The model answers straight after the question, without thinking.",
}


def how_it_thinks(info: dict[str, Any]) -> str:
    """Return a sentence on how the model of a run thinks; empty for kinds of other packages."""
    return HOW_IT_THINKS.get(info.get("kind", ""), "")


def title_of(info: dict[str, Any]) -> str:
    """Return the title of a run: its model's thoughts, or its answers where it thinks none."""
    return f"The {'answers' if info.get('kind') == 'direct' else 'thoughts'} of {model_name(info)}"


def model_name(info: dict[str, Any]) -> str:
    """Return the name of a run's model, as titles show it."""
    name = str(info.get("name") or info.get("organism") or info.get("model"))
    return Path(name).name if name.startswith((".", "/", "~")) else name


def problems_of(info: dict[str, Any]) -> str:
    """Return which problems a run is about, in words."""
    name, _, path = str(info["task"]).partition(":path=")
    if name == "questions":
        return f"{counted(info['n_problems'], 'question')} of {info.get('questions') or path}"
    seed = "" if info.get("seed") is None else f", seed {info['seed']}"
    return f"{counted(info['n_problems'], 'problem')} of task {info['task']}{seed}"


def run_command(folder: Path | None, info: dict[str, Any]) -> str:
    """Return the command that makes or resumes a run.

    Args:
        folder: Folder of the run.
        info: The content of its run.json; empty where there is none.
    """
    if info.get("model") is not None:
        return _study_command(folder, info)
    parts = ["cotlens", "demo"]
    if info.get("compared_with") and folder is not None:
        folder, info = folder.parent.parent, info | {"organism": info["compared_with"]}
    if folder is not None:
        parts += ["--out", str(folder)]
    for option, key in (("--organism", "organism"), ("--n", "n_problems"), ("--seed", "seed")):
        if info.get(key) is not None:
            parts += [option, str(info[key])]
    return shlex.join(parts)


def _study_command(folder: Path | None, info: dict[str, Any]) -> str:
    parts = ["cotlens", "study", str(info["model"])]
    if info.get("questions"):
        parts += ["--questions", str(info["questions"])]
    elif info.get("traces"):
        parts += ["--traces", str(info["traces"])]
    elif info.get("task"):
        parts += ["--task", str(info["task"])]
    if folder is not None:
        parts += ["--out", str(folder)]
    for option, key in (("--n", "n"), ("--seed", "seed")):
        if info.get(key) is not None:
            parts += [option, str(info[key])]
    for key, value in (info.get("options") or {}).items():
        name = "--" + key.replace("_", "-")
        if value is True:
            parts += [name]
        elif value is False:
            parts += ["--no-" + key.replace("_", "-")]
        elif value is not None:
            parts += [name, str(value)]
    return shlex.join(parts)


def slug(*names: str | Path | None) -> str:
    """Return a folder name made of the names of some inputs: the last part of a path, without characters of a shell."""
    words = [re.sub(r"[^\w.+-]+", "-", str(name)).strip("-.") for name in names if name]
    return "-".join(word for word in words if word)[:120] or "run"


def study_of(folder: Path) -> str | None:
    """Return the study command for a store or a traces file; None where there is neither."""
    made_of = _store(folder) or _traces(folder)
    if made_of is None:
        return None
    model, task, n = made_of
    parts = ["cotlens", "study", model]
    name, _, path = task.partition(":path=")
    parts += ["--questions", path] if name == "questions" and path else ["--task", task, "--n", str(n)]
    out = folder.resolve().parent / f"study-{slug(folder.resolve().stem)}"
    return shlex.join([*parts, "--out", str(out)])


def _store(folder: Path) -> tuple[str, str, int] | None:
    from interp.activations import Store
    from interp.errors import CotlensError

    if not (folder / "meta.json").is_file():
        return None
    try:
        store = Store(folder)
        origin = store.meta.get("origin", {})
        traces = store.traces
        return str(origin.get("source", store.meta["reasoner"]["name"])), traces[0].problem.task, len(traces)
    except (CotlensError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _traces(path: Path) -> tuple[str, str, int] | None:
    from interp.errors import CotlensError
    from interp.traces import TraceSet

    if not path.is_file():
        return None
    try:
        traces = TraceSet.from_parquet(path)
        return traces[0].reasoner, traces[0].problem.task, len(traces)
    except (CotlensError, IndexError):
        return None
