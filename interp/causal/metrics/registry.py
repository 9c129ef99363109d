"""The metrics by name."""

from __future__ import annotations

from interp.causal.metrics.attending import attention_to_steps, logit_attribution, receiver_heads
from interp.causal.metrics.base import Metric
from interp.causal.metrics.committing import commitment_by_lens, commitment_by_probe, commitment_forced
from interp.causal.metrics.edits import adding_mistakes, early_answering, filler_tokens, forced_difference, paraphrase
from interp.causal.metrics.hints import biased_context, cue_acknowledgement, simulatability
from interp.causal.metrics.routes import route_around
from interp.causal.metrics.sampling import resampling, suppression
from interp.causal.metrics.shares import cc_shap
from interp.causal.metrics.states import kv_interchange, path_patching, state_interchange

METRICS: tuple[Metric, ...] = (
    Metric("early answering", "arXiv 2307.13702", "both", early_answering),
    Metric("adding mistakes", "arXiv 2307.13702", "both", adding_mistakes),
    Metric("filler tokens", "arXiv 2307.13702", "both", filler_tokens),
    Metric("paraphrase", "arXiv 2307.13702", "both", paraphrase),
    Metric("forced answers", "arXiv 2305.04388", "chain", forced_difference),
    Metric("biased context", "arXiv 2305.04388", "chain", biased_context),
    Metric("cue acknowledgement", "arXiv 2505.05410", "chain", cue_acknowledgement),
    Metric("simulatability", "arXiv 2307.08678", "chain", simulatability),
    Metric("resampling", "arXiv 2506.19143", "both", resampling),
    Metric("suppression", "arXiv 2506.19143", "both", suppression),
    Metric("receiver heads", "arXiv 2506.19143", "both", receiver_heads),
    Metric("CC-SHAP", "arXiv 2311.07466", "chain", cc_shap),
    Metric("attention to steps", "arXiv 1902.10186", "both", attention_to_steps),
    Metric("logit attribution", "Elhage et al. 2021", "both", logit_attribution),
    Metric("commitment, forced", "arXiv 2307.13702", "both", commitment_forced),
    Metric("commitment, lens", "nostalgebraist 2020", "both", commitment_by_lens),
    Metric("commitment, probe", "arXiv 1610.01644", "both", commitment_by_probe),
    Metric("state interchange", "ours", "both", state_interchange),
    Metric("K/V interchange", "ours", "both", kv_interchange),
    Metric("path patching", "ours", "both", path_patching),
    Metric("route around the text", "ours", "chain", route_around),
)
