"""Parts of the page of thoughts: the choice of a problem, the grid of layers, and live edits."""
