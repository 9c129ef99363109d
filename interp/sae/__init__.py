"""Sparse autoencoders, trained by SAELens on recorded activations, and their evaluation."""

from interp.sae.load import load_sae, preflight, save_sae
from interp.sae.quality import explained_variance
from interp.sae.rows import select
from interp.sae.settings import SAESettings
from interp.sae.train import train_sae

__all__ = ["SAESettings", "explained_variance", "load_sae", "preflight", "save_sae", "select", "train_sae"]
