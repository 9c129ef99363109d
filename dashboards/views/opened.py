"""What there is to show, the choice of one of them on each page, and what a page says where it cannot be drawn."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from dashboards.artifacts.facts import FINISHED, REPAIRS, WHOLE_RUN, WHOLE_STORE, Facts, facts_of
from dashboards.artifacts.finding import Artifact, Found, find_artifacts, last_written, size_of
from dashboards.artifacts.trace_file import TraceFile
from dashboards.describe import run_command, study_of
from dashboards.launch import roots_of_environment
from dashboards.pages import pages_of
from dashboards.run_info import read_info
from dashboards.runs import Run
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.errors import CotlensError, StoreError

# Seconds until new files are looked for.
_FRESH = 10
# What the commands are for that make an artifact usable; others make something of it.


def found() -> Found:
    """Return everything below the folders that the dashboard was started with."""
    return _found(tuple(map(str, roots_of_environment())))


@st.cache_resource(ttl=_FRESH, max_entries=2, show_spinner="Looking for runs, stores and traces …")
def _found(roots: tuple[str, ...]) -> Found:
    return find_artifacts([Path(root) for root in roots])


def facts(artifact: Artifact) -> Facts:
    """Return what is known of an artifact; read again when it was written again."""
    return _facts(str(artifact.path), last_written(artifact.path), artifact)


@st.cache_resource(max_entries=2000, show_spinner=False)
def _facts(path: str, written: int, _artifact: Artifact) -> Facts:
    return facts_of(_artifact)


def size(artifact: Artifact) -> int:
    """Return the bytes on disk of an artifact."""
    return _size(str(artifact.path), last_written(artifact.path))


@st.cache_resource(max_entries=2000, show_spinner=False)
def _size(path: str, written: int) -> int:
    return size_of(Path(path))


def choose(view: View, page: str) -> Artifact | None:
    """Draw the choice of what the page shows, and return it; None where there is nothing that it can show.

    Args:
        view: The page's controls.
        page: Name of the page's module.
    """
    everything = found().artifacts
    able = {name: item for name, item in everything.items() if page in pages_of(item.kind)}
    if not able:
        view.ignore("open")
        return None

    def nearest(name: str) -> str:
        related = showable(page, name)
        if related is not None:
            return related
        return next(iter(difflib.get_close_matches(name, able, n=1)), usual(list(able.values())).name)

    return able[view.opened(list(able), usual(list(able.values())).name, nearest=nearest, page=page)]


def showable(page: str, name: str | None) -> str | None:
    """Return what a link to a page is to name.

    It is what is shown now, else the run around it, else a part of that run; None where the page can show none of them.

    Args:
        page: Name of the page's module.
        name: Name of what is shown now; None where there is none.
    """
    everything = found().artifacts
    item = everything.get(name or "")
    if item is None:
        return None
    run = everything.get(item.part_of, item)
    parts = [part for part in everything.values() if part.part_of == run.name]
    for near in ([item], [run], parts):
        able = [one for one in near if page == "home" or page in pages_of(one.kind)]
        if able:
            return usual(able).name
    return None


def usual(artifacts: Sequence[Artifact]) -> Artifact:
    """Return what to show where nothing was asked for: the newest that can be shown and is no part of another."""
    order = sorted(artifacts, key=lambda item: (bool(item.part_of), item.kind != "run", -last_written(item.path)))
    return next((item for item in order if facts(item).can_be_shown), order[0])


def with_artifact(view: View, page: str, body: Callable[[Artifact], None]) -> None:
    """Call `body` with what the page shows; where that fails, show the error and the command that helps.

    Args:
        view: The page's controls.
        page: Name of the page's module.
        body: Draws the page.
    """
    artifact = choose(view, page)
    if artifact is None:
        _nothing()
    else:
        guarded(artifact, lambda: body(artifact))


def guarded(artifact: Artifact, body: Callable[[], None]) -> None:
    """Call `body`; where that fails, show the error and the command that helps.

    `with_artifact` does so for a page. A fragment needs it too: it is drawn again without the page around it.

    Args:
        artifact: What is drawn.
        body: Draws it.
    """
    try:
        body()
    except CotlensError as error:
        repair = error.repair if isinstance(error, StoreError) else ""
        _failed(str(error), artifact, unusable=isinstance(error, StoreError), repair=repair)
    except Exception as error:
        if os.environ.get("COTLENS_DEBUG"):
            raise
        detail = str(error).strip().splitlines()[0] if str(error).strip() else ""
        _failed(
            f"this page cannot be drawn from {artifact.name} ({type(error).__name__}: {detail}). It is damaged, or another "
            "version made it. Set COTLENS_DEBUG=1 to see where.",
            artifact,
            unusable=True,
        )


def with_run(view: View, page: str, body: Callable[[Run], None]) -> None:
    """Call `body` with the run that the page shows; where that fails, show the error and the command that helps."""
    with_artifact(view, page, lambda artifact: body(run_of(artifact.path)))


def run_of(path: Path) -> Run:
    """Return a run, opened once for all sessions; one that was made again is opened again."""
    return _run(str(path), last_written(path))


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _run(path: str, written: int) -> Run:
    return Run(path)


def traces_of(artifact: Artifact) -> TraceFile:
    """Return the traces of a run, a store or a file of them, opened once for all sessions."""
    path = artifact.path
    if path.is_dir():
        own = path / "traces.parquet"
        path = own if own.exists() else path / "store" / "traces.parquet"
    return trace_file(path)


def trace_file(path: Path) -> TraceFile:
    """Return a file of traces, opened once for all sessions; one that was written again is opened again."""
    return _traces(str(path), last_written(path))


@st.cache_resource(max_entries=4, show_spinner="Reading the traces …")
def _traces(path: str, written: int) -> TraceFile:
    return TraceFile(Path(path))


def _nothing() -> None:
    """Say that there is nothing that the page could show, and how to make it."""
    roots = roots_of_environment()
    st.info(as_text(f"There is nothing for this page in {', '.join(map(str, roots))} yet. Make it with:"))
    st.code("\n".join(commands_for(roots)), language="bash", wrap_lines=True)


def commands_for(roots: Sequence[Path]) -> list[str]:
    """Return the commands that make a run: a study of the stores and traces that are there, or the demo."""
    made_of = [
        item.path for item in found().artifacts.values() if item.kind in ("traces", "store") and not item.part_of
    ]
    studies = [command for command in map(study_of, made_of[:3]) if command]
    folder = roots[0] if roots[0].suffix != ".parquet" else roots[0].parent
    out = folder if not folder.exists() else folder / "demo-chain-coconut"
    return studies or [shlex.join(["cotlens", "demo", "--out", str(out)])]


def draw_command_for_activations(artifact: Artifact) -> None:
    """Draw the command that gives an artifact the activations that it lacks; nothing where none is known."""
    for what, command in facts(artifact).next:
        if what == "activations" or what in REPAIRS:
            st.caption(as_text(f"For {what}:"))
            st.code(command, language="bash", wrap_lines=True)
            return


def _failed(message: str, artifact: Artifact, *, unusable: bool, repair: str = "") -> None:
    """Draw an error, and the command that helps where the artifact is of no use: the one that Home shows, where it does."""
    st.error(as_text(message), icon=":material/folder_off:")
    if not unusable:
        return
    run = found().artifacts.get(artifact.part_of, artifact)
    known = [(WHOLE_STORE, repair)] if repair else [*facts(artifact).next, *facts(run).next]
    repairs = [(what, command) for what, command in known if what in REPAIRS]
    if not repairs and run.kind == "run":
        repairs = [(WHOLE_RUN, run_command(run.path, _options(run.path)))]
    if repairs:
        what, command = repairs[0]
        st.write("To finish it:" if what == FINISHED else f"For {what}:")
        st.code(command, language="bash", wrap_lines=True)


def _options(folder: Path) -> dict[str, object]:
    """Return the options in `run.json`; none where it cannot be read."""
    try:
        return read_info(folder)
    except (StoreError, FileNotFoundError):
        return {}
