"""A fitted probe as JSON and arrays, and back: what a file needs to hold, and what it is allowed to say."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from interp.errors import UsageError, unknown
from probes.estimators.base import Probe

KINDS = {
    "AttentionProbe": "probes.estimators.attention",
    "LDAProbe": "probes.estimators.class_means",
    "LogisticProbe": "probes.estimators.linear",
    "MLPProbe": "probes.estimators.mlp",
    "MassMeanProbe": "probes.estimators.class_means",
    "RidgeProbe": "probes.estimators.linear",
    "StepEmbeddingProbe": "probes.estimators.step_embedding",
}
_PARAMETER = "parameter."


def encode(probe: Probe) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is said of a fitted probe (class, parameters, classes, features), and its arrays.

    Raises `UsageError` when it is of another kind, not fitted, or has a parameter or class that JSON cannot hold.
    """
    kind = type(probe).__name__
    if kind not in KINDS or type(probe) is not _class(kind):
        raise unknown("kind of probe to save", kind, KINDS)
    missing = [name for name in (*probe.fitted_shapes, "classes_", "n_features_in_") if not hasattr(probe, name)]
    if missing:
        raise UsageError(f"this {kind} is not fitted: it has no {missing[0]}. Call fit first.")
    arrays = {}
    for name in probe.fitted_shapes:
        value = np.asarray(getattr(probe, name))
        arrays[name] = value if value.flags.c_contiguous else np.ascontiguousarray(value)
    parameters = {}
    for name, value in probe.get_params(deep=False).items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            arrays[_PARAMETER + name] = np.ascontiguousarray(value)
        else:
            parameters[name] = _as_json(name, value)
    names = getattr(probe, "feature_names_in_", None)
    said = {
        "class": kind,
        "parameters": parameters,
        "classes": _classes_as_json(probe.classes_),
        "n_features": int(probe.n_features_in_),
        "feature_names": None if names is None else [str(name) for name in names],
    }
    return said, arrays


def decode(said: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Probe:
    """The probe that `encode` took apart, to the last bit. Raises `ValueError` or its like on anything else."""
    if said["class"] not in KINDS:
        raise ValueError(f"{said['class']!r} is not a kind of probe; known: {', '.join(KINDS)}")
    kind = _class(said["class"])
    parameters: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said["parameters"].items()
    }
    learned = {}
    for name, value in arrays.items():
        if name.startswith(_PARAMETER):
            parameters[name.removeprefix(_PARAMETER)] = value
        else:
            learned[name] = value
    probe = kind(**parameters)
    probe.classes_, probe.n_features_in_ = _classes_from_json(said["classes"]), int(said["n_features"])
    if said["feature_names"] is not None:
        probe.feature_names_in_ = np.array(said["feature_names"], dtype=object)
    _check(kind, learned, {"features": probe.n_features_in_, "classes": len(probe.classes_)})
    for name, value in learned.items():
        setattr(probe, name, value.item() if value.ndim == 0 else value)
    return probe


def _check(kind: type[Probe], arrays: Mapping[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Every learned array is there, is made of finite numbers, and has the axes that its kind of probe declares."""
    for name in arrays:
        if name not in kind.fitted_shapes:
            raise ValueError(f"{name!r} is not an array of a {kind.__name__}")
    for name, axes in kind.fitted_shapes.items():
        value = arrays[name]
        if value.dtype.kind not in "fi":
            raise ValueError(f"{name} should hold numbers, but holds {value.dtype}")
        fits = value.ndim == len(axes)
        for axis, size in zip(axes, value.shape, strict=False):
            fits = fits and sizes.setdefault(axis, size) == size
        if not fits:
            expected = " x ".join(f"{axis} ({sizes[axis]})" if axis in sizes else axis for axis in axes) or "one number"
            raise ValueError(f"{name} should be {expected}, but is {' x '.join(map(str, value.shape)) or 'one number'}")
        if value.ndim and not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or inf")
    outputs, classes = sizes.get("outputs", sizes["classes"]), sizes["classes"]
    if outputs != classes and (outputs, classes) != (1, 2):
        raise ValueError(f"{outputs} outputs do not tell {classes} classes apart")


def _class(kind: str) -> type[Probe]:
    return getattr(importlib.import_module(KINDS[kind]), kind)


def _as_json(name: str, value: Any) -> Any:
    """A parameter as JSON holds it; sequences come back as tuples."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_as_json(name, each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(f"the parameter {name}={value!r} cannot be saved: give a number, a text or a sequence of them.")


def _classes_as_json(classes: np.ndarray) -> dict[str, Any]:
    values = classes.tolist()
    if not all(isinstance(value, (str, int, float, bool)) for value in values):
        raise UsageError(f"classes must be texts or numbers to be saved, but {str(values[0])!r} is neither.")
    return {"dtype": classes.dtype.str if classes.dtype.kind != "O" else "object", "values": values}


def _classes_from_json(raw: Mapping[str, Any]) -> np.ndarray:
    classes = np.array(raw["values"], dtype=np.dtype(raw["dtype"]))
    if classes.ndim != 1 or len(np.unique(classes)) != len(classes) or len(classes) < 2:
        raise ValueError("its classes should be two or more different labels")
    return classes
