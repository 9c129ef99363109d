"""Conversion of a fitted probe to JSON and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from interp.errors import UsageError, unknown
from probes.estimators.base import Probe
from probes.estimators.registry import saved_class, saved_classes

_PARAMETER = "parameter."


def to_arrays(probe: Probe) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a fitted probe as JSON and arrays.

    Args:
        probe: A fitted probe of a class in `saved_classes()`.

    Returns:
        A dictionary with the keys `class`, `parameters`, `classes`, `n_features` and `feature_names`, and the learned
        arrays by name.

    Raises:
        UsageError: The probe is of another class or not fitted, or has a parameter or class label that JSON cannot
            hold.
    """
    name = type(probe).__name__
    if name not in saved_classes() or type(probe) is not saved_class(name):
        raise unknown("probe class", name, saved_classes())
    missing = [array for array in (*probe.fitted_shapes, "classes_", "n_features_in_") if not hasattr(probe, array)]
    if missing:
        raise UsageError(f"expected a fitted probe, got a {name} without {missing[0]}; call fit first.")
    arrays = {}
    for array in probe.fitted_shapes:
        value = np.asarray(getattr(probe, array))
        arrays[array] = value if value.flags.c_contiguous else np.ascontiguousarray(value)
    parameters = {}
    for parameter, value in probe.get_params(deep=False).items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            arrays[_PARAMETER + parameter] = np.ascontiguousarray(value)
        else:
            parameters[parameter] = _parameter_to_json(parameter, value)
    feature_names = getattr(probe, "feature_names_in_", None)
    description = {
        "class": name,
        "parameters": parameters,
        "classes": _classes_to_json(probe.classes_),
        "n_features": int(probe.n_features_in_),
        "feature_names": None if feature_names is None else [str(feature) for feature in feature_names],
    }
    return description, arrays


def from_arrays(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Probe:
    """Return the probe that `to_arrays` converted, equal to the last bit.

    Args:
        description: The JSON part.
        arrays: The learned arrays by name.

    Raises:
        ValueError: The input is damaged, or of an unknown class. `KeyError`, `TypeError` and `AttributeError` mean
            the same.
    """
    name = description["class"]
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a class, got {name!r}")
    if name not in saved_classes():
        raise ValueError(f"expected one of the classes {', '.join(saved_classes())}, got {name!r}")
    cls = saved_class(name)
    parameters: dict[str, Any] = {
        parameter: tuple(value) if isinstance(value, list) else value
        for parameter, value in description["parameters"].items()
    }
    learned = {}
    for array, value in arrays.items():
        if array.startswith(_PARAMETER):
            parameters[array.removeprefix(_PARAMETER)] = value
        else:
            learned[array] = value
    probe = cls(**parameters)
    probe.classes_, probe.n_features_in_ = _classes_from_json(description["classes"]), int(description["n_features"])
    if description["feature_names"] is not None:
        probe.feature_names_in_ = np.array(description["feature_names"], dtype=object)
    _check(cls, learned, {"features": probe.n_features_in_, "classes": len(probe.classes_)})
    for array, value in learned.items():
        setattr(probe, array, value.item() if value.ndim == 0 else value)
    return probe


def _check(cls: type[Probe], arrays: Mapping[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Check that every learned array is present, finite, and has the axes that its class declares."""
    for name in arrays:
        if name not in cls.fitted_shapes:
            raise ValueError(f"{name!r} is not an array of {cls.__name__}")
    for name, axes in cls.fitted_shapes.items():
        value = arrays[name]
        if value.dtype.kind not in "fi":
            raise ValueError(f"expected {name} to hold numbers, got {value.dtype}")
        fits = value.ndim == len(axes)
        for axis, size in zip(axes, value.shape, strict=False):
            fits = fits and sizes.setdefault(axis, size) == size
        if not fits:
            expected = " x ".join(f"{axis} ({sizes[axis]})" if axis in sizes else axis for axis in axes) or "one number"
            raise ValueError(
                f"expected {name} to be {expected}, got {' x '.join(map(str, value.shape)) or 'one number'}"
            )
        if value.ndim and not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or inf")
    outputs, classes = sizes.get("outputs", sizes["classes"]), sizes["classes"]
    if outputs != classes and (outputs, classes) != (1, 2):
        raise ValueError(f"expected one output for each of {classes} classes, got {outputs}")


def _parameter_to_json(name: str, value: Any) -> Any:
    """Return a parameter as JSON; `from_arrays` reads sequences as tuples."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_parameter_to_json(name, item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(
        f"expected the parameter {name} to be a number, a text or a sequence of them, got {value!r}; "
        "change it before saving."
    )


def _classes_to_json(classes: np.ndarray) -> dict[str, Any]:
    values = classes.tolist()
    if not all(isinstance(value, (str, int, float, bool)) for value in values):
        raise UsageError(
            f"expected class labels that are texts or numbers, got {str(values[0])!r}; fit with other labels."
        )
    return {"dtype": classes.dtype.str if classes.dtype.kind != "O" else "object", "values": values}


def _classes_from_json(raw: Mapping[str, Any]) -> np.ndarray:
    classes = np.array(raw["values"], dtype=np.dtype(raw["dtype"]))
    if classes.ndim != 1 or len(np.unique(classes)) != len(classes) or len(classes) < 2:
        raise ValueError("expected classes that are two or more different labels")
    return classes
