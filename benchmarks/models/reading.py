"""The next value, read from the states of SmolLM2 before it is written, beside readers of the text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.parts import PartResult
from interp.activations.recording import record
from interp.activations.step_positions import step_positions
from interp.statistics.estimates import Estimate
from interp.statistics.splits import Masks, grouped_split
from probes import MLPProbe, RidgeProbe

if TYPE_CHECKING:
    from interp.activations.recording import Recording
    from interp.reasoners import Reasoner
    from interp.traces import TraceSet

#: Problem splits: the share that is right is a mean over them, and each problem counts once for its interval.
SPLITS = (0, 1, 2)
_READERS: dict[str, Any] = {"linear": RidgeProbe, "MLP": MLPProbe}
_TEXTS = ("question", "thought", "question and thought")


def value_before_it_is_written(reasoner: Reasoner, n: int, layers: Sequence[int], seed: int = 0) -> PartResult:
    """Read the value of each step at the token before the one that begins it, on held-out structures.

    A linear probe reads the residual stream after each of `layers`, and the best layer on validation counts. Readers of
    the text, linear and MLP, are fitted to the same rows: the tokens, by position, of the question, of the thought up to
    the same token, or of both. The best of them on validation counts too.

    Args:
        reasoner: A text reasoner.
        n: Number of problems, from the structures that the model was not trained on.
        layers: Blocks whose output is read.
        seed: Seed of the problems.

    Returns:
        `models.words_probe_above_text`, the smallest lead over all steps, and the table `reading`: a row for each step.
    """
    assert reasoner.task is not None
    traces = reasoner.think(reasoner.task.generate(n, seed=seed, split="test"))
    recording = record(reasoner, traces, sites=[f"blocks.{layer}.hook_out" for layer in layers], channels=["thought"])
    positions = step_positions(recording)
    n_steps = int(positions["step"].max())
    rows = [{"step": step, **_step(recording, traces, positions, step)} for step in range(1, n_steps + 1)]
    worst = min(rows, key=lambda row: row["lead"])
    told = "; ".join(
        f"step {row['step']}: {row['right']:.3f} at {row['address']}, {row['reader']} {row['text']:.3f}, n {row['n']}"
        for row in rows
    )
    note = f"worst step {worst['step']}; {told}; {n} problems of {reasoner.task.spec}, splits {', '.join(map(str, SPLITS))}"
    return PartResult(
        {
            "models.words_probe_above_text": {
                "value": worst["lead"],
                "ci": worst["lead_ci"],
                "n": worst["n"],
                "note": note,
            }
        },
        {"reading": rows},
    )


def _step(recording: Recording, traces: TraceSet, positions: Any, step: int) -> dict[str, Any]:
    """Return how often the value of a step is read before it is written, and how often from the text."""
    at = positions[positions["step"] == step].set_index("trace")["position"]
    numbers, before = at.index.to_numpy(), at.to_numpy() - 1
    index = recording.index.set_index(["trace", "position"])
    rows = recording.index.loc[index.index.get_indexer(list(zip(numbers, before, strict=True)))]
    values = np.array([traces[k].problem.steps[step - 1].value for k in numbers])
    groups = np.array([traces[k].problem.structure for k in numbers])
    states = {address.name: recording.acts(address, rows) for address in recording.addresses}
    told = {text: _tokens(traces, numbers, before, text) for text in _TEXTS}
    texts = {
        f"{name} of the {text}": (kind, inputs)
        for name, kind in _READERS.items()
        for text, inputs in told.items()
        if inputs.shape[1]  # before the first value, all thoughts begin with the same words
    }
    right_states, right_text, tested = [], [], []
    chosen: dict[str, int] = {}
    for seed in SPLITS:
        masks = grouped_split(groups, seed)
        address, right = _best({name: (RidgeProbe, inputs) for name, inputs in states.items()}, values, masks)
        reader, right_of_text = _best(texts, values, masks)
        for name in (address, reader):
            chosen[name] = chosen.get(name, 0) + 1
        right_states.append(right)
        right_text.append(right_of_text)
        tested.append(groups[masks.test])
    right, text, structures = (np.concatenate(parts) for parts in (right_states, right_text, tested))
    lead = Estimate.of_difference(right.astype(float) - text, structures)
    return {
        "right": float(right.mean()),
        "ci": list(Estimate.of_mean(right, structures).interval),
        "address": max((name for name in chosen if name in states), key=chosen.__getitem__),
        "text": float(text.mean()),
        "text_ci": list(Estimate.of_mean(text, structures).interval),
        "reader": max((name for name in chosen if name in texts), key=chosen.__getitem__),
        "lead": lead.value,
        "lead_ci": list(lead.interval),
        "n": len(np.unique(structures)),
    }


def _best(readers: dict[str, tuple[Any, np.ndarray]], values: np.ndarray, masks: Masks) -> tuple[str, np.ndarray]:
    """Return the reader that is best on validation, and for each test row whether it is right."""
    best, scores = "", -1.0
    fitted: dict[str, Any] = {}
    for name, (kind, inputs) in readers.items():
        fitted[name] = kind().fit(inputs[masks.train], values[masks.train])
        score = float((fitted[name].predict(inputs[masks.val]) == values[masks.val]).mean())
        if score > scores:
            best, scores = name, score
    return best, fitted[best].predict(readers[best][1][masks.test]) == values[masks.test]


def _tokens(traces: TraceSet, numbers: np.ndarray, before: np.ndarray, text: str) -> np.ndarray:
    """Return a column for each token at each position of a text, counted from its beginning; shape (rows, columns)."""
    channels = {"question": ("prompt",), "thought": ("thought",)}.get(text, ("prompt", "thought"))
    cells: list[set[tuple[str, int, int]]] = []
    for k, last in zip(numbers, before, strict=True):
        trace, seen = traces[k], dict.fromkeys(channels, 0)
        cells.append(set())
        for token, channel in zip(trace.token_ids[: last + 1], trace.channel[: last + 1], strict=True):
            if channel in seen:
                cells[-1].add((channel, seen[channel], token))
                seen[channel] += 1
    columns = {cell: column for column, cell in enumerate(sorted(set().union(*cells)))}
    inputs = np.zeros((len(cells), len(columns)), np.float32)
    for row, own in enumerate(cells):
        inputs[row, [columns[cell] for cell in own]] = 1
    return inputs[:, inputs.std(axis=0) > 0]
