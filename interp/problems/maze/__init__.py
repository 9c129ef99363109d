"""Task `maze`: search problems whose reasoning is the trace of a search algorithm.

`grid.py` is the maze and `generators.py` draws one. `astar.py` and `walk.py` search it. `validate.py` and `walk.py`
check written plans and traces. `text.py` writes and reads mazes, `forms.py` holds the two forms of a problem, and
`task.py` is the task.
"""

from __future__ import annotations

from interp.problems.maze.grid import Maze
from interp.problems.maze.task import MazeTask

__all__ = ["Maze", "MazeTask"]
