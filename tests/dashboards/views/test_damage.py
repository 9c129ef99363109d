"""A run with a damaged part: each page that needs the part shows the command that Home shows, and the command repairs it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.artifacts.facts import WHOLE_RUN, WHOLE_STORE, facts_of
from dashboards.artifacts.finding import find_artifacts
from interp.activations import Store, resume

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


def _index(run: Path) -> None:
    (run / "store" / "index.parquet").write_bytes(b"damaged")


def _unfinished(run: Path) -> None:
    manifest = run / "store" / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def _shards(run: Path) -> None:
    for shard in (run / "store" / "acts").rglob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:100])


def _description(run: Path) -> None:
    (run / "store" / "meta.json").write_text("{", encoding="utf-8")


def _table(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / f"{name}.parquet").write_bytes(b"damaged")

    return damage


@pytest.fixture
def run(demo_run: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(demo_run, tmp_path / "run"))


@pytest.mark.parametrize(
    ("damage", "pages", "what"),
    [
        (_index, ("features", "trajectories", "explorer"), WHOLE_STORE),
        (_unfinished, ("features", "trajectories", "explorer"), WHOLE_STORE),
        (_description, ("features", "trajectories", "explorer"), WHOLE_RUN),
        (_table("scores"), ("overview", "latents"), WHOLE_RUN),
        (_table("interchange"), ("causal",), WHOLE_RUN),
    ],
)
def test_pages_over_a_damaged_part_show_the_command_of_home(
    open_view: Open, run: Path, damage: Callable[[Path], None], pages: tuple[str, ...], what: str
) -> None:
    damage(run)
    (artifact,) = (item for item in find_artifacts([run]).artifacts.values() if item.kind == "run" and item.path == run)
    facts = facts_of(artifact)
    ((given, command),) = facts.next
    assert given == what and facts.state.startswith("✗") and facts.partly
    for page in ("home", *pages):
        at = open_view(page, run)
        assert command in [code.value for code in at.code], page


def test_the_command_of_a_damaged_store_repairs_it(open_view: Open, said: Said, run: Path) -> None:
    _index(run)
    for damaged in (run, run / "store"):
        assert f"cotlens capture resume {run / 'store'}" in said(open_view("home", damaged))
    resume(run / "store")
    assert Store(run / "store").validate() == [] and not open_view("features", run).error


@pytest.mark.parametrize("page", ["features", "trajectories", "explorer", "compare"])
def test_damaged_shards_are_repaired_by_a_command_for_their_store(open_view: Open, run: Path, page: str) -> None:
    _shards(run)
    at = open_view(page, run)
    assert "is damaged" in at.error[0].value
    assert f"cotlens capture resume {run / 'store'}" in [code.value for code in at.code]
