"""Results of commands that belong to a run, those of another model that are not drawn, and the command for a missing one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.runs import Run
from dashboards.views import opened
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.errors import CotlensError
from interp.runtime.results import read_result


@dataclass(frozen=True)
class Result:
    """The file of one result.

    Attributes:
        artifact: Where it was found.
        name: What was measured, such as `causal steer`.
        model: Name of the model.
        weights: Hash of its weights.
        command: The command that measured it.
        record: What the command printed.
        details: Tables for single traces.
    """

    artifact: Artifact
    name: str
    model: str
    weights: str
    command: str
    record: dict[str, Any]
    details: dict[str, Any]


def result_of(artifact: Artifact) -> Result:
    """Return the result in a file, read once for all sessions.

    Raises:
        StoreError: The file is damaged.
    """
    content = _content(str(artifact.path), last_written(artifact.path))
    model = content["model"]
    about = content["name"], model["name"], model["weights"], content["command"]
    return Result(artifact, *about, content["result"], content["details"])


@st.cache_resource(max_entries=32, show_spinner=False)
def _content(path: str, written: int) -> dict[str, Any]:
    return read_result(Path(path))


@dataclass(frozen=True)
class ResultsOfRun:
    """The results that were found for a run.

    Attributes:
        own: Those of the run's model.
        foreign: Files in the run's folder that are of another model, or cannot be read, each with the reason.
    """

    own: tuple[Result, ...]
    foreign: tuple[tuple[Artifact, str], ...]

    def of(self, *names: str) -> list[Result]:
        """Return those of some names."""
        return [result for result in self.own if result.name in names]


def results_of(run: Run, artifact: Artifact, kind: str) -> ResultsOfRun:
    """Return every result of a kind that was found for the model of a run.

    Args:
        run: The run.
        artifact: Where it was found.
        kind: `causal test` or `text test`.
    """
    weights = weights_of(run)
    own: list[Result] = []
    foreign: list[tuple[Artifact, str]] = []
    for item in opened.found().artifacts.values():
        if item.kind != kind:
            continue
        inside = item.part_of == artifact.name
        try:
            result = result_of(item)
        except CotlensError as error:
            if inside:
                foreign.append((item, str(error)))
            continue
        if result.weights == weights:
            own.append(result)
        elif inside:
            foreign.append((item, f"it is of {result.model}, another model or other weights than this run's"))
    own.sort(key=lambda result: -last_written(result.artifact.path))
    return ResultsOfRun(tuple(own), tuple(foreign))


def weights_of(run: Run) -> str:
    """Return the hash of the weights of a run's model; empty where the run does not say."""
    if (run.path / "store" / "meta.json").exists():
        return str(run.store.meta["reasoner"]["weights"])
    return run.traces[0].weights


def choose_result(view: View, results: Sequence[Result]) -> Result:
    """Draw the choice among several results, and return the chosen one: the newest by default."""
    names = [result.artifact.name for result in results]
    if len(names) == 1:
        view.valid("result", names[0], lambda name: name in names, why_not="no such result of this run")
        return results[0]
    chosen = view.choice("Result", names, "result", why_not="no such result of this run")
    return results[names.index(chosen)]


def note_foreign(results: ResultsOfRun) -> None:
    """Say which files of the run's folder are not drawn, and why."""
    for item, reason in results.foreign:
        st.warning(as_text(f"Not drawn: {item.name}. {reason[:1].upper()}{reason[1:].rstrip('.')}."))


def model_of(run: Run) -> str:
    """Return what commands take as the model of a run."""
    return str(run.info.get("model") or run.info.get("organism") or "MODEL")


def command_for(run: Run, name: str, *words: str, traces: bool = True) -> str:
    """Return the command that measures something on a run's model and writes the result into the run's folder.

    Args:
        run: The run.
        name: Name of the file, without its ending.
        *words: The command after `cotlens`, without the model.
        traces: Whether it takes the run's traces.
    """
    group, verb, *rest = words
    command = ["cotlens", group, verb, model_of(run), *rest]
    own = run.path / "traces.parquet"
    if traces:
        command += ["--traces", str(own if own.exists() else run.path / "store" / "traces.parquet")]
    return shlex.join([*command, "--out", str(run.path / "results" / f"{name}.json")])


def missing(what: str, command: str) -> None:
    """Say that something was not measured for this run, and draw the command that measures it."""
    st.info(as_text(f"{what} was not measured for this run yet. This measures it, and the page then shows it:"))
    st.code(command, language="bash", wrap_lines=True)
