"""A sweep as a file: what to probe, as a grid of lists, as lists in parallel, or both."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

AXES = ("target", "place", "channel", "address", "estimator")


class Axes(BaseModel):
    """Lists of what to probe. One that is left out means what the sweep does by default."""

    model_config = ConfigDict(extra="forbid")

    target: list[str] | None = None
    place: list[str] | None = None
    channel: list[str] | None = None
    address: list[str] | None = None
    estimator: list[str] | None = None

    def given(self) -> dict[str, list[str]]:
        return {name: value for name in AXES if (value := getattr(self, name)) is not None}


class SweepConfig(BaseModel):
    """Everything that a probe sweep needs to know."""

    model_config = ConfigDict(extra="forbid")

    store: Path = Field(description="folder of the activation store")
    out: Path | None = Field(None, description="folder for the table; STORE/../sweep by default")
    random_init: Path | None = Field(None, description="store of the same problems by an untrained twin")
    seeds: int | list[int] = Field(3, description="problem splits: how many, or which")
    controls: str | list[str] = Field("all", description="all, none, or names")
    description_length: bool = Field(False, description="also the bits of the online code, at about twice the time")
    engine: str = Field(
        "inline", description="where the units run: inline, process, ray or slurm, settings behind a colon"
    )
    workers: int | None = Field(None, ge=1, description="worker processes; one for each core by default")
    grid: Axes = Field(Axes(), description="lists whose every combination is probed")
    zip: Axes = Field(
        Axes(), description="lists of one length, probed in parallel: first with first, second with second"
    )

    @model_validator(mode="after")
    def _parallel(self) -> SweepConfig:
        lengths = {name: len(values) for name, values in self.zip.given().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"lists under zip must have one length, but they have {lengths}")
        both = sorted(set(lengths) & set(self.grid.given()))
        if both:
            raise ValueError(f"{', '.join(both)} stands under both grid and zip; keep it in one")
        return self

    def selections(self) -> list[dict[str, Any]]:
        """The arguments of the single sweeps that this one is made of: one for each zipped row and estimator."""
        grid = self.grid.given()
        estimators = grid.pop("estimator", [None])
        zipped = self.zip.given()
        rows = [dict(zip(zipped, values, strict=True)) for values in zip(*zipped.values(), strict=True)] or [{}]
        plural = {"target": "targets", "place": "places", "channel": "channels", "address": "addresses"}
        out = []
        for row, estimator in itertools.product(rows, estimators):
            chosen: dict[str, Any] = {plural[name]: values for name, values in grid.items()}
            chosen |= {plural[name]: [value] for name, value in row.items() if name in plural}
            if (kind := row.get("estimator", estimator)) is not None:
                chosen["estimator"] = kind
            out.append(chosen)
        return out
