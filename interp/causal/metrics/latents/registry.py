"""The metrics for latents by name, and why others have no meaning there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from interp.causal.metrics.attending import attention_to_steps, logit_attribution, receiver_heads
from interp.causal.metrics.base import FaithfulnessScores, Metric
from interp.causal.metrics.committing import commitment_by_lens, commitment_by_probe, commitment_forced
from interp.causal.metrics.edits import early_answering
from interp.causal.metrics.hints import biased_context, cue_acknowledgement, simulatability
from interp.causal.metrics.latents.edits import ablation, adding_mistakes, filler_tokens, forced_difference, paraphrase
from interp.causal.metrics.latents.states import kv_interchange, path_patching, state_interchange
from interp.causal.metrics.registry import METRICS
from interp.causal.metrics.routes import route_around
from interp.causal.metrics.sampling import suppression

#: What is measured of latents. A metric that reads words reads those of the logit lens.
_MEASURED: Mapping[str, Callable[[Any], FaithfulnessScores]] = {
    "early answering": early_answering,
    "adding mistakes": adding_mistakes,
    "filler tokens": filler_tokens,
    "paraphrase": paraphrase,
    "forced answers": forced_difference,
    "biased context": biased_context,
    "cue acknowledgement": cue_acknowledgement,
    "simulatability": simulatability,
    "suppression": suppression,
    "receiver heads": receiver_heads,
    "attention to steps": attention_to_steps,
    "logit attribution": logit_attribution,
    "commitment, forced": commitment_forced,
    "commitment, lens": commitment_by_lens,
    "commitment, probe": commitment_by_probe,
    "state interchange": state_interchange,
    "K/V interchange": kv_interchange,
    "path patching": path_patching,
    "route around the text": route_around,
}
#: Metrics without a meaning for latents, and why.
WITHOUT_MEANING: Mapping[str, str] = MappingProxyType(
    {
        "resampling": "latents are computed, not sampled",
        "CC-SHAP": "latents have no tokens whose probability the question's words could explain",
    }
)

LATENT_METRICS: tuple[Metric, ...] = (
    *(Metric(of.name, of.source, of.level, _MEASURED[of.name]) for of in METRICS if of.name in _MEASURED),
    Metric("ablation", "arXiv 2211.00593", "both", ablation),  # type: ignore[arg-type]
)
