"""Settings of sparse autoencoders: one model for the command line, configuration files and Python."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interp.errors import LARGEST_COUNT

Architecture = Literal["topk", "batchtopk", "matryoshka", "jumprelu"]


class SAESettings(BaseModel):
    """Settings of one training. Together with the rows they determine the result."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    architecture: Architecture = Field("topk", description="topk, batchtopk, matryoshka (nested BatchTopK) or jumprelu")
    d_sae: int = Field(512, ge=1, le=LARGEST_COUNT, description="number of features")
    k: int = Field(16, ge=1, description="active features of a row, on average for batchtopk, matryoshka and jumprelu")
    samples: int = Field(200_000, ge=1, le=LARGEST_COUNT, description="rows seen in training")
    batch_size: int = Field(1024, ge=1, le=LARGEST_COUNT, description="rows in one update")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of Adam")
    seed: int = Field(0, ge=0, le=LARGEST_COUNT, description="seed of the weights and of the order of rows")
    fast: bool = Field(True, description="sparse kernels instead of SAELens's dense ones (topk only)")
    whiten: bool = Field(False, description="train on whitened activations, folded back into the weights afterwards")
    by_step: bool = Field(False, description="show every gold step equally often")
    dead_loss: float = Field(1.0, ge=0, description="weight of the auxiliary loss that revives dead features")

    @model_validator(mode="before")
    @classmethod
    def _accept_kind(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "kind" in values and "architecture" not in values:
            warnings.warn(
                "the SAE setting `kind` is now `architecture`; the old name works until version 0.3",
                FutureWarning,
                stacklevel=2,
            )
            return _with_architecture(values)
        return values

    @model_validator(mode="after")
    def _check_k(self) -> SAESettings:
        if self.k > self.d_sae:
            raise ValueError(f"expected k of at most d_sae ({self.d_sae}), got {self.k}")
        return self

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> SAESettings:
        """Read the settings that were saved with an SAE, also by versions that called the architecture `kind`.

        Raises:
            pydantic.ValidationError: When they do not fit.
        """
        return cls(**_with_architecture(values))

    @property
    def widths(self) -> list[int]:
        """The widths of the nested dictionaries of a Matryoshka SAE, each twice the one before.

        References:
            Bussmann et al., "Learning Multi-Level Features with Matryoshka Sparse Autoencoders", arXiv 2503.17547.
        """
        return sorted({max(1, self.d_sae // part) for part in (16, 8, 4, 2, 1)})


class SAEOptions(TypedDict, total=False):
    """The fields of `SAESettings` as keyword arguments."""

    architecture: Architecture
    d_sae: int
    k: int
    samples: int
    batch_size: int
    learning_rate: float
    seed: int
    fast: bool
    whiten: bool
    by_step: bool
    dead_loss: float


def _with_architecture(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the old key `kind` to `architecture`."""
    return {"architecture" if name == "kind" else name: value for name, value in values.items()}
