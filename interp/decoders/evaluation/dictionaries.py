"""Whether a trained dictionary had rows enough to be judged by what it reads."""

from __future__ import annotations

from interp.decoders.evaluation.read_outs import ReadOuts
from interp.decoders.features import FeatureReadout

# Training rows for each feature below which a dictionary that reads less than a probe says nothing about the thoughts.
ROWS_PER_FEATURE = 10


def dictionary_notes(readouts: ReadOuts) -> list[str]:
    """Return a note on each sparse autoencoder that had few rows and reads a step less well than a probe does.

    Args:
        readouts: The read-outs. Without the method `probe`, few rows are noted whatever is read.
    """
    scores = readouts.scores()
    notes = []
    for method, decoder in readouts.decoders.items():
        if not isinstance(decoder, FeatureReadout) or decoder.sae_ is None:
            continue
        n = int((readouts.inputs.step_rows(readouts.locations[method].offset).parts == "train").sum())
        n_features = int(decoder.sae_.cfg.d_sae)
        of_method = scores[scores["method"] == method]
        worst = of_method.loc[of_method["top1"].idxmin()]
        probe = scores[(scores["method"] == "probe") & (scores["step"] == worst["step"])]
        if n >= ROWS_PER_FEATURE * n_features or (len(probe) and probe["ci_low"].iloc[0] <= worst["ci_high"]):
            continue
        beside = f", where a probe reads {probe['top1'].iloc[0]:.3f}" if len(probe) else ""
        notes.append(
            f"{method} was trained on {n} rows, {n / n_features:.1f} for each of its {n_features} features; {ROWS_PER_FEATURE} "
            f"or more are expected. That it reads {worst['top1']:.3f} of step {worst['step']}{beside}, says more about the "
            "number of rows than about the thoughts: capture more problems, or use a smaller dictionary (d_sae)."
        )
    return notes
