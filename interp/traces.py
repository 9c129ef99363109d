"""Traces: what a reasoner did on a problem, position by position, in memory and on disk."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.errors import StoreError
from interp.problems.base import Problem
from interp.runtime.files import as_path, commit
from interp.runtime.written import kind_in_words

SCHEMA_VERSION = 1
ROW_GROUP = 256  # traces in a Parquet row group, the unit in which a file is read


class Channel(StrEnum):
    """What a position is for."""

    PROMPT = "prompt"
    THOUGHT = "thought"  # visible reasoning
    LATENT = "latent"  # a position without text
    ANSWER = "answer"
    SPECIAL = "special"
    PAD = "pad"


# In place of the position of a step's value: the step is not written, or is written where nobody could find it.
LEFT_OUT, UNPLACED = -1, -2

# The channels of thoughts, visible or latent.
THINKING = (Channel.THOUGHT, Channel.LATENT)


@dataclass(frozen=True)
class Trace:
    """What one reasoner did on one problem. Every list has one entry for each position.

    Attributes:
        id: Row of the trace in the set that was recorded, also in slices of the set.
        problem: The problem.
        reasoner: Name of the reasoner.
        token_ids: Token ids.
        tokens: Tokens as text.
        channel: What each position is for; see `Channel`.
        step: The gold step of a thought, from 1; 0 elsewhere.
        thought: Number of the thought or latent, from 1; 0 elsewhere.
        entropy: Entropy in nats of the model's distribution over the token at this position, predicted one position
            earlier; NaN where nothing was predicted.
        logprob: Log-probability of the token at this position; NaN where nothing was predicted or the token was
            forced.
        text: The visible thought.
        answer: The answer.
        correct: Whether the answer is right.
        seed: Seed of the sampling.
        latents: Input embedding of each continuous thought, shape (thoughts, d_model), or None.
        sentence: Number of the sentence of a visible thought, from 1, and 0 elsewhere; empty where the reasoner does
            not split its text.
        events: Where a monitor intervened: monitor, position, score, injected, text.
        weights: Hash of the weights of the reasoner; empty where it is not known, as in older files.
        tokenizer: Hash of its tokenizer's vocabulary; empty where it is not known.
        value_positions: For each gold step of a visible thought, the position of the token that completes its value;
            `LEFT_OUT` where the step is not written, `UNPLACED` where the answer is right but no place was found. Empty
            for latent thoughts, whose value is at the step's last thought.
        temperature: Temperature at which the reasoner chose its tokens, 0 where it took the likeliest; None where it is
            not known, as in files of older versions.
        written_by: Who wrote the text, where it was not the reasoner: an imported transcript, or a server. Entropies and
            log-probabilities are those of the reasoner's model all the same. Empty where the reasoner wrote it.
        labels: Labels of a table of the user's own, beside those of the problem: one for the trace, or a list with one
            for each step; see `interp.text.label_tables`.
        token_labels: Labels of positions of such a table: a list with one for each position, None where there is none.
    """

    id: int
    problem: Problem
    reasoner: str
    token_ids: list[int]
    tokens: list[str]
    channel: list[str]
    step: list[int]
    thought: list[int]
    entropy: list[float]
    logprob: list[float]
    text: str
    answer: str
    correct: bool
    seed: int = 0
    latents: Float32[np.ndarray, "thoughts d_model"] | None = field(default=None, hash=False, compare=False)
    sentence: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list, compare=False)
    weights: str = field(default="", compare=False)
    tokenizer: str = field(default="", compare=False)
    value_positions: list[int] = field(default_factory=list)
    temperature: float | None = field(default=None, compare=False)
    written_by: str = field(default="", compare=False)
    labels: Mapping[str, str | list[str | None]] = field(default_factory=dict, hash=False, compare=False)
    token_labels: Mapping[str, list[str | None]] = field(default_factory=dict, hash=False, compare=False)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def own_labels(self) -> Mapping[str, str | Sequence[str | None] | None]:
        """The user's own labels of the trace and of its steps: those of the problem and those of tables."""
        return {**self.problem.labels, **self.labels}

    def step_position(self, step: int) -> int | None:
        """Return the position at which a gold step is complete, None where it has none.

        It completes the value in a visible thought, and is the last thought of the step in a latent one.

        Args:
            step: Number of the step, from 1.
        """
        if self.value_positions:
            position = self.value_positions[step - 1] if step <= len(self.value_positions) else UNPLACED
            return position if position >= 0 else None
        return max((k for k, number in enumerate(self.step) if number == step and self.thought[k]), default=None)

    @property
    def places(self) -> list[str]:
        """The place of each position: a name that means the same in every trace.

        Places are `question`, `question end`, `begin`, `thought 2`, `sentence 3`, `end`, `answer` and `answer 2`. A
        sentence is named at its last token. Of a marker of several tokens, the last is `begin` or `end` and the others
        are `begin marker` or `end marker`.
        """
        last_prompt = max((k for k, c in enumerate(self.channel) if c == Channel.PROMPT), default=-1)
        markers = [k for k, c in enumerate(self.channel) if c == Channel.SPECIAL]
        first, last = (
            next((k for k in order if self.channel[k] in (Channel.THOUGHT, Channel.LATENT)), None)
            for order in (range(len(self)), range(len(self) - 1, -1, -1))
        )
        names, answers = [], 0
        for k, channel in enumerate(self.channel):
            if channel in (Channel.THOUGHT, Channel.LATENT):
                sentence = self.sentence[k] if self.sentence else 0
                closes = sentence and (k == last or self.sentence[k + 1] != sentence)
                names.append(f"sentence {sentence}" if closes else f"thought {self.thought[k]}")
            elif channel == Channel.ANSWER:
                answers += 1
                names.append("answer" if answers == 1 else f"answer {answers}")
            elif channel == Channel.SPECIAL:
                # Without thoughts, the first of several markers begins and the last ends.
                opens = k < first if first is not None else k == markers[0] and len(markers) > 1
                following = k + 1
                inner = following in markers and (first is not None and (following < first) == opens)
                names.append(("begin" if opens else "end") + (" marker" if inner else ""))
            else:
                names.append("question end" if k == last_prompt else "question")
        return names


class TraceSet(Sequence[Trace]):
    """Traces of one reasoner, in order. A slice is a `TraceSet`, an index gives a `Trace`."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self._traces = list(traces)

    def __len__(self) -> int:
        return len(self._traces)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._traces)

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        return TraceSet(self._traces[key]) if isinstance(key, slice) else self._traces[key]

    @property
    def accuracy(self) -> float:
        """Share of traces with a right answer; NaN for an empty set."""
        return float(np.mean([trace.correct for trace in self])) if self._traces else float("nan")

    @property
    def problems(self) -> list[Problem]:
        """The problem of each trace."""
        return [trace.problem for trace in self]

    def table(self) -> pd.DataFrame:
        """Return the traces as a table.

        Returns:
            One row for each trace. Columns: trace, question, text, answer, gold, correct, n_steps, structure.
        """
        return pd.DataFrame(
            {
                "trace": [trace.id for trace in self],
                "question": [trace.problem.question for trace in self],
                "text": [trace.text for trace in self],
                "answer": [trace.answer for trace in self],
                "gold": [trace.problem.answer for trace in self],
                "correct": [trace.correct for trace in self],
                "n_steps": [trace.problem.n_steps for trace in self],
                "structure": [trace.problem.structure for trace in self],
            }
        )

    def to_bytes(self) -> bytes:
        """Return the content of a Parquet file of the set."""
        frame = pd.DataFrame(
            {
                "id": [trace.id for trace in self],
                "problem": [trace.problem.to_json() for trace in self],
                "reasoner": [trace.reasoner for trace in self],
                "token_ids": [trace.token_ids for trace in self],
                "tokens": [trace.tokens for trace in self],
                "channel": [list(map(str, trace.channel)) for trace in self],
                "step": [trace.step for trace in self],
                "thought": [trace.thought for trace in self],
                "entropy": [np.asarray(trace.entropy, np.float32) for trace in self],
                "logprob": [np.asarray(trace.logprob, np.float32) for trace in self],
                "text": [trace.text for trace in self],
                "answer": [trace.answer for trace in self],
                "correct": [trace.correct for trace in self],
                "seed": [trace.seed for trace in self],
                "sentence": [trace.sentence for trace in self],
                "latents": [None if trace.latents is None else trace.latents.ravel() for trace in self],
                "events": [json.dumps(trace.events) for trace in self],
                "weights": [trace.weights for trace in self],
                "tokenizer": [trace.tokenizer for trace in self],
                "value_positions": [trace.value_positions for trace in self],
                "temperature": np.array([trace.temperature for trace in self], np.float64),
                "written_by": [trace.written_by for trace in self],
                "labels": [json.dumps(dict(trace.labels)) for trace in self],
                "token_labels": [json.dumps(dict(trace.token_labels)) for trace in self],
                "n_latents": [0 if trace.latents is None else len(trace.latents) for trace in self],
            }
        )
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, row_group_size=ROW_GROUP, write_page_checksum=True)
        return buffer.getvalue()

    def to_parquet(self, path: Path | str) -> None:
        """Write the set to a Parquet file, atomically.

        Args:
            path: The file to write; one that exists is replaced.

        Raises:
            StoreError: The file cannot be written.
        """
        commit(Path(path), self.to_bytes())

    @classmethod
    def from_parquet(cls, path: Path | str) -> TraceSet:
        """Read a set from a file or URL.

        Args:
            path: A file or fsspec URL that `to_parquet` wrote.

        Returns:
            The traces, in the order of the file.

        Raises:
            StoreError: There is no such file, or it is not a readable trace file.
        """
        return cls(_read(path))

    @classmethod
    def part(cls, path: Path | str, first: int, last: int) -> TraceSet:
        """Read some consecutive traces of a file, without holding the others in memory.

        Args:
            path: A file or fsspec URL that `to_parquet` wrote.
            first: Index of the first trace to read.
            last: Index after the last trace to read.

        Returns:
            Traces `first` to `last` - 1.

        Raises:
            StoreError: There is no such file, or it is not a readable trace file.
        """
        return cls(_read(path, first, last))


def _read(path: Path | str, first: int = 0, last: int | None = None) -> list[Trace]:
    try:
        with (as_path(path) if isinstance(path, str) else path).open("rb") as handle, _verified(handle) as file:
            missing = _COLUMNS - set(file.schema_arrow.names)
            if missing:
                raise StoreError(f"{path} is not a trace file of this project: it lacks {', '.join(sorted(missing))}.")
            starts = [0]
            for group in range(file.num_row_groups):
                starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
            last = starts[-1] if last is None else last
            groups = [g for g in range(file.num_row_groups) if starts[g] < last and starts[g + 1] > first]
            frame = file.read_row_groups(groups).to_pandas()
        skipped = starts[groups[0]] if groups else 0
        return [_trace_from_row(row) for row in frame.iloc[first - skipped : last - skipped].to_dict("records")]
    except FileNotFoundError:
        raise StoreError(f"no traces at {path}. Make some with `cotlens think`, or check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, MemoryError) as error:
        if isinstance(error, IsADirectoryError):
            inside = (
                f"; its traces are in {path}/traces.parquet"
                if (as_path(str(path)) / "traces.parquet").exists()
                else "; name the Parquet file that `cotlens think` wrote"
            )
            kind = kind_in_words(path) or "a folder"
            raise StoreError(f"expected a trace file, got {path}, which is {kind}{inside}.") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path} is not a readable trace file ({reason[:200]}).") from None


def _verified(handle: Any) -> Any:
    """Open a Parquet file whose pages are compared with their checksums; older files have none."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(handle, page_checksum_verification=True)


def _trace_from_row(row: dict) -> Trace:
    n_latents = int(row.pop("n_latents"))
    latents = row.pop("latents")
    events = json.loads(row.pop("events", None) or "[]")
    labels, token_labels = (json.loads(row.pop(key, None) or "{}") for key in ("labels", "token_labels"))
    columns: dict[str, Any] = {key: list(map(convert, row.pop(key))) for key, convert in _LISTS.items()}
    for key in ("sentence", "value_positions"):
        columns[key] = list(map(int, row.pop(key, ())))
    temperature = float(row.pop("temperature", float("nan")))
    return Trace(
        **columns,
        **{**row, "problem": Problem.from_json(row["problem"])},
        events=events,
        labels=labels,
        token_labels=token_labels,
        temperature=None if np.isnan(temperature) else temperature,
        latents=None if n_latents == 0 else np.array(latents, np.float32).reshape(n_latents, -1),
    )


# Older files lack some columns.
_NEWER = {"sentence", "events", "weights", "tokenizer", "value_positions", "temperature", "written_by"}
_NEWER |= {"labels", "token_labels"}
_COLUMNS = {column.name for column in fields(Trace)} - _NEWER | {"n_latents"}
_LISTS = {
    "token_ids": int,
    "tokens": str,
    "channel": str,
    "step": int,
    "thought": int,
    "entropy": float,
    "logprob": float,
}
