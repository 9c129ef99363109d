"""What a test needs of a reasoner, checked before the reasoner thinks about hundreds of problems for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.reasoners.base import Reasoner

#: Kinds whose thoughts have no text at all.
SILENT_KINDS = ("direct", "pause", "continuous", "thinking-tokens", "recurrent")


def needs_thoughts(reasoner: Reasoner) -> None:
    """Check that a reasoner thinks before it answers.

    Args:
        reasoner: The reasoner of a test that changes thoughts, or reads them.

    Raises:
        UsageError: It answers straight after the question.
    """
    if reasoner.kind == "direct":
        raise UsageError(
            f"expected a reasoner that thinks before it answers, got {reasoner.name}, which does not; use another one."
        )


def needs_text(reasoner: Reasoner) -> None:
    """Check that a reasoner writes at least a part of its thought.

    Args:
        reasoner: The reasoner of a test that reads the words of thoughts.

    Raises:
        UsageError: Its thoughts are silent, or it has none.
    """
    needs_thoughts(reasoner)
    if reasoner.kind in SILENT_KINDS:
        raise UsageError(
            f"expected a reasoner whose thoughts are written, got {reasoner.name}, which thinks silently "
            f"({reasoner.kind}); use one that thinks in text, such as chain-text."
        )


def needs_only_text(reasoner: Reasoner) -> None:
    """Check that the whole thought of a reasoner is text, so that it can be edited as words.

    Args:
        reasoner: The reasoner of a test that cuts or replaces what is written.

    Raises:
        UsageError: A part of its thoughts is silent, or it has none.
    """
    needs_text(reasoner)
    if not reasoner.thinks_in_text:
        raise UsageError(
            f"expected a reasoner that thinks in text, got {reasoner.name} ({reasoner.kind}); use a text reasoner such as "
            "chain-text."
        )
