"""Import: transcripts that were written elsewhere become traces of a local model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners import Reasoner
from interp.reasoners.config import CHAT
from interp.runtime.progress import Progress
from interp.traces import THINKING, TraceSet
from interp.transcripts.agreement import Agreement, measure_agreement
from interp.transcripts.aligning import DIFFERENT, EXACT, WHITE_SPACE, Aligned, Aligner
from interp.transcripts.formats import read_transcripts
from interp.transcripts.problems import transcript_problem, with_labels
from interp.transcripts.records import Refusal, Transcript

#: Columns that may hold the right answer, likeliest first.
ANSWER_COLUMNS = ("answer", "target", "gt_answer", "gold", "ground_truth", "expected_answer", "reference_answer")
_SHOWN = 3


@dataclass(frozen=True)
class Alignment:
    """Transcripts aligned to a model.

    Attributes:
        traces: The traces.
        refused: The transcripts that the model cannot read, and why.
        assumptions: What was assumed, by name.
        agreement: How likely the model finds the texts; None where it was not measured.
    """

    traces: TraceSet
    refused: list[Refusal]
    assumptions: dict[str, str]
    agreement: Agreement | None


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        traces: The traces, in the order of the files.
        formats: The format of each file.
        refused: What could not be imported, and why.
        assumptions: What was assumed, by name.
        fields: What became of each column that has no meaning of its own.
        agreement: How likely the local model finds the texts; None where it was not measured.
    """

    traces: TraceSet
    formats: dict[str, str]
    refused: list[Refusal]
    assumptions: dict[str, str]
    fields: dict[str, str]
    agreement: Agreement | None

    @property
    def graded(self) -> list[bool]:
        """Whether each answer is right, of the traces whose right answer is known."""
        return [trace.correct for trace in self.traces if trace.problem.answer]


def import_traces(
    paths: Path | str | Sequence[Path | str],
    reasoner: Reasoner,
    *,
    answer_column: str | None = None,
    system: bool = True,
    written_by: str | None = None,
    rollouts: int = 0,
    measure: bool = True,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> ImportResult:
    """Make traces of transcripts that were written elsewhere, in the tokens of a local model.

    The formats are chat messages as JSON or JSONL (OpenAI's protocol, its batches), logs of Inspect, rollout folders of
    Thought Anchors, and chat data sets of Hugging Face. See docs/models.md.

    Args:
        paths: Files and folders.
        reasoner: The model that reads them: one that thinks in text, or answers directly.
        answer_column: The column that holds the right answer; found by its name by default.
        system: Keep system messages. Otherwise they are left out of the prompts.
        written_by: Who wrote the texts; what the files say by default.
        rollouts: How many rollouts of each chunk of a Thought Anchors folder are read.
        measure: Let the model read the traces once, for entropies, log-probabilities and its agreement.
        batch_size: Traces that are read at once.
        progress: Called with (traces done, traces in all) while the model reads.

    Returns:
        The traces, what could not be imported, and what was assumed.

    Raises:
        UsageError: The format is not known, the model does not write text, or no transcript can be imported.
        StoreError: A file does not exist, or is damaged.
    """
    listed = [Path(path) for path in ([paths] if isinstance(paths, Path | str) else paths)]
    files = read_transcripts(listed, rollouts=rollouts)
    items = [item for file in files for item in file.items]
    formats = {str(file.path): file.format for file in files}
    refused = [item for item in items if isinstance(item, Refusal)]
    transcripts = [item for item in items if isinstance(item, Transcript)]
    if not transcripts:
        raise UsageError(f"expected transcripts in {listed[0]}, got none that can be used: {_reasons(refused)}.")
    assumptions = {f"not read {k}": note for k, note in enumerate((n for file in files for n in file.notes), 1)}
    column = answer_column or _answer_column(transcripts)
    if answer_column is not None and all(item.columns.get(answer_column) is None for item in transcripts):
        raise UsageError(
            f"expected a column {answer_column!r} for --answer, got {', '.join(_columns(transcripts)) or 'none'}."
        )
    if not system:
        transcripts, n_left_out = _without_system(transcripts)
        assumptions["system messages"] = f"left out of {n_left_out} prompts"
    problems, pairs, notes = _problems(transcripts, column, refused)
    problems, fields = with_labels(problems, [item.columns for item in pairs], taken=[column] if column else [])
    if written_by is not None:
        pairs = [replace(item, writer=written_by) for item in pairs]
    aligned = align_transcripts(reasoner, problems, pairs, measure=measure, batch_size=batch_size, progress=progress)
    assumptions |= {"right answers": _answers_note(column, aligned.traces), **aligned.assumptions}
    assumptions |= {f"columns {k}": note for k, note in enumerate(_counted(notes), 1)}
    return ImportResult(aligned.traces, formats, [*refused, *aligned.refused], assumptions, fields, aligned.agreement)


def align_transcripts(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    transcripts: Sequence[Transcript],
    *,
    measure: bool = True,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Alignment:
    """Align transcripts to a model's tokens, and let the model read them once.

    Args:
        reasoner: The model.
        problems: The problem of each transcript.
        transcripts: The transcripts.
        measure: Let the model read them, for entropies, log-probabilities and its agreement.
        batch_size: Traces that are read at once.
        progress: Called with (traces done, traces in all).

    Raises:
        UsageError: The model does not write text, or can read none of them.
    """
    aligner = Aligner(reasoner)
    aligned: list[Aligned] = []
    refused = []
    notes = []
    for problem, transcript in zip(problems, transcripts, strict=True):
        try:
            aligned.append(aligner.align(len(aligned), problem, transcript))
            notes += [*transcript.notes, *aligned[-1].notes]
        except UsageError as error:
            refused.append(Refusal(transcript.source, str(error)))
    if not aligned:
        raise UsageError(
            f"expected transcripts that {reasoner.name} can read, got {len(refused)} that it cannot: {_reasons(refused)}."
        )
    traces, agreement = TraceSet([item.trace for item in aligned]), None
    assumptions = {
        "prompt": _prompt_note(reasoner, problems),
        "markers": _markers_note(reasoner),
        "text": _reproduced_note(aligned),
        "thoughts": _thoughts_note(traces),
        "written by": ", ".join(
            f"{name} ({n})" for name, n in Counter(t.written_by for t in traces).most_common(_SHOWN)
        ),
    }
    assumptions |= {f"note {k}": note for k, note in enumerate(_counted(notes), 1)}
    if measure:
        traces, agreement = measure_agreement(reasoner, list(traces), batch_size=batch_size, progress=progress)
        assumptions["agreement"] = str(agreement)
    return Alignment(traces, refused, assumptions, agreement)


def _problems(
    transcripts: Sequence[Transcript], column: str | None, refused: list[Refusal]
) -> tuple[list[Problem], list[Transcript], list[str]]:
    """Return the problem of each transcript that has one, these transcripts, and notes; add the others to `refused`."""
    problems, kept, notes = [], [], []
    for number, item in enumerate(transcripts, 1):
        try:
            problem, problem_notes = transcript_problem(
                item.question,
                item.columns,
                number,
                answer=item.columns.get(column) if column else None,
                messages=item.messages,
                prompt=item.prompt,
            )
        except ValueError as error:
            refused.append(Refusal(item.source, str(error)))
            continue
        if item.prompt is None and item.question != item.question.strip():
            problem_notes.append("white space around questions is left out")
        problems.append(problem)
        kept.append(item)
        notes += problem_notes
    if not kept:
        raise UsageError(f"expected transcripts that can be used, got none: {_reasons(refused)}.")
    return problems, kept, notes


def _without_system(transcripts: Sequence[Transcript]) -> tuple[list[Transcript], int]:
    changed = [
        replace(item, messages=tuple(message for message in item.messages if message["role"] != "system"))
        for item in transcripts
    ]
    return changed, sum(a.messages != b.messages for a, b in zip(changed, transcripts, strict=True))


def _columns(transcripts: Sequence[Transcript]) -> list[str]:
    return list(dict.fromkeys(name for item in transcripts for name in item.columns))


def _answer_column(transcripts: Sequence[Transcript]) -> str | None:
    """Return the first column that may hold the right answer and does so somewhere."""
    for name in ANSWER_COLUMNS:
        if any(item.columns.get(name) not in (None, "") for item in transcripts):
            return name
    return None


def _answers_note(column: str | None, traces: TraceSet) -> str:
    missing = sum(not trace.problem.answer for trace in traces)
    if column is None:
        return "not known, so nothing is graded and `correct` means nothing; --answer COLUMN"
    more = f"; {missing} have none and count as wrong wherever an accuracy is shown" if missing else ""
    return f"column {column!r}{more}"


def _prompt_note(reasoner: Reasoner, problems: Sequence[Problem]) -> str:
    config = reasoner.config
    n_own = sum(problem.prompt is not None for problem in problems)
    n_system = sum(any(message["role"] == "system" for message in problem.messages) for problem in problems)
    template = "the model's chat template" if config.prompt == CHAT else f"template {config.prompt!r}"
    parts = [f"{template} ({len(problems) - n_own})"] if n_own < len(problems) else []
    parts += [f"as the transcripts have it ({n_own})"] if n_own else []
    parts.append(
        f"a system message in {n_system} of {len(problems)}" if n_system else "no system message in the transcripts"
    )
    if config.system is not None and n_system < len(problems):
        parts.append("the reasoner's own system message in the others")
    return ", ".join(parts)


def _markers_note(reasoner: Reasoner) -> str:
    config = reasoner.config
    return f"{config.begin or 'none'} … {config.end}" if config.end else "none: everything written is the answer"


def _reproduced_note(aligned: Sequence[Aligned]) -> str:
    counts = Counter(item.reproduced for item in aligned)
    text = f"{counts[EXACT]} of {len(aligned)} are reproduced exactly by the model's tokenizer"
    text += f", {counts[WHITE_SPACE]} up to white space" if counts[WHITE_SPACE] else ""
    if counts[DIFFERENT]:
        first = next(item for item in aligned if item.reproduced == DIFFERENT)
        text += f", {counts[DIFFERENT]} not (first: trace {first.trace.id} has {first.difference})"
    return text


def _thoughts_note(traces: TraceSet) -> str:
    without = sum(not any(channel in THINKING for channel in trace.channel) for trace in traces)
    unanswered = sum(not trace.answer for trace in traces)
    text = f"{len(traces) - without} of {len(traces)} have a thought"
    return text + (f", {unanswered} have no answer (cut off)" if unanswered else "")


def _counted(notes: Sequence[str]) -> list[str]:
    return [f"{note} ({n})" for note, n in Counter(notes).items()]


def _reasons(refused: Sequence[Refusal]) -> str:
    return "; ".join(f"{reason} ({n})" for reason, n in refusal_counts(refused).items()) or "the files are empty"


def refusal_counts(refused: Sequence[Refusal]) -> dict[str, int]:
    """Return how many transcripts were refused for each reason, most frequent first."""
    return dict(Counter(item.why.rstrip(".") for item in refused).most_common())


def summary(result: Alignment | ImportResult) -> dict[str, Any]:
    """Return what `--json` prints of an alignment."""
    return {
        "traces": len(result.traces),
        "refused": [str(item) for item in result.refused],
        "refused_by_reason": refusal_counts(result.refused),
        "assumed": result.assumptions,
        "agreement": None if result.agreement is None else result.agreement.to_dict(),
    }
