"""What can be asked of a model, by question, with the page or the command that answers it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question of a reader.

    Attributes:
        text: The question.
        kind: The kind of artifact that answers it.
        page: The page that shows the answer; empty where only the command does.
        command: The command that makes what answers it.
    """

    text: str
    kind: str
    page: str
    command: str


QUESTIONS = (
    Question(
        "What did the model write, and where is it wrong?",
        "traces",
        "traces",
        "cotlens think MODEL --task chain:n=500 --out traces.parquet",
    ),
    Question("What does it think at each step, and do its thoughts matter?", "run", "latents", "cotlens study MODEL"),
    Question("At which layer and position can a value be read?", "sweep", "probes", "cotlens probe sweep STORE"),
    Question("How sure are these figures, and what do the controls give?", "run", "overview", "cotlens study MODEL"),
    Question("Which decoder reads the thoughts best?", "store", "", "cotlens decode eval STORE"),
    Question(
        "Which features does a dictionary find?", "store", "", "cotlens sae train STORE --address ADDRESS --out SAE"
    ),
    Question("Does the answer follow when a thought is changed?", "", "", "cotlens causal interchange MODEL"),
    Question("Which path through the model leads to an answer?", "", "", "cotlens causal attribute MODEL --out GRAPHS"),
    Question("What does the text not say?", "", "", "cotlens subtext measure MODEL"),
    Question("When is the answer decided?", "", "", "cotlens subtext commitment MODEL"),
)
