"""The front of cotlens: everything a study needs, imported when it is first used."""

from __future__ import annotations

__version__ = "0.1.0"
