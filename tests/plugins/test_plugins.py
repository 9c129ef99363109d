"""Plugins: an installed package adds a task, a kind of reasoner, a decoder, an estimator and a control by name."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import interp
import probes
from dashboards.launch import APP, ROOTS_VARIABLE
from dashboards.pages import Page, all_pages, pages_of, titles
from interp.activations import Store
from interp.decoders.registry import decoder_names, make_decoder
from interp.errors import UsageError
from interp.organisms.catalog import weights_folder
from interp.problems import task_names
from interp.reasoners.config import known_kinds
from interp.runtime.plugins import plugins
from interp.traces import TraceSet
from probes.estimators.registry import estimator_names
from probes.sweeps.controls import control_names

PACKAGE = Path(__file__).parent / "example_package"


def install(folder: Path, name: str, entry_points: dict[str, dict[str, str]]) -> None:
    """Write the metadata of an installed distribution, as an installer does."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n", encoding="utf-8")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the example package into a folder on the path."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copytree(PACKAGE / "cotlens_example", folder / "cotlens_example")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install(folder, "cotlens_example", project["entry-points"])
    monkeypatch.syspath_prepend(folder)
    all_pages.cache_clear()
    yield folder
    all_pages.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cotlens_example"]:
        del sys.modules[name]


def test_without_the_package_its_names_are_unknown(store: Store) -> None:
    with pytest.raises(UsageError, match="expected a known decoding method, got 'nearest_mean'"):
        interp.decode(store, ["nearest_mean"])


def test_names_of_plugins_follow_the_built_in_ones(example: Path) -> None:
    assert "nearest_mean" in decoder_names() and decoder_names()[0] == "logit_lens"
    assert known_kinds()[-1] == "answer-only"
    assert task_names()[-1] == "short-chain"
    assert estimator_names()[-1] == "shrunken_mean"
    assert control_names()[-1] == "question_length"


def test_a_task_of_another_package_is_made_from_its_spec(example: Path) -> None:
    made = interp.task("short-chain:values=7")
    problems = made.generate(20, seed=0)
    assert {problem.task for problem in problems} == {"short-chain:values=7"}
    assert {problem.n_steps for problem in problems} == {1, 2}
    assert all(made.verify(problem, f"{problem.steps[0].value} {problem.answer}").answer for problem in problems)


def test_a_kind_of_reasoner_of_another_package_is_loaded_from_a_model_folder(example: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(weights_folder("chain-direct"), folder)
    description = json.loads((folder / "reasoner.json").read_text(encoding="utf-8"))
    (folder / "reasoner.json").write_text(json.dumps({**description, "kind": "answer-only"}), encoding="utf-8")
    reasoner, built_in = interp.load(str(folder)), interp.load("chain-direct")
    assert type(reasoner).__module__ == "cotlens_example.reasoner" and reasoner.kind == "answer-only"
    problems = built_in.task.generate(8, seed=0)
    answers = [[trace.answer for trace in made.think(problems)] for made in (reasoner, built_in)]
    assert answers[0] == answers[1]


def test_a_decoder_of_another_package_is_used_by_name(example: Path, store: Store) -> None:
    readouts = interp.decode(store, ["nearest_mean"], settings={"nearest_mean": {"sharpness": 0.2}})
    decoder = readouts.decoders["nearest_mean"]
    assert type(decoder).__module__ == "cotlens_example.decoder" and vars(decoder)["sharpness"] == 0.2
    scores = readouts.scores()
    assert (scores["top1"] > 0.8).all() and (scores["other_problem"] < 0.45).all()


def test_a_decoder_of_another_package_is_evaluated_with_its_controls(
    example: Path, store: Store, coconut: interp.Reasoner
) -> None:
    table = interp.evaluate(store, ["nearest_mean"], reasoner=coconut, causal=False).table()
    assert table[["question_only", "other_problem", "before_thinking"]].notna().all(axis=None)
    assert table["any_position"].notna().all(), "a decoder that needs no step reads every position"


def test_an_estimator_and_a_control_of_another_package_are_swept_by_name(example: Path, store: Store) -> None:
    table = probes.sweep(
        store, ["value_1"], places=["thought 1"], estimator="shrunken_mean", controls=["question_length"], splits=1
    ).table()
    assert isinstance(table, pd.DataFrame)
    assert table["accuracy"].max() > 0.8
    assert (table["question_length"] < 0.4).all(), "the length of a question does not say its first value"


def test_options_that_a_decoder_lacks_are_refused(example: Path) -> None:
    with pytest.raises(UsageError, match=r"the options of nearest_mean do not fit: .*'blur'"):
        make_decoder("nearest_mean", None, {"blur": 1})


def test_a_decoder_without_traits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cotlens_untyped.py").write_text("class Untyped:\n    name = 'untyped'\n", encoding="utf-8")
    install(tmp_path, "cotlens_untyped", {"cotlens.decoders": {"untyped": "cotlens_untyped:Untyped"}})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="expected the decoder plugin 'untyped' to have a class attribute `traits`"):
        make_decoder("untyped", None)


def test_a_built_in_name_always_means_the_built_in_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "cotlens_clash", {"cotlens.decoders": {"neighbours": "cotlens_clash:Neighbours"}})
    monkeypatch.syspath_prepend(tmp_path)
    assert "neighbours" in plugins("decoders") and decoder_names().count("neighbours") == 1
    assert type(make_decoder("neighbours")).__module__ == "interp.decoders.neighbours"


def test_decoders_of_cotlens_itself_are_entry_points_too() -> None:
    assert {"probe", "step_embedding"} <= set(plugins("decoders"))


def test_a_page_of_another_package_is_drawn_and_linked(
    example: Path, traces: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert titles()["lengths"] == "Lengths" and "lengths" in pages_of("traces") and "lengths" not in pages_of("sae")
    traces[:20].to_parquet(tmp_path / "some.parquet")
    monkeypatch.setenv(ROOTS_VARIABLE, json.dumps([str(tmp_path / "some.parquet")]))
    page = AppTest.from_string("import cotlens_example.page as page\npage.show()", default_timeout=60).run()
    assert not page.exception and page.caption[0].value.startswith("20 traces, ")
    home = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not home.exception and "Lengths" in {link.label for link in home.get("page_link")}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("3", "expected a dashboards.pages.Page with name='odd' and a module, got 3"),
        ("Page('odd', 'Odd', ('run',))", "expected a dashboards.pages.Page with name='odd' and a module"),
        ("Page('traces', 'Odd', ('run',), module='odd')", "expected a dashboards.pages.Page with name='odd'"),
    ],
)
def test_a_page_that_cannot_be_shown_is_said_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, message: str
) -> None:
    (tmp_path / "odd_page.py").write_text(f"from dashboards.pages import Page\nPAGE = {made}\n", encoding="utf-8")
    install(tmp_path, "odd_page", {"cotlens.pages": {"odd": "odd_page:PAGE"}})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_page", raising=False)
    all_pages.cache_clear()
    pages, notes = all_pages()
    all_pages.cache_clear()
    assert len(notes) == 1 and message in notes[0] and all(isinstance(page, Page) for page in pages)
    assert "odd" not in {page.name for page in pages}


def test_each_block_of_the_guide_runs_by_itself() -> None:
    """A block that needs a line of its file which is not shown fails where it is copied to."""
    guide = (PACKAGE.parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", guide, flags=re.S)
    assert len(blocks) >= 6
    for block in blocks:
        exec(compile(block, "<guide>", "exec", dont_inherit=True), {"__name__": "guide"})


def test_the_guide_shows_the_code_of_the_example_package() -> None:
    guide = (PACKAGE.parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", guide, flags=re.S)
    files = [*PACKAGE.glob("cotlens_example/[!_]*.py"), PACKAGE / "pyproject.toml"]
    shown = {file.name for file in files for block in blocks if block in file.read_text(encoding="utf-8")}
    assert shown == {file.name for file in files} and len(blocks) == len(files)
