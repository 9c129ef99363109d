"""Types of the functions that long-running work calls to report how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with (done, total).
Progress = Callable[[int, int], None]
#: Called with (stage, done, total), for work that has several stages.
StageProgress = Callable[[str, int, int], None]
#: Called with (stage, updates done, updates in all, loss).
TrainingProgress = Callable[[str, int, int, float], None]
