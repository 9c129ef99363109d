"""Sparse autoencoders, trained by SAELens on rows of a store."""

from interp.sae.train import explained_variance, load_sae, save_sae, train_sae

__all__ = ["explained_variance", "load_sae", "save_sae", "train_sae"]
