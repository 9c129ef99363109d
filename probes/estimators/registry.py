"""The probe estimators by name: those built in, and those that other packages add.

Another package adds an estimator through an entry point that names a subclass of `Probe`:

    [project.entry-points."cotlens.estimators"]
    my_probe = "my_package.probe:MyProbe"

Sweeps and `cotlens probe train` then take it by name, and it can be saved and loaded like the built-in ones.
"""

from __future__ import annotations

import pkgutil

from interp.errors import UsageError, unknown
from interp.runtime.plugins import load_plugin, plugins
from probes.estimators.base import Probe

ESTIMATORS: dict[str, str] = {
    "ridge": "probes.estimators.linear:RidgeProbe",
    "logistic": "probes.estimators.linear:LogisticProbe",
    "mass_mean": "probes.estimators.class_means:MassMeanProbe",
    "lda": "probes.estimators.class_means:LDAProbe",
    "mlp": "probes.estimators.mlp:MLPProbe",
}
# These read sequences or texts, so a sweep over single rows cannot use them; they can be saved.
_NOT_SWEPT = ("probes.estimators.attention:AttentionProbe", "probes.estimators.step_embedding:StepEmbeddingProbe")


def estimator_names() -> list[str]:
    """Return the names that a sweep takes: the built-in estimators, then those of other packages."""
    return [*ESTIMATORS, *(name for name in plugins("estimators") if name not in ESTIMATORS)]


def estimator_class(name: str) -> type[Probe]:
    """Return the class of an estimator.

    Args:
        name: A name from `estimator_names()`. A built-in name always means the built-in estimator.

    Raises:
        UsageError: The name is unknown, or the plugin that registers it is not a subclass of `Probe`.
    """
    if name in ESTIMATORS:
        return _import(ESTIMATORS[name])
    if name not in plugins("estimators"):
        raise unknown("estimator", name, estimator_names())
    plugin = load_plugin("estimators", name)
    if not (isinstance(plugin, type) and issubclass(plugin, Probe)):
        raise UsageError(
            f"expected the estimators plugin {name!r} to be a subclass of probes.Probe, got {plugin!r}; "
            "correct the entry point of the package that provides it."
        )
    return plugin


def saved_classes() -> list[str]:
    """Return the names of the classes that `save_probe` and `load_probe` know, sorted."""
    return sorted({*_built_in_classes(), *_plugin_classes()})


def saved_class(name: str) -> type[Probe]:
    """Return the probe class of that name.

    Raises:
        UsageError: No estimator, built-in or of another package, has a class of that name.
    """
    built_in = _built_in_classes()
    if name in built_in:
        return _import(built_in[name])
    plugin_classes = _plugin_classes()
    if name not in plugin_classes:
        raise unknown("probe class", name, saved_classes())
    return estimator_class(plugin_classes[name])


def _built_in_classes() -> dict[str, str]:
    return {path.rpartition(":")[2]: path for path in (*ESTIMATORS.values(), *_NOT_SWEPT)}


def _plugin_classes() -> dict[str, str]:
    """Return estimator names by the name of their class."""
    return {entry.attr: name for name, entry in plugins("estimators").items() if name not in ESTIMATORS}


def _import(path: str) -> type[Probe]:
    return pkgutil.resolve_name(path)
