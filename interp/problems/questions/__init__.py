"""Tasks of the user's own: questions in a file, and problems of a Python function or class."""

from __future__ import annotations

from interp.problems.questions.task import TRANSCRIPTS, BrokenLine, QuestionsTask, TranscriptsTask, read_questions

__all__ = ["TRANSCRIPTS", "BrokenLine", "QuestionsTask", "TranscriptsTask", "read_questions"]
