"""Benches of sparse autoencoders: speed beside SAELens, and what single features read."""
