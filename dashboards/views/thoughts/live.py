"""Live edit: choose a thought and a value; the model thinks again, and the page shows what follows beside its controls."""

from __future__ import annotations

from html import escape

import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.live.editing import Arm, Edit, LiveEdit, LiveModel, command_of, python_of
from dashboards.live.reading import quick_method, why_not_again
from dashboards.runs import Run
from dashboards.views import shared
from dashboards.views.cards import themed
from dashboards.views.loaded import models
from dashboards.views.shared import as_text
from dashboards.views.thoughts.problems import EDIT
from dashboards.views.url import View, go
from interp.causal.patching.chosen import values_to_choose
from interp.causal.patching.donors import why_no_answer
from interp.errors import CotlensError
from interp.problems import task as make_task
from interp.runtime import palette

_STEP, _VALUE = "edit_step", "edit_value"
_MANY = 20  # values that are offered as buttons; more are a list
_NAMES = {
    "other value": "edited",
    "same value": "control: donor with the same value",
    "wrong site": "control: the same donor at a word of the question",
    "wrong step": "control: the same donor at another step",
    "random vector": "control: random vector of the same length",
}
_TEXT_NAMES = {
    "other value": "edited",
    "same value": "control: its own text given back",
    "wrong step": "control: the value written at another step",
}


# A choice in it draws this part again and not the whole page, which has many tables and charts.
@st.fragment
def live_edit(run: Run, view: View, trace: int, method: str) -> None:
    """Draw the choice of a thought and a value, and what the model thinks and answers after the edit.

    Args:
        run: The run.
        view: The page's controls.
        trace: Index of the trace.
        method: The decoder of the page.
    """
    st.header("Change a thought, and watch what follows")
    method, recipient = quick_method(run, method), run.traces[trace]
    task = make_task(recipient.problem.task)
    possible = {step: values_to_choose(task, recipient, step) for step in range(1, recipient.problem.n_steps + 1)}
    possible = {step: values for step, values in possible.items() if values}
    reason = why_not_again(run, method)
    if not reason and not possible:
        reason = why_no_answer([recipient]) or "no other value of a step implies another answer"
    if reason:
        view.ignore(EDIT)
        _not_here(run, reason)
        return
    edit = _chosen(view, possible)
    left, right = st.columns([2, 5], vertical_alignment="bottom")
    history = st.session_state.setdefault(f"edits {run.path} {trace}", [])
    with left:
        step = _step(run, trace, method, possible, edit, history)
    with right:
        _value(step, list(possible[step]), edit, history)
    with st.container(horizontal=True):
        st.button("Undo", disabled=not history, on_click=_undo, args=(history,), icon=":material/undo:")
        st.button("Reset", disabled=edit is None, on_click=_reset, args=(history,), icon=":material/restart_alt:")
    if edit is None:
        st.caption(
            as_text(
                f"Choose a value: the thought is exchanged for that of a problem whose step {step} has it, and the model "
                "thinks again. Its controls are thought beside it."
            )
        )
        return
    _draw(run, trace, edit, method)


def _chosen(view: View, possible: dict[int, dict[str, str]]) -> Edit | None:
    """Return the edit that the URL names; None, with a warning, where it is none that this problem allows."""

    def is_valid(text: str) -> bool:
        edit = Edit.parse(text)
        return edit is not None and edit.value in possible.get(edit.step, {})

    text = view.valid(
        EDIT,
        "",
        is_valid,
        why_not="no STEP:VALUE that changes the answer of this problem",
        shown="no edit",
    )
    return Edit.parse(text) if text else None


def _step(
    run: Run, trace: int, method: str, possible: dict[int, dict[str, str]], edit: Edit | None, history: list[str]
) -> int:
    """Draw the choice of a thought, and return its step."""
    steps = list(possible)
    wanted = edit.step if edit is not None else st.session_state.get(_STEP)
    st.session_state[_STEP] = wanted if wanted in possible else steps[0]
    problem, read = run.traces[trace].problem, run.readouts
    read = read[(read["trace"] == trace) & (read["method"] == method)].set_index("step")["text"].to_dict()

    def label(step: int) -> str:
        return f"thought {step}: {read.get(step, 'not read')} (true value {problem.steps[step - 1].value})"

    def change() -> None:
        chosen = st.session_state[_STEP]
        keeps = edit is not None and edit.value in possible[chosen]
        _set(str(Edit(chosen, edit.value)) if keeps and edit is not None else None, history)

    return int(st.selectbox("Thought to change", steps, key=_STEP, format_func=label, on_change=change))


def _value(step: int, values: list[str], edit: Edit | None, history: list[str]) -> None:
    """Draw the choice of a value; a choice is an edit."""
    st.session_state[_VALUE] = edit.value if edit is not None else None

    def change() -> None:
        value = st.session_state[_VALUE]
        _set(None if value is None else str(Edit(step, value)), history)

    label = f"Value to put at thought {step}"
    if len(values) <= _MANY:
        st.pills(label, values, key=_VALUE, on_change=change)
    else:
        st.selectbox(label, values, key=_VALUE, on_change=change, placeholder="choose a value")


def _set(edit: str | None, history: list[str]) -> None:
    """Make an edit, or none, and remember the one before."""
    before = st.query_params.get(EDIT, "")
    if before != (edit or ""):
        history.append(before)
    go(EDIT, edit)


def _undo(history: list[str]) -> None:
    go(EDIT, history.pop() or None)


def _reset(history: list[str]) -> None:
    history.clear()
    go(EDIT, None)


def _not_here(run: Run, reason: str) -> None:
    """Say why no thought can be edited, and which command tests the whole thought."""
    st.info(as_text(f"No thought of this problem can be exchanged for a value: {reason.rstrip('.')}."))
    model = str(run.info.get("model") or run.info.get("organism") or "MODEL")
    st.caption("What all thoughts together do:")
    shared.command(["cotlens", "causal", "ablate", model])


@st.cache_data(max_entries=64, show_spinner="Thinking again …")
def _edited(path: str, written: int, method: str, trace: int, edit: Edit, _run: Run) -> LiveEdit:
    key = ("live edit", path, written, method)
    return models().part(_run.store, key, lambda reasoner: LiveModel(_run, method, reasoner)).edit(trace, edit)


def _draw(run: Run, trace: int, edit: Edit, method: str) -> None:
    """Draw an edit with its controls; where it cannot be made, why."""
    try:
        result = _edited(str(run.path), last_written(run.path), method, trace, edit, run)
    except CotlensError as error:
        st.error(as_text(str(error)), icon=":material/block:")
        return
    recipient = run.traces[trace]
    first, controls = result.arms[0], result.arms[1:]
    moved = [arm for arm in controls if arm.changed and arm.name == "same value"]
    follows = [arm for arm in controls if arm.followed]
    if moved:
        st.warning(
            as_text(f"The control changed too: with the same value the answer becomes {moved[0].answer}."),
            icon=":material/warning:",
        )
    if first.followed:
        text = f"The answer becomes {first.answer}, as it must if the model uses {edit.value} from thought {edit.step}."
    else:
        text = (
            f"The answer is {first.answer}. If the model used {edit.value} from thought {edit.step} it would be "
            f"{result.predicted}."
        )
    if follows:
        n = "One control gives" if len(follows) == 1 else f"{len(follows)} controls give"
        text += f" {n} that answer as well, so this edit alone says little."
    st.markdown(f"**{as_text(text)}**")
    st.html(themed(_table(result, recipient.problem.n_steps, recipient.problem.answer)))
    is_text = not result.address
    st.caption(as_text(_how(run, result, is_text)))
    shared.copy_as(
        shared.opening(run) + python_of(run, trace, edit, method, text=is_text),
        command_of(run, trace, edit, method, text=is_text),
    )


def _how(run: Run, result: LiveEdit, is_text: bool) -> str:
    how = (
        "The word is written over, and the model goes on in its own words."
        if is_text
        else f"Exchanged at {result.address}, where the {palette.label(result.method)} reads it."
    )
    rates = run.info.get("interchange") or {}
    over = ""
    if rates.get("follow_rate") is not None and not is_text:
        low, high = rates["ci"]
        over = (
            f" Over {rates['n']} edits of this run, {rates['follow_rate']:.3f} [{low:.3f}, {high:.3f}] of answers follow; with "
            f"the same value {rates['same_value_change_rate']:.3f} change."
        )
    return (
        f"{how}{over} Values are the {palette.label(result.method)}'s, faded and hatched where its own score is below a half. "
        f"One edit is an example and no rate. Thinking and reading took {result.seconds:.2f} s."
    )


def _table(result: LiveEdit, n_steps: int, gold: str) -> str:
    """Return HTML: one row for the model without edit, one for the edit, and one for each control."""
    head = "".join(f"<th scope='col'>thought {k}</th>" for k in range(1, n_steps + 1))
    rows = [_row("without an edit", result.own, result, n_steps, f"true answer {escape(gold)}")]
    for number, arm in enumerate(result.arms):
        rows.append(_row(_title(arm, result), arm, result, n_steps, _verdict(arm, result), chosen=number == 0))
    return (
        f"<div class='cot-scroll'><table class='cot-edit'><thead><tr><th scope='col'>thinks</th>{head}"
        f"<th scope='col'>answers</th><th scope='col'>compare</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _title(arm: Arm, result: LiveEdit) -> str:
    names = _NAMES if result.address else _TEXT_NAMES
    title = names.get(arm.name, arm.name)
    if arm.name == "other value":
        title = f"edited: thought {result.edit.step} becomes {result.edit.value}"
    where = f" ({arm.where})" if arm.step is None and arm.where else ""
    donor = f"<br><span class='cot-soft'>donor <code>{escape(arm.donor)}</code></span>" if arm.donor else ""
    return f"{escape(title)}{escape(where)}{donor}"


def _verdict(arm: Arm, result: LiveEdit) -> str:
    if arm.name == "other value":
        mark = "<span class='cot-yes'>✓</span>" if arm.followed else "<span class='cot-no'>✗</span>"
        return f"{mark} if used: <b>{escape(result.predicted)}</b>"
    if arm.name == "same value":
        if arm.changed:
            return "<span class='cot-no'>✗ should change nothing</span>"
        return "<span class='cot-yes'>✓ changes nothing</span>"
    if arm.followed:
        return "<span class='cot-no'>✗ gives that answer too</span>"
    return f"<span class='cot-yes'>✓ not {escape(result.predicted)}</span>"


def _row(title: str, arm: Arm, result: LiveEdit, n_steps: int, verdict: str, *, chosen: bool = False) -> str:
    cells = []
    for step in range(1, n_steps + 1):
        text, score = arm.read.get(step, ("–", 0.0))
        if arm.step == step and arm.name != "random vector" and arm.value:
            cells.append(f"<td class='cot-set'><b>{escape(arm.value)}</b><br><small>put here</small></td>")
            continue
        if arm.step == step:
            cells.append("<td class='cot-set'><small>put here</small></td>")
            continue
        own = result.own.read.get(step, (text, 0.0))[0]
        classes = " ".join(filter(None, ("cot-unsure" if score < 0.5 else "", "cot-moved" if text != own else "")))
        cells.append(
            f"<td class='{classes}'><span>{escape(text)}</span><br><small>{_score(score)}"
            f"{', was ' + escape(own) if text != own else ''}</small></td>"
        )
    answer = f"<td class='cot-answer'><b>{escape(arm.answer or 'nothing')}</b></td>"
    label = "cot-chosen" if chosen else ""
    return f"<tr class='{label}'><th scope='row'>{title}</th>{''.join(cells)}{answer}<td>{verdict}</td></tr>"


def _score(score: float) -> str:
    return f"score {score:.2f}" if score < 0.995 else "score over 0.99" if score < 1 else "score 1.00"
