"""Benches of the decoders: one table over all organisms, and transfer."""
