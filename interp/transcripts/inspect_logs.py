"""Transcripts in logs of Inspect (inspect.aisi.org.uk): `.eval` files, which are archives of JSON, and `.json` logs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.transcripts.records import Refusal, Transcript, conversation_notes, reply_of, split_conversation

_ATTACHMENT = "attachment://"
_CUT_OFF = ("max_tokens", "model_length")


def is_inspect_archive(path: Path) -> bool:
    """Return whether a file is an archive with samples of Inspect."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.startswith("samples/") or name in ("header.json", "_journal/start.json") for name in names)


def is_inspect_log(content: Any) -> bool:
    """Return whether the content of a JSON file is a whole log of Inspect."""
    return isinstance(content, Mapping) and "eval" in content and isinstance(content.get("samples"), list)


def read_archive(path: Path) -> Iterator[Transcript | Refusal]:
    """Yield the transcripts of an `.eval` file, sample by sample.

    Raises:
        StoreError: The archive is damaged, or compressed in a way that cannot be read here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            start = next((name for name in ("header.json", "_journal/start.json", "start.json") if name in names), None)
            header = {} if start is None else json.loads(archive.read(start))
            for name in sorted(name for name in names if name.startswith("samples/") and name.endswith(".json")):
                yield _transcript(json.loads(archive.read(name)), header, f"{path.name} {name.removesuffix('.json')}")
    except NotImplementedError:
        raise StoreError(
            f"expected an archive in a common compression in {path}, got another; write it again with "
            "`inspect log convert --to json`."
        ) from None
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise StoreError(f"{path} is a damaged log of Inspect ({error}).") from None


def read_log(content: Mapping[str, Any], name: str) -> Iterator[Transcript | Refusal]:
    """Yield the transcripts of a JSON log."""
    for sample in content["samples"]:
        yield _transcript(sample, content, f"{name} sample {sample.get('id')} epoch {sample.get('epoch', 1)}")


def _transcript(sample: dict[str, Any], header: Mapping[str, Any], source: str) -> Transcript | Refusal:
    if sample.get("error"):
        return Refusal(source, "the sample ended with an error")
    sample = _with_attachments(sample, sample.get("attachments") or {})
    about = header.get("eval") or {}
    output = sample.get("output") or {}
    try:
        earlier, question, written = split_conversation(sample.get("messages") or [])
        if written is None:
            return Refusal(source, "its last message is the user's, so that there is no reply")
        reply = reply_of(written)
    except ValueError as error:
        return Refusal(source, str(error))
    choices = output.get("choices") or [{}]
    settings = {**((header.get("plan") or {}).get("config") or {}), **(about.get("model_generate_config") or {})}
    target = sample.get("target")
    notes = conversation_notes(reply.notes, earlier)
    if isinstance(target, list):
        if len(target) > 1:
            notes = (*notes, "of several accepted targets, the first is the right answer")
        target = target[0] if target else None
    columns = {"id": sample.get("id"), "epoch": sample.get("epoch"), **(sample.get("metadata") or {})}
    columns |= {
        f"score.{name}": score.get("value")
        for name, score in (sample.get("scores") or {}).items()
        if isinstance(score, Mapping)
    }
    return Transcript(
        source=source,
        question=question,
        text=reply.text,
        thought=reply.thought,
        messages=tuple(earlier),
        cut_off=choices[0].get("stop_reason") in _CUT_OFF,
        writer=str(output.get("model") or written.get("model") or about.get("model") or ""),
        temperature=settings.get("temperature"),
        seed=settings.get("seed"),
        columns={**columns, "target": target},
        notes=notes,
    )


def _with_attachments(value: Any, attachments: Mapping[str, str]) -> Any:
    """Return JSON with references to attachments replaced by what they refer to."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments.get(value.removeprefix(_ATTACHMENT), value)
    if isinstance(value, list):
        return [_with_attachments(entry, attachments) for entry in value]
    if isinstance(value, dict):
        skipped = ("attachments", "events")  # events repeat the messages, and are large
        return {key: _with_attachments(entry, attachments) for key, entry in value.items() if key not in skipped}
    return value
