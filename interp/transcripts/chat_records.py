"""Transcripts in records of chat messages: OpenAI's protocol, its batches, and data sets of conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from interp.transcripts.records import Refusal, Transcript, conversation_notes, reply_of, split_conversation

_CONVERSATIONS = ("messages", "conversations", "conversation")
# What the protocol says about a reply beside its text: no labels of it.
_PROTOCOL = {"id", "object", "created", "model", "usage", "system_fingerprint", "service_tier", "choices", "custom_id"}
_PROTOCOL |= {"request", "response", "body", "method", "url", "error", "system", "temperature", "seed", "top_p", "stop"}
_CUT_OFF = ("length", "max_tokens")

Record = tuple[str, Any]


def read_records(records: Iterable[Record]) -> Iterator[Transcript | Refusal]:
    """Yield the transcripts of records, each with its source; a record may hold several replies.

    A record of replies alone takes its messages from the record with the same `custom_id` (OpenAI's batches).

    Args:
        records: Source and content of each record.
    """
    held = list(records)
    requests = {}
    for _, record in held:
        flat = _flat(record)
        if "custom_id" in flat and _messages(flat) is not None and "choices" not in flat:
            requests[flat["custom_id"]] = flat
    answered = {flat.get("custom_id") for flat in (_flat(record) for _, record in held) if "choices" in flat}
    for source, record in held:
        if isinstance(record, Exception):
            yield Refusal(source, f"it is not JSON ({record})")
            continue
        flat = _flat(record)
        if flat.get("custom_id") in requests and "choices" not in flat and flat["custom_id"] in answered:
            continue  # the request of a batch, which its answer is read with
        if "choices" in flat and _messages(flat) is None:
            flat = {**requests.get(flat.get("custom_id"), {}), **flat}
        yield from _transcripts(flat, source)


def is_record(record: Any) -> bool:
    """Return whether an object is a record of chat messages, or a list of messages."""
    flat = _flat(record)
    return _messages(flat) is not None or "choices" in flat


def _flat(record: Any) -> dict[str, Any]:
    """Return a record with what its request and its response hold, in one object."""
    if isinstance(record, list):
        return {"messages": record}
    if not isinstance(record, Mapping):
        return {}
    flat = dict(record)
    for name in ("body", "request", "response"):
        inner = flat.get(name)
        if isinstance(inner, Mapping):
            flat |= {key: value for key, value in _flat(inner).items() if value is not None}
    return flat


def _messages(flat: Mapping[str, Any]) -> Any:
    """Return the messages of a record, or None."""
    for name in _CONVERSATIONS:
        value = flat.get(name)
        if isinstance(value, list | tuple) and value and all(isinstance(message, Mapping) for message in value):
            return list(value)
    prompt = flat.get("prompt")
    if "choices" in flat and isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return None


def _transcripts(flat: dict[str, Any], source: str) -> Iterator[Transcript | Refusal]:
    messages = _messages(flat)
    if messages is None:
        why = "it has replies and no messages that they reply to" if "choices" in flat else "it holds no chat messages"
        yield Refusal(source, why)
        return
    if isinstance(flat.get("system"), str) and flat["system"].strip() and messages[0].get("role") != "system":
        messages = [{"role": "system", "content": flat["system"]}, *messages]
    try:
        earlier, question, written = split_conversation(messages)
    except ValueError as error:
        yield Refusal(source, str(error))
        return
    if written is not None:
        choices: list[Any] = [{"message": written}]
    else:
        choices = flat["choices"] if isinstance(flat.get("choices"), list) else []
        if not choices:
            yield Refusal(source, "its last message is the user's, so that there is no reply")
            return
    columns = {name: value for name, value in flat.items() if name not in {*_PROTOCOL, *_CONVERSATIONS}}
    columns = {name: value for name, value in columns.items() if value != question}
    for number, choice in enumerate(choices, 1):
        where = source if len(choices) == 1 else f"{source} reply {number}"
        try:
            message = choice.get("message") or {"content": choice.get("text")}
            reply = reply_of(message)
        except (ValueError, AttributeError) as error:
            yield Refusal(where, str(error) if isinstance(error, ValueError) else "its choices are no objects")
            continue
        yield Transcript(
            source=where,
            question=question,
            text=reply.text,
            thought=reply.thought,
            messages=tuple(earlier),
            cut_off=choice.get("finish_reason") in _CUT_OFF,
            writer=str(message.get("model") or flat.get("model") or ""),
            temperature=_number(flat.get("temperature")),
            seed=int(flat["seed"]) if isinstance(flat.get("seed"), int) else None,
            columns=columns,
            notes=conversation_notes(reply.notes, earlier),
        )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
