"""Activations in the formats of other programs."""
