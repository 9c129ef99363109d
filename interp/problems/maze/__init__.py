"""Task `maze`: search problems whose reasoning is a search algorithm's own trace.

`grid.py` is the maze, `generators.py` draws one, `astar.py` and `walk.py` search it, `validate.py` and
`walk.py` check what was written, `text.py` is the form of the papers, and `task.py` puts them together.
"""

from __future__ import annotations

from interp.problems.maze.grid import Maze
from interp.problems.maze.task import MazeTask

__all__ = ["Maze", "MazeTask"]
