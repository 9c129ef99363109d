"""Live edits: a thought is exchanged on the page, the model answers again, and its controls stand beside it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards.live.editing import Edit, LiveModel, place_of
from dashboards.live.reading import ThoughtReader
from dashboards.runs import Run
from interp.causal.patching.chosen import values_to_choose
from interp.errors import StoreError, UsageError
from interp.problems import task as make_task

Open = Callable[..., AppTest]
EDITED = "class='cot-chosen'"  # the row of an edit in the table


@pytest.fixture
def view(demo_run: Path, open_view: Open) -> Open:
    """Open the page of thoughts over a run with these query parameters."""

    def draw(run: Path = demo_run, **params: str) -> AppTest:
        st.cache_data.clear()
        return open_view("latents", run, **params)

    return draw


def html(at: AppTest) -> str:
    return "".join(element.proto.body for element in at.get("html"))


def said(at: AppTest) -> str:
    kinds = ("title", "header", "markdown", "caption", "info", "warning", "error", "success")
    words = [element.value for kind in kinds for element in at.get(kind)]
    return re.sub(r"\\(.)", r"\1", "\n".join(words).replace("\u2060", ""))


def rows(at: AppTest) -> list[str]:
    """The rows of the table of edits, as text."""
    table = re.search(r"<table class='cot-edit'>.*?</table>", html(at), re.DOTALL)
    assert table
    rows = [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr.*?</tr>", table[0])][1:]
    return [" ".join(row.split()) for row in rows]


def first_edit(run: Path) -> tuple[int, Edit, str]:
    """A problem of the run, an edit of its first thought, and the answer that must follow."""
    made = Run(run)
    trace = int(made.thoughts("probe")["trace"].iloc[0])
    recipient = made.traces[trace]
    value, answer = next(iter(values_to_choose(make_task(recipient.problem.task), recipient, 1).items()))
    return trace, Edit(1, value), answer


def test_an_edit_in_the_url_is_made_with_its_controls(view: Open, demo_run: Path) -> None:
    trace, edit, answer = first_edit(demo_run)
    at = view(problem=str(trace), edit=str(edit))
    assert not at.error and not at.warning
    own, edited, same, *others = rows(at)
    assert f"thought 1 becomes {edit.value}" in edited and f"if used: {answer}" in edited
    assert Run(demo_run).traces[trace].answer in own
    assert "changes nothing" in same and "same value" in same
    assert len(others) == 3 and all("control" in row for row in others)
    assert f"The answer becomes {answer}, as it must" in said(at)


def test_a_choice_writes_the_url_and_undo_goes_back(view: Open, demo_run: Path) -> None:
    trace, edit, _ = first_edit(demo_run)
    at = view(problem=str(trace))
    assert EDITED not in html(at)
    at.selectbox(key="edit_step").set_value(edit.step).run()
    at.button_group(key="edit_value").set_value(edit.value).run()
    assert at.query_params["edit"] == str(edit) and EDITED in html(at)
    (undo,) = [button for button in at.button if button.label == "Undo"]
    undo.click().run()
    assert "edit" not in at.query_params and EDITED not in html(at)


def test_another_problem_is_shown_without_the_edit(view: Open, demo_run: Path) -> None:
    trace, edit, _ = first_edit(demo_run)
    at = view(problem=str(trace), edit=str(edit))
    (following,) = [button for button in at.button if button.label == "Next"]
    following.click().run()
    assert "edit" not in at.query_params and not at.warning


@pytest.mark.parametrize("wrong", ["1", "99:1", "1:nonsense", "x:1", ":", "1:"])
def test_an_edit_that_cannot_be_made_is_reported(view: Open, wrong: str) -> None:
    at = view(edit=wrong)
    assert len(at.warning) == 1 and f"edit={wrong}" in said(at) and "Shown instead: no edit" in said(at)


def test_the_python_beside_an_edit_makes_it(view: Open, demo_run: Path) -> None:
    trace, edit, answer = first_edit(demo_run)
    at = view(problem=str(trace), edit=str(edit))
    (code,) = [c.value for c in at.code if c.language == "python" and "edit_thought" in c.value]
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["edit"].outcome("other value")["answer_after"] == answer


def test_the_command_beside_an_edit_makes_it(view: Open, demo_run: Path, cotlens: Any) -> None:
    trace, edit, answer = first_edit(demo_run)
    at = view(problem=str(trace), edit=str(edit))
    (command,) = [c.value for c in at.code if c.value.startswith("cotlens causal edit")]
    record = json.loads(cotlens(*shlex.split(command)[1:], "--json").out)
    assert record["predicted"] == answer and record["edits"][0]["answer_after"] == answer
    old = cotlens(*shlex.split(command.replace("--change", "--edit"))[1:], "--json")
    assert json.loads(old.out) == record and "--edit is now --change" in old.err


def test_without_a_store_the_page_says_why(view: Open, demo_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(demo_run, tmp_path / "own"))
    shutil.rmtree(run / "store")
    at = view(run)
    assert "keeps no activations" in said(at) and not at.error
    assert any(code.value.startswith("cotlens causal ablate") for code in at.code)


def test_a_run_of_another_model_is_refused(view: Open, demo_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(demo_run, tmp_path / "own"))
    meta = json.loads((run / "store" / "meta.json").read_text(encoding="utf-8"))
    meta["reasoner"]["weights"] = "0" * 64
    (run / "store" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    trace, edit, _ = first_edit(demo_run)
    at = view(run, problem=str(trace), edit=str(edit))
    assert len(at.error) == 1 and EDITED not in html(at)


def test_what_is_read_again_is_what_the_run_read(demo_run: Path) -> None:
    run = Run(demo_run)
    again = ThoughtReader(run, "probe").read(run.store).set_index(["trace", "step"])["text"]
    kept = run.readouts[run.readouts["method"] == "probe"].set_index(["trace", "step"])["text"]
    assert (again.loc[kept.index] == kept).all()


def test_every_layer_is_read_and_its_controls_are_shown(view: Open, demo_run: Path) -> None:
    at = view(layers="yes")
    n_layers = len(Run(demo_run).store.addresses)
    body = html(at)
    assert body.count("<th scope='row'>") >= n_layers and "control" in body and "held out" in body


def test_a_text_is_written_over_and_goes_on(coconut: Any, demo_run: Path) -> None:
    import interp
    from interp import causal

    reasoner = interp.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(12, seed=1, split="test"))
    recipient = traces[0]
    value, answer = next(iter(values_to_choose(reasoner.task, recipient, 1).items()))
    edit = causal.edit_written_thought(reasoner, traces, 0, 1, value)
    assert edit.predicted == answer
    assert edit.outcome("other value")["answer_after"] == answer  # type: ignore[index]
    assert not edit.outcome("same value")["changed"]  # type: ignore[index]
    assert edit.recording.traces[0].text.split()[0] == value
    with pytest.raises(
        UsageError, match="expected a visible thought, got trace 0, which has no visible thought; use a text reasoner"
    ):
        causal.edit_written_thought(coconut, Run(demo_run).traces, 0, 1, "3")


def test_an_edit_is_made_where_the_decoder_reads(demo_run: Path) -> None:
    run = Run(demo_run)
    trace, edit, _ = first_edit(demo_run)
    address, offset = place_of(run, trace, edit.step, "probe")
    made = run.interchange[run.interchange["edit"] == "other value"]
    of_step = made[made["step"] == edit.step]
    assert set(of_step["address"]) == {address} and set(of_step["offset"]) == {offset}


def test_a_model_that_changed_is_refused(demo_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(demo_run, tmp_path / "own"))
    meta = json.loads((run / "store" / "meta.json").read_text(encoding="utf-8"))
    meta["reasoner"]["weights"] = "0" * 64
    (run / "store" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(StoreError):
        LiveModel(Run(run), "probe")
