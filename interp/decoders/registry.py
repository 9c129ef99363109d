"""The table of decoders: a name for each, and how one is made."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from interp.decoders.base import Decoder
from interp.errors import UsageError, unknown

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Where each decoder lives; imported when it is used, so that decoders of later packages draw no arrow from here.
DECODERS: dict[str, str] = {
    "logit_lens": "interp.decoders.logit_lens:LogitLens",
    "tuned_lens": "interp.decoders.tuned_lens:TunedLens",
    "nearest_token": "interp.decoders.neighbours:NearestToken",
    "nearest_text": "interp.decoders.neighbours:NearestText",
    "neighbours": "interp.decoders.neighbours:Neighbours",
    "patchscope": "interp.decoders.patchscope:Patchscope",
    "continuation": "interp.decoders.patchscope:Continuation",
    "probe": "probes.decoder:ProbeDecoder",
    "step_embedding": "probes.decoder:StepEmbeddingDecoder",
    "sae": "interp.decoders.features:FeatureReadout",
    "random_dictionary": "interp.decoders.features:FeatureReadout",
    "pca": "interp.decoders.features:FeatureReadout",
    "neurons": "interp.decoders.features:FeatureReadout",
    "verbalizer": "interp.decoders.verbalizer:Verbalizer",
    "adapted_verbalizer": "interp.decoders.verbalizer:AdaptedVerbalizer",
    "oracle": "interp.decoders.oracle:Oracle",
    "adapted_oracle": "interp.decoders.oracle:AdaptedOracle",
}


def make_decoder(method: str, reasoner: Reasoner | None, **options: Any) -> Decoder:
    """The decoder of that name. Raises `UsageError` on an unknown one, or one that runs the model without its reasoner."""
    kind = decoder_class(method)
    if needs_model(method):
        if reasoner is None:
            raise UsageError(f"the {method.replace('_', ' ')} needs the model itself; pass reasoner=.")
        return kind(reasoner, **options)
    if is_dictionary(method):
        return kind(method, **options)
    return kind(**options)


def decoder_class(method: str) -> Any:
    if method not in DECODERS:
        raise unknown("decoding method", method, DECODERS)
    module, _, attribute = DECODERS[method].partition(":")
    return getattr(importlib.import_module(module), attribute)


def needs_model(method: str) -> bool:
    """Whether a decoder runs the reasoner's own model."""
    return bool(getattr(decoder_class(method), "needs_model", False))


def is_dictionary(method: str) -> bool:
    """Whether a decoder is one of the dictionaries that share their options and their site."""
    return DECODERS.get(method, "").endswith("FeatureReadout")
