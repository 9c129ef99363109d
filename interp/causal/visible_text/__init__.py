"""Edits of a visible thought, and whether the answer depends on it."""
