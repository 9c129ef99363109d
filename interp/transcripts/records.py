"""A transcript, and how chat messages become one. Nothing here knows a model or a file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Where servers and data sets put the thought of a message, likeliest first.
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
_TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass(frozen=True)
class Transcript:
    """One reply of a model, with what it replied to.

    Attributes:
        source: Where it is, as "chat.jsonl line 3".
        question: The message that it replies to.
        text: What the reply says; with the thought in tags, where that is not a field of its own.
        thought: The thought, where it is a field of its own; None elsewhere.
        messages: The messages before the question.
        prompt: The whole prompt as text around `{question}`, where it is known as text.
        cut_off: Whether the reply ended at a limit of tokens.
        writer: The model that wrote it; empty where that is not known.
        temperature: The temperature of the sampling, where it is known.
        seed: The seed of the sampling, where it is known.
        columns: Whatever else is known about it, by name.
        notes: What was assumed when it was read.
    """

    source: str
    question: str
    text: str
    thought: str | None = None
    messages: tuple[dict[str, Any], ...] = ()
    prompt: str | None = None
    cut_off: bool = False
    writer: str = ""
    temperature: float | None = None
    seed: int | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """What could not be imported.

    Attributes:
        source: Where it is.
        why: The reason.
    """

    source: str
    why: str

    def __str__(self) -> str:
        """Return "chat.jsonl line 3: its last message is the user's"."""
        return f"{self.source}: {self.why}"


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        text: The text.
        thought: The thought, where it is a field of its own.
        notes: What was assumed.
    """

    text: str
    thought: str | None
    notes: tuple[str, ...] = ()


def reply_of(message: Mapping[str, Any]) -> Reply:
    """Return the text and the thought of an assistant's message.

    Args:
        message: A message whose `content` is a text or a list of parts.

    Raises:
        ValueError: It calls tools, holds something other than text, or its thought is not readable.
    """
    if message.get("tool_calls") or message.get("function_call"):
        raise ValueError("its reply calls tools, which is not text alone")
    texts, thoughts = _parts(message)
    if not thoughts:
        thoughts = [message[name] for name in _THOUGHT_FIELDS if isinstance(message.get(name), str)][:1]
    kinds = {"text": texts, "thought": thoughts}
    notes = tuple(
        f"several {kind} parts of a reply are joined by line breaks" for kind in kinds if len(kinds[kind]) > 1
    )
    if not any(part.strip() for part in (*texts, *thoughts)):
        raise ValueError("its reply is empty")
    return Reply("\n".join(texts), "\n".join(thoughts) if thoughts else None, notes)


def split_conversation(messages: Sequence[Any]) -> tuple[list[dict[str, Any]], str, Mapping[str, Any] | None]:
    """Return the messages before the question, the question, and the reply to it; None where there is none yet.

    Only the last reply of a conversation is a transcript: earlier ones are part of its prompt.

    Args:
        messages: Messages with `role` and `content`, or `from` and `value`.

    Raises:
        ValueError: The conversation has no question, or messages that are not text.
    """
    if not all(isinstance(message, Mapping) for message in messages) or not messages:
        raise ValueError("expected messages with 'role' and 'content', got something else")
    roles = [_role(message) for message in messages]
    reply = messages[-1] if roles[-1] == "assistant" else None
    before = list(messages[:-1] if reply is not None else messages)
    if not before or _role(before[-1]) != "user":
        role = f"is of role {_role(before[-1])!r}" if before else "is missing"
        raise ValueError(f"the message before its reply {role}, not the user's question")
    earlier = [_prompt_message(message, k) for k, message in enumerate(before, 1)]
    question = earlier.pop()["content"]
    if not question.strip():
        raise ValueError("its question is empty")
    return earlier, question, reply


def conversation_notes(notes: Sequence[str], earlier: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the notes of a transcript with what its earlier messages are."""
    all_notes = list(notes)
    if any(message["role"] == "system" for message in earlier):
        all_notes.append("a system message comes before the question")
    if any(message["role"] == "assistant" for message in earlier):
        all_notes.append("earlier turns of the conversation are part of the prompt; only the last reply is a trace")
    return tuple(all_notes)


def _role(message: Mapping[str, Any]) -> str:
    role = message.get("role", message.get("from", ""))
    return _ROLES.get(str(role).lower(), str(role).lower())


def _prompt_message(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a message of the prompt with `role` and `content`, and the thought of an earlier turn."""
    role = _role(message)
    if role not in ("system", "user", "assistant") or message.get("tool_calls"):
        raise ValueError(
            f"its message {number} is of role {role!r} or calls tools; only texts of people and models fit"
        )
    texts, thoughts = _parts(message)
    written: dict[str, Any] = {"role": role, "content": "\n".join(texts)}
    thoughts = thoughts or [message[name] for name in _THOUGHT_FIELDS if isinstance(message.get(name), str)][:1]
    return written | ({"reasoning_content": "\n".join(thoughts)} if thoughts else {})


def _parts(message: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the texts and the thoughts of a message's content."""
    content = message.get("content", message.get("value"))
    if content is None:
        return [], []
    if isinstance(content, str):
        return [content], []
    if not isinstance(content, Sequence):
        raise ValueError(f"expected a message's content to be text or a list of parts, got {type(content).__name__}")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text" if isinstance(part, str) else "?"
        if kind in ("reasoning", "thinking"):
            thought = part.get("reasoning", part.get("thinking", part.get("text")))
            if part.get("redacted") or not isinstance(thought, str):
                raise ValueError("its thought is redacted by the service that wrote it")
            thoughts.append(thought)
        elif kind == "redacted_thinking":
            raise ValueError("its thought is redacted by the service that wrote it")
        elif kind in _TEXT_PARTS:
            texts.append(part if isinstance(part, str) else str(part.get("text", "")))
        else:
            raise ValueError(f"a message holds a part of type {kind!r}, which is not text")
    return texts, thoughts
