"""Configuration from a file, environment variables and the command line, checked against a pydantic model."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from interp.errors import UsageError, unknown
from interp.runtime.environment import read_variable, variable_prefix

M = TypeVar("M", bound=BaseModel)


def resolve_config(
    model: type[M],
    file: Path | None = None,
    settings: Sequence[str] = (),
    *,
    options: Mapping[str, Any] | None = None,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> M:
    """Build a configuration from all of its sources.

    Later sources win: `file`, environment variables, `settings`, `options`. Values of variables and settings are read
    as YAML, so `3`, `true` and `[a, b]` are a number, a truth value and a list.

    Args:
        model: The pydantic model that describes the configuration.
        file: A YAML or TOML file.
        settings: Texts of the form `key=value` or `group.key=value`, as `--set` takes them.
        options: Values of the command's own options; None means not given.
        command: The command that is configured, as ("probe", "sweep"). It names the variables.
        environment: Environment variables; `COTLENS_PROBE_SWEEP_NAME` sets `name` of that command. By default those of
            this process.

    Raises:
        UsageError: A key is unknown, or a value does not fit.
    """
    values = read_config(file) if file else {}
    environment = os.environ if environment is None else environment
    for name in model.model_fields:
        given = read_variable(name, variable_prefix(*command), environment)
        if given is not None:
            variable, text = given
            values[name] = _parse_value(text, variable)
    for setting in settings:
        _apply_setting(values, setting)
    values |= {name: value for name, value in (options or {}).items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _usage_error(model, error, file) from None


def read_config(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or TOML file. Raises `UsageError` when it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {file}: {error}.") from None
    file_format = "TOML" if file.suffix == ".toml" else "YAML"
    try:
        content = tomllib.loads(text) if file_format == "TOML" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{file} is not readable as {file_format}: {reason}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"expected {file} to hold keys and values, got a {type(content).__name__}.")
    return content


def _apply_setting(values: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise UsageError(
            f"expected --set key=value, got {setting!r}; write seeds=5 or grid.target=[value_1], for example."
        )
    *groups, key = path.split(".")
    group = values
    for name in groups:
        group = group.setdefault(name, {})
        if not isinstance(group, dict):
            raise UsageError(f"--set {setting}: {name!r} is not a group of settings.")
    group[key] = _parse_value(text, f"--set {path}")


def _parse_value(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{source}: {text!r} is not a value that YAML can read; quote it.") from None


def _usage_error(model: type[BaseModel], error: ValidationError, file: Path | None) -> UsageError:
    """Describe the first thing that pydantic refuses."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"])) or "configuration"
    source = f" (in {file} or the settings)" if file else ""
    if first["type"] == "extra_forbidden":
        known: Any = model.model_fields
        for name in first["loc"][:-1]:
            inner = known[name].annotation if name in known else None
            known = inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
        return UsageError(f"{unknown('setting', first['loc'][-1], known)}{source}")
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(f"setting {key}: {message}, got {first['input']!r}{source}.")
