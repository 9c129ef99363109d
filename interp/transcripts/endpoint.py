"""An OpenAI-compatible server, asked with the standard library: one reply for each request."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from interp.errors import CotlensError, UsageError

#: The environment variable that holds the server's key. Keys are taken from nowhere else.
KEY_VARIABLE = "COTLENS_ENDPOINT_KEY"
_BUSY = (408, 409, 429, 500, 502, 503, 504)  # answers after which a server is asked again
_LONGEST_WAIT = 30.0
_SHOWN = 200


class EndpointError(CotlensError):
    """A server did not answer as expected; exit code 1."""


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, `transformers serve` and others.

    Args:
        url: Its address, with or without `/v1`.
        model: The model to ask for; the only one that it serves by default.
        timeout: Seconds that one reply may take.
        retries: How often a request is sent again, where the server is busy or cannot be reached.
        first_wait: Seconds before the first of these; each further wait is twice as long.

    Raises:
        UsageError: The address is not one of http or https, or holds a user or a password.
    """

    url: str
    model: str | None = None
    timeout: float = 600.0
    retries: int = 4
    first_wait: float = 1.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected an endpoint such as http://127.0.0.1:8000/v1, got {self.url!r}.")
        if parts.username or parts.password:
            raise UsageError(
                f"expected an endpoint without a user or password in its address; put its key into {KEY_VARIABLE}."
            )

    @property
    def host(self) -> str:
        """The host and port, for names and messages."""
        return urllib.parse.urlsplit(self.url).netloc

    def served_model(self) -> str:
        """Return the model that is asked for: the one that was named, else the only one that is served.

        Raises:
            UsageError: The server serves several models, or none.
            EndpointError: It cannot be reached, or does not answer as expected.
        """
        if self.model is not None:
            return self.model
        answer = self._send("models", None)
        listed = answer.get("data")
        names = [str(entry["id"]) for entry in listed or () if isinstance(entry, dict) and "id" in entry]
        if len(names) != 1:
            raise UsageError(
                f"expected one model at {self.host}, got {', '.join(names[:5]) or 'none'}; name one (--endpoint-model)."
            )
        return names[0]

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request, and return the server's answer, which has at least one choice.

        Args:
            path: "chat/completions" or "completions".
            body: The request.

        Raises:
            EndpointError: The server cannot be reached, refuses the request, or does not answer as expected.
        """
        answer = self._send(path, body)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise EndpointError(f"expected `choices` in the answer of {self.host}, got {json.dumps(answer)[:_SHOWN]}.")
        return answer

    def _send(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        wait = self.first_wait
        for attempt in range(self.retries + 1):
            try:
                return self._once(path, body)
            except _TryAgainError as error:
                if attempt == self.retries:
                    raise EndpointError(f"{error}; asked {self.retries + 1} times.") from None
                time.sleep(min(error.wait or wait, _LONGEST_WAIT))
                wait *= 2
        raise AssertionError  # the loop ends by return or raise

    def _once(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        base = self.url.rstrip("/")
        base = base if base.endswith("/v1") else f"{base}/v1"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{base}/{path}", data=data, headers=headers)
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise EndpointError(
                    f"expected a reply of {self.host} within {self.timeout:g} s, got none; allow more "
                    "(--endpoint-timeout) or ask for fewer tokens."
                ) from None
            raise _TryAgainError(f"expected a server at {self.host}, got {reason}") from None
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EndpointError(
                f"expected a JSON object from {self.host}, got {content[:_SHOWN].decode(errors='replace')!r}; is this the "
                "address of an OpenAI-compatible server?"
            )
        return answer

    def _refusal(self, error: urllib.error.HTTPError) -> CotlensError:
        """Return what to do about an HTTP error: try again, or a message."""
        text = error.read(2000).decode(errors="replace").strip().replace("\n", " ")[:_SHOWN]
        if error.code in _BUSY:
            after = error.headers.get("Retry-After", "") if error.headers else ""
            wait = float(after) if after.replace(".", "", 1).isdigit() else None
            return _TryAgainError(f"{self.host} answered {error.code}: {text or error.reason}", wait)
        if error.code in (401, 403):
            return EndpointError(f"{self.host} answered {error.code}; put its key into {KEY_VARIABLE}.")
        return EndpointError(f"{self.host} refused the request with {error.code}: {text or error.reason}")


class _TryAgainError(CotlensError):
    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirects: the key would go to another host."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
