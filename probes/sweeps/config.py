"""The configuration of a sweep: a grid of lists, lists in parallel, or both."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interp.text.limits import MAX_UNPLACED

AXES = ("target", "place", "channels", "address", "estimator")


def _renamed(values: Any, old: str, new: str) -> Any:
    """Return settings with the new name of a setting; the old name prints a warning."""
    if not isinstance(values, Mapping) or old not in values:
        return values
    from interp.runtime.environment import warn_renamed

    warn_renamed(f"the setting {old}", new)
    return {new if name == old else name: value for name, value in values.items()}


class Selection(TypedDict, total=False):
    """What one single sweep probes: arguments of `probes.sweeps.run.plan`."""

    targets: list[str]
    places: list[str]
    channels: list[str]
    addresses: list[str]
    estimator: str


class Axes(BaseModel):
    """Lists of what to probe. An axis that is left out has the sweep's default."""

    model_config = ConfigDict(extra="forbid")

    target: list[str] | None = None
    place: list[str] | None = None
    channels: list[str] | None = None
    address: list[str] | None = None
    estimator: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: Any) -> Any:
        return _renamed(values, "channel", "channels")

    def chosen(self) -> dict[str, list[str]]:
        """Return the axes that are not left out, by name."""
        return {name: value for name in AXES if (value := getattr(self, name)) is not None}


class SweepConfig(BaseModel):
    """Everything that a probe sweep needs to know."""

    model_config = ConfigDict(extra="forbid")

    store: Path = Field(description="folder of the activation store")
    out: Path | None = Field(None, description="folder for the table; STORE-sweep by default")
    random_init: Path | None = Field(None, description="store of the same problems made by an untrained twin")
    splits: int | list[int] = Field(3, description="number of problem splits, or their seeds")
    controls: str | list[str] = Field("all", description="all, none, or names")
    description_length: bool = Field(
        False, description="also compute the bits of the online code, at about twice the time"
    )
    max_unplaced: float = Field(
        MAX_UNPLACED, ge=0, le=1, description="largest share of the steps of visible thoughts that may have no place"
    )
    engine: str = Field(
        "inline", description="where the units run: inline, process, ray or slurm, with settings behind a colon"
    )
    workers: int | None = Field(None, ge=1, description="worker processes; one for each core by default")
    grid: Axes = Field(Axes(), description="lists whose every combination is probed")
    zip: Axes = Field(
        Axes(), description="lists of equal length, probed in parallel: first with first, second with second"
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: Any) -> Any:
        return _renamed(values, "seeds", "splits")

    @model_validator(mode="after")
    def _check_zip(self) -> SweepConfig:
        lengths = {name: len(values) for name, values in self.zip.chosen().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected lists of one length under zip, got {lengths}")
        both = sorted(set(lengths) & set(self.grid.chosen()))
        if both:
            raise ValueError(f"expected {', '.join(both)} under grid or zip, got both; leave one out")
        return self

    def folder(self) -> Path:
        """Return the folder for the table. The default is named after the store, so that no two stores share one."""
        if self.out is not None:
            return self.out
        store = self.store if self.store.name not in ("", "..") else self.store.resolve()
        return store.with_name(f"{store.name}-sweep")

    def selections(self) -> list[Selection]:
        """Return the arguments of each single sweep: one for each zipped row and estimator."""
        grid = self.grid.chosen()
        estimators = grid.pop("estimator", [None])
        zipped = self.zip.chosen()
        rows = [dict(zip(zipped, values, strict=True)) for values in zip(*zipped.values(), strict=True)] or [{}]
        arguments = {"target": "targets", "place": "places", "channels": "channels", "address": "addresses"}
        selections = []
        for row, estimator in itertools.product(rows, estimators):
            selection: dict[str, Any] = {arguments[name]: values for name, values in grid.items()}
            selection |= {arguments[name]: [value] for name, value in row.items() if name in arguments}
            if (chosen := row.get("estimator", estimator)) is not None:
                selection["estimator"] = chosen
            selections.append(cast(Selection, selection))
        return selections
