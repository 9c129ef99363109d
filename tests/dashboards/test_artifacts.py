"""What lies below some folders: everything that the toolkit wrote, each once, and nothing outside."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import interp
from dashboards.artifacts.facts import COMPLETE, WHOLE_RUN, WHOLE_STORE, facts_of
from dashboards.artifacts.finding import find_artifacts
from dashboards.artifacts.trace_file import TraceFile
from dashboards.pages import PAGES, pages_of
from dashboards.questions import QUESTIONS
from dashboards.views.opened import showable
from interp.activations import Store
from interp.decoders.jacobian.lens_file import LensFile
from interp.errors import StoreError
from interp.traces import TraceSet


@pytest.fixture
def folder(demo_run: Path, store: Store, traces: TraceSet, tmp_path: Path) -> Path:
    """A folder with a run, a store, a file of traces and a graph."""
    shutil.copytree(demo_run, tmp_path / "runs" / "demo")
    shutil.copytree(Path(str(store.path)), tmp_path / "stores" / "one")
    traces.to_parquet(tmp_path / "thought.parquet")
    (tmp_path / "graph.json").write_text(
        '{"metadata": {"slug": "g", "scan": "m"}, "nodes": [], "links": []}', encoding="utf-8"
    )
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_everything_is_found_once_with_its_kind(folder: Path) -> None:
    found = find_artifacts([folder]).artifacts
    kinds = {name: item.kind for name, item in found.items()}
    demo = "runs/demo"
    assert kinds["runs/demo"] == "run" and kinds["stores/one"] == "store"
    assert kinds["thought.parquet"] == "traces" and kinds["graph.json"] == "graph"
    assert {kinds[f"{demo}/{part}"] for part in ("store", "twin", "sweep", "sae")} == {"store", "sweep", "sae"}
    assert found[f"{demo}/store"].part_of == demo and not found["stores/one"].part_of
    compared = f"{demo}/comparisons/chain-pause-as-thought"
    assert kinds[compared] == "run" and found[f"{compared}/store"].part_of == compared
    assert "other.json" not in kinds and len({item.path for item in found.values()}) == len(found)


def test_an_artifact_itself_and_several_folders_may_be_given(folder: Path, demo_run: Path) -> None:
    assert list(find_artifacts([folder / "thought.parquet"]).artifacts) == ["thought.parquet"]
    assert list(find_artifacts([folder / "stores" / "one"]).artifacts) == ["one"]
    both = find_artifacts([folder / "runs", folder / "stores"]).artifacts
    assert {"runs/demo", "stores/one"} <= set(both)
    (folder / "a").mkdir()
    shutil.copytree(folder / "stores", folder / "a" / "stores")
    twice = find_artifacts([folder / "stores", folder / "a" / "stores"]).artifacts
    assert len(twice) == 2 and "a/stores/one" in twice


@pytest.mark.parametrize("name", ["sae", "store", "sweep"])
def test_a_run_that_is_called_as_one_of_its_parts_has_all_of_them(demo_run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(demo_run, tmp_path / name, ignore=shutil.ignore_patterns("comparisons"))
    found = find_artifacts([tmp_path / name]).artifacts
    assert found[name].kind == "run" and found[f"{name}/{name}"].kind == name
    assert found[f"{name}/{name}"].part_of == name
    assert {item.path.name for item in found.values()} == {name, "store", "twin", "sweep", "sae"}


def test_links_out_of_the_folders_are_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(folder / "stores", elsewhere / "stores")
    (folder / "link").symlink_to(elsewhere)
    (folder / "t.parquet").symlink_to(folder / "thought.parquet")
    found = find_artifacts([folder])
    assert not any(name.startswith(("link", "t.parquet")) for name in found.artifacts)
    assert found.notes == ["1 links lead out of these folders and are not followed."]


def test_facts_and_next_commands(folder: Path, cotlens: Any) -> None:
    found = find_artifacts([folder]).artifacts
    facts = {name: facts_of(item) for name, item in found.items()}
    assert all(fact.state == COMPLETE for fact in facts.values())
    assert facts["stores/one"].model == facts["thought.parquet"].model == "chain-coconut"
    assert "120 traces of chain" in facts["thought.parquet"].what
    assert [what for what, _ in facts["stores/one"].next] == ["probes", "a table of decoders", "an SAE"]
    for fact in (facts["stores/one"], facts["thought.parquet"], facts["runs/demo/sae"]):
        for _, command in fact.next:
            program, *words = shlex.split(command)
            known = cotlens(*[word for word in words[:2] if word.isalpha()], "--help").out
            assert program == "cotlens"
            assert all(word in known for word in words if word.startswith("--")), command


def test_a_damaged_one_is_listed_and_says_so(folder: Path) -> None:
    (folder / "stores" / "one" / "meta.json").write_text("[" * 100_000, encoding="utf-8")
    (folder / "thought.parquet").write_bytes(b"no parquet")
    (folder / "traces.parquet").write_bytes(b"no parquet")
    (folder / "runs" / "demo" / "run.json").write_text('{"organism": "a\\u001b[2J"}', encoding="utf-8")
    facts = {name: facts_of(item) for name, item in find_artifacts([folder]).artifacts.items()}
    for name in ("stores/one", "traces.parquet", "runs/demo"):
        assert facts[name].state.startswith("✗") and "\x1b" not in facts[name].state
    assert "thought.parquet" not in facts


@pytest.mark.parametrize("part", ["traces.parquet", "store/manifest.jsonl", "store/index.parquet", "sweep/sweep.json"])
def test_a_run_with_a_damaged_part_is_not_called_complete(folder: Path, part: str) -> None:
    run = folder / "runs" / "demo"
    before = facts_of(find_artifacts([folder]).artifacts["runs/demo"])
    (run / part).write_bytes(b"damaged")
    facts = facts_of(find_artifacts([folder]).artifacts["runs/demo"])
    assert before.state == COMPLETE and facts.can_be_shown, "pages of the other parts are still drawn"
    assert facts.state.startswith("✗ ") and part.partition("/")[0] in facts.state
    ((what, command),) = facts.next
    assert what == (WHOLE_STORE if part.startswith("store") else WHOLE_RUN) and str(run) in command


def test_a_name_that_no_terminal_prints_gets_no_command(folder: Path) -> None:
    shutil.move(folder / "stores" / "one", folder / "stores" / "a\x1b[2Jb")
    (facts,) = [facts_of(item) for item in find_artifacts([folder / "stores"]).artifacts.values()]
    assert "cannot be printed" in facts.state and facts.next == ()


def test_home_lists_everything_and_leads_to_it(folder: Path, open_view: Callable[..., AppTest]) -> None:
    at = open_view("home", folder, open="stores/one")
    assert not at.error and not at.warning
    listed = at.dataframe[0].value
    assert {"runs/demo", "stores/one", "thought.parquet", "graph.json"} <= set(listed["name"])
    assert any(code.value.startswith("cotlens probe sweep") for code in at.code)
    assert f"{interp.organisms.catalog.shipped()[0]}" in set(at.dataframe[1].value["organism"])
    at.selectbox(key="view_kind").set_value("graph").run()
    assert list(at.dataframe[0].value["name"]) == ["graph.json"] and at.query_params["kind"] == "graph"


def test_links_between_pages_name_what_is_shown(folder: Path, open_view: Callable[..., AppTest]) -> None:
    for shown, probes in (("runs/demo", "runs/demo"), ("stores/one", ""), ("runs/demo/store", "runs/demo")):
        at = open_view("home", folder, open=shown)
        links = {
            link.proto.label: dict(parse_qsl(link.proto.query_string)) for link in at.get("page_link")[: len(PAGES) + 1]
        }
        assert links["Probes"].get("open", "") == probes and links["Home"]["open"] == shown
    assert links["Traces"]["open"] == "runs/demo/store"


def test_lenses_of_every_kind_are_found_with_their_model(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    described = {"model": "chain-text", "weights": "0123", "addresses": ["blocks.0.hook_out"]}
    (tmp_path / "tuned" / "tuned_lens.json").write_text(json.dumps(described), encoding="utf-8")
    matrices = {layer: torch.eye(4) for layer in (0, 1)}
    LensFile(matrices, 3, metadata={"reasoner": "chain-coconut"}).write(tmp_path / "jacobian.pt")
    LensFile(matrices, 3, next_context=3).write(tmp_path / "unfinished.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt")
    (tmp_path / "foreign").mkdir()
    config = {"d_model": 4, "num_hidden_layers": 3, "base_model_name_or_path": "some/base"}
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save({}, tmp_path / "foreign" / "params.pt")
    found = find_artifacts([tmp_path]).artifacts
    assert {name: item.kind for name, item in found.items()} == dict.fromkeys(
        ("foreign", "jacobian.pt", "tuned", "unfinished.pt"), "lens"
    )
    facts = {name: facts_of(item) for name, item in found.items()}
    assert {facts[name].model for name in ("foreign", "jacobian.pt", "tuned")} == {
        "some/base",
        "chain-coconut",
        "chain-text",
    }
    assert facts["jacobian.pt"].what == "Jacobian lens at 2 addresses" and facts["foreign"].state == COMPLETE


def test_a_link_from_a_run_leads_to_its_own_sae_and_not_to_a_newer_one(
    demo_run: Path, tmp_path: Path, open_view: Callable[..., AppTest]
) -> None:
    for name in ("old", "new"):
        shutil.copytree(demo_run, tmp_path / name)
    os.utime(tmp_path / "new" / "sae" / "cfg.json")
    open_view("home", tmp_path)
    assert showable("features", "old") == "old/sae"
    assert showable("features", "old/store") == "old/sae"
    assert showable("probes", "old/sae") == "old" and showable("features", None) is None
    at = open_view("features", tmp_path, open="old")
    assert at.selectbox[0].value == "old/sae"


def test_traces_are_listed_searched_and_opened(traces: TraceSet, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    traces.to_parquet(path)
    file = TraceFile(path)
    assert len(file) == len(traces) and file.reasoner == "chain-coconut" and file.task == "chain"
    table = file.table
    assert list(table["tokens"]) == [len(trace) for trace in traces]
    assert list(table["thoughts"]) == [sum(t > 0 for t in trace.thought) for trace in traces]
    assert list(table["answer"]) == [trace.answer for trace in traces]
    question = traces[7].problem.readable
    assert file.search(question.upper())[7] and file.search("no such words").sum() == 0
    assert file.search("(*[").sum() == 0
    assert (file.trace(7).problem, file.trace(7).token_ids) == (traces[7].problem, traces[7].token_ids)
    means = [np.nanmean(trace.entropy) for trace in traces]
    assert np.allclose(table["entropy"], means, atol=1e-6)


def test_the_scripts_that_a_model_writes_in_are_known(traces: TraceSet, tmp_path: Path) -> None:
    texts = ["So 7.", "所以 7", "Итак so", "42"]
    written = [replace(trace, text=text, answer="") for trace, text in zip(traces, texts, strict=False)]
    path = tmp_path / "t.parquet"
    TraceSet(written).to_parquet(path)
    assert TraceFile(path).scripts == [{"LATIN"}, {"HAN"}, {"CYRILLIC", "LATIN"}, set()]


def test_a_search_over_many_traces_is_quick(traces: TraceSet, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    TraceSet(list(traces) * 84).to_parquet(path)  # 10,080
    file = TraceFile(path)
    file.search("warm")
    started = time.perf_counter()
    assert file.search("apply").sum() > 0
    assert time.perf_counter() - started < 0.5


def test_what_is_no_trace_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no traces at"):
        TraceFile(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"x")
    with pytest.raises(StoreError, match="not a readable trace file"):
        TraceFile(tmp_path / "bad.parquet")


def test_traces_are_filtered_by_the_channels_of_their_positions(traces: TraceSet, tmp_path: Path) -> None:
    traces.to_parquet(tmp_path / "some.parquet")
    file = TraceFile(tmp_path / "some.parquet")
    for channel in ("latent", "thought", "answer"):
        assert file.has_channel(channel).tolist() == [channel in trace.channel for trace in traces]
    assert file.row_of_problem(traces[7].problem) == next(
        k for k, trace in enumerate(traces) if trace.problem.to_json() == traces[7].problem.to_json()
    )
    assert [problem.question for problem in file.problems(np.array([4, 1]))] == [
        traces[k].problem.question for k in (4, 1)
    ]


def test_every_question_names_a_page_that_shows_what_answers_it() -> None:
    for question in QUESTIONS:
        assert question.kinds and all(question.page in pages_of(kind) for kind in question.kinds), question.text
