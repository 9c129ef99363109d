"""What can be asked of a model, by question, with the page or the command that answers it."""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.artifacts.finding import CAUSAL, TEXT


@dataclass(frozen=True)
class Question:
    """A question of a reader.

    Attributes:
        text: The question.
        kinds: The kinds of artifacts that answer it.
        page: The page that shows the answer.
        command: The command that makes what answers it.
    """

    text: str
    kinds: tuple[str, ...]
    page: str
    command: str


QUESTIONS = (
    Question(
        "What did the model write, and where is it wrong?",
        ("run", "traces", "store"),
        "traces",
        "cotlens think MODEL --task chain:n=500 --out traces.parquet",
    ),
    Question(
        "What does it think at each step, and do its thoughts matter?", ("run",), "latents", "cotlens study MODEL"
    ),
    Question(
        "At which layer and position can a value be read?", ("sweep", "run"), "probes", "cotlens probe sweep STORE"
    ),
    Question("How sure are these figures, and what do the controls give?", ("run",), "overview", "cotlens study MODEL"),
    Question("Which decoder reads the thoughts best?", ("run",), "overview", "cotlens decode eval STORE"),
    Question(
        "Which features does a dictionary find?",
        ("sae",),
        "features",
        "cotlens sae train STORE --address ADDRESS --out SAE",
    ),
    Question(
        "Does the answer follow when a thought is changed?",
        ("run", CAUSAL),
        "causal",
        "cotlens causal interchange MODEL",
    ),
    Question(
        "Which path through the model leads to an answer?",
        ("graph",),
        "causal",
        "cotlens causal attribute MODEL --out GRAPHS",
    ),
    Question("What does the text not say?", ("run", TEXT), "faithfulness", "cotlens subtext measure MODEL"),
    Question("When is the answer decided?", (TEXT,), "faithfulness", "cotlens subtext commitment MODEL"),
)
