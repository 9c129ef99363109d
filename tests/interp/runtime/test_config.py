"""Configuration: which source wins, and the messages for a wrong key or value."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from interp.errors import UsageError
from interp.runtime.config import resolve_config


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: list[str] | None = None


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    store: str = "none"
    seeds: int = Field(3, ge=1)
    grid: Inner = Inner()


def resolve_text(tmp_path: Path, text: str, name: str = "s.yaml", settings: tuple[str, ...] = (), **more) -> Settings:
    """Resolve a configuration whose file holds `text`."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return resolve_config(Settings, file, settings, **{"environment": {}, "command": ("probe", "sweep"), **more})


def test_yaml_and_toml_give_the_same_configuration(tmp_path: Path) -> None:
    yaml = resolve_text(tmp_path, "store: s\nseeds: 5\ngrid:\n  target: [value_1]\n")
    toml = resolve_text(tmp_path, 'store = "s"\nseeds = 5\n[grid]\ntarget = ["value_1"]\n', "s.toml")
    assert yaml == toml == Settings(store="s", seeds=5, grid=Inner(target=["value_1"]))


def test_later_sources_win(tmp_path: Path) -> None:
    file = {"text": "store: file\nseeds: 2\n"}
    assert resolve_text(tmp_path, **file).store == "file"
    environment = {"COTLENS_PROBE_SWEEP_STORE": "environment", "COTLENS_PROBE_SWEEP_SEEDS": "4", "OTHER": "x"}
    assert resolve_text(tmp_path, **file, environment=environment) == Settings(store="environment", seeds=4)
    settings = ("store=set", "grid.target=[a, b]")
    by_setting = resolve_text(tmp_path, **file, environment=environment, settings=settings)
    assert by_setting == Settings(store="set", seeds=4, grid=Inner(target=["a", "b"]))
    options = {"store": "option", "seeds": None}
    assert resolve_text(tmp_path, **file, settings=("store=set",), options=options).store == "option"


def test_defaults_apply_without_a_file() -> None:
    assert resolve_config(Settings, environment={}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stor: s\n", r"expected a known setting, got 'stor'; did you mean 'store'\? Known: store, seeds, grid\."),
        ("grid:\n  traget: [a]\n", r"expected a known setting, got 'traget'; did you mean 'target'"),
        ("seeds: 0\n", r"setting seeds: Input should be greater than or equal to 1, got 0"),
        ("seeds: many\n", r"setting seeds: .*valid integer.*got 'many'"),
        ("- a\n- b\n", r"expected .*s\.yaml to hold keys and values, got a list"),
        ("a: [\n", r"is not readable as YAML"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_text(tmp_path, text)


def test_a_wrong_setting_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected --set key=value, got 'seeds'"):
        resolve_text(tmp_path, "", settings=("seeds",))
    with pytest.raises(UsageError, match="'store' is not a group of settings"):
        resolve_text(tmp_path, "store: s\n", settings=("store.x=1",))
    with pytest.raises(UsageError, match=r"cannot read the configuration .*nowhere\.yaml"):
        resolve_config(Settings, tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="is not readable as TOML"):
        resolve_text(tmp_path, "= 3", "s.toml")
