"""Traces: what one reasoner did on one problem, position by position, and sets of them on disk."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
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

SCHEMA_VERSION = 1
GROUP = 256  # traces in a row group, so that a part of a file can be read alone


class Channel(StrEnum):
    """What a position is for."""

    PROMPT = "prompt"
    THOUGHT = "thought"  # visible reasoning
    LATENT = "latent"  # a position with no text of its own
    ANSWER = "answer"
    SPECIAL = "special"
    PAD = "pad"


# The channels of thoughts, visible or latent.
THINKING = (Channel.THOUGHT, Channel.LATENT)


@dataclass(frozen=True)
class Trace:
    """One reasoner on one problem; every list has one entry for each position.

    `thought` counts thoughts and latents from 1 (0 elsewhere), `step` is the gold step that a thought stands
    for. `entropy` (nats) is that of the model's distribution over the token *at* the position, taken one
    position earlier; `logprob` is the log-probability of the token that was written there. Both are NaN where
    nothing was predicted, `logprob` also where the token was forced. `latents` holds the input embedding of
    each continuous thought, thoughts x d_model, or None. `sentence` numbers the sentences of a visible thought from
    1 (0 elsewhere); it is empty where the reasoner does not take its text apart. `events` says where a monitor
    stepped in (monitor, position, score, injected, text).
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

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def places(self) -> list[str]:
        """A name for each position that means the same in every trace: `question end`, `thought 2`, `answer`.

        The last token of a marker is `begin` or `end`, its earlier ones `begin marker` and `end marker`; the last
        token of a sentence of a visible thought is `sentence 3`.
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
                # Without thoughts the first of several markers opens and the last closes.
                opens = k < first if first is not None else k == markers[0] and len(markers) > 1
                nxt = k + 1
                inner = nxt in markers and (first is not None and (nxt < first) == opens)
                names.append(("begin" if opens else "end") + (" marker" if inner else ""))
            else:
                names.append("question end" if k == last_prompt else "question")
        return names


class TraceSet(Sequence[Trace]):
    """Traces of one reasoner, in order; `trace.id` is the row in the set that was thought, whatever slice it is in."""

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
        return float(np.mean([trace.correct for trace in self])) if self._traces else float("nan")

    @property
    def problems(self) -> list[Problem]:
        return [trace.problem for trace in self]

    def table(self) -> pd.DataFrame:
        """One row for each trace: question, thoughts as text, answer, gold answer, correct, steps, structure."""
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
        """The set as the content of a Parquet file, in row groups of `GROUP` traces."""
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
                "n_latents": [0 if trace.latents is None else len(trace.latents) for trace in self],
            }
        )
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, row_group_size=GROUP)
        return buffer.getvalue()

    def to_parquet(self, path: Path | str) -> None:
        """Write the set to a file, whole or not at all."""
        commit(Path(path), self.to_bytes())

    @classmethod
    def from_parquet(cls, path: Path | str) -> TraceSet:
        return cls(_read(path))

    @classmethod
    def part(cls, path: Path | str, first: int, last: int) -> TraceSet:
        """Traces `first` to `last` - 1 of a file, without holding the others in memory."""
        return cls(_read(path, first, last))


def _read(path: Path | str, first: int = 0, last: int | None = None) -> list[Trace]:
    import pyarrow.parquet as pq

    try:
        with (as_path(path) if isinstance(path, str) else path).open("rb") as handle, pq.ParquetFile(handle) as file:
            missing = _COLUMNS - set(file.schema_arrow.names)
            if missing:
                raise StoreError(f"{path} is not a trace file of this project: it lacks {', '.join(sorted(missing))}.")
            starts = [0]
            for group in range(file.num_row_groups):
                starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
            last = starts[-1] if last is None else last
            wanted = [g for g in range(file.num_row_groups) if starts[g] < last and starts[g + 1] > first]
            frame = file.read_row_groups(wanted).to_pandas()
    except FileNotFoundError:
        raise StoreError(f"no traces at {path}. Make some with `cotlens think`, or check the path.") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a readable trace file ({error}).") from None
    skipped = starts[wanted[0]] if wanted else 0
    return [_trace_from_row(row) for row in frame.iloc[first - skipped : last - skipped].to_dict("records")]


def _trace_from_row(row: dict) -> Trace:
    n_latents = int(row.pop("n_latents"))
    latents = row.pop("latents")
    events = json.loads(row.pop("events", None) or "[]")
    columns: dict[str, Any] = {key: list(map(kind, row.pop(key))) for key, kind in _LISTS.items()}
    columns["sentence"] = list(map(int, row.pop("sentence", ())))
    return Trace(
        **columns,
        **{**row, "problem": Problem.from_json(row["problem"])},
        events=events,
        latents=None if n_latents == 0 else np.array(latents, np.float32).reshape(n_latents, -1),
    )


# Files written before thoughts were taken apart have no column of sentences; before monitors, none of events.
_COLUMNS = {each.name for each in fields(Trace)} - {"sentence", "events"} | {"n_latents"}
_LISTS = {
    "token_ids": int,
    "tokens": str,
    "channel": str,
    "step": int,
    "thought": int,
    "entropy": float,
    "logprob": float,
}
