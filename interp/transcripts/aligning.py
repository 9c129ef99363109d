"""Alignment: a transcript becomes a trace of a local model, token by token, in the channels of its own writing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners import Reasoner
from interp.reasoners.options import CheckedThinkOptions
from interp.reasoners.rollouts.batch import Row
from interp.reasoners.spans import closes_thought, n_opening
from interp.reasoners.text import label_text
from interp.reasoners.vocabulary import encoded_prompt, prompt_text
from interp.traces import Channel, Trace
from interp.transcripts.layout import layout_of, tagged_text
from interp.transcripts.records import Transcript

EXACT, WHITE_SPACE, DIFFERENT = "exactly", "up to white space", "not"


@dataclass(frozen=True)
class Aligned:
    """A transcript in the tokens of a model.

    Attributes:
        trace: The trace.
        reproduced: Whether the tokens say what the transcript says: `EXACT`, `WHITE_SPACE` or `DIFFERENT`.
        difference: Where they first differ; empty where they do not.
        notes: What was assumed.
    """

    trace: Trace
    reproduced: str
    difference: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Text:
    """A reply as the model would write it, after its begin marker."""

    inside: str
    thought: str | None
    answer: str
    notes: tuple[str, ...] = ()


class Aligner:
    """Aligns transcripts to a reasoner's tokens.

    Args:
        reasoner: A reasoner whose thoughts are text, or that answers directly.

    Attributes:
        layout: The white space around a thought that is a field of its own in a transcript.

    Raises:
        UsageError: The reasoner thinks in another way.
    """

    def __init__(self, reasoner: Reasoner) -> None:
        if reasoner.kind not in ("text", "direct"):
            raise UsageError(
                f"expected a model that writes its thoughts as text, got {reasoner.name}, whose kind is "
                f"{reasoner.kind!r}; transcripts hold text alone."
            )
        self.reasoner = reasoner
        self.layout = layout_of(reasoner.tokenizer, reasoner.config)
        self._thinks = reasoner.kind == "text"
        self._end = reasoner.config.end or ""

    def align(self, number: int, problem: Problem, transcript: Transcript) -> Aligned:
        """Return the trace of a transcript.

        Args:
            number: Number of the trace in its set.
            problem: The problem that it is about.
            transcript: The transcript.

        Raises:
            UsageError: The model cannot read it: unknown words, too many tokens, a thought that it has no markers for.
        """
        vocabulary, tokenizer = self.reasoner.vocabulary, self.reasoner.tokenizer
        row = Row()
        prompt = vocabulary.prompt_ids(problem)
        self._put(row, prompt, Channel.PROMPT)
        closed = closes_thought(tokenizer, prompt, vocabulary.end)
        opening = 0 if closed else n_opening(tokenizer, prompt, vocabulary.begin, vocabulary.end)
        space = ""
        if opening:
            row.relabel(opening, Channel.SPECIAL)
            text = tokenizer.decode(prompt[-opening:])
            space = text[text.rfind(vocabulary.begin.text.strip()) + len(vocabulary.begin.text.strip()) :]
        written = self._text(transcript, is_open=bool(opening), is_closed=closed, space=space)
        before = prompt_text(tokenizer, self.reasoner.config, problem)
        if written.thought is not None and not opening and not closed and vocabulary.begin.ids:
            self._put(row, vocabulary.begin.ids, Channel.SPECIAL)
            before += vocabulary.begin.text
        if not self._thinks and not closed:
            markers = [*([] if opening else vocabulary.begin.ids), *vocabulary.end.ids]
            self._put(row, markers, Channel.SPECIAL)
            before = tokenizer.decode(row.token_ids) if markers else before
        n_given = len(row.token_ids)
        ids = self._ids(before, row, written.inside)
        is_answer = closed or not self._thinks or written.thought is None
        label_text(vocabulary, row, problem, ids, closed=is_answer)
        self._check_size(row)
        options = CheckedThinkOptions(seed=transcript.seed or 0, temperature=transcript.temperature or 0.0)
        trace = self.reasoner.trace_maker(options).trace(number, problem, row)
        trace = replace(trace, written_by=transcript.writer or "another program", temperature=transcript.temperature)
        reproduced, difference = self._compared(row, n_given, written)
        return Aligned(trace, reproduced, difference, written.notes)

    @staticmethod
    def _put(row: Row, ids: list[int], channel: Channel) -> None:
        """Append positions outside the thought."""
        row.extend(ids, channel, [0] * len(ids), [0] * len(ids))

    def _text(self, transcript: Transcript, *, is_open: bool, is_closed: bool, space: str) -> _Text:
        """Return the reply as this model would write it; `space` is what its prompt writes after the begin marker."""
        config, layout, notes = self.reasoner.config, self.layout, []
        try:
            tagged = None if transcript.thought is not None else tagged_text(transcript.text, config.begin, config.end)
        except ValueError as error:
            raise UsageError(str(error)) from None
        thought = transcript.thought if tagged is None else tagged.thought
        answer = self._without_stop(transcript.text if tagged is None else tagged.answer or "")
        never_closed = (tagged is not None and tagged.answer is None) or (thought is not None and not answer.strip())
        if tagged is None and thought is None and transcript.cut_off and is_open:
            notes.append("cut off replies without an end marker are thoughts, because the prompt opens one")
            thought, answer, never_closed = self._without_stop(transcript.text), "", True
        if thought is None or not thought.strip():
            return self._without_thought(answer, is_open=is_open)
        if not self._thinks:
            raise UsageError(
                f"it holds a thought, and {self.reasoner.name} is loaded without thinking markers; name them: "
                '--reasoner \'{"kind": "text", "begin": "<think>", "end": "</think>"}\''
            )
        if is_closed:
            raise UsageError(
                f"it holds a thought, and {self.reasoner.name}'s prompt closes the thought; change `chat_options`"
            )
        if tagged is not None and tagged.end == config.end:
            inside = tagged.inside if tagged.answer is None else f"{tagged.thought}{tagged.end}{answer}"
            return _Text(inside.removeprefix(space) if space else inside, thought, answer)
        if tagged is not None:
            notes.append(f"markers {tagged.begin or ''}…{tagged.end} are written as {config.begin or ''}…{config.end}")
        thought = thought.strip("\n")
        inside = layout.before.removeprefix(space) + thought
        if not never_closed:
            notes.append(f"white space around thoughts: {layout.source}")
            inside += f"{layout.after}{self._end}{layout.gap}{answer.lstrip()}"
        return _Text(inside, thought, answer, tuple(notes))

    def _without_thought(self, answer: str, *, is_open: bool) -> _Text:
        """Return a reply that is only an answer; where the prompt opens a thought, it is closed at once."""
        if not answer.strip():
            raise UsageError("its reply is empty")
        if not (self._thinks and is_open):
            return _Text(answer, None, answer)
        note = "the prompt opens a thought, which is closed at once where a transcript has none"
        inside = f"{self._end}{self.layout.gap}{answer.lstrip()}"
        return _Text(inside, "", answer, (note,))

    def _without_stop(self, text: str) -> str:
        """Return a text without the end-of-text token that some data sets keep at its end."""
        config = self.reasoner.config
        for stop in filter(None, (config.eos, *config.stops)):
            if text.rstrip().endswith(stop) and text.strip() != stop:
                return text.rstrip().removesuffix(stop)
        return text

    def _ids(self, before: str, row: Row, text: str) -> list[int]:
        """Return the tokens of a text after a row's: as they are in the whole, unless that changes tokens before it."""
        tokenizer = self.reasoner.tokenizer
        whole = encoded_prompt(tokenizer, self.reasoner.config, before + text)
        n = len(row.token_ids)
        ids = whole[n:] if whole[:n] == row.token_ids else list(tokenizer(text, add_special_tokens=False)["input_ids"])
        unknown = self.reasoner.vocabulary.unknown_id
        if unknown is not None and unknown in ids:
            known = tokenizer.decode([token for token in ids if token != unknown]).split()
            word = next((word for word in text.split() if word not in known), text[:40])
            raise UsageError(f"{self.reasoner.name} does not know {word!r} of it")
        return ids

    def _check_size(self, row: Row) -> None:
        limit = self.reasoner.network.max_positions
        if limit is not None and len(row.token_ids) > limit:
            raise UsageError(f"it takes {len(row.token_ids)} positions, and {self.reasoner.name} has {limit}")
        largest = max(row.token_ids)
        if largest >= self.reasoner.vocabulary.n_embeddings:
            raise UsageError(f"{self.reasoner.name} has no embedding for token {largest} of it")

    def _compared(self, row: Row, n_given: int, written: _Text) -> tuple[str, str]:
        """Return whether the tokens say what was written, and where they first do not."""
        vocabulary, tokenizer = self.reasoner.vocabulary, self.reasoner.tokenizer
        parts = ((vocabulary.thought_of(row), written.thought or ""), (vocabulary.answer_of(row), written.answer))
        if all(read.strip() == said.strip() for read, said in parts):
            return EXACT, ""
        read = tokenizer.decode(row.token_ids)[len(tokenizer.decode(row.token_ids[:n_given])) :]
        if read.strip() == written.inside.strip():
            return EXACT, ""
        if "".join(read.split()) == "".join(written.inside.split()):
            return WHITE_SPACE, ""
        k = next((k for k, (a, b) in enumerate(zip(read, written.inside, strict=False)) if a != b), len(read))
        return DIFFERENT, f"{read[k : k + 20]!r} in place of {written.inside[k : k + 20]!r}"
