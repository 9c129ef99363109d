"""Configuration: what wins over what, and what is said about a wrong key or value."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from interp.errors import UsageError
from interp.runtime.config import resolve


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: list[str] | None = None


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    store: str = "none"
    seeds: int = Field(3, ge=1)
    grid: Inner = Inner()


def made(tmp_path: Path, text: str, name: str = "s.yaml", settings: tuple[str, ...] = (), **options) -> Settings:
    file = tmp_path / name
    file.write_text(text)
    return resolve(Settings, file, settings, **{"environment": {}, **options})


def test_yaml_and_toml_say_the_same(tmp_path: Path) -> None:
    yaml = made(tmp_path, "store: s\nseeds: 5\ngrid:\n  target: [value_1]\n")
    toml = made(tmp_path, 'store = "s"\nseeds = 5\n[grid]\ntarget = ["value_1"]\n', "s.toml")
    assert yaml == toml == Settings(store="s", seeds=5, grid=Inner(target=["value_1"]))


def test_later_sources_win(tmp_path: Path) -> None:
    file = {"text": "store: file\nseeds: 2\n"}
    assert made(tmp_path, **file).store == "file"
    environment = {"COTLENS_STORE": "environment", "COTLENS_SEEDS": "4", "OTHER": "x"}
    assert made(tmp_path, **file, environment=environment) == Settings(store="environment", seeds=4)
    by_hand = made(tmp_path, **file, environment=environment, settings=("store=set", "grid.target=[a, b]"))
    assert by_hand == Settings(store="set", seeds=4, grid=Inner(target=["a", "b"]))
    assert made(tmp_path, **file, settings=("store=set",), given={"store": "given", "seeds": None}).store == "given"


def test_without_a_file_the_defaults_stand() -> None:
    assert resolve(Settings, environment={}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stor: s\n", r"expected a known setting, got 'stor'; did you mean 'store'\? Known: store, seeds, grid\."),
        ("grid:\n  traget: [a]\n", r"expected a known setting, got 'traget'; did you mean 'target'"),
        ("seeds: 0\n", r"setting seeds: Input should be greater than or equal to 1, but 0 came"),
        ("seeds: many\n", r"setting seeds: .*valid integer.*'many' came"),
        ("- a\n- b\n", r"must hold keys and values, but it holds a list"),
        ("a: [\n", r"is not readable as YAML"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(tmp_path, text)


def test_a_wrong_setting_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--set takes key=value, .* but 'seeds' came"):
        made(tmp_path, "", settings=("seeds",))
    with pytest.raises(UsageError, match="'store' is not a group of settings"):
        made(tmp_path, "store: s\n", settings=("store.x=1",))
    with pytest.raises(UsageError, match=r"cannot read the configuration .*nowhere\.yaml"):
        resolve(Settings, tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="is not readable as TOML"):
        made(tmp_path, "= 3", "s.toml")
