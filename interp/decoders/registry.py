"""Decoders by name: the built-in ones, and those that other packages add.

Another package adds a decoder through an entry point that names a class with the `Decoder` protocol and traits:

    [project.entry-points."cotlens.decoders"]
    my_lens = "my_package.lens:MyLens"

The decoders of this project that rest on probes are entry points too, because `probes` is above `interp`.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from interp.decoders.base import Decoder, DecoderTraits
from interp.errors import UsageError, unknown
from interp.runtime.plugins import load_plugin, plugins

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Module and class of each built-in decoder, imported on first use.
BUILT_IN: dict[str, str] = {
    "logit_lens": "interp.decoders.logit_lens:LogitLens",
    "tuned_lens": "interp.decoders.tuned_lens:TunedLens",
    "jacobian_lens": "interp.decoders.jacobian.lens:JacobianLens",
    "nearest_token": "interp.decoders.neighbours:NearestToken",
    "nearest_text": "interp.decoders.neighbours:NearestText",
    "neighbours": "interp.decoders.neighbours:Neighbours",
    "patchscope": "interp.decoders.patchscope:Patchscope",
    "continuation": "interp.decoders.patchscope:Continuation",
    "transplant": "interp.decoders.transplant:Transplant",
    "sae": "interp.decoders.features:FeatureReadout",
    "random_dictionary": "interp.decoders.features:FeatureReadout",
    "pca": "interp.decoders.features:FeatureReadout",
    "neurons": "interp.decoders.features:FeatureReadout",
    "verbalizer": "interp.decoders.verbalizer:Verbalizer",
    "adapted_verbalizer": "interp.decoders.verbalizer:AdaptedVerbalizer",
    "oracle": "interp.decoders.oracle:Oracle",
    "adapted_oracle": "interp.decoders.oracle:AdaptedOracle",
}


def decoder_names() -> list[str]:
    """Return the names of all decoders: the built-in ones, then those of other packages."""
    return [*BUILT_IN, *(name for name in plugins("decoders") if name not in BUILT_IN)]


def decoder_class(method: str) -> Any:
    """Return the decoder class of that name.

    Args:
        method: A name from `decoder_names()`. A built-in name always means the built-in decoder.

    Raises:
        UsageError: The name is unknown, the class cannot be imported, or it declares no traits.
    """
    if method in BUILT_IN:
        return pkgutil.resolve_name(BUILT_IN[method])
    added = plugins("decoders")
    if not added:
        raise UsageError(
            f"expected the decoders that the installed cotlens registers, got none while looking for {method!r}; "
            "reinstall it (pip install -e . in a checkout)."
        )
    if method not in added:
        raise unknown("decoding method", method, decoder_names())
    loaded = load_plugin("decoders", method)
    if not isinstance(getattr(loaded, "traits", None), DecoderTraits):
        raise UsageError(
            f"expected the decoder plugin {method!r} to have a class attribute `traits` of type DecoderTraits, got "
            f"{loaded!r} without one. Declare it (interp.decoders.base)."
        )
    return loaded


def decoder_traits(method: str) -> DecoderTraits:
    """Return the traits of the decoder of that name."""
    return decoder_class(method).traits


def make_decoder(method: str, reasoner: Reasoner | None = None, options: Mapping[str, Any] | None = None) -> Decoder:
    """Return a new decoder, not yet fitted.

    Args:
        method: A name from `decoder_names()`.
        reasoner: The model, for decoders that run it.
        options: Keyword arguments of the decoder's constructor.

    Raises:
        UsageError: The name or an option is unknown, or the decoder runs the model and `reasoner` is None.
    """
    cls, options = decoder_class(method), dict(options or {})
    first: list[Any] = [method] if cls.traits.dictionary else []
    if cls.traits.needs_model:
        if reasoner is None:
            raise UsageError(f"expected a reasoner for the {method.replace('_', ' ')}, got None; pass reasoner=.")
        first = [reasoner]
    try:
        inspect.signature(cls).bind(*first, **options)
    except TypeError as error:
        raise UsageError(f"the options of {method} do not fit: {error}. See {cls.__module__}.{cls.__name__}.") from None
    return cls(*first, **options)
