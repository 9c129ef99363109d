"""Jobs: start a command of this toolkit from a form, watch it, cancel it, and run it again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.jobs.forms import KINDS, Field, fields_of, words_of
from dashboards.jobs.log import progress_of, tail
from dashboards.jobs.models import known_models
from dashboards.jobs.process import FOLDER, Job, cancel_job, jobs_of, read_job, resume_job, start_job
from dashboards.jobs.worker import LOG
from dashboards.launch import roots_of_environment
from dashboards.views import opened
from dashboards.views.shared import as_text
from dashboards.views.url import View, go
from interp.errors import CotlensError, UsageError

#: Fields that name something that this toolkit wrote, with its kinds.
_ARTIFACTS = {"store": ("store",), "traces": ("traces", "run", "store"), "random_init": ("store",)}
#: Fields that name a model.
_MODELS = ("model", "base")
_OWN = ("job", "name", "open")  # parameters of the URL that are no fields of a form
_TYPED = "another path"
_REFRESH = 2.0  # seconds between two looks at a running job


def show() -> None:
    """Draw the page."""
    st.title("Jobs")
    view = View()
    view.ignore("open")
    roots = roots_of_environment()
    folders = [root for root in roots if root.is_dir()]
    if not folders:
        st.info("Jobs write into a folder, and this dashboard shows single files. Start it over a folder:")
        st.code("cotlens dash runs", language="bash", wrap_lines=True)
        view.ignore("job")
        view.ignore("name")
        view.check_rest()
        return
    root = folders[0]
    try:
        _form(root, roots, view)
        _list(root, view)
    except CotlensError as error:
        st.error(as_text(str(error)), icon=":material/block:")
    view.check_rest()


def _form(root: Path, roots: list[Path], view: View) -> None:
    """Draw the form of a command, and the button that starts it."""
    st.header("Start a job")
    kind = view.choice("What", list(KINDS), "job", label_of=lambda name: KINDS[name].title, why_not="no job here")
    st.caption(as_text(f"Jobs read and write only below {', '.join(map(str, roots))}. Relative paths begin at {root}."))
    fields = fields_of(kind)
    first = [field for field in fields if field.required or field.name == "out"]
    values: dict[str, str | bool] = {}
    for field, column in zip(first, st.columns(max(len(first), 1), vertical_alignment="bottom"), strict=False):
        with column:
            values[field.name] = _value(field, kind, root, view)
    with st.expander(f"{len(fields) - len(first)} more options", icon=":material/tune:"):
        columns = st.columns(3, vertical_alignment="bottom")
        for number, field in enumerate(field for field in fields if field not in first):
            with columns[number % 3]:
                values[field.name] = _value(field, kind, root, view)
    try:
        words = words_of(kind, values, root, roots)
    except UsageError as error:
        st.info(as_text(str(error)), icon=":material/edit:")
        st.button("Start", disabled=True, icon=":material/play_arrow:")
        return
    st.caption("The same as a command")
    job = Job(root, kind, tuple(words), "", "", None, "")
    st.code(job.command, language="bash", wrap_lines=True)
    if st.button("Start", type="primary", icon=":material/play_arrow:"):
        go("name", start_job(root, kind, words).name)
        st.rerun()


def _value(field: Field, kind: str, root: Path, view: View) -> str | bool:
    """Draw the control of one field, and return what it holds."""
    key = f"{field.name}_" if field.name in _OWN else field.name
    if field.is_flag:
        return view.flag(field.label, key, help=field.help)
    if field.name in _ARTIFACTS:
        paths = _artifacts(field)
        names = [*([] if field.required and paths else [""]), *paths, _TYPED]
        chosen = view.choice(
            field.label, names, key, label_of=lambda name: name or "none", why_not="not here", help=field.help
        )
        if chosen != _TYPED:
            view.ignore(f"{key}_path")
            return paths.get(chosen, "")
        return view.text(f"{field.label}, path", f"{key}_path")
    if field.name in _MODELS:
        return view.suggested(field.label, key, _models(), help=field.help)
    usual = _free(root, kind) if field.name == "out" else field.default
    typed = view.text(field.label, key, placeholder=usual, help=field.help)
    return typed or (usual if field.name == "out" else "")


def _models() -> dict[str, str]:
    """Return the models that the list offers, read again when files came or went."""
    items = tuple(opened.found().artifacts.values())
    return _known_models(tuple((item.name, last_written(item.path)) for item in items), items)


@st.cache_resource(max_entries=4, show_spinner=False)
def _known_models(written: tuple[tuple[str, int], ...], _items: tuple[Artifact, ...]) -> dict[str, str]:
    return known_models(_items, roots_of_environment())


def _artifacts(field: Field) -> dict[str, str]:
    """Return the paths of what a field can name, by the name that pages use."""
    paths = {}
    for item in opened.found().artifacts.values():
        if item.kind in _ARTIFACTS[field.name]:
            traces = item.path / "traces.parquet"
            is_file = field.name != "traces" or item.kind == "traces"
            if is_file or traces.exists():
                paths[item.name] = str(item.path if is_file else traces)
    return paths


def _free(root: Path, kind: str) -> str:
    """Return a name below the folder that nothing has yet."""
    return next(name for name in (f"{kind}-{number}" for number in range(1, 10_000)) if not (root / name).exists())


def _list(root: Path, view: View) -> None:
    """Draw the jobs there are, and the chosen one."""
    st.header("Jobs there are")
    jobs = jobs_of(root)
    names = [job.name for job in jobs]
    if not jobs:
        view.ignore("name")
        st.caption(as_text(f"None yet. Each gets a folder in {root / FOLDER}, with its command and its log."))
        return
    name = view.valid("name", names[0], lambda text: text in names, why_not="no job here")
    frame = pd.DataFrame(
        [(job.name, KINDS[job.kind].title if job.kind in KINDS else job.kind, job.state, job.ended) for job in jobs],
        columns=["job", "what", "state", "ended"],
    )
    st.dataframe(
        frame,
        key="job_list",
        hide_index=True,
        placeholder="–",
        height=min(36 * (len(frame) + 1), 260),
        on_select=lambda: _select(names),
        selection_mode="single-row",
        alt="Jobs with their state",
    )
    job = next(job for job in jobs if job.name == name)
    # Drawn again by itself for as long as the job runs.
    st.fragment(_job, run_every=_REFRESH if job.is_running else None)(job.folder, was_running=job.is_running)


def _select(names: list[str]) -> None:
    rows = st.session_state["job_list"].selection.rows
    go("name", names[rows[0]] if rows and rows[0] < len(names) else None)


def _job(folder: Path, *, was_running: bool) -> None:
    """Draw one job: its state, how far it is, its log, and what can be done with it."""
    try:
        job = read_job(folder)
    except CotlensError as error:
        st.error(as_text(str(error)))
        return
    if was_running and not job.is_running:
        st.rerun()
    st.subheader(as_text(f"{job.name}: {job.state}"))
    log = tail(folder / LOG)
    progress = progress_of(log) if job.is_running else None
    if progress:
        rest = f", {progress.note}" + " in this stage" * progress.note.endswith("left") if progress.note else ""
        st.progress(
            min(progress.done / max(progress.total, 1), 1.0),
            text=as_text(f"{progress.stage}: {progress.done} of {progress.total}{rest}"),
        )
    elif job.is_running:
        st.caption("How long it takes is not known in this stage.")
    st.caption("Command")
    st.code(job.command, language="bash", wrap_lines=True)
    with st.container(horizontal=True):
        if job.state == "running":
            st.button("Cancel", key=f"cancel_{job.name}", on_click=cancel_job, args=(job,), icon=":material/stop:")
            st.button("End at once", key=f"kill_{job.name}", on_click=cancel_job, args=(job,), kwargs={"force": True})
        else:
            st.button(
                "Run it again", key=f"again_{job.name}", on_click=resume_job, args=(job,), icon=":material/replay:"
            )
    if not job.is_running and job.state != "finished":
        st.caption("Run again, it goes on where it was.")
    st.caption("The end of its log")
    st.code(log or "Nothing yet.", language=None, wrap_lines=True)
