"""Colours that colour-blind readers can tell apart, and the labels of read-outs and controls in figures."""

from __future__ import annotations

# Okabe & Ito (2008), "Color universal design".
BLUE, ORANGE, GREEN, YELLOW = "#0072B2", "#E69F00", "#009E73", "#F0E442"
SKY, VERMILLION, PURPLE, BLACK, GREY, WHITE = "#56B4E9", "#D55E00", "#CC79A7", "#1b1b1b", "#8a8a8a", "#ffffff"

LABELS: dict[str, str] = {
    "probe": "linear probe",
    "sae": "SAE feature",
    "logit_lens": "logit lens",
    "random_dictionary": "random dictionary",
    "pca": "principal components",
    "neurons": "single neurons",
    "question_only": "question only",
    "before_thinking": "state before thinking",
    "other_problem": "another problem's thought",
    "shuffled_labels": "shuffled labels",
    "random_init": "untrained twin",
    "position_only": "position only",
    "text_only": "visible text only",
    "majority": "most frequent value",
}
COLOURS: dict[str, str] = {
    "probe": BLUE,
    "sae": ORANGE,
    "logit_lens": GREEN,
    "random_dictionary": YELLOW,
    "pca": SKY,
    "neurons": PURPLE,
}


def label(name: str) -> str:
    """Return the label of a decoder or control in tables and figures."""
    return LABELS.get(name, name.replace("_", " "))
