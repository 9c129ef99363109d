"""Options of `cotlens think` for text that a server writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from interp.errors import UsageError, checked_count

if TYPE_CHECKING:
    from interp.transcripts.endpoint import Endpoint


@dataclass(frozen=True)
class EndpointOptions:
    """Where text is written in place of the local model. Each field is an option."""

    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Let an OpenAI-compatible server (vLLM, SGLang, llama.cpp, transformers serve) at this address write. "
            "MODEL is what it serves: its tokens align the text. A key is read from COTLENS_ENDPOINT_KEY."
        ),
    ] = None
    endpoint_model: Annotated[
        str | None,
        typer.Option(help="The model that the server is asked for.", show_default="the only one that it serves"),
    ] = None
    endpoint_timeout: Annotated[float, typer.Option(help="Seconds that one reply of the server may take.")] = 600.0
    concurrency: Annotated[int, typer.Option(help="Requests to the server at a time.")] = 8
    other_model: Annotated[
        bool,
        typer.Option("--other-model", help="Keep text that another model than MODEL evidently wrote."),
    ] = False

    def server(self) -> Endpoint | None:
        """Return the server; None where the local model writes.

        Raises:
            UsageError: An option is out of range, or only makes sense with a server.
        """
        from interp.transcripts.endpoint import Endpoint

        if self.endpoint is None:
            if self.endpoint_model is not None or self.other_model:
                raise UsageError("expected --endpoint with --endpoint-model or --other-model, got none; name a server.")
            return None
        checked_count("concurrency", self.concurrency)
        if not self.endpoint_timeout > 0:
            raise UsageError(f"expected an --endpoint-timeout above 0, got {self.endpoint_timeout}.")
        return Endpoint(self.endpoint, self.endpoint_model, timeout=self.endpoint_timeout)
