"""Interchanges: whether the answer follows a donor's state, their verdicts, and maps over addresses and thoughts."""
