"""Task `words`: short problems in plain English, whose value after every step is known."""

from interp.problems.words.task import WordsTask

__all__ = ["WordsTask"]
