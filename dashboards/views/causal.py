"""Causal: whether the model uses what was read. Each test of a run stands beside its controls; graphs can be walked through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from dashboards.artifacts.finding import CAUSAL, Artifact
from dashboards.describe import run_command
from dashboards.runs import Run
from dashboards.stages import has_counterfactuals
from dashboards.views import opened, shared
from dashboards.views.effects import panels
from dashboards.views.effects.graph import show_graph
from dashboards.views.effects.results import (
    ResultsOfRun,
    choose_result,
    command_for,
    missing,
    model_of,
    note_foreign,
    result_of,
    results_of,
)
from dashboards.views.shared import as_text
from dashboards.views.url import View, page_link
from interp.causal.interchanges.results import InterchangeResult

_PLACES = ("result", "length", "node", "pins", "group", "top")


@dataclass(frozen=True)
class Test:
    """A causal test that the page shows.

    Attributes:
        title: Its name in the choice.
        result: Name of its results (`Result.name`).
        draw: Draws what the command printed.
        words: The command that measures it, without the model.
        file: Name of the file that the suggested command writes.
        traces: Whether the command takes the run's traces.
    """

    title: str
    result: str
    draw: Callable[[dict[str, Any], View], None]
    words: tuple[str, ...]
    file: str
    traces: bool = True


TESTS = {
    "interchange": Test(
        "Interchange: one thought exchanged",
        "causal interchange",
        panels.interchange,
        ("causal", "interchange"),
        "interchange",
    ),
    "layers": Test(
        "Layer map: where an exchange is followed",
        "causal layer map",
        panels.layer_map,
        ("causal", "interchange", "--map"),
        "layer-map",
    ),
    "used": Test(
        "Used map: which thought carries which value",
        "causal used map",
        panels.used_map,
        ("causal", "interchange", "--used-map"),
        "used-map",
    ),
    "ablation": Test(
        "Ablation: all thoughts replaced", "causal ablate", panels.ablation, ("causal", "ablate"), "ablate"
    ),
    "steering": Test(
        "Steering: dose and response", "causal steer", panels.steering, ("causal", "steer"), "steer", False
    ),
    "swap": Test(
        "Swap: one model reads another's reasoning",
        "causal swap",
        lambda record, view: panels.swaps([record], view),
        ("causal", "swap"),
        "swap",
    ),
    "graphs": Test("Attribution graphs", "", lambda record, view: None, ("causal", "attribute"), "graphs"),
}


def show() -> None:
    """Draw the page."""
    st.title("Causal")
    view = View()
    opened.with_artifact(view, "causal", partial(_page, view=view))


def _page(artifact: Artifact, view: View) -> None:
    if artifact.kind == "graph":
        show_graph(artifact.path, view)
        view.check_rest()
        return
    if artifact.kind == CAUSAL:
        _result(artifact, view)
        return
    run = opened.run_of(artifact.path)
    shared.run_caption(run)
    results = results_of(run, artifact, CAUSAL)
    name = view.choice(
        "Test",
        list(TESTS),
        "test",
        default=_usual(run, results),
        label_of=lambda key: TESTS[key].title if key in TESTS else key,
        why_not="no test of this page",
    )
    for key in _PLACES:
        view.ignore(key)
    note_foreign(results)
    if name == "graphs":
        _graphs(run, artifact)
    elif name == "swap":
        _swaps(run, results, view)
    else:
        _test(run, TESTS[name], results, view)
    view.check_rest()


def _result(artifact: Artifact, view: View) -> None:
    """Draw the file of one result."""
    result = result_of(artifact)
    st.caption(as_text(f"{result.model} · {result.name} · {artifact.path}"))
    test = next((test for test in TESTS.values() if test.result == result.name), None)
    if test is None:
        st.info(as_text(f"No panel draws the result of {result.name}; this prints it:"))
    else:
        test.draw(result.record, view)
    view.check_rest()
    _made(result.command, str(artifact.path))


def _made(command: str, path: str) -> None:
    st.header("Code")
    shared.copy_as(
        f"from pathlib import Path\n\nfrom interp.runtime.results import read_result\n\nread_result(Path({path!r}))['result']",
        command,
    )


def _test(run: Run, test: Test, results: ResultsOfRun, view: View) -> None:
    """Draw one test of a run: what a command measured, else what the study did, else the command for it."""
    of_test = results.of(test.result)
    command = command_for(run, test.file, *test.words, traces=test.traces)
    own = _of_study(run, test)
    if of_test:
        result = choose_result(view, of_test)
        test.draw(result.record, view)
        _made(result.command, str(result.artifact.path))
    elif own is not None:
        test.draw(own, view)
        st.caption(
            as_text("Measured by the study itself, where the decoder read each step. The same by a command of its own:")
        )
        st.code(command, language="bash", wrap_lines=True)
        shared.copy_as(
            f"{shared.opening(run)}run.info[{test.words[1]!r}]" if test.words[1] in run.info else shared.opening(run),
            run_command(run.path, run.info),
        )
    else:
        why = run.skipped("interchange") if test.file == "interchange" else None
        if why:
            st.info(as_text(f"The study made no interchange: {why}"))
        if test.file == "interchange" and not has_counterfactuals(run.traces):
            return  # the command could not make one either
        missing(test.title.partition(":")[0], command)


def _usual(run: Run, results: ResultsOfRun) -> str:
    """Return the first test that was measured; the first of all where none was."""
    measured = (name for name, test in TESTS.items() if results.of(test.result) or _of_study(run, test) is not None)
    return next(measured, next(iter(TESTS)))


def _of_study(run: Run, test: Test) -> dict[str, Any] | None:
    """Return what the study itself measured of a test; None where it did not."""
    if test.file == "interchange" and len(run.interchange):
        about = run.info["interchange"] or {}
        result = InterchangeResult(run.interchange, str(about.get("site", "")), "read-outs", about.get("method"))
        return panels.rates_of(result)
    ablated = run.info.get("ablation")
    return {"arms": ablated["arms"]} if test.file == "ablate" and ablated and ablated.get("arms") else None


def _swaps(run: Run, results: ResultsOfRun, view: View) -> None:
    """Draw every swap in which the run's model reads, as matrices."""
    swaps = results.of("causal swap")
    if not swaps:
        model = model_of(run)
        writer = "chain-text" if model != "chain-text" else "chain-restated"
        missing(
            "A swap", command_for(run, "swap", "causal", "swap", traces=False).replace(model, f"{model} {writer}", 1)
        )
        return
    panels.swaps([swap.record for swap in swaps], view)
    _made("\n".join(swap.command for swap in swaps), str(swaps[0].artifact.path))


def _graphs(run: Run, artifact: Artifact) -> None:
    """Draw links to the graphs that were found, those of the run first."""
    graphs = [item for item in opened.found().artifacts.values() if item.kind == "graph"]
    graphs.sort(key=lambda item: item.part_of != artifact.name)
    if graphs:
        st.write(
            "Attribution graphs of single answers: which tokens and features a logit comes from, with error nodes."
        )
        for item in graphs[:30]:
            facts = opened.facts(item)
            page_link(
                "causal",
                item.name,
                as_text(f"{item.name}: {facts.what}" + (f", of {facts.model}" if facts.model else "")),
            )
        if len(graphs) > 30:
            st.caption(f"{len(graphs) - 30} more are in the choice above.")
        st.caption("More of them:")
    else:
        st.info("No attribution graph was found. This makes some, and tests their paths by intervention:")
    folder = run.path / "graphs"
    shared.command(["cotlens", "causal", "attribute", model_of(run), "--neurons", "40", "--out", folder])
