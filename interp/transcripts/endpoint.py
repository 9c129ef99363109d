"""Ask an OpenAI-compatible server for chat completions, with `urllib` alone."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from interp.errors import CotlensError, UsageError
from interp.transcripts.records import Reply, reply_of

#: The only place that a key is read from, so that none is left in a shell's history or a trace.
KEY_VARIABLE = "COTLENS_API_KEY"
_AGAIN = {429, 500, 502, 503, 504}
_SHOWN = 200  # characters of a server's own message


@dataclass(frozen=True)
class Completion:
    """What a server wrote.

    Attributes:
        reply: Thought and answer.
        truncated: Whether the limit of tokens ended it.
        model: The server's own name of the model.
    """

    reply: Reply
    truncated: bool
    model: str


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Attributes:
        url: Its base, such as `http://localhost:8000/v1`.
        model: Name of the model on the server.
        timeout: Seconds to wait for each answer.
        tries: Most attempts at a request that the server is too busy for (429 and 5xx).
        wait: Seconds before the second attempt; doubled before each later one.
    """

    url: str
    model: str
    timeout: float = 600.0
    tries: int = 5
    wait: float = 1.0

    def __post_init__(self) -> None:
        """Raise `UsageError` unless the address is one of a web server, without credentials."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected an address such as http://localhost:8000/v1, got {self.url!r}.")
        if parts.username or parts.password or parts.query:
            raise UsageError(
                f"expected an address without credentials or query, got one at {parts.hostname}; "
                f"put the key into the environment variable {KEY_VARIABLE}."
            )

    def complete(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Completion:
        """Return what the server writes after some messages.

        Args:
            messages: Roles and contents, in order; the server applies its own template.
            **options: Further fields of the request, such as `temperature`, `seed`, `stop` and `max_tokens`.

        Raises:
            CotlensError: If the server cannot be reached, refuses, or sends something else than a completion.
        """
        body = {"model": self.model, "messages": list(messages), "n": 1, "stream": False, **options}
        return self._read(self._send(json.dumps(body).encode()))

    def _send(self, body: bytes) -> bytes:
        address = self.url.rstrip("/") + "/chat/completions"
        for attempt in range(1, self.tries + 1):
            try:
                request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
                if key := os.environ.get(KEY_VARIABLE):  # a redirection to another host must not carry it
                    request.add_unredirected_header("Authorization", f"Bearer {key}")
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                if error.code not in _AGAIN or attempt == self.tries:
                    raise self._refused(error, attempt) from error
                time.sleep(self.wait * 2 ** (attempt - 1))
            except (OSError, HTTPException) as error:
                raise self._unreached(error) from error
        raise UsageError(f"expected at least one try, got {self.tries}.")

    def _refused(self, error: urllib.error.HTTPError, attempt: int) -> CotlensError:
        said = " ".join(error.read().decode("utf-8", "replace").split())[:_SHOWN]
        if error.code in (401, 403):
            return UsageError(
                f"{self.url} refused the key (status {error.code}); set the environment variable {KEY_VARIABLE}."
            )
        return CotlensError(f"expected a completion from {self.url}, got status {error.code} at try {attempt}: {said}")

    def _unreached(self, error: Exception) -> CotlensError:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return CotlensError(
                f"{self.url} did not answer within {self.timeout:g} s; allow more time or fewer tokens."
            )
        return CotlensError(f"{self.url} cannot be reached ({reason}); check that the server runs.")

    def _read(self, content: bytes) -> Completion:
        try:
            answer = json.loads(content)
        except ValueError as error:
            shown = content[:_SHOWN].decode("utf-8", "replace")
            raise CotlensError(f"expected JSON from {self.url}, got {shown!r}; check the address.") from error
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise CotlensError(f"expected a completion with choices from {self.url}, got none; check the address.")
        message = choices[0].get("message")
        if not isinstance(message, dict):
            raise CotlensError(f"expected a message in the choice from {self.url}, got none; check the address.")
        try:
            reply = reply_of({**message, "content": message.get("content") or ""})
        except ValueError as error:
            raise CotlensError(f"expected text from {self.url}: {error}; allow more tokens.") from error
        truncated = choices[0].get("finish_reason") == "length"
        return Completion(reply, truncated, str(answer.get("model") or self.model))
