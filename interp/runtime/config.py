"""Configuration from a file, the environment and the command line, checked against a pydantic model.

Later ones win: the file (YAML or TOML), `COTLENS_NAME=value` from the environment, `--set a.b=value`. Values are
read as YAML, so `3`, `true` and `[a, b]` mean what they look like.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from interp.errors import UsageError, unknown

M = TypeVar("M", bound=BaseModel)
_PREFIX = "COTLENS_"


def resolve(
    model: type[M],
    file: Path | None = None,
    settings: Sequence[str] = (),
    *,
    given: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> M:
    """`model` from all sources; `given` are options of the command itself, which win over all (None is not given).

    Raises `UsageError` on unknown keys, with a suggestion, and on values that do not fit, naming the key.
    """
    values = read(file) if file else {}
    environment = os.environ if environment is None else environment
    fields = {f"{_PREFIX}{name.upper()}": name for name in model.model_fields}
    for variable, name in fields.items():
        if variable in environment:
            values[name] = _value(environment[variable], variable)
    for setting in settings:
        _set(values, setting)
    values |= {name: value for name, value in (given or {}).items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explained(model, error, file) from None


def read(file: Path) -> dict[str, Any]:
    """The mapping in a YAML or TOML file."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {file}: {error}.") from None
    try:
        found = tomllib.loads(text) if file.suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{file} is not readable as {'TOML' if file.suffix == '.toml' else 'YAML'}: {said}.") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{file} must hold keys and values, but it holds a {type(found).__name__}.")
    return found


def _set(values: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise UsageError(f"--set takes key=value, as seeds=5 or grid.target=[value_1], but {setting!r} came.")
    *outer, last = path.split(".")
    here = values
    for name in outer:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            raise UsageError(f"--set {setting}: {name!r} is not a group of settings.")
    here[last] = _value(text, f"--set {path}")


def _value(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{source}: {text!r} is not a value that YAML can read; quote it.") from None


def _explained(model: type[BaseModel], error: ValidationError, file: Path | None) -> UsageError:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    where = f" (in {file} or the settings)" if file else ""
    if first["type"] == "extra_forbidden":
        known: Any = model.model_fields
        for name in first["loc"][:-1]:
            inner = known[name].annotation if name in known else None
            known = inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
        return UsageError(f"{unknown('setting', first['loc'][-1], known)}{where}")
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(f"setting {place}: {message}, but {first['input']!r} came{where}.")
