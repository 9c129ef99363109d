"""A recipe whose training takes a second."""

from __future__ import annotations

from typing import Any

from interp.organisms.catalog import Recipe, Shape, Stage, recipe

TINY = Shape(n_layers=2, n_heads=2, d_model=16, n_positions=24)


def tiny(kind: str = "continuous", updates: int = 12, **options: Any) -> Recipe:
    """A recipe whose training takes a second: a few updates of a very small model."""
    stages = (
        Stage(name="one", hidden_steps=0, updates=updates, learning_rate=1e-3),
        Stage(name="two", hidden_steps=2, updates=updates, learning_rate=1e-3),
    )
    made = recipe("chain-coconut").model_copy(
        update={"kind": kind, "initial": None, "model": TINY, "batch_size": 8, "stages": stages, **options}
    )
    return made
