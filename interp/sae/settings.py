"""How a sparse autoencoder is trained: one model for the command line, configuration files and Python."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["topk", "batchtopk", "matryoshka", "jumprelu"]


class SAESettings(BaseModel):
    """Settings of one training; everything that decides the result is in here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field("topk", description="topk, batchtopk, matryoshka (nested BatchTopK) or jumprelu")
    d_sae: int = Field(512, ge=1, description="number of features")
    k: int = Field(16, ge=1, description="active features of a row, on average for batchtopk, matryoshka and jumprelu")
    samples: int = Field(200_000, ge=1, description="rows seen in training")
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    seed: int = Field(0, ge=0)
    fast: bool = Field(True, description="sparse kernels instead of SAELens's dense ones (topk only)")
    whiten: bool = Field(False, description="train on whitened activations, folded back into the weights afterwards")
    by_step: bool = Field(False, description="show every gold step equally often")
    dead_loss: float = Field(1.0, ge=0, description="weight of the auxiliary loss that revives dead features")

    @model_validator(mode="after")
    def _features_suffice(self) -> SAESettings:
        if self.k > self.d_sae:
            raise ValueError(f"k must be at most d_sae, but k is {self.k} and d_sae {self.d_sae}")
        return self

    @property
    def widths(self) -> list[int]:
        """The nested dictionaries of a Matryoshka SAE (Bussmann et al., arXiv 2503.17547), each twice the one before."""
        return sorted({max(1, self.d_sae // part) for part in (16, 8, 4, 2, 1)})
