"""Wrapped models: addresses, hooks, caches, tokenizers, and a fast copy for bulk work."""
